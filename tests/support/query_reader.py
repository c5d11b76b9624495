"""Plans and runs queries as the gateway does, straight on a ClickHouse, without a gateway."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.clickhouse import open_clickhouse
from common.datasets import Dataset, Datasets
from common.ids import new_id
from devstack import clickhouse
from devstack.stack import Stack
from gateway.query_formats import completed
from gateway.query_plan import QueryPlan, Terms, plan_query
from gateway.query_request import QueryRequest
from gateway.settings import Settings
from gateway.warehouse import Page, Warehouse
from gateway.warehouse_http import open_warehouse_http
from support.gateway_parts import gateway_settings


class Reader:
    def __init__(self, datasets: Datasets, warehouse: Warehouse, terms: Terms | None = None) -> None:
        self.datasets = datasets
        self.warehouse = warehouse
        self.terms = terms or Terms(timeout_s=20)

    def plan(self, **body: Any) -> QueryPlan:
        body = {"dataset": "kinds", "sort": "code", "select": ["code"]} | body
        return plan_query(completed(QueryRequest.model_validate(body), ""), self.datasets, self.terms)

    async def page(self, **body: Any) -> Page:
        return await self.warehouse.fetch(self.plan(**body), new_id())

    async def rows(self, **body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = orjson.loads((await self.page(**body)).data)
        return found

    async def codes(self, **body: Any) -> str:
        return "".join(row["code"] for row in await self.rows(**body))

    async def streamed(self, **body: Any) -> bytes:
        result = await self.warehouse.open_result(self.plan(**body), new_id())
        try:
            return b"".join([piece async for piece in result.pieces()])
        finally:
            result.close()


def settings_as(servers: Stack, user: str) -> Settings:
    environment = clickhouse.environment(servers.site, user)
    return gateway_settings(servers.folder, **{name.lower(): environment[name] for name in environment})


def open_as(servers: Stack, user: str) -> AbstractAsyncContextManager[AsyncClient]:
    return open_clickhouse(settings_as(servers, user))


@asynccontextmanager
async def open_reader(servers: Stack, *datasets: Dataset) -> AsyncIterator[Reader]:
    async with open_warehouse_http(settings_as(servers, "gateway")) as http:
        declared = Datasets({dataset.name: dataset for dataset in datasets})
        yield Reader(declared, Warehouse(http, http, 20))
