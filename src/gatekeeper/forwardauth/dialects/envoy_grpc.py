"""Envoy with ext_authz by gRPC: what the HTTP filter says, in a message. It has no mount.

All headers come; with `encode_raw_headers` each by itself, byte by byte. All headers of an allow
are set on the client's request, in place of its own.
"""

from dataclasses import replace
from typing import Final

from gatekeeper.forwardauth.dialects import envoy
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_changes

JOINED: Final[Dialect] = replace(envoy.DIALECT, name="envoy-grpc", write=write_changes)
"""Without `encode_raw_headers`."""
RAW: Final[Dialect] = replace(JOINED, tell=envoy.tell)
