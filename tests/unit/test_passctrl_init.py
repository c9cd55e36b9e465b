"""What `passctrl init` writes, what it refuses to write, and who can read it."""

import re
import stat
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gatekeeper import bootstrap
from gatekeeper.entrypoints.passctrl.init import START, Proxy
from gatekeeper.entrypoints.passctrl.main import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
GENERATED = "generated.conf"
"""What ingress-nginx makes of its ingress: for tests alone."""


def init(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)], prog_name="passctrl")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.mark.parametrize("proxy", Proxy)
def test_the_configuration_is_one_that_check_accepts(proxy: Proxy, gate: Path) -> None:
    done = init("--proxy", proxy, gate)

    assert done.exit_code == 0, done.output
    assert bootstrap.check_configuration(gate / "config.yaml", {}) == ()
    assert START[proxy] in done.output


@pytest.mark.parametrize("proxy", Proxy)
def test_the_examples_are_what_is_written_with_the_defaults(proxy: Proxy, gate: Path) -> None:
    init("--proxy", proxy, gate)

    for example in (EXAMPLES / proxy).iterdir():
        if example.name == GENERATED:
            continue
        # The ingress of the examples goes on with a second one, for browsers.
        first, _, _ = example.read_text().partition("---\n")
        assert (gate / example.name).read_text() == first


@pytest.mark.parametrize("proxy", sorted(set(Proxy) - {Proxy.INGRESS_NGINX}))
def test_addresses_and_names_that_are_given_stand_in_place_of_the_defaults(
    proxy: Proxy, gate: Path
) -> None:
    done = init(
        "--proxy", proxy, "--endpoint", "Shop_2", "--listen", "10.1.2.3:4455",
        "--upstream", "10.6.7.8:5566", gate,
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    told = "\n".join(path.read_text() for path in gate.iterdir() if path.is_file())
    assert not re.search(r"\b(8080|9000)\b|@[A-Z_]+@|/app\b", told)
    assert re.search(r"10\.1\.2\.3(:|, port_value: )4455", told)
    assert re.search(r"10\.6\.7\.8(:|, port_value: )5566", told)
    config = yaml.safe_load((gate / "config.yaml").read_text())
    (endpoint,) = config["endpoints"].items()
    assert endpoint[0] == "Shop_2"
    assert endpoint[1]["forwardProxyPolicy"]["trustedProxyIPs"] == ["127.0.0.1", "10.1.2.3"]
    assert bootstrap.check_configuration(gate / "config.yaml", {}) == ()


def test_an_ingress_names_a_service(gate: Path) -> None:
    done = init("--proxy", "ingress-nginx", "--upstream", "shop:81", "--listen", "0.0.0.0:80", gate)

    assert done.exit_code == 0, done.output
    ingress = yaml.safe_load((gate / "ingress.yaml").read_text())
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]
    assert backend == {"service": {"name": "shop", "port": {"number": 81}}}
    assert bootstrap.check_configuration(gate / "config.yaml", {}) == ()


@pytest.mark.parametrize("endpoint", ["null", "on", "0x10", "1e3", "-", "123"])
def test_a_name_stays_text_whatever_yaml_takes_it_for(endpoint: str, gate: Path) -> None:
    done = init("--proxy", "nginx", "--endpoint", endpoint, gate)

    if endpoint == "-":
        assert done.exit_code != 0
        return
    assert list(yaml.safe_load((gate / "config.yaml").read_text())["endpoints"]) == [endpoint]


INJECTED = [
    "a b", "a;", "a\n", "a\nb", "a}", "a{", "a#", "a$host", 'a"', "a'", "a\\", "a/../b", "a?b", "a%0a",
    "@UPSTREAM_HOST@", "a: b", "a`", "", "é", "a\x00", "a\r", "../a", "a,b", "[::1]", "%[env(HOME)]",
    "{$HOME}",
]  # fmt: skip
"""What would end a word, a comment, a block or a string in a file of one of the proxies."""


