"""`passctrl doctor`: whether what stands behind a proxy is had without PassCtrl's word."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import ForwardAuthExamination, ForwardAuthFinding
from gatekeeper.entrypoints.passctrl.examining.examination import (
    IDENTITIES,
    Examination,
    Finding,
)
from gatekeeper.entrypoints.passctrl.examining.exchange import Client, Site
from gatekeeper.entrypoints.passctrl.examining.knowledge import MEANINGS, Severity
from gatekeeper.entrypoints.passctrl.init import Proxy
from gatekeeper.kernel.secret import Secret

VARIABLE: Final = "PASSCTRL_CREDENTIAL"
MAX_CREDENTIAL_BYTES: Final = 16_384
_HEADER_LINE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~_-]{1,64}: ?[\x21-\x7e][\x20-\x7e]*")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_PATH: Final = re.compile(r"/[^?#\s\x00-\x20\x7f-\U0010ffff]*")


def doctor(
    url: Annotated[str, typer.Argument(metavar="URL", help="Something that needs a credential.")],
    credential_file: Annotated[
        Path | None,
        typer.Option(help=f"A file with a header that is let in; else ${VARIABLE}."),
    ] = None,
    echo: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Where the application tells what arrived, as JSON."),
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An identity header; X-User, X-Groups, X-Email if none."),
    ] = None,
    proxy: Annotated[
        Proxy | None, typer.Option(help="Whose settings to name; else what the answers say.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds for each answer.")] = 5,
    deadline: Annotated[float, typer.Option(min=1, max=3600, help="Seconds for everything.")] = 120,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the certificate.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Examine a running proxy from outside, and say how it can be got around.

    Sends up to 300 requests, none of which changes anything unless the application lets
    strangers change things; examine what is yours. A credential is read from a file or the
    environment, never from the command line, and never shown. Exit code 1 when there is
    something to mend.

    Example:  passctrl doctor http://127.0.0.1:8000/orders

    Example:  passctrl doctor http://127.0.0.1:8000/ --credential-file secrets/credential --echo /

    Example:  gk forwardauth doctor https://app.example.com/ --proxy traefik --json
    """
    try:
        site = Site.of(url)
        examination = Examination(
            client=Client(
                site=site,
                credential=_credential(credential_file),
                timeout=timeout,
                deadline=time.monotonic() + deadline,
                insecure=insecure,
            ),
            path=_path(echo or site.path),
            echo=echo is not None,
            identities=_identities(identity),
        )
        asyncio.run(examination.run())
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"error: {site.authority}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from error
    told = _told(url, examination, proxy or examination.proxy)
    if as_json:
        typer.echo(told.model_dump_json(by_alias=True, indent=2, exclude_none=True))
    else:
        typer.echo(_text(told))
    raise typer.Exit(0 if told.sound else 1)


def _credential(file: Path | None) -> Secret | None:
    if file is not None:
        with file.open("rb") as opened:
            text = opened.read(MAX_CREDENTIAL_BYTES).decode("ascii", "replace")
    elif VARIABLE in os.environ:
        text = os.environ[VARIABLE]
    else:
        return None
    if not _HEADER_LINE.fullmatch(text.rstrip("\r\n")):
        msg = "the credential: expected one line like `Authorization: Bearer ...`"
        raise ValueError(msg)
    return Secret(text.rstrip("\r\n"))


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        msg = "--echo: expected a path like /echo"
        raise ValueError(msg)
    return text


def _identities(names: list[str] | None) -> tuple[str, ...]:
    wrong = next((name for name in names or () if not _HEADER_NAME.fullmatch(name)), None)
    if wrong is not None:
        msg = "--identity: expected the name of a header, like X-User"
        raise ValueError(msg)
    return tuple(names or IDENTITIES)


def _told(url: str, examination: Examination, proxy: str | None) -> ForwardAuthExamination:
    order = list(Severity)
    found = sorted(examination.findings, key=lambda finding: order.index(finding.severity))
    return ForwardAuthExamination(
        url=url,
        sound=all(finding.severity is Severity.NOTE for finding in found),
        requests=examination.client.sent,
        proxy=proxy,
        findings=tuple(_finding(finding, proxy) for finding in found),
    )


def _finding(finding: Finding, proxy: str | None) -> ForwardAuthFinding:
    meaning = MEANINGS[finding.code]
    return ForwardAuthFinding(
        code=finding.code,
        severity=finding.severity.value,
        what=meaning.what,
        sent=finding.sent,
        got=finding.got,
        why=meaning.why,
        mend=meaning.mending(proxy),
    )


def _text(told: ForwardAuthExamination) -> str:
    """Say each kind of finding once, with everything that showed it."""
    parts = []
    for code in dict.fromkeys(finding.code for finding in told.findings):
        same = [finding for finding in told.findings if finding.code == code]
        first = same[0]
        parts += [
            f"{first.severity}: {first.what} [{code}]",
            *(f"  sent {one.sent or 'nothing'}; got {one.got}" for one in same),
            f"  why: {first.why}",
            f"  mend: {first.mend}",
            "",
        ]
    sound = "nothing to mend" if told.sound else "there is something to mend"
    return "\n".join([*parts, f"{told.requests} requests: {sound}"])
