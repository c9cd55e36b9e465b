"""`passctrl doctor` on real proxies: those of the examples are sound, broken ones are found out."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gatekeeper.entrypoints.passctrl.examining.examination import Examination
from gatekeeper.entrypoints.passctrl.examining.exchange import Client, Site
from gatekeeper.entrypoints.passctrl.examining.knowledge import Severity
from gatekeeper.entrypoints.passctrl.init import Proxy
from gatekeeper.entrypoints.passctrl.main import app
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.processes.listening import free_port
from proxies.application import Application
from proxies.files import passctrl_on, proxy_on
from proxies.servers import EXAMPLES


@dataclass(frozen=True)
class Gate:
    """PassCtrl with a configuration that `passctrl init` wrote."""

    folder: Path
    port: int

    @property
    def credential(self) -> Path:
        return self.folder / "secrets" / "credential"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("gate")
    assert run("init", "--proxy", "nginx", str(folder)).exit_code == 0
    with passctrl_on(folder / "config.yaml") as port:
        yield Gate(folder, port)


def run(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="passctrl", env=environment)


def files(
    proxy: str, folder: Path, *, gate: int, application: int, changes: dict[str, str]
) -> Path:
    """Write the example's files, with what is changed in them to break them."""
    folder.mkdir()
    left = set(changes)
    for example in (EXAMPLES / proxy).iterdir():
        text = example.read_text()
        for old, new in changes.items():
            if old in text:
                left.discard(old)
                text = text.replace(old, new)
        for given, taken in (("8080", gate), ("9000", application)):
            text = text.replace(given, str(taken))
        (folder / example.name).write_text(text)
    assert not left, "the example has changed"
    return folder


def examine(
    port: int, credential: Path | None, *, path: str = "/private", echo: bool = True
) -> Examination:
    secret = None if credential is None else Secret(credential.read_text().strip())
    client = Client(
        site=Site.of(f"http://127.0.0.1:{port}{path}"),
        credential=secret,
        timeout=10,
        deadline=time.monotonic() + 120,
    )
    examination = Examination(client=client, path=path, echo=echo)
    asyncio.run(examination.run())
    return examination


def wrong(examination: Examination) -> set[str]:
    """Return what was found, but for notes."""
    return {
        finding.code for finding in examination.findings if finding.severity is not Severity.NOTE
    }


@pytest.mark.parametrize("proxy", Proxy)
def test_the_proxies_of_the_examples_are_sound(
    proxy: Proxy, gate: Gate, application: Application, tmp_path: Path
) -> None:
    folder = files(
        proxy, tmp_path / "files", gate=gate.port, application=application.port, changes={}
    )
    with proxy_on(proxy, folder) as port:
        examination = examine(port, gate.credential)

    assert wrong(examination) == set(), examination.findings
    assert examination.client.sent > 60


ASKS = "            auth_request /_passctrl;\n"
ERROR_PAGE = "            error_page 401 = @unauthenticated;\n"
TELLS_METHOD = "            proxy_set_header X-Forwarded-Method $request_method;\n"
HANDS_ON_USER = "            proxy_set_header X-User $passctrl_user;\n"
LOCATION = "        location / {\n"
SERVER_END = "        location @unauthenticated {\n"
OPEN_REST = """        location / { proxy_pass http://application; }
"""

