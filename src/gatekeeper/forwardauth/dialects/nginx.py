"""nginx with `auth_request`. It tells nothing by itself: its configuration sets each header.

Waits `proxy_read_timeout` (ngx_http_proxy_module), 60 s.
"""

from typing import Final

from gatekeeper.forwardauth.dialects import x_forwarded
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_bearable

DIALECT: Final = Dialect(
    name="nginx",
    headers=x_forwarded.HEADERS,
    tell=x_forwarded.tell,
    write=write_bearable,
)
