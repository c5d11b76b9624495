from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from common.errors import InvalidRequest
from common.form_body import FORM, form_fields
from common.http import install_error_envelope
from common.json_body import json_body
from common.openapi import install_openapi


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = ""
    age: int = 0
    rate: float | None = None
    on: bool = False
    tags: list[str] | None = None


def _app() -> FastAPI:
    app = FastAPI()
    install_error_envelope(app)

    async def ask(body: Annotated[Ask, json_body(Ask, optional=True, form=True)]) -> dict[str, Any]:
        return body.model_dump()

    app.add_api_route("/ask", ask, methods=["POST"])
    install_openapi(app)
    return app


async def _post(body: bytes, kind: str | None = FORM) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as http:
        return await http.post("/ask", content=body, headers={"content-type": kind} if kind else {})


async def test_a_form_says_what_json_says() -> None:
    form = await _post(b"name=Ada+L%C3%B6w&age=36&rate=1.5&on=true&tags=%5B%22a%22%5D")
    json = await _post('{"name": "Ada Löw", "age": 36, "rate": 1.5, "on": true, "tags": ["a"]}'.encode(), None)
    assert (form.status_code, form.json()) == (200, json.json())


@pytest.mark.parametrize("kind", [FORM, f"{FORM}; charset=utf-8", "application/json", "text/plain", None])
async def test_an_object_is_json_whatever_it_is_called(kind: str | None) -> None:
    assert (await _post(b' {"age": 5}', kind)).json()["age"] == 5


async def test_nothing_is_an_object_without_fields() -> None:
    assert (await _post(b"")).status_code == (await _post(b"", None)).status_code == 200


@pytest.mark.parametrize(("body", "path"), [
    (b"age=many", "age"), (b"age=%225%22", "age"), (b"age=1.5", "age"), (b"age=NaN", "age"), (b"age=", "age"),
    (b"on=yes", "on"), (b"tags=a", "tags"), (b"age=1&age=2", "body"), (b"nothing=1", "nothing"),
    (b"name=%FF", "body"), (b"name=%00", "body"), (b"&".join([b"name=a"] * 101), "body"),
])  # fmt: skip
async def test_what_is_no_value_is_refused_by_name(body: bytes, path: str) -> None:
    answer = await _post(body)
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (422, path)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/xml", "image/png"])
async def test_other_kinds_are_not_read(kind: str) -> None:
    assert (await _post(b"--x", kind)).status_code == 415


def test_text_stays_text() -> None:
    assert form_fields(Ask, b"name=5") == {"name": "5"}
    with pytest.raises(InvalidRequest):
        form_fields(Ask, b"rate=1e400")


def test_the_document_names_both_kinds() -> None:
    body = _app().openapi()["paths"]["/ask"]["post"]["requestBody"]
    assert not body["required"]
    assert set(body["content"]) == {"application/json", FORM}
