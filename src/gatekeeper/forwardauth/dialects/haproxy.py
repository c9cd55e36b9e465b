"""HAProxy with the Lua script among the examples, which sets each header as nginx is told to.

Waits `timeout server` of its configuration, which has no default.
"""

from typing import Final

from gatekeeper.forwardauth.dialects import x_forwarded
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole

DIALECT: Final = Dialect(
    name="haproxy",
    headers=x_forwarded.HEADERS,
    tell=x_forwarded.tell,
    write=write_whole,
)
