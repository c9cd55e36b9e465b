"""The first MVP's two routes: aliases over the same service, off by default."""

import dataclasses
import tomllib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from test_api import Api, api  # noqa: F401  # `api` is a fixture

from factories.installation import serving
from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import ControlPlaneSettings, load_settings
from gatekeeper.client import operations

WISH = {"db": "pg", "role": "app_read", "ttlMinutes": 5, "requestedBy": "olga@example.com"}


@pytest.fixture(scope="module")
def old(api: Api) -> Iterator[Api]:  # noqa: F811
    """Another control plane on the same store, with the aliases."""
    settings = load_settings(
        ControlPlaneSettings, api.settings_file, {"GATEKEEPER_COMPAT_MVP_API": "true"}
    )
    with serving(bootstrap.control_plane_app(settings, stop=lambda: None)) as url:
        yield dataclasses.replace(api, url=url)


def test_they_are_off_by_default(api: Api) -> None:  # noqa: F811
    assert "compat_mvp_api" not in tomllib.loads(api.settings_file.read_text())
    assert api.raw("POST", "/api/sessions", json=WISH).status_code == 404
    assert api.raw("POST", "/api/sessions/drop", json={}).status_code == 404


def test_a_login_is_made_works_and_is_dropped(old: Api) -> None:
    made = old.raw("POST", "/api/sessions", json=WISH).json()

    assert made.keys() == {"status", "dsn", "expiresAt", "username"}
    assert made["status"] == "ready"
    with psycopg.connect(made["dsn"]) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (made["username"],)
    wrong = old.raw("POST", "/api/sessions/drop", json={"db": "lost", "username": made["username"]})
    assert wrong.status_code == 404
    dropped = old.raw(
        "POST", "/api/sessions/drop", json={"db": "pg", "username": made["username"]}
    ).json()
    assert (dropped["status"], dropped["dsn"]) == ("cleaned", None)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(made["dsn"])


def test_requested_by_is_a_note_and_never_an_identity(old: Api) -> None:
    made = old.raw("POST", "/api/sessions", json=WISH).json()

    with old.client() as client:
        (seen,) = client.call(operations.list_sessions(statuses=["ready"], mine=True)).items
    assert seen.username == made["username"]
    assert seen.requester.endswith("#dana")
    assert seen.reason == "requested by olga@example.com"
    with old.client("olga", "eng") as olga:
        assert olga.call(operations.list_sessions(mine=True)).items == ()
    drop = {"db": "pg", "username": made["username"]}
    hers = old.token("olga", "eng").reveal()
    for headers, status in (
        ({"Authorization": f"Bearer {hers}"}, 404),
        ({"Authorization": ""}, 401),
    ):
        answer = old.raw("POST", "/api/sessions/drop", json=drop, headers=headers)
        assert answer.status_code == status
    assert old.raw("POST", "/api/sessions/drop", json=drop).json()["status"] == "cleaned"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"role": "app_write"}, 403, "POLICY_DENIED"),
        ({"role": "nope"}, 422, "VALIDATION_ERROR"),
        ({"db": "nope"}, 404, "NOT_FOUND"),
        ({"db": "lost"}, 502, "AGENT_REJECTED"),
        ({"ttlMinutes": 0}, 422, "VALIDATION_ERROR"),
        ({"ttlMinutes": "5"}, 422, "VALIDATION_ERROR"),
        ({"requestedBy": "a\nb"}, 422, "VALIDATION_ERROR"),
        ({"requester": "olga"}, 422, "VALIDATION_ERROR"),
    ],
)
def test_what_sessions_refuses_they_refuse(
    old: Api, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = old.raw("POST", "/api/sessions", json=WISH | changes)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
