"""Traces: off unless an endpoint is set; then one from the gateway through credits, Kafka and workers to the insert.

A process has one tracer as it has one registry of metrics. While it is off, every function here returns at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.settings import ProcessSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

HEADER = "traceparent"
# A collector that is away must not hold up a process that stops.
_EXPORT_S = 3.0
_LINKS_MAX = 32
_SERVER_FAULT = 500
Headers: TypeAlias = Sequence[tuple[str, bytes]]
_PROPAGATOR = TraceContextTextMapPropagator()

_tracer: Tracer | None = None


@contextmanager
def tracing(process: str, settings: ProcessSettings) -> Iterator[None]:
    """Spans of this process go to the endpoint, if one is set; leaving sends what is left."""
    global _tracer  # noqa: PLW0603 - as the registry of metrics: passing it along would touch every signature
    if not settings.otel_exporter_otlp_endpoint:
        yield
        return
    provider = _provider(process, settings.otel_exporter_otlp_endpoint, settings.trace_share)
    _tracer = provider.get_tracer("bigdata")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()


def _provider(process: str, endpoint: str, share: float) -> "TracerProvider":
    # Imported here: 100 ms that a process without traces does not spend.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": process}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """A step of the current trace. An exception is noted in it and passed on."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, attributes=attributes):
        yield


def carried() -> str | None:
    """The current span as a traceparent, for what leaves this process."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def trace_id() -> str | None:
    """Of the current trace, when it is kept: whoever looks it up shall find it. None while tracing is off."""
    if _tracer is None:
        return None
    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid and context.trace_flags.sampled else None


def with_carried(headers: Headers | None) -> Headers | None:
    """Headers of a Kafka record, and the current span among them."""
    parent = carried()
    return headers if parent is None else [*(headers or ()), (HEADER, parent.encode())]


@contextmanager
def consuming(topic: str, headers: Sequence[Headers], **attributes: str | int) -> Iterator[None]:
    """The span of handling a message, which continues its sender's trace; of a batch, which has links to some."""
    if _tracer is None:
        yield
        return
    parents = [parent for one in headers if (parent := _parent_of(one))]
    with _tracer.start_as_current_span(
        f"process {topic}",
        _context(parents[0] if len(headers) == 1 and parents else None),
        attributes={"messaging.destination.name": topic, "messaging.batch.message_count": len(headers), **attributes},
        links=_links(parents) if len(headers) > 1 else (),
    ):
        yield


@contextmanager
def serving(parents: Iterable[tuple[str, str | None]]) -> Iterator[None]:
    """One span for each named part of a merged call whose sender traces; the others cost nothing."""
    with ExitStack() as ending:
        if _tracer is not None:
            for name, parent in parents:
                if parent is not None:
                    ending.callback(_tracer.start_span(name, _context(parent)).end)
        yield


def _context(parent: str | None) -> Context | None:
    if parent is None:
        return None
    return _PROPAGATOR.extract({HEADER: parent})


def _links(parents: Iterable[str]) -> list[Link]:
    contexts = [get_current_span(_context(one)).get_span_context() for one in list(dict.fromkeys(parents))[:_LINKS_MAX]]
    return [Link(context) for context in contexts if context.is_valid]


def _parent_of(headers: Headers) -> str | None:
    # A client may have sent the header without a value.
    return next((value.decode("ascii", "replace") for name, value in headers if name == HEADER and value), None)


class Traced:
    """Plain ASGI middleware: one span for each request.

    A client's own trace is linked, never continued: the id in our log must be ours, and whether a trace is kept too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _tracer is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        theirs = [value.decode("ascii", "replace") for name, value in scope["headers"] if name == HEADER.encode()]
        with _tracer.start_as_current_span(scope["method"], kind=SpanKind.SERVER, links=_links(theirs)) as request:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    request.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= _SERVER_FAULT:
                        request.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", None) or "unmatched"  # a path could carry a secret
                request.update_name(f"{scope['method']} {route}")
                request.set_attribute("http.request.method", scope["method"])
                request.set_attribute("http.route", route)
                request.set_attribute("bigdata.request_id", str(scope.get("state", {}).get("request_id", "")))
