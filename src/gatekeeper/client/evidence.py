"""Verifying an export of the evidence, offline: with the file and a public key, and no server."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatekeeper.kernel.audit import Broken, ChainedEvent, ChainVerifier, Checkpoint
from gatekeeper.kernel.errors import InputError
from gatekeeper.wire.audit import EXPORT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_LINE_BYTES: Final = 4_194_304


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found: `broken` is None when the chain is whole."""

    events: int
    head: str
    key_id: str
    key_was_given: bool
    """False: the key came from the export itself, and proves only that it agrees with itself."""
    broken: Broken | None


def verify_export(path: Path, public_key: str | None = None) -> Report:
    """Verify an export with a key (a JWK as JSON) that came another way.

    Raises `InputError` when the file is no export.
    """
    with path.open("rb") as file:
        return verify_lines(file, public_key)


def verify_lines(lines: Iterable[bytes], public_key: str | None = None) -> Report:
    """Verify an export line by line, in memory that does not grow with its events' size."""
    rest = iter(lines)
    header = _parsed(next(rest, b""), 1)
    if header.get("format") != EXPORT_FORMAT:
        msg = f"this is no export of the evidence ({EXPORT_FORMAT})"
        raise InputError(msg)
    key, key_id = _key(public_key if public_key is not None else str(header.get("publicKey")))
    verifier = ChainVerifier(_verify_with(key, key_id), chain=str(header.get("chain")))
    for number, line in enumerate(rest, start=2):
        _take(verifier, _parsed(line, number), number)
    broken = verifier.finish()
    return Report(
        events=verifier.events,
        head=verifier.head,
        key_id=key_id,
        key_was_given=public_key is not None,
        broken=broken,
    )


def _take(verifier: ChainVerifier, fields: dict[str, Any], number: int) -> None:
    try:
        if fields["type"] == "event":
            verifier.add(
                ChainedEvent(
                    seq=fields["seq"],
                    hash=fields["hash"],
                    canonical=fields["canonical"].encode(),
                )
            )
        elif fields["type"] == "checkpoint":
            verifier.add_checkpoint(
                Checkpoint(
                    chain=fields["chain"],
                    size=fields["size"],
                    head=fields["head"],
                    at=fields["at"],
                    key_id=fields["keyId"],
                    signature=fields["signature"],
                )
            )
        else:
            msg = f"line {number}: neither an event nor a checkpoint"
            raise InputError(msg)
    except (KeyError, AttributeError, TypeError, UnicodeEncodeError) as error:
        msg = f"line {number}: not a line of an export"
        raise InputError(msg) from error


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        msg = f"line {number}: longer than {MAX_LINE_BYTES} bytes"
        raise InputError(msg)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = f"line {number}: not JSON"
        raise InputError(msg) from error
    if not isinstance(fields, dict):
        msg = f"line {number}: not a line of an export"
        raise InputError(msg)
    return fields


def _key(jwk: str) -> tuple[Ed25519PublicKey, str]:
    try:
        text = json.loads(jwk)["x"]
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        key = Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, KeyError, TypeError) as error:
        msg = "expected an Ed25519 public key as a JWK"
        raise InputError(msg) from error
    # RFC 7638 over the members that RFC 8037 requires.
    named = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": text}, separators=(",", ":"))
    digest = hashlib.sha256(named.encode()).digest()
    return key, base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _verify_with(key: Ed25519PublicKey, key_id: str) -> Any:  # noqa: ANN401  # a callable
    def verify(claimed: str, signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return claimed == key_id

    return verify
