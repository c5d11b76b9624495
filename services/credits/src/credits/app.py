"""The port. Internal: every caller has a bearer token, amounts are millicredits, names end in _mc."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import FastAPI, Query, Request, Response
from pydantic import AwareDatetime
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import InvalidApiKey
from common.health import Probes, ops_app
from common.http import RequestIds, answer_client_error, install_error_envelope
from common.postgres import borrowed, outage_is_unavailable
from credits.calls import OperationCalls
from credits.receipts import read_answer, read_receipt
from credits.reconcile import reconcile
from credits.statement import Kind, LedgerFilter, read_balance, read_ledger, read_statement
from credits.wiring import Credits

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[int | None, Query(ge=1, le=2**63 - 1)]


def make_app(service: Credits) -> ASGIApp:
    app = FastAPI(title="BigData API: credits", docs_url=None, redoc_url=None)
    app.state.credits = service
    install_error_envelope(app)
    _add_reads(app, service)
    calls = OperationCalls(app, service.commits, service.settings.body_bytes_max)
    known = BearerTokens(calls, service.settings.credits_tokens.get_secret_value().split(","))
    return RequestIds(Probes(known, ops_app(service.checks)))


class BearerTokens:
    """Plain ASGI middleware. Several tokens are accepted at once, so that they can be replaced without a gap."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        self._app = app
        self._expected = [b"Bearer " + token.strip().encode() for token in tokens if token.strip()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        answer = await answer_client_error(Request(scope), InvalidApiKey("This token is not valid"))
        await answer(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        # Every token is compared, in constant time, as bytes: str would raise on what is not ASCII.
        return sum(hmac.compare_digest(given, expected) for expected in self._expected) > 0


def _add_reads(app: FastAPI, service: Credits) -> None:
    async def read(ask: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        async with outage_is_unavailable("The ledger"), borrowed(service.postgres, service.settings.operation_s) as one:
            return await ask(one, *args, **options)

    @app.get("/v1/balance/{user_id}")
    async def balance(user_id: UUID) -> Response:
        return _json(_encoded(await read(read_balance, user_id)))

    @app.get("/v1/statement")
    async def statement(
        user_id: UUID,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        return _paged(*await read(read_statement, user_id, before=cursor, limit=limit))

    @app.get("/v1/ledger")
    async def ledger(
        *,
        user_id: UUID | None = None,
        kind: Kind | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        wanted = LedgerFilter(user_id, kind, since, until)
        return _paged(*await read(read_ledger, wanted, before=cursor, limit=limit))

    @app.get("/v1/receipts/{query_id}")
    async def receipt(query_id: UUID, user_id: UUID | None = None) -> Response:
        return _json(_encoded(await read(read_receipt, query_id, user_id)))

    @app.get("/v1/answers")
    async def answer(user_id: UUID, key: Annotated[str, Query(min_length=1, max_length=255)]) -> Response:
        return _json(_encoded(await read(read_answer, user_id, key)))

    @app.get("/v1/reconcile")
    async def reconciled() -> Response:
        # Whole tables are read here: its own, longer deadline.
        async with (
            outage_is_unavailable("The ledger"),
            borrowed(service.postgres, service.settings.reconcile_s) as connection,
        ):
            return _json(_encoded(await reconcile(connection)))


def _paged(page: list[dict[str, Any]], following: int | None) -> Response:
    answer = _json(_encoded(page))
    if following is not None:
        answer.headers["X-Next-Cursor"] = str(following)
    return answer


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _encoded(value: Any) -> bytes:
    # The driver's UUID is a subclass, which the encoder hands over.
    return orjson.dumps(value, default=str)
