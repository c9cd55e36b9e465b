"""Traefik with the middleware ForwardAuth. It sets each header, the port too.

Waits 30 s for the whole exchange (pkg/middlewares/auth/forward.go).
"""

from typing import Final

from gatekeeper.forwardauth.dialects import x_forwarded
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole

DIALECT: Final = Dialect(
    name="traefik",
    headers=x_forwarded.HEADERS_AND_PORT,
    tell=x_forwarded.tell_with_port,
    write=write_whole,
)
