"""The user's configuration: `config.toml` in `~/.gatekeeper`, the environment over it.

[default]
server = "http://127.0.0.1:4000"
[profiles.production]
server = "https://gatekeeper.example.com"
default_ttl = "30m"
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from gatekeeper.client.files import write_private
from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "GATEKEEPER_"
FILE: Final = "config.toml"
DEFAULT_SERVER: Final = "http://127.0.0.1:4000"
MAX_CONFIG_BYTES: Final = 262_144


class Settings(BaseModel):
    """What a command needs to know; units are in the values (`15m`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = DEFAULT_SERVER
    default_ttl: str | None = None
    default_target: str | None = None
    output_format: Literal["table", "json"] = "table"
    require_reason: bool = False


class Document(BaseModel):
    """The file: what holds for all, and what each profile changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Settings = Settings()
    profiles: dict[str, Settings] = {}


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of configuration and tokens."""
    return Path(environment.get(f"{PREFIX}HOME", "~/.gatekeeper")).expanduser()


def load(
    profile: str | None, folder: Path, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read the settings of a profile: file, then environment. Flags come over both.

    Raises `InputError` that names the key, never its value.
    """
    document = _read(folder / FILE)
    values = dict(document.get("default", {}))
    if profile is not None:
        profiles = document.get("profiles", {})
        if profile not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            msg = f"there is no profile {profile!r} in {folder / FILE} (known: {known})"
            raise InputError(msg)
        values |= profiles[profile]
    for key in Settings.model_fields:
        if (text := environment.get(PREFIX + key.upper())) is not None:
            values[key] = text
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise InputError(_first_problem(folder / FILE, error)) from None


def checked_server(address: str) -> str:
    """Return the address of a server without its last slash. Raises `InputError`."""
    try:
        parts = urlsplit(address)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.username is not None or parts.query or parts.fragment:
        msg = "server: expected an address like https://gatekeeper.example.com"
        raise InputError(msg)
    return address.rstrip("/")


def save_profile(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    """Set values of a profile, keep everything else; the first profile is the default too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = _read(folder / FILE)
    document.setdefault("profiles", {}).setdefault(name, {}).update(values)
    document.setdefault("default", dict(values))
    write_private(folder / FILE, _toml(document))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
        if found.st_mode & 0o077:
            # Who may write it sends our logins elsewhere; as ssh does, we ask for both.
            msg = f"{path} is open to others; chmod 600 {path}"
            raise InputError(msg)
        if found.st_size > MAX_CONFIG_BYTES:
            msg = f"{path}: may have at most {MAX_CONFIG_BYTES} bytes"
            raise InputError(msg)
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not TOML: {error}"
        raise InputError(msg) from error
    for key in document:
        if key not in ("default", "profiles"):
            msg = f"{path}: unknown table [{key}]; known: [default], [profiles.NAME]"
            raise InputError(msg)
    profiles = document.get("profiles", {})
    tables = {"profiles": profiles, "default": document.get("default", {})}
    if isinstance(profiles, dict):
        tables |= {f"profiles.{name}": table for name, table in profiles.items()}
    for name, table in tables.items():
        if not isinstance(table, dict):
            msg = f"{path}: [{name}] is to be a table"
            raise InputError(msg)
    return document


def _first_problem(path: Path, error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] != "extra_forbidden":
        return f"{path}: {key}: {found['msg']}"
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    return f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _toml(document: Mapping[str, Any]) -> str:
    tables = {"default": document.get("default", {})}
    tables |= {f"profiles.{json.dumps(n)}": t for n, t in document.get("profiles", {}).items()}
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items()), ""])
        for name, table in tables.items()
    )
