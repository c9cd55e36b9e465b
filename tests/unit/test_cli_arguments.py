"""Whatever is typed, `gk` answers with words and one of its exit codes, never a traceback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from gatekeeper.client.config import checked_server
from gatekeeper.entrypoints import gk
from gatekeeper.kernel.errors import InputError
from unit.test_cli_help import ALL

SERVER = "http://127.0.0.1:9"
RUNS_ON = {
    "up",
    "demo",
    "serve control-plane",
    "serve agent",
    "serve gateway",
    "serve runner",
    "forwardauth serve",
    "doctor",
}
"""Would run until they are stopped, start sandboxes, or put a server in the place of this process (exec); how
they refuse is tested elsewhere."""

NAMES = sorted(set(ALL) - RUNS_ON)
OPTIONS = sorted({opt for path in NAMES for param in ALL[path].params for opt in param.opts})
TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "", "-", "--", "-1", "0", "99999999999999999999", "\x00", "\udcff", "ses_", "../..",
            "ses_aaaaaaaaaaaaaaaaaaaa", "pg-local", "15m", "true", "/dev/null", "/", "{}", "%s",
            "x" * 300, "\n", "http://[", SERVER, "--help", "--json",
        ]
    ),
)  # fmt: skip
WORDS = st.lists(
    st.one_of(
        TEXT, st.sampled_from(OPTIONS), st.builds("{}={}".format, st.sampled_from(OPTIONS), TEXT)
    ),
    max_size=6,
)


@pytest.fixture(autouse=True, scope="module")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("arguments")
        patch.chdir(folder)
        patch.setenv("GATEKEEPER_HOME", str(folder / "home"))
        patch.setenv("GATEKEEPER_TOKEN", "a.b.c")
        patch.setenv("GATEKEEPER_SERVER", SERVER)
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(gk.root, list(arguments), prog_name="gk")


def answered(result: Result) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in range(8), result.output
    assert "Traceback" not in result.output
    assert result.exit_code == 0 or result.stderr or result.output


@given(path=st.sampled_from(NAMES), words=WORDS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_arguments_of_any_command_are_answered(path: str, words: list[str]) -> None:
    answered(run(*path.split(), *words))


@given(words=WORDS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_words_are_answered(words: list[str]) -> None:
    answered(run(*words))


@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_configuration_file_is_answered(text: str) -> None:
    folder = Path("configured")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text, errors="surrogatepass" if text.isascii() else "replace")
    path.chmod(0o600)
    result = CliRunner().invoke(gk.root, ["session", "list"], env={"GATEKEEPER_HOME": str(folder)})

    answered(result)
    assert result.exit_code in {2, 6}


@pytest.mark.parametrize(
    "address",
    [
        "", "foo", "foo:4000", "ftp://x", "http://", "http://[", "http://x:y", "http://x:99999",
        "http://user:pw@x", "http://x?y", "http://x#y",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(InputError) as refused:
        checked_server(address)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("address", [SERVER + "/", "https://[::1]:4000", "https://x/gatekeeper"])
def test_an_address_is_taken_without_its_last_slash(address: str) -> None:
    assert checked_server(address) == address.rstrip("/")


def test_a_defect_is_said_to_be_one_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        msg = "secret-canary"
        raise RuntimeError(msg)

    monkeypatch.setattr(gk, "root", broken)
    with pytest.raises(SystemExit) as ended:
        gk.main()

    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "defect of gk (RuntimeError)" in said
    assert "canary" not in said
    monkeypatch.setenv("GATEKEEPER_DEBUG", "1")
    with pytest.raises(RuntimeError):
        gk.main()


@pytest.mark.parametrize("path", ["session list", "session watch", "login", "audit verify"])
def test_a_server_that_is_away_is_named_with_what_to_look_at(path: str) -> None:
    result = run(*path.split())

    assert result.exit_code == 6
    assert result.stdout == ""
    assert f"no answer from {SERVER}" in result.stderr
    assert "is it running, is the address right?" in result.stderr


def test_durations_are_lines_of_json_on_standard_error() -> None:
    result = run("session", "list", "--timing")
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]

    assert result.stdout == ""
    assert [line["event"] for line in lines] == ["gk.request", "gk.request", "gk.command"]
    assert lines[0] == {
        "event": "gk.request", "correlationId": lines[2]["correlationId"],
        "operation": "list_sessions", "status": None, "durationMs": lines[0]["durationMs"],
    }  # fmt: skip
    assert lines[2]["command"] == "session list"
    assert lines[2]["exit"] == 6
    assert "gk.request" not in run("session", "list").stderr
    assert "gk.request" in run("--timing", "session", "list").stderr
