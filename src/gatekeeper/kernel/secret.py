"""A value that must never be seen: it redacts itself wherever text is made of it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NoReturn

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

REDACTED: Final = "[secret]"


class Secret:
    """A password, token or key.

    `repr`, `str`, `format`, JSON and Pydantic dumps show `[secret]`; pickling is
    refused. Only `reveal()` gives the value, so every use can be found by search.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        msg = "a Secret is not serialised; call reveal() where its value is needed"
        raise TypeError(msg)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            json_schema_input_schema=core_schema.str_schema(
                metadata={"pydantic_js_extra": {"format": "password", "writeOnly": True}}
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda _secret: REDACTED, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def _validate(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        kind = "string_type"  # as any other text
        raise PydanticCustomError(kind, "a secret is given as text")
