"""A body as a dependency: read with a limit, parsed strictly, and documented in /openapi.json (common/openapi.py).

FastAPI's own body parameter documents itself, but reads without a limit and accepts what `parse_body` refuses.

    async def create(body: Annotated[CreateUser, json_body(CreateUser)]) -> User: ...
"""

from functools import lru_cache
from typing import Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from common.errors import BadHeader, InvalidRequest, MalformedJson, TooLarge, UnsupportedFormat
from common.form_body import form_fields, is_form
from common.http import parse_body, validated

BODY_BYTES_MAX = 1 << 20
# Larger ones are rarely sent twice, and what is remembered must stay small.
_REMEMBERED_BYTES_MAX = 2048
_REMEMBERED_MAX = 2048
M = TypeVar("M", bound=BaseModel)


class JsonBody(Generic[M]):
    """`remembered`: equal small bodies are one object, so the model must be frozen."""

    answers = (BadHeader, MalformedJson, InvalidRequest, TooLarge, UnsupportedFormat)

    def __init__(
        self,
        model: type[M],
        bytes_max: int | None = None,
        *,
        optional: bool = False,
        form: bool = False,
        remembered: bool = False,
    ) -> None:
        self.model = model
        self.optional = optional
        self.form = form
        self._bytes_max = bytes_max
        self._remembered = lru_cache(_REMEMBERED_MAX)(self._parsed) if remembered else None

    async def __call__(self, request: Request) -> M:
        bytes_max = self._bytes_max
        if bytes_max is None:
            bytes_max = getattr(request.app.state, "body_bytes_max", BODY_BYTES_MAX)
        raw = await read_limited(request, bytes_max)
        if self.form and is_form(request, raw):
            return validated(self.model, form_fields(self.model, raw))
        if self.optional and not raw:
            return validated(self.model, {})
        if self._remembered is not None and len(raw) <= _REMEMBERED_BYTES_MAX:
            return self._remembered(raw)
        return self._parsed(raw)

    def _parsed(self, raw: bytes) -> M:
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
