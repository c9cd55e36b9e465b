import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.policy import ConditionError
from gatekeeper.platform.policy import (
    Names,
    PolicyError,
    PolicyHolder,
    load_policy,
    load_with_places,
    run_cases,
    validate,
)
from gatekeeper.platform.policy.checks import Code
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
        ("", "expected a mapping"),
        ("[]", "expected a mapping"),
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
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None
)
def test_no_file_raises_anything_but_our_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    with suppress(PolicyError):
        load_policy(path)


FACTS: dict[str, Any] = {
    "request.plane": "databases", "request.target": "pg", "request.role": "app_read",
    "request.reason": "((", "request.ttlSeconds": 1, "principal.issuer": "https://i",
    "principal.subject": "dana", "principal.email": "", "principal.kind": "human",
    "principal.groups": [str(n) for n in range(1000)], "now": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip
GROUPS = "principal.groups"


@pytest.mark.parametrize(
    "source",
    [
        "1 / (request.ttlSeconds - 1) == 1",
        "(request.ttlSeconds + 1) * 9223372036854775807 > 0",
        "principal.groups[5000] == 'x'",
        "request.reason.matches(request.reason)",
        "timestamp(request.reason) < now",
        "int(request.reason) == 1",
        "now.getHours(request.reason) == 1",
        # Beyond the budget of 10,000 iterations: 1,000 groups by 1,000 groups.
        f"{GROUPS}.exists(a, {GROUPS}.exists(b, a == b && a == '999'))",
        f"{GROUPS}.map(a, {GROUPS}.map(b, a + b)).size() > 3",
    ],
)
def test_a_condition_that_cannot_be_evaluated_denies_with_a_reason(source: str) -> None:
    condition = compile_condition(source)
    with pytest.raises(ConditionError):
        condition(FACTS)
    dana = Principal(
        issuer="https://i", subject="dana", kind=PrincipalKind.HUMAN,
        groups=frozenset(FACTS[GROUPS]),
    )  # fmt: skip
    request = policy.AccessRequest(
        principal=dana, plane="databases", target="pg", role="app_read",
        ttl=timedelta(seconds=1), reason="((",
    )  # fmt: skip
    open_to_all = policy.Grant(
        name="g", who=policy.Who(), plane="databases", targets=("*",), roles=("*",),
        max_ttl=timedelta(hours=1),
    )  # fmt: skip

    granted = policy.Policy(grants=(replace(open_to_all, when=condition),))
    denied = policy.Policy(
        grants=(open_to_all,), denies=(policy.Deny(name="d", plane="databases", when=condition),)
    )

    for rules in (granted, denied):
        decision = policy.decide(rules, request, FACTS["now"])
        assert isinstance(decision, policy.Denied)
        assert "could not be evaluated" in decision.reasons[0]


def test_text_that_is_no_utf_8_counts_against_the_caller() -> None:
    with pytest.raises(ConditionError):
        compile_condition("request.reason == 'x'")(FACTS | {"request.reason": "\ud800"})


@pytest.mark.parametrize(
    "fact", [{"request.reason": "x\0y"}, {"principal.groups": ["ops", "x\0y"]}]
)
def test_text_with_a_nul_is_not_taken_for_what_stands_before_it(fact: dict[str, object]) -> None:
    """The library reads a text up to its first NUL."""
    with pytest.raises(ConditionError):
        compile_condition("request.reason == 'x' || 'x' in principal.groups")(FACTS | fact)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("request.rle == 'x'", "undeclared reference"),
        ("request.role == 1", "no matching overload"),
        ("request.role", "must be true or false"),
        ("request.ttlSeconds > '1h'", "no matching overload"),
        ("principal.groups.all(g)", "undeclared reference"),
        ("(" * 900 + "true" + ")" * 900, "recursion"),
        ("request.role ==", "Syntax error"),
        ("", "Syntax error"),
        ("true || " * 1000 + "true", "at most 2000 characters"),
    ],
)
def test_a_condition_is_type_checked_when_it_is_loaded(source: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compile_condition(source)


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
    names = Names(targets=frozenset({"pg"}), roles=frozenset({"r"}))

    found = {(f.rule, f.code.value, f.what) for f in validate(load_policy(path), names)}

    assert found == {
        ("narrow", "no-effect", "it has no effect: 'g' allows all of it"),
        ("never", "never-applies", "it never applies: deny 'stop' forbids all of it"),
        ("never", "unknown-target", "there is no target 'my'"),
        ("stop", "unknown-target", "there is no target 'my'"),
    }


NAMES = Names(
    targets=frozenset({"pg-prod", "pg-staging"}),
    roles=frozenset({"app_read", "app_write"}),
    groups=frozenset({"payments", "sre"}),
)
OTHERS = "{count: 1, from: {groups: [sre]}}"


def rule(name: str = "g", **changes: str) -> str:
    fields = {
        "name": name, "who": "{groups: [payments]}", "plane": "databases", "targets": "[pg-prod]",
        "roles": "[app_read]", "maxTtl": "1h",
    } | changes  # fmt: skip
    return "  - {" + ", ".join(f"{k}: {v}" for k, v in fields.items() if v) + "}\n"


def deny(name: str = "d", **changes: str) -> str:
    return rule(name, **({"who": "", "maxTtl": ""} | changes))


@pytest.mark.parametrize(
    ("grants", "denies", "finding"),
    [
        (rule(targets="[pg-porod]"), "", ("unknown-target", "g", "did you mean 'pg-prod'?")),
        (rule(roles="[app_raed]"), "", ("unknown-role", "g", "did you mean 'app_read'?")),
        (rule(who="{groups: [payment]}"), "", ("unknown-group", "g", "did you mean 'payments'?")),
        (rule(who="{groups: [zzz]}"), "", ("unknown-group", "g", "known: payments, sre")),
        (rule() + rule("h"), "", ("no-effect", "h", "'g' allows all of it")),
        (rule() + rule("h", maxTtl="2h"), "", ("no-effect", "g", "'h' allows all of it")),
        (
            rule(when="'request.reason != \"\"'") + rule("h", when="'request.reason != \"\"'"),
            "", ("no-effect", "h", "'g' allows all of it")
        ),
        (rule("h") + rule(approval=OTHERS), "", ("approval-never-asked", "g", "'h' allows all")),
        (rule(), deny(), ("never-applies", "g", "deny 'd' forbids all of it")),
        (rule(), deny() + deny("e", targets="['pg-*']"), ("no-effect", "d", "'e' forbids all")),
        (rule(when="'true || request.role == \"x\"'"), "", ("always-true", "g", "leave `when` out")),
        (rule(when="'1 > 2'"), "", ("always-false", "g", "remove the rule")),
        (rule(), deny(when="'[1, 2].all(x, x > 0)'"), ("always-true", "d", "always true")),
        (rule(who="{}"), "", ("for-everybody", "g", "CI jobs too")),
        (rule(who="{subjects: [dana]}"), "", ("issuer-left-open", "g", "say `issuers` too")),
        (rule(who="{emails: [d@x]}"), "", ("issuer-left-open", "g", "every trusted issuer")),
        (
            rule(who="{groups: [sre]}", approval=OTHERS), "",
            ("self-approval", "g", "everybody it is for may also approve")
        ),
    ],
)  # fmt: skip
def test_each_kind_of_finding_names_its_rule_its_line_and_what_to_do(
    tmp_path: Path, grants: str, denies: str, finding: tuple[str, str, str]
) -> None:
    code, name, words = finding
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + "grants:\n" + grants + (f"denies:\n{denies}" if denies else ""))
    loaded = load_with_places(path)

    found = [f for f in validate(loaded.policy, NAMES) if f.code.value == code]

    assert [f.rule for f in found] == [name]
    assert words in f"{found[0].what}; {found[0].fix}"
    place = loaded.places[name]
    assert f"name: {name}," in path.read_text().splitlines()[place.line - 1]


