import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from fastapi import Request
from obstore.store import ObjectStore
from redis.asyncio import Redis

from common.bucket import open_bucket
from common.clock import Clock, SystemClock
from common.datasets import Datasets, load_datasets
from common.kafka import open_producer
from common.lifecycle import in_background
from common.postgres import Pool, open_postgres
from common.redis import open_redis
from gateway.api_keys import ApiKeys, open_api_keys
from gateway.credits_client import CreditsClient, open_credits
from gateway.key_notices import KeyNotices, listen_again
from gateway.query_pages import Pages
from gateway.query_scans import Scans
from gateway.query_seals import Seals
from gateway.query_versions import Versions, open_versions
from gateway.rate_limit import RateLimit
from gateway.record_counts import RecordCounts
from gateway.result_cache import ResultCache
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.spool_sender import open_spool
from gateway.users import ensure_first_admin, open_account_of
from gateway.warehouse import Warehouse, open_warehouse


@dataclass(frozen=True)
class Gateway:
    """What one gateway process owns; `request.app.state.gateway`."""

    settings: Settings
    datasets: Datasets
    postgres: Pool
    redis: Redis
    warehouse: Warehouse
    credits: CreditsClient
    spool: Spool
    producer: AIOKafkaProducer
    bucket: ObjectStore
    api_keys: ApiKeys
    key_notices: KeyNotices
    rate_limit: RateLimit
    versions: Versions
    pages: Pages
    scans: Scans
    seals: Seals
    clock: Clock
    record_counts: RecordCounts
    stopping: asyncio.Event  # set when no more requests are taken: what goes on for long ends by itself


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything but the port: whoever serves enters that last, so that it stops first."""
    async with AsyncExitStack() as closing:
        clock = SystemClock()
        datasets = load_datasets(settings.datasets_folder)
        postgres = await closing.enter_async_context(open_postgres(settings))
        redis = await closing.enter_async_context(open_redis(settings))
        warehouse = await closing.enter_async_context(open_warehouse(settings))
        producer = await closing.enter_async_context(open_producer(settings, required=False))
        credits_client = await closing.enter_async_context(open_credits(settings))
        # After what it sends to: closing it drains it.
        spool = await closing.enter_async_context(open_spool(settings, credits_client, producer, clock))
        admin_id = await ensure_first_admin(postgres, settings)
        if admin_id is not None:
            await closing.enter_async_context(in_background(open_account_of(admin_id, credits_client)))
        api_keys = await closing.enter_async_context(open_api_keys(postgres, settings, clock))
        key_notices = KeyNotices(redis, api_keys)
        await closing.enter_async_context(in_background(listen_again(key_notices)))
        scans = Scans(settings.user_scans_max, settings.scan_wait_s)
        yield Gateway(
            settings=settings,
            datasets=datasets,
            postgres=postgres,
            redis=redis,
            warehouse=warehouse,
            credits=credits_client,
            spool=spool,
            producer=producer,
            bucket=open_bucket(settings),
            api_keys=api_keys,
            key_notices=key_notices,
            rate_limit=RateLimit(redis, settings, clock),
            versions=await closing.enter_async_context(open_versions(postgres, settings, clock)),
            pages=Pages(warehouse, ResultCache(redis, clock), scans),
            scans=scans,
            seals=Seals(settings.sealing_keys),
            clock=clock,
            record_counts=RecordCounts(warehouse, datasets, clock),
            stopping=asyncio.Event(),
        )
