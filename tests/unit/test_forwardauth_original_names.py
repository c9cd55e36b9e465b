"""Whoever brings a configuration of the original PassCtrl is told what to write here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from gatekeeper.bootstrap import check_configuration
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.language import Language
from gatekeeper.forwardauth.config import Configuration
from gatekeeper.forwardauth.config.base import Strict
from gatekeeper.forwardauth.errors import ConfigurationError
from gatekeeper.forwardauth.vocabulary import ELSEWHERE, NAMES
from gatekeeper.platform.documents.faults import branches

LANGUAGE = Language()

FORMER_KEYS = [
    ("server: {logging: {format: json}}", "server.logging.format", "lines are always JSON"),
    ("server: {cache: {ttlSeconds: 60}}", "server.cache.ttlSeconds", "write maxTtl, a duration"),
    ("server: {cache: {epoch: 1}}", "server.cache.epoch", "has other keys by itself"),
    ("server: {cache: {redis: {}}}", "server.cache.redis", "write valkey"),
    ("server: {templates: {templatesAllowEnv: true}}", "server.templates.templatesAllowEnv",
     "read env.<name>"),
    ("rules: {r: {cache: {passTTL: 5m}}}", "rules.r.cache.passTTL", "write ttl.pass"),
    ("rules: {r: {cache: {failTTL: 5m}}}", "rules.r.cache.failTTL", "write ttl.fail"),
    ("rules: {r: {cache: {strict: true}}}", "rules.r.cache.strict", "is in the key"),
    ("rules: {r: {cache: {ttl: {error: 0s}}}}", "rules.r.cache.ttl.error", "never kept"),
    ("rules: {r: {conditions: {passWhen: []}}}", "rules.r.conditions.passWhen", "write whenAll"),
    ("rules: {r: {responses: {fail: {status: 403}}}}", "rules.r.responses.fail.status",
     "the endpoint's responsePolicy answers"),
    ("endpoints: {e: {cacheResultDuration: 5m}}", "endpoints.e.cacheResultDuration",
     "write cache.resultTTL"),
    ("endpoints: {e: {cache: {cacheResultDuration: 5m}}}", "endpoints.e.cache.cacheResultDuration",
     "write resultTTL"),
    ("endpoints: {e: {responsePolicy: {pass: {status: 204}}}}",
     "endpoints.e.responsePolicy.pass.status", "answered with 200 and no body"),
    ("endpoints: {e: {forwardRequestPolicy: {headers: {allow: [a]}}}}",
     "endpoints.e.forwardRequestPolicy.headers", "request.headers"),
    ("endpoints: {e: {authentication: {allow: [bearer]}}}", "endpoints.e.authentication.allow",
     "expected a mapping of authorization, header, query, cookie, none"),
    ("endpoints: {e: {rules: [first]}}", "endpoints.e.rules.0", "expected a mapping of name"),
    ("rules: {r: {auth: [{match: [bearer]}]}}", "rules.r.auth.0.match.0", "expected a mapping"),
]  # fmt: skip


def problems(path: Path) -> dict[str, str]:
    try:
        found = load(path, environ={}).problems
    except ConfigurationError as error:
        found = error.problems
    return {problem.key: problem.message for problem in found}


@pytest.mark.parametrize(("text", "key", "words"), FORMER_KEYS, ids=lambda value: value[-30:])
def test_a_former_key_is_told_with_what_to_write(
    tmp_path: Path, text: str, key: str, words: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)

    assert words in problems(tmp_path / "c.yaml")[key]


@pytest.mark.parametrize("names", ["pass: [p], fail: [f], error: [e]",
                                   "whenAll: [p], failWhen: [f], errorWhen: [e]"])  # fmt: skip
def test_conditions_have_both_their_names(tmp_path: Path, names: str) -> None:
    (tmp_path / "c.yaml").write_text(f"rules: {{r: {{conditions: {{{names}}}}}}}")

    conditions = load(tmp_path / "c.yaml", environ={}).configuration.rules["r"].conditions
    assert conditions.when_all == ["p"]
    assert (conditions.fail_when, conditions.error_when) == (["f"], ["e"])


def test_what_is_wrong_with_an_endpoint_is_told_beside_what_is_wrong_with_its_rules(
    tmp_path: Path,
) -> None:
    (tmp_path / "c.yaml").write_text("""\
endpoints:
  e:
    authentication: {allow: {none: true}}
    variables: {a: "{{ .request.path }}"}
    rules: [{name: r}]
    responsePolicy: {fail: {body: "{{ request.headers.x-request-id }}"}}
rules:
  r: {conditions: {pass: ["variables.endpoint.a == 'b'"]}}
""")

    found = {one.key: one.message for one in check_configuration(tmp_path / "c.yaml", {})}
    assert "write vars.global" in found["rules.r.conditions.whenAll.0"]
    assert "not Go's" in found["endpoints.e.variables.a"]
    assert 'stands in brackets: headers["x-id"]' in found["endpoints.e.responsePolicy.fail.body"]
    assert len(found) == 3


def models(model: type[BaseModel], seen: set[type[Strict]]) -> Iterator[type[Strict]]:
    for field in model.model_fields.values():
        pending = branches(field.annotation)
        while pending:
            kind = pending.pop()
            if isinstance(kind, type):
                if issubclass(kind, Strict) and kind not in seen:
                    seen.add(kind)
                    yield kind
                    yield from models(kind, seen)
            else:
                pending += [one for a in getattr(kind, "__args__", ()) for one in branches(a)]


def test_no_former_key_is_one_of_ours() -> None:
    found = list(models(Configuration, set()))

    assert sum(len(model.elsewhere) for model in found) > len(FORMER_KEYS)
    for model in found:
        ours = {field.alias or name for name, field in model.model_fields.items()}
        assert not ours & model.elsewhere.keys(), model


@pytest.mark.parametrize(("former", "ours"), ELSEWHERE.items())
def test_a_former_name_is_told_with_ours_in_conditions_and_templates(
    former: str, ours: str
) -> None:
    for compile_, source in (
        (LANGUAGE.condition, f"{former}.x == 'y'"),
        (LANGUAGE.template, f"{{{{ {former}.x }}}}"),
    ):
        with pytest.raises(ValueError, match=r"there is no .*; write ") as caught:
            compile_(source)
        assert str(caught.value).endswith(f"; write {ours}")
    first = ours.partition(",")[0]
    assert any(name == first or name.startswith(f"{first}.") for name in NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ .request.method }}",
        "{{- .auth.input.bearer.token -}}",
        '{{ index .auth.input.header "x-key" }}',
        "{{ lower .request.method }}",
        "{{ .request.method | lower }}",
        '{{ env "HOME" }}',
        "{{ $x }}",
        "{{ if .request.method }}a{{ end }}",
        "{{ range .backend.pages }}a{{ end }}",
    ],
)
def test_a_template_of_go_is_told_the_syntax_of_ours(source: str) -> None:
    for compile_ in (LANGUAGE.template, LANGUAGE.expression):
        with pytest.raises(ValueError, match="templates are in Jinja's syntax, not Go's"):
            compile_(source)
    with pytest.raises(ValueError, match="not Go's"):
        LANGUAGE.url(f"https://backend.example/{source}")


@pytest.mark.parametrize("source", ["{{ request.method }", "{{ 'a' + }}", "{{ requst.method }}"])
def test_a_wrong_template_of_ours_is_not_taken_for_one_of_go(source: str) -> None:
    with pytest.raises(ValueError, match="line 1") as caught:
        LANGUAGE.template(source)

    assert "Go" not in str(caught.value)