def test_a_policy_without_faults_has_no_findings(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        HEAD + "grants:\n"
        + rule(approval=OTHERS, maxTtl="2h") + rule("short")
        + rule("dana", who="{subjects: [dana], issuers: ['https://i']}", when="'request.role != \"x\"'")
        + rule("star", targets="['pg-*']", roles="['*']", who="{groups: [sre]}")
        + "denies:\n" + deny(when="'now >= timestamp(\"2026-12-20T00:00:00Z\")'")
    )  # fmt: skip

    assert validate(load_policy(path), NAMES) == ()


def test_every_kind_of_finding_is_documented() -> None:
    text = (EXAMPLES.parents[1] / "docs" / "reference" / "policy.md").read_text()

    assert [code for code in Code if f"| `{code}` |" not in text] == []


def test_the_command_tells_everything_at_once_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "grants:\n" + rule(who="{}", when="'1 > 2'"))
    (tmp_path / "b.yaml").write_text(HEAD + "grants:\n" + rule("h", targets="[nowhere]"))
    settings = tmp_path / "control-plane.toml"
    settings.touch(mode=0o600)
    settings.write_text(
        'store_dsn = "x"\npublic_url = "http://127.0.0.1"\nkey_folder = "k"\npolicy = "p"\n'
        '[[targets]]\nname = "pg-prod"\nagent = "a"\nhost = "h"\ndatabase = "d"\n'
    )
    command = ["policy", "validate", str(tmp_path), "--config", str(settings), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gatekeeper", *command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert {(f["code"], Path(f["file"]).name, f["line"]) for f in answer["findings"]} == {
        ("for-everybody", "a.yaml", 4), ("always-false", "a.yaml", 4),
        ("unknown-target", "b.yaml", 4),
    }  # fmt: skip
    assert len(answer["problems"]) == 3
    (tmp_path / "c.yaml").write_text(HEAD + "limits: {}\nx: 1\n")
    (tmp_path / "d.yaml").write_text(HEAD + "grants: [")
    broken = subprocess.run(
        [sys.executable, "-m", "gatekeeper", *command], capture_output=True, text=True, check=False
    )
    assert [Path(p.split(":")[0]).name for p in json.loads(broken.stdout)["problems"]] == [
        "c.yaml", "d.yaml",
    ]  # fmt: skip


