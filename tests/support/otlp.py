"""A collector of traces in this process: it takes what exporters post, and keeps the spans."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span, and the process it comes from."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    endpoint: str = ""
    spans: list[Seen] = field(default_factory=list)

    def of_trace(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.spans += [
                Seen(names["service.name"], one.name, one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
                for scope in resource.scope_spans
                for one in scope.spans
            ]
        return web.Response()


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [(host, port, *_)] = runner.addresses
        collector.endpoint = f"http://{host}:{port}"
        yield collector
    finally:
        await runner.cleanup()
