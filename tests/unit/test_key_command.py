import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from gatekeeper.entrypoints import gk
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey


def run(path: Path) -> tuple[int, str]:
    result = CliRunner().invoke(gk.root, ["key", str(path)])
    return result.exit_code, result.output


def test_a_key_is_made_once_and_only_its_public_half_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "agent.jwk"
    code, first = run(file)

    assert code == 0
    assert run(file) == (0, first)
    assert json.loads(first) == json.loads(SigningKey.load(file).public_jwk())
    assert "d" not in json.loads(first)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_that_does_not_sign_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sealing.jwk"
    SealingKey.load_or_create(file)

    code, said = run(file)

    assert code == 2
    assert "expected an Ed25519 private key" in said


def test_an_agent_without_a_key_is_told_how_to_make_one(tmp_path: Path) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text('name = "a"\nkey_file = "missing.jwk"\ncontrol_planes = {}\ntargets = []\n')
    done = subprocess.run(
        [sys.executable, "-m", "gatekeeper", "serve", "agent", "--config", str(settings)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "gk key missing.jwk" in done.stderr