def test_names_and_limits_that_stand_twice_are_told_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "grants:\n" + rule() + "limits: {}\n")
    (tmp_path / "b.yaml").write_text(HEAD + "limits: {}\ndenies:\n" + deny("g"))

    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path)

    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    assert caught.value.problems == (
        f"{b}:5: the name 'g' is used in {a}:4 too; rename one",
        f"{b}:3: limits: they stand in {a} too; keep one",
    )


def test_the_example_is_valid_and_its_cases_pass() -> None:
    loaded = load_policy(EXAMPLES / "policy.yaml")

    assert validate(loaded, Names()) == ()
    assert validate(load_policy(EXAMPLES.parent / "ci" / "policy.yaml"), Names()) == ()
    results = run_cases(loaded, EXAMPLES / "policy.test.yaml")
    assert len(results) == 7
    assert [r for r in results if r.problem is not None] == []


def test_a_case_that_goes_otherwise_says_how(tmp_path: Path) -> None:
    table = tmp_path / "x.test.yaml"
    allowed = "principal: {groups: [payments]}, target: pg-prod, role: app_read, expect: allowed"
    denied = "target: pg-prod, role: app_read, expect: denied"
    lines = [
        ("target: pg-prod, role: app_read, expect: allowed", "expected allowed, got denied: "),
        (allowed + ", maxTtl: 2h", "expected at most 2h, got 1h"),
        (allowed + ", given: 2h", "expected given 2h, got 1h"),
        (allowed + ", grant: other", "expected grant 'other', got 'payments-read-production'"),
        (denied + ", because: the moon", "no reason says 'the moon': grant "),
        (denied + ", instead: the sun", "no alternative says 'the sun': there is none"),
    ]
    table.write_text("cases:\n" + "".join(f"  - {{name: c, {line}}}\n" for line, _words in lines))

    results = run_cases(load_policy(EXAMPLES / "policy.yaml"), table)

    for result, (_line, words) in zip(results, lines, strict=True):
        assert (result.problem or "").startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cases: [{}]", ":1: cases.0.name: this key is missing"),
        ("cases: []", "at least 1"),
        ("cases: [", "not usable YAML"),
        (
            "cases:\n  - {name: c, target: t, role: r, expect: denied, maxTtl: 1h}\n",
            ":2: cases.0: maxTtl says nothing about an answer that is denied",
        ),
        (
            "cases:\n  - {name: c, target: t, role: r, expect: allowed, becuase: x}\n",
            ":2: cases.0.becuase: this key is not known; did you mean 'because'?",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "x.test.yaml"
    table.write_text(text)

    with pytest.raises(PolicyError) as caught:
        run_cases(load_policy(EXAMPLES / "policy.yaml"), table)

    assert words in caught.value.detail


class Told:
    """What a holder told; it fails while the evidence is away."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.rejected: list[tuple[str, ...]] = []
        self.away = False

    async def on_loaded(self, generation: int) -> None:
        if self.away:
            msg = "the store"
            raise UnavailableError(msg)
        self.loaded.append(generation)

    async def on_rejected(self, why: tuple[str, ...]) -> None:
        self.rejected.append(why)

    def holder(self, path: Path) -> PolicyHolder:
        return PolicyHolder(path, loaded=self.on_loaded, rejected=self.on_rejected)


async def look(holder: PolicyHolder) -> list[str]:
    """Look until a change has been still for one look; return the grants in force."""
    for _ in range(3):
        await holder.look()
    return [grant.name for grant in holder.current().grants]


async def test_what_changes_between_two_looks_is_still_being_written(tmp_path: Path) -> None:
    """Half of this file is a whole policy, without its deny."""
    path, told = tmp_path / "p.yaml", Told()
    path.write_text(HEAD + "grants:\n" + rule() + "denies:\n" + deny())
    holder = told.holder(path)

    path.write_text(HEAD + "grants:\n" + rule())
    await holder.look()
    assert len(holder.current().denies) == 1
    path.write_text(HEAD + "grants:\n" + rule() + "denies:\n" + deny("other"))
    await holder.look()
    assert [d.name for d in holder.current().denies] == ["d"]

    await holder.look()
    assert [d.name for d in holder.current().denies] == ["other"]
    assert (told.loaded, holder.generation) == ([2], 2)


async def test_a_volume_that_is_swapped_by_a_link_is_one_change(tmp_path: Path) -> None:
    """As Kubernetes does it for a ConfigMap: files link to ..data/, which links to a folder."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        for file in ("a", "b"):
            (tmp_path / version / f"{file}.yaml").write_text(
                HEAD + "grants:\n" + rule(f"{file}-{version}")
            )
    folder, told = tmp_path / "volume", Told()
    folder.mkdir()
    (folder / "..data").symlink_to(tmp_path / "one")
    for file in ("a", "b"):
        (folder / f"{file}.yaml").symlink_to(f"..data/{file}.yaml")
    holder = told.holder(folder)
    assert await look(holder) == ["a-one", "b-one"]

    (folder / "..new").symlink_to(tmp_path / "two")
    (folder / "..new").replace(folder / "..data")

    assert await look(holder) == ["a-two", "b-two"]
    assert told.loaded == [2]


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def bomb() -> str:
    return "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.write_text("grants: ["), "not usable YAML"),
        (lambda p: p.write_text(""), "expected a mapping"),
        (lambda p: p.write_text(HEAD + "a: 1\na: 2\n"), "stands here twice"),
        (lambda p: p.write_text(bomb()), "aliases are not allowed"),
        (lambda p: p.write_text("[" * 50_000), "more than 100 lists"),
        (lambda p: p.write_text("#" * 1_048_577), "at most 1048576 bytes"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "expected UTF-8"),
        (lambda p: p.write_text(HEAD + "---\n" + HEAD), "not usable YAML"),
        (lambda p: p.unlink(), "No such file"),
        (make_a_pipe, "not a file"),
        (lambda p: p.unlink() or p.symlink_to(p), "symbolic links"),
        (lambda p: p.unlink() or p.mkdir(), "found 0"),
    ],
)
async def test_what_is_not_whole_is_told_once_and_the_last_good_one_stays(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    path, told = tmp_path / "p.yaml", Told()
    path.write_text(HEAD + "grants:\n" + rule())
    holder = told.holder(path)

    write(path)
    assert await look(holder) == ["g"]
    assert await look(holder) == ["g"]

    assert (told.loaded, holder.generation) == ([], 1)
    (why,) = told.rejected
    assert words in "\n".join(why)


async def test_one_bad_file_keeps_a_whole_folder_out(tmp_path: Path) -> None:
    told = Told()
    (tmp_path / "a.yaml").write_text(HEAD + "grants:\n" + rule())
    holder = told.holder(tmp_path)
    (tmp_path / "b.yaml").write_text(HEAD + "grants:\n" + rule("more"))
    (tmp_path / "c.yaml").write_text(HEAD + "denies: 7\n")

    assert await look(holder) == ["g"]
    (tmp_path / "c.yaml").unlink()
    assert await look(holder) == ["g", "more"]
    assert told.loaded == [2]
    assert len(told.rejected) == 1


async def test_a_policy_is_in_force_only_when_the_evidence_has_it(tmp_path: Path) -> None:
    path, told = tmp_path / "p.yaml", Told()
    path.write_text(HEAD + "grants:\n" + rule())
    holder = told.holder(path)
    path.write_text(HEAD + "grants:\n" + rule("next"))
    told.away = True

    assert await look(holder) == ["g"]
    told.away = False
    assert await look(holder) == ["next"]
    assert told.loaded == [2]


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
