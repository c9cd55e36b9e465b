"""Verifying an export of the evidence, offline: with the file and public keys, and no server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from gatekeeper.kernel import base64url
from gatekeeper.kernel.audit import Broken, ChainVerifier, Checkpoint
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.receipts import ReceiptVerifier
from gatekeeper.kernel.signed import key_id
from gatekeeper.wire.audit import EXPORT_FORMAT, EXPORTED_EVENT, CheckpointView, ExportHeader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MAX_LINE_BYTES: Final = 4_194_304
_CHECKPOINT: Final = b'{"type":"checkpoint",'


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What reached the verifier another way than the evidence did; each makes it stronger.

    Keys are JWKs as JSON.
    """

    public_key: str | None = None
    """The key that signs checkpoints; without it the one that the export claims."""
    agent_keys: Sequence[str] = ()
    """The only keys of agents to be believed; without any, those that the chain names."""
    runner_keys: Sequence[str] = ()
    """The same of runners."""
    kept: Checkpoint | None = None
    """An earlier checkpoint, which the chain must still contain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found: `broken` is None when the chain is whole."""

    events: int
    signed: int
    """How many events are whole and covered by a signed checkpoint."""
    receipts: int
    """How many events hold what an agent or a runner signed, and agree with it."""
    head: str
    key_id: str
    agents: Mapping[str, str]
    """The keys of agents that the chain names: id and agent."""
    runners: Mapping[str, str]
    """The same of runners."""
    broken: Broken | None


def verify_lines(lines: Iterable[bytes], trust: Trust = Trust()) -> Report:
    """Verify an export line by line, in memory that does not grow with it.

    Raises `InputError` when it is none.
    """
    rest = iter(lines)
    header = _header(next(rest, b""))
    public = _public(header.public_key if trust.public_key is None else trust.public_key, "server")
    name = key_id(public)
    receipts = ReceiptVerifier(
        _verify,
        pinned={key_id(_public(key, "agent")) for key in trust.agent_keys} or None,
        pinned_runners={key_id(_public(key, "runner")) for key in trust.runner_keys} or None,
    )
    verifier = ChainVerifier(
        lambda claimed, signature, message: claimed == name and _verify(public, signature, message),
        chain=header.chain,
        receipts=receipts.fault,
        kept=trust.kept,
    )
    for line in rest:
        _take(verifier, line)
        if verifier.broken is not None:
            break
    return Report(
        broken=verifier.finish(),
        events=verifier.events,
        signed=verifier.signed,
        receipts=receipts.receipts,
        head=verifier.head,
        key_id=name,
        agents=receipts.agents,
        runners=receipts.runners,
    )


def last_checkpoint(path: Path) -> Checkpoint:
    """Return the last checkpoint in a file of JSON lines, an export or a checkpoint alone.

    Raises `InputError` when there is none.
    """
    found = None
    with path.open("rb") as file:
        for line in bounded_lines(file):
            found = _checkpoint(line) or found
    if found is None:
        msg = f"{path}: there is no checkpoint in it"
        raise InputError(msg)
    return found


def bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Read lines; one that is too long comes in pieces, none of which is a line of ours."""
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _take(verifier: ChainVerifier, line: bytes) -> None:
    if (event := EXPORTED_EVENT.fullmatch(line)) is not None:
        seq, digest, canonical = event.groups()
        verifier.add(seq=int(seq), digest=digest.decode(), canonical=canonical)
    elif (checkpoint := _checkpoint(line)) is not None:
        verifier.add_checkpoint(checkpoint)
    else:
        verifier.fail("what stands here is not a line of an export: it was changed")


def _header(line: bytes) -> ExportHeader:
    try:
        header = ExportHeader.model_validate_json(line)
    except ValidationError:
        header = None
    if header is None or header.format != EXPORT_FORMAT:
        msg = f"this is no export of the evidence ({EXPORT_FORMAT})"
        raise InputError(msg)
    return header


def _checkpoint(line: bytes) -> Checkpoint | None:
    if not line.startswith(_CHECKPOINT):
        return None
    try:
        view = CheckpointView.model_validate_json(line, strict=True)
    except ValidationError:
        return None
    return Checkpoint(**view.model_dump(exclude={"type"}))


def _public(jwk: str, whose: str) -> str:
    """Return the `x` of an Ed25519 public key."""
    try:
        fields: Any = json.loads(jwk)
        text = str(fields["x"])
        _key(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"the {whose}'s key: expected an Ed25519 public key as a JWK"
        raise InputError(msg) from error
    return text


@lru_cache
def _key(public: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64url.decode(public))


def _verify(public: str, signature: bytes, message: bytes) -> bool:
    try:
        _key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