BROKEN = {
    "X-User is not set for the application": (
        {HANDS_ON_USER: ""}, {"identity-survives"},
    ),
    "no identity header is": (
        {HANDS_ON_USER: "", "            proxy_set_header X-Groups $passctrl_groups;\n": ""},
        {"identity-survives", "identity-missing"},
    ),
    "PassCtrl is not told the method": (
        {TELLS_METHOD: ""}, {"credential-refused", "client-tells"},
    ),
    "PassCtrl is told what the client says of the host": (
        {"X-Forwarded-Host $http_host;\n            proxy_set_header X-Forwarded-Uri $request_uri": "X-Forwarded-Host $http_x_forwarded_host$http_host;\n            proxy_set_header X-Forwarded-Uri $request_uri"},
        {"client-tells"},
    ),
    "one location asks, the rest does not": (
        {LOCATION: OPEN_REST + "        location /private {\n"}, {"elsewhere-open", "path-open"},
    ),
    "slashes are not merged, and one location asks": (
        {
            LOCATION: OPEN_REST.replace("location /", "location ~ ^//")
            + "        location / {\n",
            "        absolute_redirect off;": "        absolute_redirect off; merge_slashes off;",
        },
        {"path-open"},
    ),
    "a refusal is answered by the application, as 200": (
        {ERROR_PAGE: "            error_page 401 =200 @fallback;\n",
         SERVER_END: "        location @fallback { proxy_pass http://application; }\n" + SERVER_END},
        {"open"},
    ),
    "a refusal is answered by the application, as 401": (
        {ERROR_PAGE: "            error_page 401 @fallback;\n",
         SERVER_END: "        location @fallback { proxy_pass http://application; }\n" + SERVER_END},
        {"error-page"},
    ),
    "the question has no headers of the client": (
        {"            proxy_pass_request_body off;": "            proxy_pass_request_body off; proxy_pass_request_headers off;"},
        {"credential-refused"},
    ),
    "headers with an underscore pass": (
        {"underscores_in_headers off": "underscores_in_headers on"}, {"underscores-pass"},
    ),
    "PassCtrl is told the path that nginx has tidied": (
        {"X-Forwarded-Uri $request_uri": "X-Forwarded-Uri $uri"}, {"path-differs"},
    ),
    "preflights are answered without a question": (
        {ASKS: "            if ($request_method = OPTIONS) { return 204; }\n" + ASKS},
        {"method-open"},
    ),
    "upgrades go another way": (
        {ASKS: "            if ($http_upgrade) { rewrite ^ /live last; }\n" + ASKS,
         LOCATION: """        location = /live {
            internal;
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }
""" + LOCATION},
        {"websocket-open"},
    ),
    "an address is enough": (
        {ASKS: ASKS + "            satisfy any; allow 127.0.0.1; deny all;\n"}, {"open"},
    ),
    "nobody is asked": ({ASKS: ""}, {"open"}),
    "a header of the client turns the question off": (
        {ASKS: "            if ($http_x_original_method = OPTIONS) { rewrite ^ /live last; }\n" + ASKS,
         LOCATION: "        location = /live { internal; proxy_pass http://application; }\n" + LOCATION},
        {"forged-open"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_nginx_is_found_out(
    name: str, gate: Gate, application: Application, tmp_path: Path
) -> None:
    changes, codes = BROKEN[name]
    folder = files(
        "nginx", tmp_path / "files", gate=gate.port, application=application.port, changes=changes
    )
    with proxy_on("nginx", folder) as port:
        examination = examine(port, gate.credential)

    assert codes <= wrong(examination), examination.findings


def test_a_caddy_that_copies_no_headers_is_found_out(
    gate: Gate, application: Application, tmp_path: Path
) -> None:
    changes = {"copy_headers X-User X-Groups X-Email": ""}
    folder = files(
        "caddy", tmp_path / "files", gate=gate.port, application=application.port, changes=changes
    )
    with proxy_on("caddy", folder) as port:
        examination = examine(port, gate.credential)

    assert wrong(examination) >= {"identity-survives", "identity-missing"}
    assert examination.proxy == "caddy"


def test_an_envoy_that_lets_in_while_passctrl_is_away_is_found_out(
    application: Application, tmp_path: Path
) -> None:
    changes = {"failure_mode_allow: false": "failure_mode_allow: true"}
    folder = files(
        "envoy", tmp_path / "files", gate=free_port(), application=application.port, changes=changes
    )
    with proxy_on("envoy", folder) as port:
        examination = examine(port, None)

    assert wrong(examination) == {"open"}


def test_a_proxy_whose_passctrl_is_away_is_sound_and_its_credential_is_refused(
    gate: Gate, application: Application, tmp_path: Path
) -> None:
    folder = files(
        "nginx", tmp_path / "files", gate=free_port(), application=application.port, changes={}
    )
    with proxy_on("nginx", folder) as port:
        assert wrong(examine(port, None)) == set()
        assert wrong(examine(port, gate.credential)) == {"credential-refused"}


def test_a_finding_is_told_with_what_was_sent_why_it_matters_and_how_it_is_mended(
    gate: Gate, application: Application, tmp_path: Path
) -> None:
    folder = files(
        "nginx", tmp_path / "files", gate=gate.port, application=application.port,
        changes={HANDS_ON_USER: ""},
    )  # fmt: skip
    token = gate.credential.read_text().split()[-1]
    with proxy_on("nginx", folder) as port:
        url = f"http://127.0.0.1:{port}/private"
        given = ("--credential-file", str(gate.credential), "--echo", "/private")
        said = run("doctor", url, *given)
        as_json = run("doctor", url, *given, "--json")
        by_variable = run(
            "doctor", url, "--echo", "/private",
            environment={"PASSCTRL_CREDENTIAL": gate.credential.read_text()},
        )  # fmt: skip

    assert [done.exit_code for done in (said, as_json, by_variable)] == [1, 1, 1]
    assert token not in said.output + as_json.output + by_variable.output
    assert "high: an identity header of the client reaches the application" in said.output
    assert "sent GET /private, X-User: passctrl-doctor-forged, the credential" in said.output
    assert "CVE-2026-30851" in said.output
    assert "auth_request_set $v $upstream_http_x_user" in said.output
    told = json.loads(as_json.output)
    assert (told["sound"], told["proxy"]) == (False, "nginx")
    assert "identity-survives" in by_variable.output
    (finding,) = (one for one in told["findings"] if one["code"] == "identity-survives")
    assert finding["severity"] == "high"


def test_a_sound_proxy_is_told_to_be_one(
    gate: Gate, application: Application, tmp_path: Path
) -> None:
    folder = files(
        "nginx", tmp_path / "files", gate=gate.port, application=application.port, changes={}
    )
    with proxy_on("nginx", folder) as port:
        done = run("doctor", f"http://127.0.0.1:{port}/private")

    assert done.exit_code == 0, done.output
    assert done.output.endswith("requests: nothing to mend\n")
    assert "note: not everything was examined" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("ftp://127.0.0.1/",),
        ("http://user@127.0.0.1/",),
        ("http://127.0.0.1:99999/",),
        ("http://127.0.0.1/ x",),
        ("http://127.0.0.1:1/", "--echo", "echo"),
        ("http://127.0.0.1:1/", "--identity", "X User"),
        ("http://127.0.0.1:1/", "--credential-file", "/nonexistent"),
        ("http://127.0.0.1:1/", "--credential-file", __file__),
        ("http://127.0.0.1:1/",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_examined_is_an_error_in_one_line(arguments: tuple[str, ...]) -> None:
    done = run("doctor", *arguments)

    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
