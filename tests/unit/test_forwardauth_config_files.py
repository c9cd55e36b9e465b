"""A configuration is read from files and the environment: whole, or with what is wrong told."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.adapters import files, sources
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.config.loaded import Loaded
from gatekeeper.forwardauth.errors import ConfigurationError
from gatekeeper.forwardauth.model import SkippedDefinition
from gatekeeper.kernel.secret import Secret

ENDPOINT = "{authentication: {allow: {authorization: [bearer]}}, rules: [{name: readers}]}"
GOOD = f"""
endpoints:
  app: {ENDPOINT}
rules:
  readers: {{auth: [{{match: [{{type: bearer, value: s3cret-value}}]}}]}}
"""
TOML_RULE = '[[rules.more.auth]]\n[[rules.more.auth.match]]\ntype = "none"\n'


def write(folder: Path, *texts: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(texts))
    return path


def loaded(folder: Path, *texts: str, **environ: str) -> Loaded:
    return load(write(folder, *texts), environ=environ)


def problems(folder: Path, *texts: str, **environ: str) -> list[str]:
    """Return everything that is wrong, places without the folder."""
    try:
        found = loaded(folder, *texts, **environ).problems
    except ConfigurationError as error:
        found = error.problems
    return [str(problem).replace(f"{folder}/", "") for problem in found]


def fatal(folder: Path, *texts: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError):
        loaded(folder, *texts, **environ)
    return problems(folder, *texts, **environ)


def test_a_configuration_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD)

    assert list(found.configuration.endpoints) == ["app"]
    assert list(found.configuration.rules) == ["readers"]
    assert found.configuration.server.listen.port == 8080
    assert (found.problems, found.skipped) == ((), ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yml", "server: {listen: {port: 9000}}"),
        ("c.json", '{"server": {"listen": {"port": 9000}}}'),
        ("c.toml", "[server.listen]\nport = 9000"),
        ("c.tml", "server.listen.port = 9000"),
    ],
)
def test_a_configuration_is_yaml_json_or_toml(tmp_path: Path, name: str, text: str) -> None:
    found = load(write(tmp_path, text, name=name), environ={})

    assert found.configuration.server.listen.port == 9000


BROKEN = """\
server:
  listen: {prt: 1}
  cache: {maxTtl: 5}
endpoints:
  app:
    authentication: {allow: {authorization: [bearer]}, requird: true}
    forwardProxyPolicy: {trustedProxyIPs: [10.0.0.999]}
    rules: [{nam: readers}]
rules:
  readers:
    auth:
      - match:
          - {type: bearer, value: 1234}
          - {type: header, name: X-Pin, value: [yes]}
    conditions: {whenAll: [true], failwhen: [a]}
  "a name": {}
