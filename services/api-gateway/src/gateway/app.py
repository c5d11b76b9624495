from fastapi import FastAPI
from starlette.types import ASGIApp

from common.health import Probes, ops_app
from common.http import RequestIds, install_error_envelope
from common.openapi import install_openapi
from common.tracing import Traced
from gateway import (
    account,
    admin,
    admin_browse,
    admin_log,
    admin_reads,
    admin_users,
    dataset_routes,
    erasures,
    health,
    keys,
    ledger,
    query,
    query_receipts,
    topic_lag,
    upload_commands,
    upload_events,
    upload_rejects,
    uploads,
)
from gateway.audit_trail import AuditTrail
from gateway.console import CONSOLE
from gateway.console.door import ConsoleDoor
from gateway.console.frame import refusal_page
from gateway.console.sign_in import sessions_of
from gateway.hot_routes import HotRoutes
from gateway.route_errors import ERRORS
from gateway.wiring import Gateway

# The busiest first: routes are tried in order.
_ROUTERS = (
    query.router,
    account.router,
    query_receipts.router,
    dataset_routes.router,
    uploads.router,
    upload_rejects.router,
    upload_commands.router,
    upload_events.router,
    erasures.router,
    keys.router,
    admin.router,
    admin_users.router,
    admin_log.router,
    admin_browse.router,
    admin_reads.router,
    ledger.router,
    topic_lag.router,
    health.router,
    *CONSOLE,
)


def create_app() -> FastAPI:
    """Routes and error envelope; `app.state.gateway` is set by whoever serves it."""
    app = FastAPI(
        title="BigData API",
        version="1",
        openapi_url="/openapi.json",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_envelope(app)
    for router in _ROUTERS:
        app.include_router(router)
    install_openapi(app, ERRORS)
    return app


def served_app(gateway: Gateway) -> ASGIApp:
    """The app inside its outermost layers, which also cover what the framework itself answers with 500."""
    app = create_app()
    app.state.gateway = gateway
    app.state.body_bytes_max = gateway.settings.body_bytes_max
    hot = HotRoutes(app, {("POST", "/v1/query"): query.answer_query})
    doored = ConsoleDoor(hot, sessions_of(gateway), refusal_page)
    audited = AuditTrail(RequestIds(doored), gateway.spool, gateway.clock)
    return Probes(Traced(audited), ops_app(health.readiness(gateway)))
