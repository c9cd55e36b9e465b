"""How the API describes itself: one name for each operation, and what a problem looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.alias_generators import to_camel

from gatekeeper.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from fastapi.routing import APIRoute


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function, which is what the client calls it too."""
    return to_camel(route.name)


def description_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Describe the API once, when somebody asks."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, routes=app.routes
            )
            # No route returns the model itself, so FastAPI does not know it.
            components = app.openapi_schema.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        return app.openapi_schema

    return describe
