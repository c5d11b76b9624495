"""Traces within one process; tests/journeys/test_traces.py follows one through all of them."""

import asyncio
from typing import Any, ClassVar

import pytest
from starlette.types import Receive, Scope, Send

from common.settings import ProcessSettings
from common.tracing import Traced, _parent_of, carried, consuming, serving, span, trace_id, tracing, with_carried
from support.otlp import Collector, open_collector

_THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Settings(ProcessSettings):
    config_section: ClassVar[str] = "nobody's"


def _settings(collector: Collector, **more: Any) -> ProcessSettings:
    return Settings(otel_exporter_otlp_endpoint=collector.endpoint, **more)


async def _traced(collector: Collector, work: Any, **more: Any) -> None:
    """Runs work with tracing on. Leaving it sends what is left, from a thread: the collector is in this loop."""
    with tracing("test", _settings(collector, **more)) as _:
        await work()
        leaving = asyncio.to_thread(_flush)
        await leaving


def _flush() -> None:
    from common import tracing as module  # noqa: PLC0415 - the tracer of this moment

    assert module._tracer is not None
    module._tracer.span_processor.force_flush(5000)  # type: ignore[attr-defined]  # of the SDK's tracer


def test_off_there_is_nothing_to_carry_and_nothing_to_pay() -> None:
    with (
        tracing("test", Settings()),
        span("a step"),
        consuming("topic", [()]),
        serving([("op", _THEIRS)]),
    ):
        assert (trace_id(), carried(), with_carried(None)) == (None, None, None)


async def test_a_message_continues_the_trace_of_its_sender() -> None:
    async def work() -> None:
        with span("sending"):
            headers = with_carried([("reason", b"x")])
            sent_in = trace_id()
        assert headers is not None
        assert headers[0] == ("reason", b"x")
        with consuming("some.topic", [headers]), span("inserting"):
            assert trace_id() == sent_in

    async with open_collector() as collector:
        await _traced(collector, work)
        assert {one.name for one in collector.spans} == {"sending", "process some.topic", "inserting"}
        assert len({one.trace_id for one in collector.spans}) == 1


async def test_a_batch_has_a_trace_of_its_own() -> None:
    async def work() -> None:
        with consuming("some.topic", [[("traceparent", _THEIRS.encode())], [("traceparent", b"\xff nonsense")], ()]):
            assert trace_id() not in {None, _THEIRS.split("-")[1]}

    async with open_collector() as collector:
        await _traced(collector, work)
        assert [one.name for one in collector.spans] == ["process some.topic"]


async def test_of_a_merged_call_each_part_is_in_its_own_trace() -> None:
    async def work() -> None:
        with serving([("credits reserve", _THEIRS), ("credits capture", None)]):
            pass

    async with open_collector() as collector:
        await _traced(collector, work)
        [one] = collector.spans
        assert (one.name, one.trace_id, one.parent_id) == ("credits reserve", *_THEIRS.split("-")[1:3])


async def test_a_request_begins_a_trace_whatever_the_client_sends() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(trace_id())
        scope["state"] = {"request_id": "some id"}
        await send({"type": "http.response.start", "status": 204})

    async def work() -> None:
        scope = {"type": "http", "method": "GET", "headers": [(b"traceparent", _THEIRS.encode())]}

        async def nothing(*_: Any) -> Any: ...

        await Traced(app)(scope, nothing, nothing)

    async with open_collector() as collector:
        await _traced(collector, work)
        [one] = collector.spans
    assert one.name == "GET unmatched"
    assert [one.trace_id] == seen
    assert one.trace_id not in _THEIRS


def test_a_header_without_a_value_has_no_parent() -> None:
    assert _parent_of([("traceparent", None), ("other", b"x")]) is None  # type: ignore[list-item]  # a client's doing


async def test_a_trace_that_is_not_kept_has_no_id_to_look_for() -> None:
    async def work() -> None:
        with span("a step"):
            assert trace_id() is None
            assert int(str(carried())[-2:], 16) & 1 == 0

    async with open_collector() as collector:
        await _traced(collector, work, trace_share=0)
        assert not collector.spans


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://host"])
def test_an_endpoint_without_http_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="otel_exporter_otlp_endpoint"):
        Settings(otel_exporter_otlp_endpoint=endpoint)
