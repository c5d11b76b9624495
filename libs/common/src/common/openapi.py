"""The OpenAPI document, with what FastAPI cannot see: bodies that we read ourselves, keys, and every error.

A dependency says which errors it may raise in its attribute `answers`, so a route that takes a key is documented with
401 because of the dependency that takes it. What a route raises besides stands in a table that the application has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field

from common.errors import BadHeader, ClientError, InvalidRequest, NotFound
from common.form_body import FORM
from common.json_body import JsonBody

Errors: TypeAlias = Iterable[type[ClientError]]
# Set on a dependency that takes an API key.
TAKES_KEY = "takes_key"
_SECURITY_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


class Error(BaseModel):
    """Every answer that is no success."""

    error: str = Field(description="for people")
    code: str = Field(description="for programs")
    request_id: str
    details: Any = Field(description="what is known about it; of invalid_request a list of {path, error}")


def install_openapi(app: FastAPI, errors_of: Mapping[str, Errors] | None = None) -> None:
    """Complete the document of this application. `errors_of`: what a route raises by itself, by `GET /path`."""
    original = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app, original(), errors_of or {})
        return app.openapi_schema

    app.openapi = completed  # type: ignore[method-assign]


def _complete(app: FastAPI, document: dict[str, Any], errors_of: Mapping[str, Errors]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    components["securitySchemes"] = _SECURITY_SCHEMES
    schemas["Error"] = Error.model_json_schema()
    for path, method, dependant in _operations(app):
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        calls = list(_calls(dependant))
        for call in calls:
            if isinstance(call, JsonBody):
                operation["requestBody"] = _body(call, schemas)
        if any(hasattr(call, TAKES_KEY) for call in calls):
            operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
        _add_errors(operation, {*_of_calls(calls), *_of_parameters(operation), *errors_of.get(f"{method} {path}", ())})
    return document


def _operations(app: FastAPI) -> Iterator[tuple[str, str, Dependant]]:
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None and route.path_format is not None:
            for method in route.methods or ():
                yield route.path_format, method, dependant


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


def _body(body: JsonBody[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = body.model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[body.model.__name__] = schema
    content = {"schema": {"$ref": f"#/components/schemas/{body.model.__name__}"}}
    kinds = ["application/json", FORM] if body.form else ["application/json"]
    return {"required": not body.optional, "content": dict.fromkeys(kinds, content)}


def _of_calls(calls: Iterable[Callable[..., Any]]) -> Iterator[type[ClientError]]:
    for call in calls:
        yield from getattr(call, "answers", ())


def _of_parameters(operation: dict[str, Any]) -> Iterator[type[ClientError]]:
    for parameter in operation.get("parameters", ()):
        yield {"path": NotFound, "header": BadHeader}.get(parameter["in"], InvalidRequest)
        yield InvalidRequest


def _add_errors(operation: dict[str, Any], errors: Errors) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    by_status: dict[str, set[str]] = {}
    for error in errors:
        by_status.setdefault(str(error.status), set()).add(error.code)
    for status, codes in sorted(by_status.items()):
        if status not in responses:
            schema = {"$ref": "#/components/schemas/Error"}
            responses[status] = {
                "description": " or ".join(sorted(codes)),
                "content": {"application/json": {"schema": schema}},
            }
