"""A CI job's own identity: where its token is found. The server exchanges it for one of its own.

A file, `GATEKEEPER_ID_TOKEN` (GitLab's `id_tokens`), or what a GitHub Actions job with
`id-token: write` may ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

from gatekeeper.client.tokens import Tokens, claims_of
from gatekeeper.kernel.errors import InputError, UnavailableError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatekeeper.wire.identity import TokenAnswer

VARIABLE: Final = "GATEKEEPER_ID_TOKEN"
GITHUB_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
GITHUB_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105  # the variable's name
MAX_FILE_BYTES: Final = 16_384
ASK_SECONDS: Final = 10.0


def job_token(*, file: Path | None, audience: str, environment: Mapping[str, str]) -> Secret:
    """Find the job's token. Raises `InputError` where there is none."""
    if file is not None:
        return _from_file(file)
    if text := environment.get(VARIABLE):
        return Secret(text.strip())
    if GITHUB_URL in environment and GITHUB_TOKEN in environment:
        return _from_github(environment[GITHUB_URL], Secret(environment[GITHUB_TOKEN]), audience)
    msg = (
        f"no token of a CI job: set {VARIABLE}, give --token-file, or permit `id-token: write`"
        " in GitHub Actions"
    )
    raise InputError(msg)


def tokens_of(answer: TokenAnswer) -> Tokens:
    """Keep what the server gave; it cannot be renewed, only exchanged for again."""
    return Tokens(
        identity=Secret(answer.access_token),
        refresh=None,
        token_endpoint="",
        client_id="",
        expires_at=float(claims_of(answer.access_token)["exp"]),
    )


def _from_file(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: no token can be read from it"
        raise InputError(msg) from error
    if not 0 < len(data) <= MAX_FILE_BYTES:
        msg = f"{path}: expected one token of at most {MAX_FILE_BYTES} bytes"
        raise InputError(msg)
    return Secret(text)


def _from_github(url: str, permit: Secret, audience: str) -> Secret:
    """Ask GitHub for the job's token (its documents: "OpenID Connect reference")."""
    try:
        response = httpx.get(
            httpx.URL(url).copy_merge_params({"audience": audience}),
            headers={"Authorization": f"Bearer {permit.reveal()}"},
            timeout=ASK_SECONDS,
        )
        return Secret(str(response.raise_for_status().json()["value"]))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        msg = "GitHub gave no token for this job"
        raise UnavailableError(msg) from None
