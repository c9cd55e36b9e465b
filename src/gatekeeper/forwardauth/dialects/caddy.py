"""Caddy with the directive `forward_auth`. It sets method and URI, its reverse proxy the others.

It hands on a client's own X-Forwarded-Port and never sets one: the port is the host's. Waits
without an end by default (`dial_timeout` is for connecting).
"""

from typing import Final

from gatekeeper.forwardauth.dialects import x_forwarded
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole

DIALECT: Final = Dialect(
    name="caddy",
    headers=x_forwarded.HEADERS,
    tell=x_forwarded.tell,
    write=write_whole,
)
