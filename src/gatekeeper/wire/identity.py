"""Where people log in, and how a job's token is exchanged for one of ours (RFC 8693)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from gatekeeper.wire.base import Response
from gatekeeper.wire.problems import Problem

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
MAX_SUBJECT_TOKEN_CHARS: Final = 16_384
MAX_PARAMETER_CHARS: Final = 2_048

Parameter = Annotated[str, Field(max_length=MAX_PARAMETER_CHARS)]

JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105


def _as_oauth(name: str) -> str:
    return name if name == "error_description" else to_camel(name)


class LoginIssuer(Response):
    """An issuer that people log in at with `gk login`."""

    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ("openid", "email", "offline_access")


class AuthConfig(Response):
    """What `gk login` needs to know; it is public."""

    issuers: tuple[LoginIssuer, ...]


class TokenRequest(BaseModel):
    """What RFC 8693 section 2.1 lets one ask for; parameters nobody knows are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    grant_type: Parameter = ""
    subject_token: Annotated[str, Field(max_length=MAX_SUBJECT_TOKEN_CHARS, repr=False)] = ""
    subject_token_type: Parameter = ""
    audience: Parameter = ""
    scope: Parameter = ""
    requested_token_type: Parameter = ""
    actor_token: Parameter = ""


class TokenAnswer(Response):
    """A token, in the words of RFC 8693 section 2.2.1."""

    model_config = ConfigDict(alias_generator=None)

    access_token: Annotated[str, Field(repr=False)]
    issued_token_type: str = ACCESS_TOKEN_TYPE
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int


class TokenProblem(Problem):
    """Why there is no token: a problem, with the members of RFC 6749 section 5.2 beside it."""

    model_config = ConfigDict(alias_generator=_as_oauth)

    error: str
    error_description: str


class JsonWebKeys(Response):
    """The keys that our own tokens are signed with (RFC 7517)."""

    keys: tuple[dict[str, Any], ...]
