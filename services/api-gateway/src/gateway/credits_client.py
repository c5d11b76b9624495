"""The gateway's side of credits: merged calls, a deadline on each, one retry, and a circuit breaker."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from common.clock import Clock, SystemClock
from common.credit_operations import (
    Extend,
    Grant,
    OpenAccount,
    Outcome,
    Outcomes,
    Refund,
    Reserve,
    SetBalance,
)
from common.errors import IdempotencyMismatch, InsufficientCredits, InvalidRequest, NotFound, Unavailable
from common.logs import get_logger
from common.metrics import counter
from common.prices import credits as as_credits
from common.tracing import carried, span
from gateway.breaker import Breaker
from gateway.merging import Merging
from gateway.settings import Settings

_log = get_logger(__name__)
_BATCH_MAX = 512
_BATCH_BYTES_MAX = 4 << 20
_BAD_REQUEST = frozenset({400, 413, 422})
_calls = counter("bigdata_credit_calls_total", "Calls of the credits service", "result")


class RefusedOperation(Exception):
    """The credits service does not take this operation at all: sending it again cannot help."""


class _Broken(Exception):
    """The service failed or was too slow."""


class _Cut(_Broken):
    """The connection failed: worth one more try on another."""


class CreditsClient:
    """Calls merge: what waits while one POST /v1/batch is in flight leaves together in the next."""

    def __init__(
        self, settings: Settings, pooled: aiohttp.ClientSession, fresh: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self._url = settings.credits_url.rstrip("/")
        self._timeout_s = settings.credits_timeout_s
        self._pooled = pooled
        self._fresh = fresh
        self._breaker = Breaker(clock, settings.credits_timeout_s)
        # Of its own: a statement that takes too long must not stop anybody from being charged.
        self._reads = Breaker(clock, settings.credits_timeout_s)
        self._merging: Merging[bytes, Outcome | RefusedOperation] = Merging(
            self._post_batch,
            batch_max=_BATCH_MAX,
            waiting_max=settings.credits_waiting_max,
            weight=len,
            weight_max=_BATCH_BYTES_MAX,
        )

    async def reserve(  # noqa: PLR0917 - what the operation needs, in its order
        self, user_id: UUID, hold_id: UUID, amount_mc: int, ttl_s: int, key: str | None, digest: str
    ) -> Outcome:
        """Open a hold. Raises InsufficientCredits, IdempotencyMismatch, Unavailable.

        Without a key hold_id alone tells a retry, which costs less. An outcome whose hold_id is not the one asked for
        belongs to an earlier request with the same key. After Unavailable the hold may exist all the same: release it
        through the spool.
        """
        with span("credits.reserve"):
            outcome = await self._urgent(
                Reserve(
                    user_id=user_id,
                    hold_id=hold_id,
                    amount_mc=amount_mc,
                    ttl_s=ttl_s,
                    key=key,
                    digest=digest,
                    traceparent=carried(),
                )
            )
        if outcome.ok:
            return outcome
        if outcome.code == "insufficient_credits":
            available, needed = outcome.available_mc or 0, outcome.needed_mc or amount_mc
            raise InsufficientCredits(details={"available": as_credits(available), "needed": as_credits(needed)})
        if outcome.code == "idempotency_mismatch":
            raise IdempotencyMismatch
        _log.error("credits refused a reserve", code=outcome.code, user_id=str(user_id))
        raise Unavailable("This account is not ready, try again shortly")

    async def extend(self, user_id: UUID, hold_id: UUID, ttl_s: int) -> bool:
        """Keep a hold open for a long stream; False when it has ended and the stream must be cut."""
        return (await self._urgent(Extend(user_id=user_id, hold_id=hold_id, ttl_s=ttl_s))).ok

    async def settle(self, operation: bytes) -> Outcome:
        """For the spool: an encoded capture or release. Patient: it leaves room for reserves.

        Raises RefusedOperation when it can never succeed, Unavailable when it should be sent again.
        """
        self._breaker.admit()
        return _outcome_of(await self._merging.submit(operation, patient=True))

    async def administer(self, operation: OpenAccount | Grant | SetBalance | Refund) -> Outcome:
        """Raises NotFound for an unknown user or entry, InvalidRequest and IdempotencyMismatch as refused."""
        outcome = await self._urgent(operation)
        if outcome.ok:
            return outcome
        if outcome.code == "idempotency_mismatch":
            raise IdempotencyMismatch
        if outcome.code in {"unknown_user", "unknown_entry"}:
            raise NotFound
        raise InvalidRequest(f"Credits refused: {outcome.code}", details=[{"path": "credits", "error": outcome.code}])

    async def read(self, path: str, params: Mapping[str, str] | None = None) -> tuple[Any, Mapping[str, str]]:
        """GET of one of the service's routes: the JSON and the headers. Raises NotFound, Unavailable."""
        self._reads.admit()
        status, raw, headers = await self._call(self._reads, "GET", path, params=params)
        if status == NotFound.status:
            raise NotFound
        if status != 200:  # noqa: PLR2004 - the only success of a read
            raise InvalidRequest
        return orjson.loads(raw), headers

    async def ping(self) -> None:
        """Raises when the service cannot serve; asks past the breaker."""
        async with self._fresh.get(f"{self._url}/readyz", raise_for_status=True):
            pass

    async def close(self) -> None:
        await self._merging.close()

    async def _urgent(self, operation: Reserve | Extend | OpenAccount | Grant | SetBalance | Refund) -> Outcome:
        self._breaker.admit()
        try:
            async with asyncio.timeout(self._timeout_s):
                return _outcome_of(await self._merging.submit(operation.model_dump_json().encode()))
        except TimeoutError:
            raise Unavailable("Credits are not answering, try again shortly") from None
        except RefusedOperation:
            _log.exception("credits refused an operation", op=operation.op)
            raise InvalidRequest from None

    async def _post_batch(self, operations: list[bytes]) -> list[Outcome | RefusedOperation]:
        body = b"".join((b'{"operations":[', b",".join(operations), b"]}"))
        status, raw, _ = await self._call(self._breaker, "POST", "/v1/batch", body)
        if status in _BAD_REQUEST:
            return await self._without_the_bad_one(operations, raw)
        outcomes = Outcomes.model_validate_json(raw).outcomes
        return list(outcomes)

    async def _without_the_bad_one(self, operations: list[bytes], raw: bytes) -> list[Outcome | RefusedOperation]:
        """One malformed operation must not hold up the rest for ever: halve until it is alone."""
        if len(operations) == 1:
            _log.error("credits cannot read an operation", answer=raw[:300].decode("utf-8", "replace"))
            return [RefusedOperation()]
        half = len(operations) // 2
        return [*await self._post_batch(operations[:half]), *await self._post_batch(operations[half:])]

    async def _call(
        self,
        breaker: Breaker,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """One try on a pooled connection, one on a fresh one: every operation is safe to repeat by its key."""
        try:
            try:
                answer = await self._try(self._pooled, method, path, body, params)
            except _Cut:
                _calls.labels("retried").inc()
                answer = await self._try(self._fresh, method, path, body, params)
        except _Broken as exc:
            _calls.labels("unavailable").inc()
            breaker.failed()
            raise Unavailable("Credits are not available, try again shortly") from exc
        _calls.labels("ok").inc()
        breaker.succeeded()
        return answer

    async def _try(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None,
        params: Mapping[str, str] | None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            async with session.request(method, self._url + path, data=body, params=params) as response:
                raw = await response.read()
        except TimeoutError as exc:
            raise _Broken(repr(exc)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _Cut(repr(exc)) from exc
        if response.status >= 500 or response.status in {401, 403, 429}:  # noqa: PLR2004 - not the operation's fault
            raise _Broken(f"status {response.status}")
        return response.status, raw, response.headers


def _outcome_of(result: Outcome | RefusedOperation) -> Outcome:
    if isinstance(result, RefusedOperation):
        raise result
    return result


@asynccontextmanager
async def open_credits(settings: Settings) -> AsyncIterator[CreditsClient]:
    """Connects on the first call: the gateway starts, and answers 503 to queries, without credits."""
    token = settings.credits_tokens.get_secret_value().split(",")[0].strip()
    common: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        "timeout": aiohttp.ClientTimeout(total=settings.credits_timeout_s),
        "raise_for_status": False,
    }
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16), **common) as pooled,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4, force_close=True), **common) as fresh,
    ):
        client = CreditsClient(settings, pooled, fresh, SystemClock())
        try:
            yield client
        finally:
            await client.close()
