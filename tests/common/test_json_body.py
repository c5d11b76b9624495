from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict

from common.http import install_error_envelope
from common.json_body import json_body
from common.openapi import install_openapi


class Inner(BaseModel):
    deep: int


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: Inner | None = None


def _app() -> FastAPI:
    app = FastAPI()
    install_error_envelope(app)
    router = APIRouter(prefix="/v1")

    @router.post("/ask")
    async def ask(body: Annotated[Ask, json_body(Ask, bytes_max=1000)]) -> str:
        return body.name

    app.include_router(router)
    install_openapi(app)
    return app


async def _post(body: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as http:
        return await http.post("/v1/ask", content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_a_body_becomes_its_model() -> None:
    answer = await _post(b'{"name": "ada"}')
    assert (answer.status_code, answer.json()) == (200, "ada")


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{", 400), (b'{"name": "ada", "x": 1}', 422), (b'{"name": "ada", "name": "bob"}', 422),
    (b'{"name": "' + b"x" * 1000 + b'"}', 413),
])  # fmt: skip
async def test_other_bodies_are_refused(body: bytes, status: int) -> None:
    assert (await _post(body)).status_code == status


async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large() -> None:
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"x" * 100

    answer = await _post(pieces())
    assert answer.status_code == 413


@pytest.mark.parametrize(("headers", "status"), [
    ({"content_encoding": "gzip"}, 415), ({"content_length": "²"}, 400), ({"content_length": "9" * 5000}, 413),
])  # fmt: skip
async def test_strange_headers_are_refused_and_nothing_worse(headers: dict[str, str], status: int) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as http:
        raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
        answer = await http.post("/v1/ask", content=iter_once(), headers=httpx.Headers(raw))
    assert answer.status_code == status


async def iter_once() -> AsyncIterator[bytes]:
    yield b"{}"


def test_the_openapi_document_shows_the_body_and_what_is_inside() -> None:
    document = _app().openapi()
    body = document["paths"]["/v1/ask"]["post"]["requestBody"]
    assert body["required"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Ask"}
    assert {"Ask", "Inner"} <= set(document["components"]["schemas"])
