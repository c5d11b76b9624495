"""What the gateway stands on, asked all at once."""

import time
from collections.abc import Mapping
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from common.health import Check, check_all
from gateway.wiring import Gateway, gateway_of

router = APIRouter(tags=["health"])
_STARTED = time.monotonic()


class Services(BaseModel):
    clickhouse: str
    postgres: str
    redis: str
    kafka: str
    credits: str


class Health(BaseModel):
    status: str
    services: Services
    uptime_ms: int


def checks(gateway: Gateway) -> Mapping[str, Check]:
    return {
        "clickhouse": gateway.warehouse.ping,
        "postgres": lambda: gateway.postgres.fetchval("SELECT 1"),
        "redis": lambda: gateway.redis.echo("up"),
        "kafka": gateway.producer.client.fetch_all_metadata,
        "credits": gateway.credits.ping,
    }


def readiness(gateway: Gateway) -> Mapping[str, Check]:
    """Only what every request needs: taking a gateway out of service because Kafka is down would help nobody."""
    return {"postgres": checks(gateway)["postgres"]}


@router.get("/v1/health", response_model=Health, responses={503: {"model": Health}})
async def health(gateway: Annotated[Gateway, Depends(gateway_of)]) -> Response:
    states = await check_all(checks(gateway))
    healthy = all(state == "healthy" for state in states.values())
    body = {
        "status": "ok" if healthy else "degraded",
        "services": states,
        "uptime_ms": round((time.monotonic() - _STARTED) * 1000),
    }
    return Response(orjson.dumps(body), status_code=200 if healthy else 503, media_type="application/json")
