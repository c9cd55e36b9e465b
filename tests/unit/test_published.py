"""What is published is what the code says, and the code keeps what was released."""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings
from gatekeeper.client import config, operations
from gatekeeper.client.api import Operation
from gatekeeper.entrypoints.cli.caller import Exit
from gatekeeper.entrypoints.gk import SHARED
from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.platform.http.problems import STATUS
from gatekeeper.platform.telemetry.metrics import Metrics
from gatekeeper.terminals.gateway.counting import Counters
from gatekeeper.terminals.runner.counting import Counters as RunnerCounters
from gatekeeper.terminals.runner.metrics import RunnerMetrics
from gatekeeper.terminals.settings import GatewaySettings
from published.compatibility import METHODS, breaking_api_changes, changed_output, narrowed_input
from published.reference import (
    COMMAND_OUTPUTS,
    READ,
    REFERENCE,
    RELEASED,
    ROOT,
    SAID,
    commands,
    pages,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES = pages()
API: dict[str, Any] = json.loads(PAGES["openapi.json"])
COMMANDS = list(commands())
OPERATIONS = [
    (f"{method.upper()} {path}", methods[method])
    for path, methods in API["paths"].items()
    for method in METHODS
    if method in methods
]


@pytest.mark.parametrize("name", PAGES)
def test_each_generated_page_is_what_the_code_says(name: str) -> None:
    path = REFERENCE / name

    assert path.exists(), f"docs/reference/{name} is missing: run `make docs`"
    assert path.read_text() == PAGES[name], f"docs/reference/{name} is stale: run `make docs`"


def test_no_schema_stands_there_that_nothing_generates() -> None:
    found = {f"schemas/{path.name}" for path in (REFERENCE / "schemas").iterdir()}

    assert found <= PAGES.keys()


def test_the_api_keeps_what_was_released() -> None:
    assert breaking_api_changes(_released("openapi.json"), API) == []


@pytest.mark.parametrize("path", sorted((RELEASED / "schemas").iterdir()), ids=lambda p: p.stem)
def test_each_schema_keeps_what_was_released(path: Path) -> None:
    now = json.loads(PAGES[f"schemas/{path.name}"])
    compare: Callable[..., list[str]] = narrowed_input if path.stem in READ else changed_output

    assert path.stem in READ or path.stem in SAID
    assert compare(json.loads(path.read_text()), now) == []


def _released(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RELEASED / name).read_text())
    return found


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_operation_says_what_it_does_and_how_it_refuses(
    name: str, operation: dict[str, Any]
) -> None:
    answers = operation["responses"]
    refusals = {status for status in answers if status >= "400"}

    assert operation["description"], name
    assert {"413", "500"} <= refusals
    if "security" in operation:
        assert {"401", "422", "503"} <= refusals
    if "requestBody" in operation or "parameters" in operation:
        assert "422" in refusals
    if "{" in name and "{seq}" not in name:
        assert "404" in refusals
    for status in refusals - ({"503"} if name == "GET /readyz" else set()):
        assert list(answers[status]["content"]) == ["application/problem+json"]


def test_every_operation_of_the_api_has_one_of_the_client_and_the_same_name() -> None:
    offered = {
        to_camel(name)
        for name, function in inspect.getmembers(operations, inspect.isfunction)
        if not name.startswith("_")
        and str(inspect.signature(function).return_annotation).startswith(Operation.__name__)
    }

    assert offered == {operation["operationId"] for _name, operation in OPERATIONS}
    assert len(OPERATIONS) == len(offered)


def test_every_command_that_prints_json_has_a_published_schema() -> None:
    printing = {
        name for name, command in COMMANDS if any("--json" in p.opts for p in command.params)
    }

    assert printing == COMMAND_OUTPUTS.keys()


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_an_example_with_options_that_exist(name: str, command: Any) -> None:
    alone = name.replace("forwardauth", "passctrl")
    examples = re.findall(
        rf"Example:.*?(?:gk (?:--server \S+ )?{name}|{alone})\b(.*)", command.help
    )
    parameters = command.params
    known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)} | {"--"}
    known |= {f"--{option}" for option in SHARED}

    assert examples, "its --help has no example"
    for example in examples:
        own = example.split(" -- ")[0]
        assert set(re.findall(r"(?<!\S)(?:--[a-z][a-z0-9-]*|-[a-z]\b)", own)) <= known


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("schemas/")])
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(PAGES[name]))


def test_the_example_policies_fit_the_published_schema() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(PAGES["schemas/policy.json"]))
    examples = [p for p in (ROOT / "examples").rglob("policy*.yaml") if ".test." not in p.name]

    assert examples
    for example in examples:
        validator.validate(yaml.safe_load(example.read_text()))
    broken = {"apiVersion": "gatekeeper/v1", "kind": "Policy", "grant": []}
    assert not validator.is_valid(broken)


def test_the_configurations_in_the_documents_fit_the_published_schema() -> None:
    """Those of forward auth: what stands in a block and has its keys at the top."""
    validator = jsonschema.Draft202012Validator(
        json.loads(PAGES["schemas/forwardauth-configuration.json"])
    )
    blocks = [
        yaml.safe_load(text)
        for page in (ROOT / "docs").rglob("*.md")
        for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    found = [one for one in blocks if {"endpoints", "rules"} <= one.keys()]

    assert found
    for one in found:
        validator.validate(one)
    assert not validator.is_valid({"endpoint": {}})
    assert not validator.is_valid({"server": {"listen": {"port": "80"}}})
    assert not validator.is_valid({"server": {"cache": {"maxTtl": "1 hour"}}})


def test_every_metric_is_documented_and_no_other() -> None:
    told = set(re.findall(r"^\| `(gatekeeper_\w+)`", _page("metrics.md"), re.MULTILINE))
    host = SimpleNamespace(sessions=(), capacity=1)
    runner = RunnerMetrics(host, RunnerCounters(), lambda: 0.0)  # type: ignore[arg-type]
    kept = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for source in (Metrics().registry, Counters(), runner)
        for family in source.collect()
    }

    assert told == kept | {"gatekeeper_gateway_workers"}


def test_every_error_code_is_documented_with_its_status_and_no_other() -> None:
    told = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", _page("errors.md"), re.MULTILINE)

    assert {code: int(status) for code, status in told} == dict(STATUS)
    assert set(STATUS) == set(ErrorCode)


def test_every_exit_code_is_documented_and_no_other() -> None:
    told = re.findall(r"^\| (\d) \|", _page("errors.md"), re.MULTILINE)

    assert {int(code) for code in told} == set(Exit)


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Control plane", ControlPlaneSettings),
        ("Agent", AgentSettings),
        ("Gateway", GatewaySettings),
        ("`gk` itself", config.Settings),
    ],
)
def test_every_setting_is_documented_and_no_other(heading: str, model: type[BaseModel]) -> None:
    section = _page("settings.md").split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {key.partition(".")[0] for row in rows for key in re.findall(r"`([\w.]+)`", row[1])}
    nested = {
        field
        for found in model.model_fields.values()
        for part in _models(found.annotation)
        for field in part.model_fields
    }

    assert told == model.model_fields.keys()
    assert {field for field in nested if f"`{field}`" not in section} == set()


def _models(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _page(name: str) -> str:
    return (REFERENCE / name).read_text()
