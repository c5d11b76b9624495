"""ClickHouse over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.settings import ClickHouseSettings


@asynccontextmanager
async def open_clickhouse(settings: ClickHouseSettings) -> AsyncIterator[AsyncClient]:
    """A client that many requests share: without a session, since sessions refuse concurrent calls.

    clickhouse-connect sends an INSERT again when the connection breaks after the body: never insert without an
    insert_deduplication_token.
    """
    client = await create_async_client(
        host=settings.clickhouse_host,
        port=settings.clickhouse_port,
        username=settings.clickhouse_user,
        password=settings.clickhouse_password.get_secret_value(),
        database=settings.clickhouse_database,
        secure=settings.clickhouse_secure,
        autogenerate_session_id=False,
        connector_limit=settings.clickhouse_connections_max,
        connector_limit_per_host=settings.clickhouse_connections_max,
        connect_timeout=5,
        send_receive_timeout=settings.clickhouse_timeout_s,
        # Values travel in the body: addresses are what logs keep, and a value may be a person's.
        form_encode_query_params=True,
    )
    try:
        yield client
    finally:
        await client.close()
