"""`passctrl init`: a first configuration that works, with the proxy's own."""

from __future__ import annotations

import ipaddress
import re
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from gatekeeper.forwardauth.config.base import MAX_NAME_CHARS
from gatekeeper.forwardauth.config.checks import MOUNTS
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.files import write_once

STARTING: Final = files("gatekeeper.entrypoints.passctrl") / "starting"
TOKEN_BYTES: Final = 32
MAX_PORT: Final = 65_535
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # to tell it apart, not to listen there
PRIVATE_FOLDER: Final = "secrets"
TOKENS: Final = f"{PRIVATE_FOLDER}/tokens.yaml"
CREDENTIAL: Final = f"{PRIVATE_FOLDER}/credential"

_MARK: Final = re.compile(r"@([A-Z_]+)@")
# What may be pasted into a proxy's file: nothing in these ends a word or begins a comment, a
# block or a variable in any of their languages (CVE-2026-24512: nginx directives in a path).
_ENDPOINT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_HOST_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SERVICE: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED: Final = frozenset({"unix", "y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Of host names: a socket's prefix in nginx, and words that YAML takes for no text."""
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Proxy(StrEnum):
    """A proxy that a configuration can be written for."""

    NGINX = "nginx"
    INGRESS_NGINX = "ingress-nginx"
    TRAEFIK = "traefik"
    CADDY = "caddy"
    ENVOY = "envoy"
    HAPROXY = "haproxy"


START: Final = {
    Proxy.NGINX: "nginx -p . -c nginx.conf -e stderr -g 'daemon off; pid nginx.pid;'",
    Proxy.INGRESS_NGINX: "kubectl apply -f ingress.yaml",
    Proxy.TRAEFIK: "traefik --configFile=traefik.yaml",
    Proxy.CADDY: "caddy run --config Caddyfile",
    Proxy.ENVOY: "envoy -c envoy.yaml",
    Proxy.HAPROXY: "haproxy -db -f haproxy.cfg",
}
"""How each is started, in the folder with its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and a port, both checked."""

    host: str
    port: int


def init(
    proxy: Annotated[Proxy, typer.Option(help="The proxy that will ask.")],
    directory: Annotated[Path, typer.Argument(help="Where to write; made when absent.")] = Path(),
    endpoint: Annotated[str, typer.Option(help="What the proxy will ask about.")] = "app",
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Where PassCtrl will listen.")
    ] = "127.0.0.1:8080",
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The application: 127.0.0.1:9000, or for ingress-nginx the service app:9000.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a first configuration that works, and the one of the proxy that will ask.

    It lets in one bearer token, made now. The token is in secrets/tokens.yaml, and as a header
    for curl in secrets/credential: only the owner can read these, and it is never printed.

    Example:  passctrl init --proxy nginx gate

    Example:  gk forwardauth init --proxy caddy --endpoint shop --upstream 127.0.0.1:3000 gate
    """
    try:
        values = {
            **_named(endpoint),
            **_listening(listen),
            **_upstream(upstream, proxy),
        }
        written = write(directory, rendered(proxy, values), force=force)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"written: {', '.join(map(str, written))}\n")
    typer.echo(next_steps(proxy, directory, values))


def _named(endpoint: str) -> dict[str, str]:
    if not _ENDPOINT.fullmatch(endpoint) or len(endpoint) > MAX_NAME_CHARS:
        msg = f"--endpoint: letters, digits, - and _, at most {MAX_NAME_CHARS}"
        raise ValueError(msg)
    if endpoint.lower() in MOUNTS:
        msg = f"--endpoint: paths of the name {endpoint} are taken; call it otherwise"
        raise ValueError(msg)
    return {"ENDPOINT": endpoint}


def _listening(text: str) -> dict[str, str]:
    address = _address("--listen", text)
    try:
        own = ipaddress.IPv4Address(address.host)
    except ValueError:
        msg = "--listen: an IPv4 address and a port, like 127.0.0.1:8080"
        raise ValueError(msg) from None
    # A proxy of this machine connects from 127.0.0.1, or from the very address it connects to.
    asked = "127.0.0.1" if str(own) == ANY_ADDRESS else str(own)
    return {
        "LISTEN_HOST": str(own),
        "PASSCTRL_HOST": asked,
        "PASSCTRL_PORT": str(address.port),
        "TRUSTED": ", ".join(dict.fromkeys(["127.0.0.1", asked])),
    }


def _upstream(text: str | None, proxy: Proxy) -> dict[str, str]:
    in_cluster = proxy is Proxy.INGRESS_NGINX
    address = _address("--upstream", text or ("app:9000" if in_cluster else "127.0.0.1:9000"))
    named = _HOST_NAME.fullmatch(address.host) is not None
    if in_cluster and not _SERVICE.fullmatch(address.host):
        msg = "--upstream: the name of a service and its port, like app:9000"
        raise ValueError(msg)
    if named and proxy is Proxy.ENVOY:
        msg = "--upstream: Envoy's static cluster takes an IPv4 address"
        raise ValueError(msg)
    return {"UPSTREAM_HOST": address.host, "UPSTREAM_PORT": str(address.port)}


def _address(option: str, text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        msg = f"{option}: expected a host and a port, like 127.0.0.1:8080"
        raise ValueError(msg)
    if not _HOST_NAME.fullmatch(host) or host.lower() in _RESERVED:
        try:
            host = str(ipaddress.IPv4Address(host))
        except ValueError:
            msg = f"{option}: the host is an IPv4 address or a name"
            raise ValueError(msg) from None
    return Address(host=host, port=int(port))


def rendered(proxy: Proxy, values: dict[str, str]) -> dict[str, str | Secret]:
    """Return what each file says; a secret is for a private one."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    texts: dict[str, str | Secret] = {
        "config.yaml": _filled((STARTING / "config.yaml").read_text(), values),
        TOKENS: Secret(_filled((STARTING / "tokens.yaml").read_text(), {"TOKEN": token})),
        CREDENTIAL: Secret(f"Authorization: Bearer {token}\n"),
        f"{PRIVATE_FOLDER}/.gitignore": "*\n",
    }
    return texts | dict(_proxy_files(proxy, values))


def _proxy_files(proxy: Proxy, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    for file in sorted((STARTING / proxy).iterdir(), key=lambda file: file.name):
        yield file.name, _filled(file.read_text(), values)


def _filled(text: str, values: dict[str, str]) -> str:
    return _MARK.sub(lambda mark: values[mark[1]], text)


def write(directory: Path, texts: dict[str, str | Secret], *, force: bool) -> list[Path]:
    """Write all files; none when one is there already, unless it is to be replaced."""
    paths = {directory / name: text for name, text in texts.items()}
    there = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        msg = f"there already: {', '.join(there)}; --force replaces them, the token too"
        raise ValueError(msg)
    (directory / PRIVATE_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in paths.items():
        path.unlink(missing_ok=True)  # a link is replaced, not followed
        if isinstance(text, Secret):
            write_once(path, text.reveal())
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    return list(paths)


def next_steps(proxy: Proxy, directory: Path, values: dict[str, str]) -> str:
    """Say what to do now."""
    place = shlex.quote(str(directory))
    listens = f"{values['LISTEN_HOST']}:{values['PASSCTRL_PORT']}"
    application = f"{values['UPSTREAM_HOST']}:{values['UPSTREAM_PORT']}"
    steps = [
        f"cd {place}",
        "passctrl check config.yaml",
        f"passctrl serve config.yaml      # listens on {listens}",
        f"{START[proxy]}      # for the application at {application}",
    ]
    if proxy is Proxy.INGRESS_NGINX:
        trust = (
            "Before that: in config.yaml name the addresses of the controller's pods\n"
            "(trustedProxyIPs), and in ingress.yaml the hosts and the address of PassCtrl."
        )
    else:
        trust = "A proxy on another machine: name its address in trustedProxyIPs."
        steps += [
            "curl http://127.0.0.1:8000/      # refused: 401",
            f"curl -H @{CREDENTIAL} http://127.0.0.1:8000/      # let in",
        ]
    return "\n".join(["Now:", *(f"  {step}" for step in steps), trust])
