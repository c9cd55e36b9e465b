"""A changed configuration is taken as a whole, once it is whole; else the last good one stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.watching import ConfigurationWatcher
from gatekeeper.forwardauth.config.loaded import Loaded
from gatekeeper.forwardauth.errors import ConfigurationError, Problem

BLOCK = (
    "server: {rules: {rulesFolder: rules}, templates: {templatesFolder: templates}, "
    "variables: {secretsFolder: s, secrets: {token: ~}}}\n"
)


class Service:
    """Stands for what has a configuration in force."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: list[Loaded] = []
        self.rejected: list[str] = []
        self.refuses: Exception | None = None
        for name, text in {"config.yaml": BLOCK, "rules/a.yaml": rules("one"), "s/token": "t",
                           "templates/t.html": "t"}.items():  # fmt: skip
            write(folder / name, text)
        self.main = folder / "config.yaml"
        self.watcher = ConfigurationWatcher(
            self.main, environ={}, running=load(self.main, environ={}),
            taken=self.take, rejected=self.reject,
        )  # fmt: skip

    async def take(self, loaded: Loaded) -> None:
        if self.refuses:
            raise self.refuses
        self.taken.append(loaded)

    async def reject(self, problems: tuple[Problem, ...]) -> None:
        self.rejected.append("\n".join(map(str, problems)))

    async def look(self) -> list[str]:
        """Look until a change has been still for one look; return the rules of what was taken."""
        for _ in range(3):
            await self.watcher.look()
        return list(self.taken[-1].configuration.rules) if self.taken else []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rules(*names: str) -> str:
    return "rules:\n" + "".join(f"  {name}: {{}}\n" for name in names)


async def test_what_has_not_changed_is_not_taken_again(tmp_path: Path) -> None:
    service = Service(tmp_path)
    assert await service.look() == []

    (tmp_path / "rules" / "a.yaml").write_text(rules("one"))

    assert await service.look() == []
    assert service.rejected == []


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write(folder / "rules" / "a.yaml", rules("one", "two")),
        lambda folder: write(folder / "rules" / "deep" / "b.yaml", rules("two")),
        lambda folder: write(folder / "templates" / "new.html", ""),
        lambda folder: write(folder / "s" / "token", "other"),
        lambda folder: write(folder / "config.yaml", BLOCK + rules("two")),
        lambda folder: (folder / "rules" / "a.yaml").unlink(),
    ],
)
async def test_a_change_of_any_file_that_counts_is_taken_once(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    service = Service(tmp_path)
    await service.look()

    change(tmp_path)
    await service.look()
    await service.look()

    assert len(service.taken) == 1
    assert service.rejected == []


async def test_what_changed_before_the_first_look_is_seen(tmp_path: Path) -> None:
    service = Service(tmp_path)
    write(tmp_path / "rules" / "a.yaml", rules("two"))

    assert await service.look() == ["two"]


async def test_what_changes_between_two_looks_is_still_being_written(tmp_path: Path) -> None:
    """Half of this file is a whole configuration, without its second rule."""
    service = Service(tmp_path)
    await service.look()

    write(tmp_path / "rules" / "a.yaml", rules("new"))
    await service.watcher.look()
    write(tmp_path / "rules" / "a.yaml", rules("new", "strict"))
    await service.watcher.look()
    assert service.taken == []

    assert await service.look() == ["new", "strict"]
    assert len(service.taken) == 1


async def test_what_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path)
    await service.look()
    path = tmp_path / "rules" / "a.yaml"

    def slow(main: Path, *, environ: dict[str, str]) -> Loaded:
        try:
            return load(main, environ=environ)
        finally:
            if "last" not in path.read_text():
                write(path, rules("new", "last"))

    monkeypatch.setattr("gatekeeper.forwardauth.adapters.watching.load", slow)
    write(path, "rules: [")
    assert await service.look() == []
    assert await service.look() == ["new", "last"]
    write(path, rules("another"))
    assert await service.look() == ["new", "last"]
    assert await service.look() == ["new", "last"]
    assert (len(service.taken), service.rejected) == (1, [])


