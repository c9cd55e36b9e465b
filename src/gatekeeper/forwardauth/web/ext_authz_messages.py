"""The messages of Envoy's authorization service, as far as they are read or written here.

Described by the published numbers of their fields, which never change once they are published
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto and
attribute_context.proto beside it; config/core/v3/base.proto and address.proto; google/rpc's
status.proto). All other fields are skipped. Texts are bytes here, which is the same on the wire:
what is no UTF-8 must not make a message unreadable (CVE-2024-23324).
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "envoy.service.auth.v3"
_BYTES: Final = FieldDescriptorProto.TYPE_BYTES
_NUMBER: Final = FieldDescriptorProto.TYPE_INT32
_TRUTH: Final = FieldDescriptorProto.TYPE_BOOL

_MESSAGES: Final[dict[str, dict[str, tuple[int, int | str]]]] = {
    "CheckRequest": {"attributes": (1, "AttributeContext")},
    "AttributeContext": {
        "source": (1, "Peer"),
        "request": (4, "Request"),
        "context_extensions": (10, "HeaderValue*"),
    },
    "Peer": {"address": (1, "Address")},
    "Address": {"socket_address": (1, "SocketAddress")},
    "SocketAddress": {"address": (2, _BYTES)},
    "Request": {"http": (2, "HttpRequest")},
    "HttpRequest": {
        "method": (2, _BYTES),
        "headers": (3, "HeaderValue*"),
        "path": (4, _BYTES),
        "host": (5, _BYTES),
        "header_map": (13, "HeaderMap"),
    },
    "HeaderMap": {"headers": (1, "HeaderValue*")},
    # An entry of a map has the same two fields (protobuf.dev/programming-guides/encoding#maps).
    "HeaderValue": {"key": (1, _BYTES), "value": (2, _BYTES), "raw_value": (3, _BYTES)},
    "CheckResponse": {
        "status": (1, "Status"),
        "denied_response": (2, "DeniedHttpResponse"),
        "ok_response": (3, "OkHttpResponse"),
    },
    "Status": {"code": (1, _NUMBER)},
    "DeniedHttpResponse": {
        "status": (1, "HttpStatus"),
        "headers": (2, "HeaderValueOption*"),
        "body": (3, _BYTES),
    },
    "HttpStatus": {"code": (1, _NUMBER)},
    "OkHttpResponse": {"headers": (2, "HeaderValueOption*")},
    "HeaderValueOption": {
        "header": (1, "HeaderValue"),
        "append_action": (3, _NUMBER),
        "keep_empty_value": (4, _TRUTH),
    },
}
"""Names of fields: number and kind, which is a type or a message; a star says that it repeats."""


def _described() -> DescriptorPool:
    file = FileDescriptorProto(name="ext_authz.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            described = message.field.add(name=field, number=number)
            described.label = FieldDescriptorProto.LABEL_OPTIONAL
            if isinstance(kind, int):
                described.type = kind
                continue
            described.type = FieldDescriptorProto.TYPE_MESSAGE
            described.type_name = f".{_PACKAGE}.{kind.removesuffix('*')}"
            if kind.endswith("*"):
                described.label = FieldDescriptorProto.LABEL_REPEATED
    pool = DescriptorPool()  # its own: whoever has Envoy's real messages loaded keeps them
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _class(name: str) -> Any:  # noqa: ANN401  # made at run time
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_POOL: Final = _described()
CheckRequest: Final = _class("CheckRequest")
CheckResponse: Final = _class("CheckResponse")
