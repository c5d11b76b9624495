"""`python -m gateway serve` answers the public API, `python -m gateway migrate` prepares its schema."""

import uvicorn

from common.command import serve_or_migrate
from common.health import QuietServer, open_ops_port
from common.lifecycle import collect_garbage_rarely, serve_until_stopped
from common.logs import get_logger
from gateway.settings import Settings

_log = get_logger(__name__)
# Of shutdown_s: requests in flight get the first part, then the spool drains, then connections close.
_SERVING_SHARE = 0.5
# Longer than reverse proxies and clients keep idle connections (two minutes at most): whoever asks must be the one who
# closes. Uvicorn's own 5 s cut connections on which the next request was just on its way: a 502, or a test that fails.
_KEEP_ALIVE_S = 150


def main() -> None:
    serve_or_migrate("gateway", "Answers the public API.", Settings, serve=serve)


async def serve(settings: Settings) -> None:
    from gateway.app import served_app  # noqa: PLC0415 - `migrate` starts without the whole service
    from gateway.early_refusals import logged_protocol  # noqa: PLC0415 - `migrate` starts without the whole service
    from gateway.health import readiness  # noqa: PLC0415 - `migrate` starts without the whole service
    from gateway.wiring import open_gateway  # noqa: PLC0415 - `migrate` starts without the whole service

    async with open_gateway(settings) as gateway, open_ops_port(settings, readiness(gateway)):
        _log.info("serving", host=settings.server_host, port=settings.server_port)
        collect_garbage_rarely()
        protocol = logged_protocol(gateway.spool, gateway.clock, settings.trusted_proxies)
        server = QuietServer(_uvicorn(settings, served_app(gateway), protocol))
        await serve_until_stopped(server, gateway.stopping)


def _uvicorn(settings: Settings, app: object, protocol: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # ASGI frameworks and uvicorn name the same protocol differently
        host=settings.server_host,
        port=settings.server_port,
        http=protocol,  # type: ignore[arg-type]  # it makes protocols, as the class does
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # the audit trail is the access log
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        limit_concurrency=settings.connections_max,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_s * _SERVING_SHARE)),
        backlog=2048,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
