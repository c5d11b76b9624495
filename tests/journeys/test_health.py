"""What operators ask every process, on a port of its own, and what clients may ask the gateway."""

import re

import httpx
import pytest

from devstack.metrics_page import metrics
from devstack.stack import Stack

PROCESSES = ("api-gateway", "credits", "ingest-worker", "audit-logger")


def _name(process: str) -> str:
    return "gateway" if process == "api-gateway" else process


@pytest.mark.parametrize("process", PROCESSES)
async def test_every_process_is_alive_ready_and_measured_on_a_port_of_its_own(stack: Stack, process: str) -> None:
    async with httpx.AsyncClient(base_url=stack.ops_url(_name(process)), timeout=30) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, set(ready.json().values())) == (200, {"healthy"})
        scrape = await http.get("/metrics")
    assert scrape.headers["content-type"].startswith("text/plain")
    types = dict(re.findall(r"^# TYPE (bigdata_\w+) (\w+)$", scrape.text, re.MULTILINE))
    wanted = {one.name: one.kind for one in metrics() if process in one.process.split(", ")}
    assert wanted
    assert {name: types.get(name) for name in wanted} == wanted


async def test_the_public_port_serves_probes_and_no_metrics(stack: Stack, admin: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as http:
        assert (await http.get("/healthz")).text == "ok\n"
        assert (await http.get("/readyz")).json() == {"postgres": "healthy"}
    assert (await admin.get("/metrics")).status_code == 404


async def test_health_names_every_service(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/v1/health")
    assert answer.status_code == 200
    document = answer.json()
    assert document.pop("uptime_ms") > 0
    healthy = dict.fromkeys(("clickhouse", "postgres", "redis", "kafka", "credits"), "healthy")
    assert document == {"status": "ok", "services": healthy}
