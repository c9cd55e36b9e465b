"""Tables of cases kept beside the rules: what they say, and that a reload runs them first."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gatekeeper.bootstrap.forwardauth.configuration import first_generation, next_generation
from gatekeeper.bootstrap.forwardauth.rehearsal import run_tables
from gatekeeper.entrypoints.passctrl.main import app
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.tables import read_files
from gatekeeper.forwardauth.adapters.watching import ConfigurationWatcher
from gatekeeper.forwardauth.config.loaded import Loaded
from gatekeeper.forwardauth.errors import ConfigurationError, Problem

ROOT = Path(__file__).parents[2]
CONFIGURATION: dict[str, Any] = {
    "server": {
        "issuers": {"main": {"issuer": "https://issuer.example", "audience": "app"}},
        "sessions": {"server": "https://gatekeeper.example"},
    },
    "endpoints": {
        name: {
            "authentication": {"allow": {"authorization": ["bearer"], "none": True}},
            "forwardProxyPolicy": {"trustedProxyIPs": ["10.0.0.1"]},
            "rules": [{"name": name}],
            "responsePolicy": {"pass": {"headers": {"X-User": "{{ response.user }}"}}},
        }
        for name in ("known", "facts", "early", "claims", "live")
    },
    "rules": {
        "known": {
            "auth": [{"match": [{"type": "bearer", "value": "canary-token"}]}],
            "responses": {"pass": {"variables": {"user": '"ada"'}}},
        },
        "facts": {
            "backendApi": {"url": "https://facts.example/u", "query": {"name": "ada"}},
            "conditions": {"whenAll": ["backend.body.active"]},
            "responses": {"pass": {"variables": {"user": "backend.body.name"}}},
        },
        "claims": {
            "auth": [{"match": [{"type": "jwt", "issuer": "main"}]}],
            "responses": {"pass": {"variables": {"user": "auth.input.jwt.claims.sub"}}},
        },
        "live": {
            "conditions": {"whenAll": ["session.live"]},
            "responses": {"pass": {"variables": {"user": "session.sessions[0].role"}}},
        },
        "early": {
            "conditions": {"failWhen": ["now > timestamp('2026-06-01T00:00:00Z')"]},
            "responses": {"pass": {"variables": {"user": '"early"'}}},
        },
    },
}
GOOD = {"Authorization": "Bearer canary-token"}
URL = "https://app.example/x"


def case(endpoint: str, outcome: str = "pass", **more: Any) -> dict[str, Any]:
    expect = {"outcome": outcome, **more.pop("expect", {})}
    request = {"url": URL, "headers": more.pop("headers", {})}
    return {"name": "a case", "endpoint": endpoint, "request": request, "expect": expect, **more}


FACTS = {"url": "https://facts.example/u", "body": {"active": True, "name": "ada"}}
CASES = [
    (case("known", headers=GOOD, expect={"status": 200, "headers": {"x-user": "ada"}}), None),
    (case("known", headers=GOOD, expect={"exports": {"known": {"user": "ada"}}}), None),
    (case("known", "fail", expect={"status": 401, "reason": "no credential matched"}), None),
    (case("known", "fail", expect={"headers": {"X-User": None}}), None),
    (case("known"), "expected outcome pass, got fail"),
    (case("known", headers=GOOD, expect={"status": 201}), "expected status 201, got 200"),
    (case("known", "fail", expect={"reason": "other"}), "no reason says 'other'"),
    (
        case("known", headers=GOOD, expect={"headers": {"x-user": "eve"}}),
        "header x-user: expected 'eve', got 'ada'",
    ),
    (
        case("known", headers=GOOD, expect={"exports": {"known": {"user": "eve"}}}),
        "known exports user: expected 'eve', got 'ada'",
    ),
    (case("known", "fail", expect={"location": "/login"}), "expected location '/login', got None"),
    (case("absent"), "there is no endpoint absent that can be used"),
    (case("facts", backends=[FACTS], expect={"headers": {"x-user": "ada"}}), None),
    (case("facts", "fail", backends=[{**FACTS, "body": {"active": False}}]), None),
    (case("facts", "error", backends=[{**FACTS, "error": "refused"}]), None),
    (case("facts", "error", backends=[{**FACTS, "method": "POST"}]), None),
    (case("facts", "error", expect={"reason": "GET https://facts.example/u?name=ada"}), None),
    (
        case(
            "claims",
            headers=GOOD,
            tokens={"main": {"sub": "ada"}},
            expect={"headers": {"x-user": "ada"}},
        ),
        None,
    ),
    (case("claims", "fail", headers=GOOD), None),
    (case("claims", "fail", tokens={"main": {"sub": "ada"}}), None),
    (
        case(
            "live",
            headers=GOOD,
            sessions=[{"target": "app", "role": "app_read"}],
            expect={"headers": {"x-user": "app_read"}},
        ),
        None,
    ),
    (case("live", "fail", headers=GOOD), None),
    (case("early", now="2026-05-31T23:59:59Z"), None),
    (case("early", "fail", now="2026-06-01T00:00:01+00:00"), None),
]


def write(folder: Path, cases: list[dict[str, Any]], name: str = "config.test.json") -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(CONFIGURATION))
    (folder / name).write_text(json.dumps({"cases": cases}))
    return path


@pytest.mark.parametrize(("given", "problem"), CASES)
def test_a_case_passes_or_says_what_is_otherwise(
    tmp_path: Path, given: dict[str, Any], problem: str | None
) -> None:
    (result,) = run_tables(write(tmp_path, [given]), {}, [])
    assert result.passed is (problem is None)
    assert problem is None or problem in (result.problem or "")


def test_a_problem_shows_no_credential_of_the_configuration(tmp_path: Path) -> None:
    wrong = case("known", "fail", expect={"reason": "canary-token"})
    (result,) = run_tables(write(tmp_path, [wrong]), {}, [])
    assert "canary" not in (result.problem or "")
    assert not result.passed


def test_tables_of_a_rules_folder_are_found_and_are_no_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    (rules / "team").mkdir(parents=True)
    definitions = {key: CONFIGURATION[key] for key in ("endpoints", "rules")}
    (rules / "known.json").write_text(json.dumps(definitions))
    (rules / "team" / "known.test.json").write_text(json.dumps({"cases": [case("known", "fail")]}))
    path = tmp_path / "config.yaml"
    server = {**CONFIGURATION["server"], "rules": {"rulesFolder": "rules"}}
    path.write_text(json.dumps({"server": server}))
    assert load(path, environ={}).problems == ()
    assert [result.passed for result in run_tables(path, {}, [])] == [True]


def test_a_table_that_is_given_is_run_alone(tmp_path: Path) -> None:
    path = write(tmp_path, [case("known")])
    (tmp_path / "other.test.yaml").write_text(
        "cases: [{name: x, endpoint: known, request: {url: 'https://a.example/'},"
        " now: 2026-01-01T00:00:00Z, expect: {outcome: fail}}]"
    )
    (result,) = run_tables(path, {}, [tmp_path / "other.test.yaml"])
    assert (result.name, result.passed) == ("x", True)
    assert result.file == f"{tmp_path / 'other.test.yaml'}:1"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cases": []}',
        '{"cases": [{"name": "x"}]}',
        '{"cases": [], "more": 1}',
        json.dumps({"cases": [{**case("known"), "expected": 1}]}),
        json.dumps({"cases": [{**case("known"), "now": "yesterday"}]}),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, [])
    (tmp_path / "config.test.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.test\.json"):
        run_tables(path, {}, [])
    with pytest.raises(ConfigurationError, match=r"config\.test\.json"):
        first_generation(path, load(path, environ={}))


def test_at_start_an_endpoint_that_fails_a_case_is_quarantined_alone(tmp_path: Path) -> None:
    path = write(tmp_path, [case("known"), case("facts", backends=[FACTS])])
    generation = first_generation(path, load(path, environ={}))
    assert set(generation.plans) == {"facts", "early", "claims", "live"}
    assert "known" in generation.quarantined
    (reason,) = generation.unready()
    assert "case 'a case' fails: expected outcome pass, got fail" in reason
    assert "config.test.json:1" in reason


def test_a_reload_takes_nothing_when_a_case_fails(tmp_path: Path) -> None:
    path = write(tmp_path, [case("known")])
    with pytest.raises(ConfigurationError, match=r"cases\.0: case 'a case' fails"):
        next_generation(path, load(path, environ={}), 2)
    write(tmp_path, [case("known", headers=GOOD)])
    assert next_generation(path, load(path, environ={}), 2).number == 2


async def test_the_watcher_takes_a_configuration_once_its_table_is_mended(tmp_path: Path) -> None:
    path = write(tmp_path, [case("known", "fail")])
    taken: list[Loaded] = []
    rejected: list[Problem] = []

    async def take(loaded: Loaded) -> None:
        next_generation(path, loaded, 2)
        taken.append(loaded)

    async def reject(problems: tuple[Problem, ...]) -> None:
        rejected.extend(problems)

    watcher = ConfigurationWatcher(
        path, environ={}, running=load(path, environ={}), taken=take, rejected=reject
    )

    async def look() -> None:
        for _ in range(3):
            await watcher.look()

    open_to_all = {"responses": CONFIGURATION["rules"]["known"]["responses"]}
    rules = {**CONFIGURATION["rules"], "known": open_to_all}
    path.write_text(json.dumps({**CONFIGURATION, "rules": rules}))
    await look()
    assert "case 'a case' fails" in rejected[0].message
    assert taken == []
    (tmp_path / "config.test.json").write_text(json.dumps({"cases": [case("early")]}))
    await look()
    assert len(taken) == 1


def test_every_table_of_the_how_to_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "how-to" / "test-rules.md").read_text()
    tables = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(tables) == 2
    for number, table in enumerate(tables):
        (file := tmp_path / f"{number}.test.yaml").write_text(table)
        assert read_files([file])[0].cases


# The commands.


def run(*words: str, said: str = "") -> Result:
    return CliRunner().invoke(app, words, input=said, prog_name="passctrl")


def test_the_command_test_is_for_people_and_for_ci(tmp_path: Path) -> None:
    path = str(write(tmp_path, [case("known", "fail"), {**case("known"), "name": "wrong"}]))
    people = run("test", path)
    assert people.exit_code == 1
    assert people.stdout.splitlines()[-1] == "1 passed, 1 failed"
    programs = run("test", path, "--json")
    report = json.loads(programs.stdout)
    assert (programs.exit_code, report["passed"]) == (1, False)
    assert [one["passed"] for one in report["cases"]] == [True, False]
    write(tmp_path, [case("known", "fail")])
    assert run("test", path).exit_code == 0
    (tmp_path / "config.test.json").unlink()
    assert run("test", path).exit_code == 1
    assert run("test", str(tmp_path / "absent.yaml")).exit_code == 2


@pytest.mark.parametrize(
    ("endpoint", "headers", "outcome", "code"),
    [
        ("known", "Authorization: Bearer canary-token\n", "pass", 0),
        ("known", "Authorization: Bearer canary-other\n", "fail", 1),
        ("facts", "", "error", 2),
    ],
)
def test_the_command_explain_ends_with_the_outcome(
    tmp_path: Path, endpoint: str, headers: str, outcome: str, code: int
) -> None:
    path = str(write(tmp_path, []))
    request = f"GET {URL} HTTP/1.1\n{headers}"
    words = ("explain", path, "--request", "-", "--endpoint", endpoint)
    people = run(*words, said=request)
    assert (people.exit_code, people.stdout.split()[0]) == (code, outcome)
    assert "└─ response policy" in people.stdout
    assert "\x1b" not in people.stdout
    programs = run(*words, "--json", said=request)
    assert (programs.exit_code, json.loads(programs.stdout)["outcome"]) == (code, outcome)
    assert "canary" not in people.stdout + programs.stdout


def test_the_command_explain_takes_recorded_answers(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    (tmp_path / "r.http").write_text(f"GET {URL} HTTP/1.1\n")
    (tmp_path / "answers.json").write_text(json.dumps([FACTS]))
    words = ("--endpoint", "facts", "--backend", str(tmp_path / "answers.json"))
    done = run("explain", str(path), "--request", str(tmp_path / "r.http"), *words)
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--request", "absent.http", "--endpoint", "known"), "absent.http"),
        (("--request", "-"), "choose an endpoint: claims, early, facts, known, live"),
        (("--request", "-", "--endpoint", "known", "--dialect", "x"), "dialect: expected"),
    ],
)
def test_what_explain_cannot_use_is_said(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run("explain", str(write(tmp_path, [])), *words, said=f"GET {URL} HTTP/1.1\n")
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(("content", "said"), [(b"\xff", "UTF-8"), (b"x" * 70_000, "65536 bytes")])
def test_a_request_that_is_no_text_or_too_long_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = write(tmp_path, [])
    (request := tmp_path / "r.http").write_bytes(content)
    done = run("explain", str(path), "--request", str(request), "--endpoint", "known")
    assert done.exit_code == 2
    assert said in done.stderr
