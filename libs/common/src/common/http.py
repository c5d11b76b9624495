"""What every HTTP service answers the same way: request ids, the error envelope, strict JSON bodies."""

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common import errors
from common.ids import new_id
from common.logs import get_logger

_log = get_logger(__name__)
_BY_STATUS: dict[int, type[errors.ClientError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.TooLarge,
    415: errors.UnsupportedFormat,
}


class RequestIds:
    """Plain ASGI middleware: every answer carries x-request-id. A client's own id is never believed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        header = (b"x-request-id", str(request_id).encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, send_with_id)


def install_error_envelope(app: FastAPI) -> None:
    """Make every fault, the framework's included, answer {"error", "code", "request_id", "details"}."""
    app.add_exception_handler(errors.ClientError, _as_handler(answer_client_error))
    app.add_exception_handler(HTTPException, _as_handler(_answer_http_exception))
    app.add_exception_handler(RequestValidationError, _as_handler(_answer_validation_error))
    app.add_exception_handler(Exception, _as_handler(answer_bug))


def envelope(error: errors.ClientError, request_id: object) -> bytes:
    body = {
        "error": str(error),
        "code": error.code,
        "request_id": str(request_id),
        "details": error.details or {},
    }
    return orjson.dumps(body, default=str)


async def answer_client_error(request: Request, error: errors.ClientError) -> Response:
    request.state.error_code = error.code
    return Response(
        envelope(error, getattr(request.state, "request_id", "")),
        status_code=error.status,
        headers=dict(error.headers()),
        media_type="application/json",
    )


async def _answer_http_exception(request: Request, exc: HTTPException) -> Response:
    kind = _BY_STATUS.get(exc.status_code, errors.BadHeader)
    answer = await answer_client_error(request, kind())
    answer.status_code = exc.status_code
    answer.headers.update(exc.headers or {})  # of 405: what is allowed
    return answer


async def _answer_validation_error(request: Request, exc: RequestValidationError) -> Response:
    return await answer_client_error(request, invalid_request(list(exc.errors())))


async def answer_bug(request: Request, exc: Exception) -> Response:
    """A fault of ours. The client learns its request id and nothing of how it happened."""
    request_id = getattr(request.state, "request_id", "")
    _log.error("unhandled error", request_id=str(request_id), path=request.url.path, exc_info=exc)
    request.state.error_code = "internal"
    body = {
        "error": "Something failed on our side",
        "code": "internal",
        "request_id": str(request_id),
        "details": {},
    }
    return Response(orjson.dumps(body), status_code=500, media_type="application/json")


def invalid_request(faults: list[Any]) -> errors.InvalidRequest:
    """One detail per fault: where it is and what would be right. Never the input: it may hold a secret."""
    return errors.InvalidRequest(
        details=[
            {"path": ".".join(str(part) for part in fault["loc"]) or "body", "error": fault["msg"]} for fault in faults
        ]
    )


M = TypeVar("M", bound=BaseModel)


def parse_body(model: type[M], raw: bytes) -> M:
    """JSON bytes to a model, stricter than the framework's default.

    Refused here because they answer 500 or are silently accepted otherwise: NaN and Infinity, numbers beyond a
    float, duplicate keys, lone surrogates, U+0000, encodings other than UTF-8, nesting beyond the parser's depth.
    """
    return validated(model, strict_json(raw))


def validated(model: type[M], document: Any) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise invalid_request(list(exc.errors(include_url=False, include_input=False))) from None


def strict_json(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        document = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
    except UnicodeDecodeError:
        raise errors.MalformedJson("The body must be JSON in UTF-8") from None
    except RecursionError:
        raise errors.MalformedJson("The body is nested too deeply") from None
    except json.JSONDecodeError as exc:
        raise errors.MalformedJson(
            f"The body is not valid JSON: {exc.msg}, line {exc.lineno} column {exc.colno}"
        ) from None
    except _BadValueError as exc:
        raise _in_the_body(str(exc)) from None
    except ValueError:
        # Python refuses to read integers of thousands of digits, outside of its JSON errors.
        raise _in_the_body("a number has too many digits") from None
    if "\\u" in text:
        _refuse_bad_text(document)
    elif "\x00" in text:
        raise _in_the_body("U+0000 is not allowed in text")
    return document


def _in_the_body(message: str) -> errors.InvalidRequest:
    """A fault whose place the parser does not say."""
    return errors.InvalidRequest(message, details=[{"path": "body", "error": message}])


class _BadValueError(ValueError):
    """A value that JSON parsers let through and databases do not."""


def _refuse_constant(name: str) -> Any:
    raise _BadValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _BadValueError(f"the number {text[:40]} is out of range")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _BadValueError(f"the key {twice[:80]!r} appears twice")
    return document


def _refuse_bad_text(value: Any) -> None:
    """JSON escapes can smuggle in what UTF-8 cannot hold. Walked only when the body has an escape at all."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise _in_the_body("U+0000 and lone surrogates are not allowed in text")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_bad_text(key)
            _refuse_bad_text(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_bad_text(item)


def _as_handler(
    handler: Callable[[Request, Any], Awaitable[Response]],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    return handler
