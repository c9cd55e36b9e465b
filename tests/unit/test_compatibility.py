"""The comparison of what is published: each way to break a caller is found, and no other."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from published.compatibility import breaking_api_changes, changed_output, narrowed_input

OLD: dict[str, Any] = {
    "paths": {
        "/things/{id}": {
            "post": {
                "parameters": [
                    {"in": "path", "name": "id", "required": True, "schema": {"type": "string", "maxLength": 9}},
                    {"in": "query", "name": "wait", "schema": {"type": "integer", "minimum": 0, "maximum": 30}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}}},
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "404": {"content": {"application/problem+json": {"schema": {"type": "object"}}}},
                },
            },
        },
    },
    "components": {
        "schemas": {
            "Wish": {
                "type": "object", "additionalProperties": False, "required": ["kind"],
                "properties": {
                    "kind": {"type": "string", "enum": ["a", "b"]},
                    "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
                },
            },
            "Thing": {
                "type": "object", "required": ["id", "state"],
                "properties": {
                    "id": {"type": "string"},
                    "state": {"type": "string", "enum": ["on", "off"]},
                    "parts": {"type": "array", "items": {"type": "integer"}},
                    "until": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
        },
    },
}  # fmt: skip


def operation(api: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api["paths"]["/things/{id}"]["post"]
    return found


def wish(api: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api["components"]["schemas"]["Wish"]
    return found


def thing(api: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api["components"]["schemas"]["Thing"]
    return found


def changed(change: Callable[[dict[str, Any]], object]) -> list[str]:
    new = copy.deepcopy(OLD)
    change(new)
    return breaking_api_changes(OLD, new)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda a: a["paths"].clear(), "POST /things/{id}: gone"),
        (lambda a: a["paths"]["/things/{id}"].pop("post"), "POST /things/{id}: gone"),
        (lambda a: operation(a)["responses"].pop("404"), "answer 404: gone"),
        (lambda a: operation(a)["responses"]["404"].pop("content"), "no longer application/problem+json"),
        (lambda a: operation(a).pop("requestBody"), "body: gone"),
        (lambda a: operation(a)["parameters"].pop(), "query parameter wait: gone"),
        (lambda a: operation(a)["parameters"][1].update(required=True), "wait: now required"),
        (lambda a: operation(a)["parameters"].append({"in": "query", "name": "x", "required": True, "schema": {}}), "x: new and required"),
        (lambda a: operation(a)["parameters"][1]["schema"].update(maximum=10), "wait: maximum 30 is not within 10"),
        (lambda a: operation(a)["parameters"][1]["schema"].update(minimum=1), "wait: minimum 0 is not within 1"),
        (lambda a: operation(a)["parameters"][1].update(schema={"type": "array", "items": {"type": "boolean"}}), "wait: integer is not boolean"),
        (lambda a: operation(a)["parameters"][0].update(schema={"type": "array", "items": {"type": "string"}}), "id: string is not array"),
        (lambda a: operation(a)["parameters"][0]["schema"].update(pattern="^x"), "id: the pattern is another"),
        (lambda a: wish(a)["properties"]["kind"].update(enum=["a"]), "body.kind: b is not among a"),
        (lambda a: wish(a)["properties"].pop("note"), "body.note: not taken"),
        (lambda a: wish(a)["required"].append("note"), "body.note: may be missing, and must not"),
        (lambda a: wish(a)["properties"]["note"].update(anyOf=[{"type": "string"}]), "body.note: null is not string"),
        (lambda a: wish(a)["properties"]["note"]["anyOf"][0].update(maxLength=4), "body.note: maxLength 5 is not within 4"),
        (lambda a: thing(a)["properties"].pop("until"), "answer 200.until: gone"),
        (lambda a: (thing(a)["properties"].pop("id"), thing(a)["required"].remove("id")), "answer 200.id: gone"),
        (lambda a: thing(a)["required"].remove("state"), "answer 200.state: may be missing, and must not"),
        (lambda a: thing(a)["properties"]["state"]["enum"].append("broken"), "answer 200.state: broken is not among off, on"),
        (lambda a: thing(a)["properties"]["id"].update(type="integer"), "answer 200.id: integer is not string"),
        (lambda a: thing(a)["properties"]["parts"].update(items={"type": "string"}), "answer 200.parts.[]: string is not integer"),
        (lambda a: thing(a)["properties"]["until"]["anyOf"].append({"type": "integer"}), "answer 200.until: integer is not"),
    ],
)  # fmt: skip
def test_what_breaks_a_caller_is_found(
    change: Callable[[dict[str, Any]], object], found: str
) -> None:
    findings = changed(change)

    assert len(findings) == 1, findings
    assert found in findings[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(info={"version": "2"}),
        lambda a: a["paths"].update({"/more": {"get": {"responses": {}}}}),
        lambda a: operation(a)["responses"].update({"429": {}}),
        lambda a: operation(a)["parameters"].append({"in": "query", "name": "x", "schema": {}}),
        lambda a: operation(a)["parameters"][1]["schema"].update(maximum=60),
        lambda a: operation(a)["parameters"][1].update(
            schema={"type": "array", "items": {"type": "integer"}}
        ),
        lambda a: wish(a)["properties"]["kind"]["enum"].append("c"),
        lambda a: wish(a)["properties"].update(more={"type": "string"}),
        lambda a: wish(a)["properties"]["note"]["anyOf"][0].pop("maxLength"),
        lambda a: wish(a)["required"].clear(),
        lambda a: thing(a)["properties"].update(more={"type": "string"}),
        lambda a: thing(a)["required"].append("parts"),
        lambda a: thing(a)["properties"]["state"].update(enum=["on"]),
        lambda a: thing(a)["properties"].update(until={"type": "string"}),
    ],
)
def test_what_only_adds_is_no_break(change: Callable[[dict[str, Any]], object]) -> None:
    assert changed(change) == []


def test_maps_and_constants_are_compared_too() -> None:
    old = {"type": "object", "additionalProperties": {"const": 1}}
    new = {"type": "object", "additionalProperties": {"enum": [1, 2]}}

    assert narrowed_input(old, new) == []
    assert narrowed_input(new, old) == ["*: 2 is not among 1"]
    assert changed_output(old, new) == ["*: 2 is not among 1"]
    assert narrowed_input({"type": "integer"}, {"type": "number"}) == []
    assert narrowed_input({}, {"type": "number"}) == ["it: anything is not number"]
    assert narrowed_input({"type": "string"}, {"enum": ["a"]}) == ["it: any value is not among a"]
    assert narrowed_input({"type": "string"}, {"type": "string", "minLength": 1}) == [
        "it: minLength None is not within 1"
    ]
