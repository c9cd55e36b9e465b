"""The build hook: what it puts into the package, and that nothing of it is committed."""

import gzip
import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.web.page import assets
from gatekeeper.terminals.web.page.answers import Answers

ROOT = Path(__file__).parents[2]
STATIC = "src/gatekeeper/terminals/web/page/static"
NPM = shutil.which("npm")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load it as the build does, which alone has hatchling."""
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.__dict__["BuildHookInterface"] = list
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "npm", tmp_path / "npm", ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


def test_the_lock_pins_every_package_by_its_hash_and_names_no_host() -> None:
    text = (ROOT / "npm" / "package-lock.json").read_text()
    packages = {name: p for name, p in json.loads(text)["packages"].items() if name}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
    assert not any("dependencies" in package for package in packages.values())
    assert "://" not in text


def test_what_was_built_here_has_names_that_hold_their_hashes() -> None:
    folder = ROOT / STATIC
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, hashed in manifest["files"].items():
        content = (folder / hashed).read_bytes()
        assert hashlib.sha256(content).hexdigest()[:16] in hashed
        assert gzip.decompress((folder / f"{hashed}.gz").read_bytes()) == content
        assert b"sourceMappingURL" not in content
        assert name.partition(".")[0] in hashed
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"{STATIC}/", "node_modules/"} <= set(ignored)


def test_a_copy_that_was_never_built_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers.make(gateway="ws://127.0.0.1:1", random=SystemRandom())
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    assets.assets.cache_clear()
    try:
        shown = answers.page("sign_in.html", issuers=[], back="/console")
    finally:
        assets.assets.cache_clear()
    assert shown.status_code == 503
    assert b"pip install --no-deps -e ." in bytes(shown.body)


@pytest.mark.skipif(NPM is None, reason="there is no npm")
def test_a_build_without_its_registry_says_what_to_do(
    hook: ModuleType, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(copy / "cache"))
    (copy / "work").mkdir()
    with pytest.raises(SystemExit, match="npm must reach its registry; where it cannot, install"):
        hook.fetch(copy, copy / "work")


@pytest.mark.skipif(NPM is None, reason="there is no npm")
@pytest.mark.slow
def test_a_build_is_the_same_wherever_it_is_done_and_done_once(
    hook: ModuleType, copy: Path
) -> None:
    (copy / "work").mkdir()
    assert not hook.is_built(copy)
    hook.put(copy, hook.fetch(copy, copy / "work"))
    assert hook.is_built(copy)
    here = {path.name: path.read_bytes() for path in (ROOT / STATIC).iterdir()}
    assert here == {path.name: path.read_bytes() for path in (copy / STATIC).iterdir()}
    (copy / "npm" / "package-lock.json").write_text("{}")
    assert not hook.is_built(copy)
