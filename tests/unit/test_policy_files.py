import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.kernel.policy import ConditionError
from gatekeeper.platform.policy import PolicyError, PolicyHolder, load_policy, run_cases, validate
from gatekeeper.platform.policy.conditions import compile_condition

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"
HEAD = "apiVersion: gatekeeper/v1\nkind: Policy\n"
GRANT = (
    "  - {name: g, who: {groups: [a]}, plane: databases, targets: [pg], roles: [r], maxTtl: 1h%s}\n"
)


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "valid dictionary"),
        ("[]", "valid dictionary"),
        ("a: 1\na: 2\n", "stands here twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: [", "not usable YAML"),
        ("!!python/object:os.system {}", "not usable YAML"),
        (HEAD + "grant: []\n", "p.yaml:3: grant: this key is not known; did you mean 'grants'?"),
        (HEAD + "grants:\n" + GRANT % ", maxTtll: 2h", "did you mean 'maxTtl'?"),
        (HEAD + "grants:\n" + GRANT % ", when: 'request.rle == 1'", "p.yaml:4: grants.0.when: "),
        (HEAD + "grants:\n" + GRANT % ", when: '1 + 1'", "must be true or false"),
        (HEAD + "grants:\n" + GRANT.replace("1h", "soon") % "", "15m"),
        (HEAD + "grants:\n" + GRANT.replace("[pg]", "[]") % "", "at least 1"),
        (HEAD + "grants:\n" + GRANT % "" + GRANT % "", "the name 'g' is used"),
        (HEAD.replace("v1", "v2"), "apiVersion"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = HEAD + "grants:\n" + GRANT.replace("1h", "x").replace("databases", "d") % ", y: 1"

    assert len(problems(tmp_path, text).splitlines()) == 4


def test_a_folder_is_one_policy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "grants:\n" + GRANT % "")
    (tmp_path / "b.yaml").write_text(HEAD + "limits: {sessionsPerPrincipal: 9}\n")
    (tmp_path / "b.test.yaml").write_text("not: read")

    loaded = load_policy(tmp_path)

    assert [g.name for g in loaded.grants] == ["g"]
    assert loaded.limits.sessions_per_principal == 9


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_file_raises_anything_but_our_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    with suppress(PolicyError):
        load_policy(path)


def test_a_condition_that_fails_while_it_runs_says_so() -> None:
    with pytest.raises(ConditionError):
        compile_condition("1 / (request.ttlSeconds - 1) == 1")({"request.ttlSeconds": 1})
    with pytest.raises(ConditionError):
        compile_condition("request.role == 'x'")({})
    with pytest.raises(ValueError, match="at most"):
        compile_condition("true || " * 1000 + "true")


def test_rules_without_effect_are_found(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    narrow = GRANT.replace("name: g", "name: narrow").replace("1h", "5m") % ""
    never = GRANT.replace("name: g", "name: never").replace("[pg]", "[my]") % ""
    deny = "denies:\n  - {name: stop, plane: databases, targets: [my]}\n"
    path.write_text(HEAD + "grants:\n" + GRANT % "" + narrow + never + deny)

    found = {(f.rule, f.what) for f in validate(load_policy(path), targets=["pg"], roles=["r"])}

    assert found == {
        ("narrow", "it has no effect: 'g' allows all of it"),
        ("never", "it never applies: deny 'stop' forbids all of it"),
        ("never", "no target matches 'my'"),
        ("stop", "no target matches 'my'"),
    }


def test_the_example_is_valid_and_its_cases_pass() -> None:
    loaded = load_policy(EXAMPLES / "policy.yaml")

    assert validate(loaded) == ()
    results = run_cases(loaded, EXAMPLES / "policy.test.yaml")
    assert len(results) == 5
    assert [r for r in results if r.problem is not None] == []


def test_a_case_that_goes_otherwise_says_how(tmp_path: Path) -> None:
    table = tmp_path / "x.test.yaml"
    table.write_text(
        "cases:\n  - {name: wrong, target: pg-prod, role: app_read, expect: allowed}\n"
        "  - {name: ttl, principal: {groups: [payments]}, target: pg-prod, role: app_read,"
        " expect: allowed, maxTtl: 2h}\n"
        "  - {name: why, target: pg-prod, role: app_read, expect: denied, because: the moon}\n"
    )
    results = run_cases(load_policy(EXAMPLES / "policy.yaml"), table)

    assert [r.problem is None for r in results] == [False, False, False]
    table.write_text("cases: [{}]")
    with pytest.raises(PolicyError):
        run_cases(load_policy(EXAMPLES / "policy.yaml"), table)


async def test_a_changed_policy_is_taken_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    real, path = tmp_path / "one.yaml", tmp_path / "link.yaml"
    real.write_text(HEAD + "grants:\n" + GRANT % "")
    path.symlink_to(real)
    loaded: list[int] = []
    rejected: list[tuple[str, ...]] = []

    async def on_loaded(generation: int) -> None:
        loaded.append(generation)

    async def on_rejected(why: tuple[str, ...]) -> None:
        rejected.append(why)

    holder = PolicyHolder(path, loaded=on_loaded, rejected=on_rejected)
    await holder.look()
    real.write_text(HEAD + "grants: [")
    await holder.look()
    await holder.look()
    assert [g.name for g in holder.current().grants] == ["g"]
    path.unlink()
    await holder.look()
    assert [g.name for g in holder.current().grants] == ["g"]
    other = tmp_path / "two.yaml"
    other.write_text(HEAD)
    path.symlink_to(other)
    await holder.look()

    assert holder.current().grants == ()
    assert loaded == [2]
    assert len(rejected) == 2


def test_without_a_whole_policy_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        PolicyHolder(tmp_path / "none.yaml", loaded=None, rejected=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("command", "code"), [(("validate",), 0), (("test",), 0)])
def test_the_commands_on_the_example(command: tuple[str, ...], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gatekeeper", "policy", *command, str(EXAMPLES / "policy.yaml"), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == code, done.stderr
    answer = json.loads(done.stdout)
    assert answer.get("valid", answer.get("passed")) is True
