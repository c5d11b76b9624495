"""A body as a dependency: read with a limit, parsed strictly, and documented in /openapi.json.

FastAPI's own body parameter documents itself, but reads without a limit and accepts what `parse_body` refuses.

    async def create(body: Annotated[CreateUser, json_body(CreateUser)]) -> User: ...
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from common.errors import BadHeader, TooLarge, UnsupportedFormat
from common.form_body import FORM, form_fields, is_form
from common.http import parse_body, validated

BODY_BYTES_MAX = 1 << 20
M = TypeVar("M", bound=BaseModel)


class JsonBody(Generic[M]):
    def __init__(self, model: type[M], bytes_max: int | None, *, optional: bool, form: bool) -> None:
        self.model = model
        self.optional = optional
        self.form = form
        self._bytes_max = bytes_max

    async def __call__(self, request: Request) -> M:
        bytes_max = self._bytes_max
        if bytes_max is None:
            bytes_max = getattr(request.app.state, "body_bytes_max", BODY_BYTES_MAX)
        raw = await read_limited(request, bytes_max)
        if self.form and is_form(request, raw):
            return validated(self.model, form_fields(self.model, raw))
        if self.optional and not raw:
            return validated(self.model, {})
        return parse_body(self.model, raw)


def json_body(
    model: type[BaseModel], *, bytes_max: int | None = None, optional: bool = False, form: bool = False
) -> Any:
    """The dependency; raises MalformedJson, InvalidRequest, TooLarge, UnsupportedFormat.

    The limit is its own, else `app.state.body_bytes_max`, else 1 MiB. `optional`: no body at all is an empty object.
    `form`: an HTML form's application/x-www-form-urlencoded is taken as well.
    """
    return Depends(JsonBody(model, bytes_max, optional=optional, form=form))


async def read_limited(request: Request, bytes_max: int) -> bytes:
    """The whole body, refused as soon as it is known to be larger than the limit: before it is read, if it says so."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedFormat("Send JSON bodies without a Content-Encoding")
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit():
        raise BadHeader("Content-Length must be a number")
    if int(declared[:20]) > bytes_max:
        raise TooLarge(details={"bytes_max": bytes_max})
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise TooLarge(details={"bytes_max": bytes_max})
    return bytes(body)


def install_openapi(app: FastAPI) -> None:
    """Add the bodies read by JsonBody to the OpenAPI document, which cannot see them otherwise."""
    original = app.openapi

    def with_bodies() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _add_bodies(app, original())
        return app.openapi_schema

    app.openapi = with_bodies  # type: ignore[method-assign]


def _add_bodies(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for path, method, body in _bodies(app):
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        schema = body.model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[body.model.__name__] = schema
        content = {"schema": {"$ref": f"#/components/schemas/{body.model.__name__}"}}
        kinds = ["application/json", FORM] if body.form else ["application/json"]
        operation["requestBody"] = {"required": not body.optional, "content": dict.fromkeys(kinds, content)}
    return document


def _bodies(app: FastAPI) -> Iterator[tuple[str, str, JsonBody[Any]]]:
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or route.path_format is None:
            continue
        for body in _bodies_of(dependant):
            for method in route.methods or ():
                yield route.path_format, method, body


def _bodies_of(dependant: Dependant) -> Iterator[JsonBody[Any]]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, JsonBody):
            yield inner.call
        yield from _bodies_of(inner)
