"""Where `gk` gets its settings from, and which of them wins."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gatekeeper.client import config
from gatekeeper.client.config import Settings
from gatekeeper.entrypoints import gk
from gatekeeper.kernel.errors import InputError

FILE = """
[default]
server = "http://127.0.0.1:1"
default_ttl = "5m"
[profiles.production]
server = "https://gatekeeper.example.com"
default_ttl = "30m"
default_target = "pg-prod"
output_format = "json"
require_reason = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    return tmp_path


def test_a_profile_is_over_the_default_and_the_environment_over_both(folder: Path) -> None:
    assert config.load(None, folder, {}) == Settings(server="http://127.0.0.1:1", default_ttl="5m")
    assert config.load("production", folder, {}) == Settings(
        server="https://gatekeeper.example.com", default_ttl="30m", default_target="pg-prod",
        output_format="json", require_reason=True,
    )  # fmt: skip
    environment = {
        "GATEKEEPER_SERVER": "http://127.0.0.1:2", "GATEKEEPER_DEFAULT_TTL": "1m",
        "GATEKEEPER_DEFAULT_TARGET": "pg-env", "GATEKEEPER_OUTPUT_FORMAT": "table",
        "GATEKEEPER_REQUIRE_REASON": "false",
    }  # fmt: skip
    assert config.load("production", folder, environment) == Settings(
        server="http://127.0.0.1:2", default_ttl="1m", default_target="pg-env",
        output_format="table", require_reason=False,
    )  # fmt: skip


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert config.load(None, tmp_path, {}) == Settings()
    assert config.home({"GATEKEEPER_HOME": "/x"}) == Path("/x")
    assert config.home({}) == Path("~/.gatekeeper").expanduser()


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604, 0o666])
def test_a_file_that_is_open_to_others_is_refused_with_what_mends_it(
    folder: Path, mode: int
) -> None:
    path = folder / "config.toml"
    path.chmod(mode)
    with pytest.raises(InputError, match=f"chmod 600 {path}"):
        config.load(None, folder, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[defaults]", "unknown table"),
        ("[default]\nsevrer = 'x'", "did you mean 'server'"),
        ("[default]\nrequire_reason = 'secret-canary'", "require_reason"),
        ("[default]\noutput_format = 'secret-canary'", "output_format"),
        ("server = ", "not TOML"),
        ("default = 3", "[default]"),
        ("[default]\n[profiles]\nproduction = 3", "[profiles.production]"),
        ("profiles = []", "[profiles"),
    ],
)
def test_a_mistake_is_named_and_its_value_is_not(folder: Path, text: str, words: str) -> None:
    (folder / "config.toml").write_text(text)
    with pytest.raises(InputError) as refused:
        config.load("production" if "profiles" in text else None, folder, {})
    assert words in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_profile_that_is_not_there_names_those_that_are(folder: Path) -> None:
    with pytest.raises(InputError, match="known: production"):
        config.load("prod", folder, {})


def test_a_profile_is_saved_beside_the_others_in_a_private_file(tmp_path: Path) -> None:
    home = tmp_path / "new"
    config.save_profile(home, "local", {"server": "http://127.0.0.1:1"})
    config.save_profile(home, 'the "other"', {"server": "http://127.0.0.1:2"})

    assert (home / "config.toml").stat().st_mode & 0o777 == 0o600
    assert config.load(None, home, {}).server == "http://127.0.0.1:1"
    assert config.load('the "other"', home, {}).server == "http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("arguments", "environment", "server"),
    [
        ([], {}, "http://127.0.0.1:1"),
        (["--profile", "production"], {}, "https://gatekeeper.example.com"),
        ([], {"GATEKEEPER_PROFILE": "production"}, "https://gatekeeper.example.com"),
        ([], {"GATEKEEPER_SERVER": "http://127.0.0.1:2"}, "http://127.0.0.1:2"),
        (
            ["--server", "http://127.0.0.1:3"], {"GATEKEEPER_SERVER": "http://127.0.0.1:2"},
            "http://127.0.0.1:3",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", [True, False])
def test_flags_are_over_environment_and_file_before_and_after_the_command(
    folder: Path, arguments: list[str], environment: dict[str, str], server: str, after: bool
) -> None:
    line = ["session", "list", *arguments] if after else [*arguments, "session", "list"]
    result = CliRunner().invoke(
        gk.root,
        line,
        env={"GATEKEEPER_HOME": str(folder), "GATEKEEPER_SERVER": None, **environment},
    )

    assert result.exit_code == 3
    assert f"not logged in at {server};" in result.stderr


def test_a_profile_can_ask_for_a_reason(folder: Path) -> None:
    line = ["--profile", "production", "session", "create", "-r", "app_read"]
    result = CliRunner().invoke(
        gk.root, line, env={"GATEKEEPER_HOME": str(folder), "GATEKEEPER_TOKEN": "x"}
    )

    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_the_file_that_gk_writes_is_one_that_it_reads(tmp_path: Path) -> None:
    odd = 'a"b\\c\nd'
    config.save_profile(tmp_path, odd, {"server": "http://x", "require_reason": True})

    assert config.load(odd, tmp_path, {}).require_reason
    assert json.dumps(odd) in (tmp_path / "config.toml").read_text()