extra: 1
"""


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """With file, line and key; what was expected or the nearest known name; never a value."""
    assert fatal(tmp_path, BROKEN, PASSCTRL_SERVER__WORKERS="0") == [
        "config.yaml:17: extra: this key is not known here",
        "config.yaml:2: server.listen.prt: this key is not known; did you mean 'port'?",
        "environment PASSCTRL_SERVER__WORKERS: server.workers: expected greater than or equal to 1",
        "config.yaml:3: server.cache.maxTtl: expected a duration like 500ms, 30s, 5m or 1h30m",
        "config.yaml:13: rules.readers.auth.0.match.0.value: expected a list, or text; put it in quotes",
        "config.yaml:14: rules.readers.auth.0.match.1.value.0: expected text; put it in quotes",
        "config.yaml:15: rules.readers.conditions.whenAll.0: expected text; put it in quotes",
        "config.yaml:15: rules.readers.conditions.failwhen: this key is not known; did you mean 'failWhen'?",
        "config.yaml:16: rules.a name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]*$'",
        "config.yaml:6: endpoints.app.authentication.requird: this key is not known; did you mean 'required'?",
        "config.yaml:7: endpoints.app.forwardProxyPolicy.trustedProxyIPs.0: expected an address, or a network such as 10.0.0.0/8 (0 after the prefix), or 'unix'",
        "config.yaml:8: endpoints.app.rules.0.name: this key is missing",
        "config.yaml:8: endpoints.app.rules.0.nam: this key is not known; did you mean 'name'?",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "server: 5", "7", "a: ["])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    assert fatal(tmp_path, text)


@pytest.mark.parametrize("value", ["1234", "true", "1.5", "2026-01-01", "~", "{a: b}", "[]"])
def test_a_matcher_takes_text_alone(tmp_path: Path, value: str) -> None:
    """Were such a value dropped, the group would be left with its other matchers."""
    found = loaded(tmp_path, GOOD.replace("s3cret-value", f"[x, {value}]"))

    assert not found.configuration.rules
    assert [one.name for one in found.skipped] == ["app", "readers"]


def test_a_number_in_quotes_is_no_number(tmp_path: Path) -> None:
    assert fatal(tmp_path, "server: {listen: {port: '9000'}}") == [
        "config.yaml:1: server.listen.port: expected a valid integer; leave the quotes out"
    ]


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("LISTEN__PORT", "9090", "listen.port", 9090),
        ("LOGGING__CORRELATION_HEADER", "X-Trace", "logging.correlation_header", "x-trace"),
        ("LOGGING__CORRELATIONHEADER", "X-Trace", "logging.correlation_header", "x-trace"),
        ("LOGGING__DECISIONS", "false", "logging.decisions", False),
        ("CACHE__MAX_TTL", "90s", "cache.max_ttl", 90),
        ("CACHE__KEY_SALT", "123", "cache.key_salt", Secret("123")),
        ("OPERATIONS__TOKEN", "t", "operations.token", Secret("t")),
        ("SESSIONS__SERVER", "https://gk", "sessions.server", "https://gk"),
        ("LISTEN__UNIX_SOCKET", "/run/s", "listen.unix_socket", "/run/s"),
        ("VARIABLES__ENVIRONMENT", '{"HOME": null}', "variables.environment", {"HOME": None}),
        ("BACKEND__MAX_RESPONSE_BYTES", "1", "backend.max_response_bytes", 1),
    ],
)
def test_the_environment_is_over_the_file(
    tmp_path: Path, name: str, text: str, key: str, value: object
) -> None:
    file = "server: {listen: {port: 1, unixSocket: null}, sessions: null}\n"
    found: Any = loaded(
        tmp_path, file, HOME="/", **{f"PASSCTRL_SERVER__{name}": text}
    ).configuration.server

    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PASSCTRL_SERVER__LISTEN__PROT", "1", "no key is called so; did you mean 'PASSCTRL_SERVER__LISTEN__PORT'?"),
        ("PASSCTRL_SERVER_LISTEN_PORT", "8080", "no key is called so; did you mean 'PASSCTRL_SERVER__LISTEN__PORT'?"),
        ("PASSCTRL_SERVER__LISTEN", "{}", "no key is called so"),
        ("PASSCTRL_ENDPOINTS__A", "{}", "no key is called so"),
        ("PASSCTRL_SERVER__LISTEN__PORT", "s3cret", "server.listen.port: expected JSON"),
        ("PASSCTRL_SERVER__LISTEN__PORT", "70000", "less than or equal to 65535"),
        ("PASSCTRL_SERVER__LISTEN__PORT", '"80"', "server.listen.port: expected a valid integer"),
        ("PASSCTRL_SERVER__BACKEND__DENIED_NETWORKS", '["s3cret"]', "server.backend.deniedNetworks.0: "),
        ("PASSCTRL_SERVER__LOGGING__LEVEL", "s3cret", "server.logging.level: expected 'debug'"),
    ],
)  # fmt: skip
def test_a_variable_that_is_wrong_is_named_without_its_value(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    (found,) = fatal(tmp_path, GOOD, **{name: value})

    assert found.startswith(f"environment {name}: ")
    assert words in found
    assert "s3cret" not in found


def test_two_variables_for_one_key_are_refused(tmp_path: Path) -> None:
    (found,) = fatal(
        tmp_path, GOOD, PASSCTRL_SERVER__CACHE__KEY_SALT="a", PASSCTRL_SERVER__CACHE__KEYSALT="b"
    )

    assert "PASSCTRL_SERVER__CACHE__KEYSALT says it too" in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASSCTRLX_SERVER__LISTEN__PORT", "1"),
        ("PASSCTRL_PORT", "tcp://10.0.0.1:8080"),
        ("PASSCTRL_SERVICE_HOST", "10.0.0.1"),
        ("PASSCTRL_SERVICE_PORT_HTTP", "8080"),
        ("PASSCTRL_SERVER_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PASSCTRL_SERVER_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ],
)
def test_what_kubernetes_sets_for_a_service_is_no_key_of_ours(
    tmp_path: Path, name: str, value: str
) -> None:
    assert problems(tmp_path, GOOD, **{name: value}) == []


def test_rules_stand_in_a_file_and_in_a_folder_too(tmp_path: Path) -> None:
    write(tmp_path, "rules: {one: {}}", name="one.json.yaml")
    write(tmp_path, TOML_RULE, name="rules/deep/er/b.toml")
    write(tmp_path, '{"rules": {"two": {}}}', name="rules/a.json")
    write(tmp_path, "not: read", name="rules/readme.txt")
    write(tmp_path, "not: read", name="rules/a.test.yaml")
    write(tmp_path, "not: read", name="rules/.hidden/a.yaml")
    write(tmp_path, "not: read", name="rules/.a.yaml")
    write(tmp_path, "rules: {linked: {}}", name="elsewhere.yaml")
    (tmp_path / "rules" / "l.yaml").symlink_to(tmp_path / "elsewhere.yaml")

    found = loaded(
        tmp_path, "server: {rules: {rulesFile: one.json.yaml, rulesFolder: rules}}", GOOD
    )

    assert found.problems == ()
    assert sorted(found.configuration.rules) == ["linked", "more", "one", "readers", "two"]


def test_a_folder_that_holds_the_configuration_itself_is_read_without_it(tmp_path: Path) -> None:
    write(tmp_path, "rules: {one: {}}", name="one.yaml")

    found = loaded(tmp_path, "server: {rules: {rulesFile: one.yaml, rulesFolder: .}}", GOOD)

    assert found.problems == ()
    assert sorted(found.configuration.rules) == ["one", "readers"]


def test_a_volume_of_kubernetes_has_each_definition_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD, name="rules/..2026_01_01/a.yaml")
    (tmp_path / "rules" / "..data").symlink_to("..2026_01_01")
    (tmp_path / "rules" / "a.yaml").symlink_to("..data/a.yaml")

    found = loaded(tmp_path, "server: {rules: {rulesFolder: rules}}")

    assert found.problems == ()
    assert list(found.configuration.endpoints) == ["app"]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("rules: {rulesFile: none.yaml}", "server.rules.rulesFile: {}/none.yaml: No such file"),
        ("rules: {rulesFile: rules.txt}", "server.rules.rulesFile: {}/rules.txt: expected a name"),
        ("rules: {rulesFolder: none}", "server.rules.rulesFolder: {}/none: No such file"),
        ("rules: {rulesFolder: config.yaml}", "{}/config.yaml: not a folder"),
        ('rules: {rulesFolder: "a\\0"}', "not the name of a folder"),
        ("templates: {templatesFolder: none}", "server.templates.templatesFolder: {}/none: No"),
    ],
)
def test_what_the_server_block_names_must_be_there(tmp_path: Path, block: str, words: str) -> None:
    write(tmp_path, "", name="rules.txt")
    (found,) = fatal(tmp_path, f"server: {{{block}}}", GOOD)

    assert words.replace("{}/", "") in found


def test_limits_hold_for_all_files_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write(tmp_path, f"rules: {{{name}: {{}}}}", name=f"rules/{name}.yaml")
    block = "server: {rules: {rulesFolder: rules}}"
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 60)
    assert "at most 60 bytes in all its files" in fatal(tmp_path, block)[0]
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    assert "at most 2 files" in fatal(tmp_path, block)[0]


def test_a_rule_document_has_endpoints_and_rules_alone(tmp_path: Path) -> None:
    write(tmp_path, "server: {}\nrules: {a: {}}\nrulez: {}\n", name="rules/a.yaml")
    write(tmp_path, "[]", name="rules/b.yaml")
    write(tmp_path, "rules: []\nendpoints: ~\n", name="rules/c.yaml")
    found = loaded(tmp_path, "server: {rules: {rulesFolder: rules}}", GOOD)

    assert [str(p).removeprefix(f"{tmp_path}/rules/") for p in found.problems] == [
        "a.yaml:1: server: this key is not known here",
        "a.yaml:3: rulez: this key is not known here; did you mean 'rules'?",
        "b.yaml:1: expected a mapping with endpoints and rules",
        "c.yaml:1: rules: expected a mapping of names",
    ]
    assert list(found.configuration.endpoints) == ["app"]


def test_a_rule_document_that_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path, "rules: [", name="rules/a.yaml")
    found = loaded(tmp_path, "server: {rules: {rulesFolder: rules}}", GOOD)

    (skipped,) = found.skipped
    assert (skipped.kind, skipped.name) == ("document", "a.yaml")
    assert "not usable YAML" in skipped.reason
    assert list(found.configuration.endpoints) == ["app"]


def test_of_two_definitions_of_one_name_neither_is_used(tmp_path: Path) -> None:
    other = write(tmp_path, "rules:\n  readers: {}\n", name="rules/a.yaml")
    main = "server: {rules: {rulesFolder: rules}}" + GOOD
    found = loaded(tmp_path, main, "  alone: {}\n")

    sources_of_both = (str(tmp_path / "config.yaml"), str(other))
    assert found.skipped == (
        SkippedDefinition("endpoint", "app", "missing rule dependencies: readers", (str(tmp_path / "config.yaml"),)),
        SkippedDefinition("rule", "readers", "duplicate definition", sources_of_both),
    )  # fmt: skip
    assert list(found.configuration.rules) == ["alone"]
    told = [str(problem).replace(f"{tmp_path}/", "") for problem in found.problems]
    assert told[:2] == [
        "config.yaml:5: rules.readers: duplicate definition: it stands in rules/a.yaml:2 too",
        "rules/a.yaml:2: rules.readers: duplicate definition: it stands in config.yaml:5 too",
    ]


def test_an_endpoint_without_its_rules_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    names = "[{name: zeta}, {name: readrs}, {name: zeta}, {name: bad}]"
    text = GOOD.replace("rules:\n", f"  other: {ENDPOINT}\nrules:\n  bad: {{x: 1}}\n", 1)
    found = loaded(tmp_path, text.replace("[{name: readers}]", names, 1))

    assert [one.reason for one in found.skipped] == [
        "missing rule dependencies: bad, readrs, zeta",
        "invalid definition: rules.bad.x: this key is not known",
    ]
    assert list(found.configuration.endpoints) == ["other"]
    told = [str(problem) for problem in found.problems]
    assert any("there is no such rule; did you mean 'readers'?" in one for one in told)
    assert any("app.rules.3.name: this rule cannot be used" in one for one in told)


def endpoint(authentication: str = "{allow: {authorization: [bearer]}}", more: str = "") -> str:
    return f"endpoints: {{app: {{authentication: {authentication}, rules: [{{name: r}}]{more}}}}}\n"


def rule(text: str) -> str:
    return f"rules: {{r: {{{text}}}}}\n"


def match(*matchers: str) -> str:
    return rule(f"auth: [{{match: [{', '.join(matchers)}]}}]")


NONE_ALLOWED = "it takes only credentials that this endpoint does not allow"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (endpoint() + match("{type: basic}"), NONE_ALLOWED),
        (endpoint() + match("{type: bearer}", "{type: header, name: x}"), NONE_ALLOWED),
        (endpoint() + match("{type: query, name: x}"), NONE_ALLOWED),
        (endpoint() + match("{type: cookie, name: x}"), NONE_ALLOWED),
        (endpoint("{allow: {header: [x]}}") + match("{type: jwt, issuer: corp}"), NONE_ALLOWED),
        (endpoint() + match("{type: jwt, issuer: crop}"), "server.issuers has none of this name; did you mean 'corp'?"),
        (endpoint("{required: true, allow: {none: true}}") + rule(""), "nothing is required"),
        (endpoint(more=", cache: {resultTTL: 2h}") + rule(""), "cache.resultTTL: longer than server.cache.maxTtl"),
        (endpoint() + rule("cache: {ttl: {pass: 2h}}"), "cache.ttl.pass: longer than server.cache.maxTtl"),
        (endpoint() + rule("cache: {ttl: {fail: 2h}}"), "cache.ttl.fail: longer than server.cache.maxTtl"),
        (endpoint() + rule("backendApi: {url: 'http://a', bodyFile: f}"), "server.templates.templatesFolder says"),
        (endpoint(more=", responsePolicy: {fail: {bodyFile: f}}") + rule(""), "responsePolicy.fail.bodyFile: server.templates"),
        (endpoint(more=", responsePolicy: {fail: {redirect: {to: 'https://a.example/x', hosts: [b.example]}}}") + rule(""), "redirect.hosts: the host of `to` is not among them"),
        (endpoint(more=", responsePolicy: {error: {redirect: {to: 'https://a.example/?u={{ x }}'}}}") + rule(""), "redirect.hosts: the host"),
        (endpoint(more=", responsePolicy: {error: {redirect: {to: 'https://[a/'}}}") + rule(""), "redirect.to: not a URL"),
        (endpoint(more=", responsePolicy: {pass: {headers: {Content-Length: '0'}}}") + rule(""), "content-length: it belongs to the connection"),
        (endpoint(more=", responsePolicy: {fail: {headers: {Date: now}}}") + rule(""), "date: it belongs to the connection"),
        (endpoint(more=", responsePolicy: {fail: {redirect: {to: 'https://a.example:8443/', hosts: [a.example]}}}") + rule(""), "redirect.hosts: the host"),
        (endpoint() + rule("backendApi: {url: 'http://a', headers: {Content-Length: '1'}}"), "backendApi.headers.content-length: it belongs to the connection"),
        (endpoint() + rule("backendApi: {url: 'http://a', method: CONNECT}"), "backendApi.method: CONNECT asks for a tunnel"),
        (endpoint() + rule("auth: [{match: [{type: bearer}], forwardAs: [{type: header, name: Upgrade, value: v}]}]"), "forwardAs.0.name: it belongs to the connection"),
        (endpoint().replace("app", "nginx") + rule(""), "endpoints.nginx: paths of this name are taken"),
        (endpoint().replace("app", "Auth") + rule(""), "paths of this name are taken"),
        (endpoint().replace("[{name: r}]", "[{name: r}, {name: r}]") + rule(""), "rules.1.name: this rule stands in the chain already"),
    ],
)  # fmt: skip
def test_what_is_wrong_only_together_is_found(tmp_path: Path, text: str, words: str) -> None:
    server = "server: {issuers: {corp: {issuer: 'https://i', audience: a}}}\n"
    found = loaded(tmp_path, server, text)

    assert words in "\n".join(map(str, found.problems))
    assert not found.configuration.endpoints


@pytest.mark.parametrize(
    "text",
    [
        endpoint() + match("{type: none}"),
        endpoint() + rule("auth: [{match: [{type: basic}]}, {match: [{type: bearer}]}]"),
        endpoint("{allow: {header: [X-Key]}}") + match("{type: header, name: x-key}"),
        endpoint("{allow: {cookie: [c], query: [q]}}") + match("{type: cookie, name: c}", "{type: query, name: q}"),
        endpoint() + match("{type: jwt, issuer: corp}"),
        endpoint("{allow: {none: true}}") + rule(""),
        endpoint(more=", responsePolicy: {fail: {redirect: {to: 'https://a.example/', hosts: [A.example]}}}") + rule(""),
        endpoint(more=", responsePolicy: {fail: {redirect: {to: 'https://{{ x }}/', hosts: [a]}}}") + rule(""),
        endpoint(more=", responsePolicy: {fail: {redirect: {to: '/login?u={{ x }}'}}}") + rule(""),
    ],
)  # fmt: skip
def test_what_fits_together_is_used(tmp_path: Path, text: str) -> None:
    server = "server: {issuers: {corp: {issuer: 'https://i', audience: a}}}\n"

    assert problems(tmp_path, server, text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (endpoint("{allow: {}}"), "allow at least one of"),
        (endpoint("{allow: {none: true}, challenge: {type: bearer, realm: x, charset: UTF-8}}"), "RFC 7617"),
        (endpoint(more=", forwardProxyPolicy: {trustedProxyIPs: [0.0.0.0/0]}"), "trusts every client"),
        (endpoint(more=", forwardProxyPolicy: {trustedProxyIPs: ['::/1', '8000::/2', 'c000::/2']}"), "trusts every client"),
        (endpoint(more=", forwardProxyPolicy: {trustedProxyIPs: [0.0.0.0/1, 128.0.0.0/1]}"), "trusts every client"),
        (endpoint(more=", forwardProxyPolicy: {trustedProxyIPs: [10]}"), "expected an address, or a network"),
        (endpoint(more=", forwardProxyPolicy: {trustedProxyIPs: [true]}"), "expected an address, or a network"),
        (endpoint(more=", responsePolicy: {fail: {body: a, bodyFile: b}}"), "body or bodyFile, not both"),
        (endpoint(more=", responsePolicy: {fail: {status: 200}}"), "greater than or equal to 400"),
        (match("{type: none}", "{type: basic}"), "stands alone in its group"),
        (rule("auth: [{match: [{type: none}], forwardAs: [{type: none}, {type: bearer, token: t}]}]"), "stands alone"),
        (rule("auth: [{match: [{type: none}], forwardAs: [{type: basic, user: u, password: p}, {type: bearer, token: t}]}]"), "two forwards write"),
        (rule("auth: [{match: [{type: none}], forwardAs: [{type: query, name: a, value: v}, {type: query, name: a, value: v}]}]"), "two forwards write"),
        (rule("auth: [{match: [{type: none}], forwardAs: [{type: header, name: A, value: v}, {type: header, name: a, value: v}]}]"), "two forwards write"),
        (rule("backendApi: {url: 'http://a', body: a, bodyFile: b}"), "body or bodyFile, not both"),
        (rule("backendApi: {url: 'http://a', headers: {Authorization: a}}"), "authorization is written by forwardAs"),
        (rule("backendApi: {url: 'http://a', body: a, introspection: {}}"), "introspection makes its own body"),
    ],
)  # fmt: skip
def test_a_definition_that_contradicts_itself_is_left_out(
    tmp_path: Path, text: str, words: str
) -> None:
    found = loaded(tmp_path, text)

    assert words in str(found.problems[0])
    assert found.skipped[0].reason.startswith("invalid definition: ")


def test_a_shared_cache_needs_an_address_and_a_salt(tmp_path: Path) -> None:
    (found,) = fatal(tmp_path, "server: {cache: {backend: valkey, keySalt: x}}")

    assert "needs valkey.address and keySalt" in found


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("issuers: {a: {issuer: 'http://login.example', audience: a}}", "issuers.a.issuer: expected an https address"),
        ("issuers: {a: {issuer: 'https://[', audience: a}}", "issuers.a.issuer: expected an https address"),
        ("issuers: {a: {issuer: login.example, audience: a}}", "issuers.a.issuer: expected an https address"),
        ("issuers: {a: {issuer: 'https://a@b.example', audience: a}}", "issuers.a.issuer: expected an https address"),
        ("issuers: {a: {issuer: 'https://a', audience: a, jwksUri: 'http://127.0.0.1.example/k'}}", "jwksUri: expected an https address"),
        ("sessions: {server: not a url}", "sessions.server: expected an address like https"),
        ("sessions: {server: 'https://gk:99999'}", "sessions.server: expected an address like https"),
        ("cache: {backend: valkey, keySalt: x, valkey: {address: 'h:port'}}", "valkey.address: expected host:port"),
        ("cache: {backend: valkey, keySalt: x, valkey: {address: 'h:99999'}}", "valkey.address: expected host:port"),
        ("cache: {backend: valkey, keySalt: x, valkey: {address: 'redis://h:1'}}", "valkey.address: expected host:port"),
        ("cache: {backend: valkey, keySalt: x, valkey: {address: ''}}", "valkey.address: expected host:port"),
    ],
)  # fmt: skip
def test_an_address_that_nobody_could_be_asked_at_is_refused(
    tmp_path: Path, said: str, words: str
) -> None:
    """`passctrl check` had nothing to mend where `passctrl serve` ended in a traceback."""
    assert words in "\n".join(fatal(tmp_path, f"server: {{{said}}}"))


@pytest.mark.parametrize(
    "said",
    [
        "issuers: {a: {issuer: 'http://[::1]:9000/x', audience: a, jwksUri: 'https://k.example/j?a=b'}}",
        "sessions: {server: 'http://gatekeeper:8080/'}",
        "cache: {backend: valkey, keySalt: x, valkey: {address: '[::1]:6379'}}",
        "cache: {backend: valkey, keySalt: x, valkey: {address: valkey}}",
    ],
)
def test_an_address_of_any_kind_is_taken(tmp_path: Path, said: str) -> None:
    assert not problems(tmp_path, f"server: {{{said}}}")


SECRETS = "server: {variables: {secretsFolder: s, secrets: {token: %s}}}\n"


@pytest.mark.parametrize(
    "said", ["operations: {token: ''}", "operations: {token: '  '}", "cache: {keySalt: ''}"]
)
def test_an_empty_secret_of_the_server_is_refused(tmp_path: Path, said: str) -> None:
    """Everybody knows it: `Bearer` alone would open /explain, and anybody could seal a result."""
    (found,) = fatal(tmp_path, f"server: {{{said}}}")
    assert "an empty secret is known to everybody" in found


def test_variables_and_secrets_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, "t0ken\r\n\n", name="s/..2026/token")
    (tmp_path / "s" / "..data").symlink_to("..2026")
    (tmp_path / "s" / "token").symlink_to("..data/token")
    block = "environment: {HOME: ~, place: REGION}, secretsFolder: s, secrets: {token: ~, t: token}"
    found = loaded(tmp_path, f"server: {{variables: {{{block}}}}}", HOME="/h", REGION="")

    assert found.environment == {"HOME": "/h", "place": ""}
    assert found.secrets == {"token": Secret("t0ken"), "t": Secret("t0ken")}
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "No such file"), ("../outside", "expected the plain name of a file"),
        ("..data", "expected the plain name"), ("/etc/passwd", "expected the plain name"),
        ("leaves", "a link that leaves the folder is not followed"), ("folder", "not a file"),
        ("large", "at most 65536 bytes"), ("binary", "expected UTF-8"), ("sibling", "a link that leaves"),
    ],
)  # fmt: skip
def test_a_secret_is_a_file_of_its_folder(tmp_path: Path, name: str, words: str) -> None:
    write(tmp_path, "x", name="outside")
    write(tmp_path, "x", name="s-sibling/x")
    write(tmp_path, "x" * 65_537, name="s/large")
    (tmp_path / "s" / "folder").mkdir()
    (tmp_path / "s" / "binary").write_bytes(b"\xff")
    (tmp_path / "s" / "leaves").symlink_to("../outside")
    (tmp_path / "s" / "sibling").symlink_to("../s-sibling/x")
    (found,) = fatal(tmp_path, SECRETS % name, GOOD)

    assert found.startswith("config.yaml:1: server.variables.secrets.token: ")
    assert words in found


def test_a_variable_that_is_missing_is_named(tmp_path: Path) -> None:
    assert fatal(tmp_path, "server: {variables: {environment: {here: REGION}}}", GOOD) == [
        "config.yaml:1: server.variables.environment.here: the environment has no variable REGION"
    ]


def test_the_digest_covers_everything_that_was_read(tmp_path: Path) -> None:
    block = (
        "server: {rules: {rulesFolder: rules}, templates: {templatesFolder: templates}, "
        "variables: {environment: {R: ~}, secretsFolder: s, secrets: {token: ~}}}"
    )
    parts = {"rules/a.yaml": "rules: {a: {}}", "templates/t": "t", "s/token": "x"}
    for name, text in parts.items():
        write(tmp_path, text, name=name)
    main = write(tmp_path, block, GOOD)

    def digest(**environ: str) -> bytes:
        return load(main, environ={"R": "1", **environ}).digest

    seen = [digest(), digest(R="2"), digest(PASSCTRL_SERVER__LISTEN__PORT="1")]
    assert digest(OTHER="1") == seen[0]
    for name, text in parts.items():
        write(tmp_path, text + "\n", name=name)
        seen.append(digest())
    write(tmp_path, block, GOOD, "\n")
    seen.append(digest())
    assert len(set(seen)) == len(seen) == 7


PIECES = st.sampled_from(
    ["server", "rules", "endpoints", "listen", "port", "auth", "match", "type", "bearer", "value", "app",
     "authentication", "allow", "none", "rulesFolder", "rulesFile", "variables", "secrets", "a/../b", "", "\0",
     "cache", "ttl", "pass", "1h", "conditions", "whenAll", "pass", "name", "r", "redirect", "to", "https://[", "."]
)  # fmt: skip
DOCUMENTS = st.recursive(
    PIECES | st.booleans() | st.none() | st.integers() | st.floats() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=4),
    max_leaves=25,
)


@given(server=DOCUMENTS, rules=DOCUMENTS, endpoints=DOCUMENTS)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
def test_any_document_is_loaded_or_refused_with_problems(
    tmp_path: Path, server: Any, rules: Any, endpoints: Any
) -> None:
    document = {"server": server, "rules": {"r": rules}, "endpoints": {"app": endpoints}}
    text = yaml.dump(document, Dumper=NoAliases)
    try:
        found = loaded(tmp_path, text)
    except ConfigurationError:
        assert fatal(tmp_path, text)
    else:
        assert bool(found.problems) == bool(found.skipped)


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_grpc_is_off_unless_it_is_configured(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD).configuration.server.grpc is None
    served = loaded(tmp_path, "server: {grpc: {}}").configuration.server.grpc
    assert served is not None
    assert (served.address, served.port) == ("127.0.0.1", 8082)


@pytest.mark.parametrize("missing", ["grpc", "google.protobuf", "google"])
def test_grpc_that_is_configured_and_not_installed_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "google":
        monkeypatch.delitem(sys.modules, "google.protobuf", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)

    assert fatal(tmp_path, "server:\n  workers: 1\n  grpc: {port: 9000}\n") == [
        "config.yaml:3: server.grpc: gRPC is not installed: pip install 'gatekeeper-access[grpc]'"
    ]
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (match("{type: bearer, value: }"), "auth.0.match.0.value"),
        (match("{type: header, name: x, value: null}"), "auth.0.match.0.value"),
        (match("{type: basic, username: ada, password: ~}"), "auth.0.match.0.password"),
        (rule("auth: [{match: [{type: bearer, value: t}], forwardAs: }]"), "auth.0.forwardAs"),
        (rule("backendApi: "), "backendApi"),
        (rule("backendApi: {url: 'http://a', introspection: }"), "backendApi.introspection"),
    ],
)
def test_a_key_with_nothing_behind_it_is_no_key_that_is_left_out(
    tmp_path: Path, text: str, key: str
) -> None:
    """Read as absent it let in any token at all, or passed without the backend's word."""
    found = loaded(tmp_path, text)

    assert f"rules.r.{key}: nothing stands here" in str(found.problems[0])
    assert not found.configuration.rules


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (endpoint(more=", responsePolicy: {pass: {headers: {X-User: }}}") + rule(""), "endpoints.app.responsePolicy.pass.headers.X-User"),
        (rule("backendApi: {url: 'http://a', headers: {X-User: , accept: null}}"), "rules.r.backendApi.headers.X-User"),
    ],
)  # fmt: skip
def test_a_value_that_was_forgotten_is_not_the_clients_own(
    tmp_path: Path, text: str, key: str
) -> None:
    """Only null that is written copies: the header is one that applications believe."""
    (told,) = problems(tmp_path, text)
    assert f"{key}: nothing stands here: write null" in told
    assert not problems(tmp_path, text.replace("X-User: ", "X-User: null"))