async def test_a_volume_that_is_swapped_by_a_link_is_one_change(tmp_path: Path) -> None:
    """As Kubernetes does it for a ConfigMap: files link to ..data/, which links to a folder."""
    service = Service(tmp_path)
    folder = tmp_path / "rules"
    for version in ("one", "two"):
        for file in ("x", "y"):
            write(folder / f"..{version}" / f"{file}.yaml", rules(f"{file}-{version}"))
    (folder / "a.yaml").unlink()
    (folder / "..data").symlink_to("..one")
    for file in ("x", "y"):
        (folder / f"{file}.yaml").symlink_to(f"..data/{file}.yaml")
    assert await service.look() == ["x-one", "y-one"]

    (folder / "..new").symlink_to("..two")
    (folder / "..new").replace(folder / "..data")

    assert await service.look() == ["x-two", "y-two"]
    assert (len(service.taken), service.rejected) == (2, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: write(f / "rules" / "a.yaml", "rules: ["), "not usable YAML"),
        (lambda f: write(f / "rules" / "b.yaml", rules("one")), "duplicate definition"),
        (lambda f: write(f / "rules" / "b.yaml", "rules: {x: {y: 1}}"), "this key is not known"),
        (lambda f: write(f / "config.yaml", ""), "expected a mapping"),
        (lambda f: (f / "config.yaml").unlink(), "No such file"),
        (lambda f: (f / "s" / "token").unlink(), "No such file"),
        (lambda f: (f / "rules").rename(f / "gone"), "No such file"),
    ],
)
async def test_what_is_not_whole_is_told_once_and_the_last_good_one_stays(
    tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    """At a reload nothing is left out: all of the new configuration is refused."""
    service = Service(tmp_path)
    await service.look()

    change(tmp_path)
    await service.look()
    await service.look()

    assert service.taken == []
    (why,) = service.rejected
    assert words in why


async def test_what_was_good_before_is_taken_again_after_what_was_not(tmp_path: Path) -> None:
    """So that whoever was told of the refusal hears that it is over."""
    service = Service(tmp_path)
    write(tmp_path / "rules" / "a.yaml", "rules: [")
    assert await service.look() == []

    write(tmp_path / "rules" / "a.yaml", rules("one"))

    assert await service.look() == ["one"]


async def test_a_changed_server_block_is_not_half_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(tmp_path)
    write(service.main, BLOCK.replace("server: {", "server: {workers: 2, ") + rules("two"))

    assert await service.look() == []
    assert "restart to use this configuration" in service.rejected[0]
    assert "restart to use this configuration" in caplog.text


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (
            ConfigurationError([Problem(place="a", key="b", message="its tests fail")]),
            "a: b: its tests fail",
        ),
        (RecursionError("s3cret"), "config.yaml: a defect of passctrl (RecursionError)"),
    ],
)
async def test_whoever_takes_it_may_refuse_it(
    tmp_path: Path, refusal: Exception, told: str
) -> None:
    """A defect of ours is a refusal too: what was in force goes on deciding."""
    service = Service(tmp_path)
    service.refuses = refusal
    write(tmp_path / "rules" / "a.yaml", rules("two"))
    assert await service.look() == []
    (why,) = service.rejected
    assert why.endswith(told)

    service.refuses = None
    write(tmp_path / "rules" / "a.yaml", rules("two", "three"))
    assert await service.look() == ["two", "three"]


async def test_a_thousand_changes_are_taken_one_by_one(tmp_path: Path) -> None:
    service = Service(tmp_path)
    await service.look()
    for number in range(1_000):
        write(tmp_path / "rules" / "a.yaml", rules(f"r{number}"))
        await service.watcher.look()
        await service.watcher.look()

    assert [list(one.configuration.rules) for one in service.taken] == [
        [f"r{number}"] for number in range(1_000)
    ]
    assert service.rejected == []
