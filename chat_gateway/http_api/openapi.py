"""The OpenAPI document: bodies are read by hand, strictly, so their schemas are added here."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chat_gateway.http_api.errors import ErrorBody

_COMPONENT = "#/components/schemas/{model}"


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """A request body of this shape."""
    content = {"application/json": {"schema": {"$ref": _COMPONENT.format(model=schema.__name__)}}}
    return {"requestBody": {"required": True, "content": content}}


def event_stream(schema: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """An answer that is JSON, or server-sent events of this shape."""
    content = {"text/event-stream": {"schema": {"$ref": _COMPONENT.format(model=schema.__name__)}}}
    return {200: {"content": content, "description": "The answer, or its chunks"}}


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers that are errors, by status."""
    return {
        status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def describe(app: FastAPI, *schemas: type[BaseModel]) -> None:
    """Make the application's document name these schemas too."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            built = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _, definitions = models_json_schema(
                [(schema, "validation") for schema in schemas], ref_template=_COMPONENT
            )
            components = built.setdefault("components", {}).setdefault("schemas", {})
            components.update(definitions["$defs"])
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
