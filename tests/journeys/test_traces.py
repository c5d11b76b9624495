"""One trace from the request to the insert, through Kafka twice; and one through credits."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, open_client
from support.log import entry_of
from support.otlp import Collector, open_collector
from support.polling import until
from support.stack import environment, further_copy

_COPY = 21


@pytest_asyncio.fixture(scope="module")
async def traced(stack: Stack, answered: Answered) -> AsyncIterator[tuple[Collector, httpx.AsyncClient]]:
    """A second gateway and credits that trace, beside a worker that does: of its partitions no other may have any."""
    async with open_collector() as collector:
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        async with (
            environment(stack, "ingest-worker", traces),
            further_copy(stack, "credits", index=_COPY, env=traces) as ledger,
            further_copy(stack, "gateway", index=_COPY, env=traces | {"CREDITS_URL": stack.url(ledger)}) as gateway,
            open_client(stack, stack.status().admin_key, answered, gateway=gateway) as client,
        ):
            yield collector, client


async def test_an_upload_is_one_trace_from_the_request_to_the_insert(
    traced: tuple[Collector, httpx.AsyncClient], admin: httpx.AsyncClient
) -> None:
    collector, client = traced
    file = f"email,first_name\n{new_id().hex}@example.com,Ada\n".encode()
    sent = await client.post("/v1/uploads", params={"dataset": "people", "filename": "trace.csv"}, content=file)
    assert sent.status_code == 202, sent.text
    trace_id = (await entry_of(admin, sent))["trace_id"]
    wanted = {
        ("gateway", "POST /v1/uploads"),
        ("ingest-worker", "process ingest.uploads.v1"),
        ("ingest-worker", "process ingest.chunks.v1"),
        ("ingest-worker", "clickhouse.insert"),
    }

    async def whole() -> bool:
        return {(span.process, span.name) for span in collector.of_trace(trace_id)} >= wanted

    await until("the whole trace", whole, deadline_s=60)
    spans = {span.span_id: span for span in collector.of_trace(trace_id)}
    roots = [span for span in spans.values() if not span.parent_id]
    assert [span.name for span in roots] == ["POST /v1/uploads"]
    assert all(span.parent_id in spans for span in spans.values() if span.parent_id)


async def test_a_query_is_one_trace_with_its_hold_and_its_charge(
    traced: tuple[Collector, httpx.AsyncClient], admin: httpx.AsyncClient
) -> None:
    collector, client = traced
    answer = await client.post("/v1/query", json={"limit": 1, "filters": {"email": f"{new_id().hex}@example.com"}})
    assert answer.status_code in {200, 402}, answer.text
    trace_id = (await entry_of(admin, answer))["trace_id"]
    wanted = {("gateway", "POST /v1/query"), ("gateway", "credits.reserve"), ("credits", "credits reserve")}
    if answer.status_code == 200:
        wanted |= {("gateway", "clickhouse.query"), ("credits", "credits capture")}

    async def whole() -> bool:
        return {(span.process, span.name) for span in collector.of_trace(trace_id)} >= wanted

    await until("the whole trace", whole, deadline_s=60)


async def test_without_an_endpoint_no_request_has_a_trace(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/v1/me")
    assert (await entry_of(admin, answer))["trace_id"] is None