@pytest.mark.parametrize("proxy", Proxy)
@pytest.mark.parametrize("bad", INJECTED, ids=ascii)
def test_nothing_that_has_a_meaning_to_a_proxy_is_pasted_into_its_file(
    proxy: Proxy, bad: str, gate: Path
) -> None:
    service = "app" if proxy is Proxy.INGRESS_NGINX else "127.0.0.1"
    for arguments in (
        ("--endpoint", bad),
        ("--listen", f"{bad}:8080"),
        ("--listen", f"127.0.0.1:{bad}"),
        ("--listen", bad),
        ("--upstream", f"{bad}:9000"),
        ("--upstream", f"{service}:{bad}"),
        ("--upstream", bad or "x"),
    ):
        done = init("--proxy", proxy, *arguments, gate)

        assert done.exit_code == 1, arguments
        assert done.output.startswith("error: --")
        assert not gate.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "127.0.0.1:0"),
        ("--listen", "127.0.0.1:65536"),
        ("--listen", "127.0.0.1:080"),
        ("--listen", "127.0.0.1:٨٠"),
        ("--listen", "127.1:80"),
        ("--listen", "localhost:80"),
        ("--upstream", "unix:80"),
        ("--upstream", "app-:80"),
        ("--upstream", "http://app:80"),
        ("--endpoint", "nginx"),
        ("--endpoint", "Auth"),
        ("--endpoint", "a" * 65),
    ],
    ids=" ".join,
)
def test_what_cannot_be_served_is_refused(arguments: tuple[str, str], gate: Path) -> None:
    assert init("--proxy", "nginx", *arguments, gate).exit_code == 1
    assert not gate.exists()


@pytest.mark.parametrize(
    ("proxy", "upstream"), [("envoy", "app:80"), ("ingress-nginx", "10.0.0.1:80"), ("ingress-nginx", "on:80")]
)  # fmt: skip
def test_an_upstream_is_what_this_proxy_can_take(proxy: str, upstream: str, gate: Path) -> None:
    assert init("--proxy", proxy, "--upstream", upstream, gate).exit_code == 1


def test_the_token_is_for_its_owner_alone_and_never_printed(gate: Path) -> None:
    done = init("--proxy", "caddy", gate)

    token = (gate / "secrets" / "credential").read_text().split()[-1]
    assert len(token) >= 43
    assert token in (gate / "secrets" / "tokens.yaml").read_text()
    assert token not in done.output
    for path in (gate / "secrets" / "credential", gate / "secrets" / "tokens.yaml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((gate / "secrets").stat().st_mode) == 0o700
    assert (gate / "secrets" / ".gitignore").read_text() == "*\n"
    assert token not in "".join(path.read_text() for path in gate.iterdir() if path.is_file())


def test_each_gate_has_a_token_of_its_own(tmp_path: Path) -> None:
    tokens = set()
    for name in ("one", "two"):
        init("--proxy", "nginx", tmp_path / name)
        tokens.add((tmp_path / name / "secrets" / "credential").read_text())

    assert len(tokens) == 2


@pytest.mark.parametrize("name", ["nginx.conf", "config.yaml", "secrets/credential"])
def test_nothing_is_overwritten_and_then_nothing_is_written(name: str, gate: Path) -> None:
    (gate / "secrets").mkdir(parents=True)
    (gate / name).write_text("mine")

    done = init("--proxy", "nginx", gate)

    assert done.exit_code == 1
    assert name in done.output
    assert [path for path in gate.rglob("*") if path.is_file()] == [gate / name]
    assert (gate / name).read_text() == "mine"


def test_force_replaces_files_and_follows_no_link(gate: Path, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").write_text("mine")
    init("--proxy", "nginx", gate)
    before = (gate / "secrets" / "credential").read_text()
    for name in ("nginx.conf", "secrets/tokens.yaml"):
        (gate / name).unlink()
        (gate / name).symlink_to(elsewhere)

    assert init("--proxy", "nginx", "--force", gate).exit_code == 0
    assert elsewhere.read_text() == "mine"
    assert not (gate / "nginx.conf").is_symlink()
    assert stat.S_IMODE((gate / "secrets" / "tokens.yaml").stat().st_mode) == 0o600
    assert (gate / "secrets" / "credential").read_text() != before
    assert bootstrap.check_configuration(gate / "config.yaml", {}) == ()


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = init("--proxy", "nginx", tmp_path / "file" / "gate")

    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
