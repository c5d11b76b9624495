"""What I1 to I3 share: files of invented people, loading one as a client does, and the same by ClickHouse alone."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import orjson
import pandas as pd
import psutil
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from pyarrow import parquet

from common.datasets import load_datasets
from common.identity import dedupe_key_sql
from devstack.stack import Stack
from ingest.settings import Settings

WORKER = "ingest-worker"
COUNTRIES = ("US", "Germany", "IN", "France")
_COLUMNS = (
    "email", "phone", "first_name", "last_name", "city", "country", "age", "source", "source_id", "record_ts",
)  # fmt: skip
_POLL_S = 0.05  # a poll is a request that is audited: many would take the machine from the load
_LOADED_S = 900
# The same rows by ClickHouse alone: its own parser, a view that normalises in SQL, the same two tables behind it.
_RAW = "CREATE TABLE bench_raw ({columns}) ENGINE = Null"
_NORMALISED = """
    CREATE MATERIALIZED VIEW bench_view TO people_history AS
    SELECT * EXCEPT (trimmed, digits, land), {key} AS dedupe_key FROM (
        SELECT if(match(trimmed, '^[^@ ]+@[^@ ]+[.][^@ ]+$'), trimmed, NULL) AS email,
               if(startsWith(r.phone, '+'), concat('+', digits), concat('+1', digits)) AS phone,
               replaceRegexpAll(trim(r.first_name), '\\\\s+', ' ') AS first_name,
               replaceRegexpAll(trim(r.last_name), '\\\\s+', ' ') AS last_name,
               replaceRegexpAll(trim(r.city), '\\\\s+', ' ') AS city,
               CAST(NULL AS Nullable(String)) AS state,
               upper(trim(r.country)) AS land, transform(land, ['GERMANY', 'FRANCE'], ['DE', 'FR'], land) AS country,
               toInt64OrNull(r.age) AS age, r.source AS source, r.source_id AS source_id,
               CAST(NULL AS Nullable(String)) AS customer_id,
               parseDateTime64BestEffortOrNull(r.record_ts, 6, 'UTC') AS record_ts,
               '' AS extra, toUInt128(toUnixTimestamp64Micro(assumeNotNull(record_ts))) AS version,
               'bench' AS upload_id, rowNumberInAllBlocks() AS row_no,
               lower(trim(r.email)) AS trimmed, replaceRegexpAll(r.phone, '[^0-9]', '') AS digits
          FROM bench_raw AS r)
"""
_COUNT = "SELECT count() FROM people FINAL WHERE startsWith(source_id, {tag:String})"


@dataclass(frozen=True)
class Person:
    """Row `number` of file `tag`: no two files have a person in common."""

    number: int
    tag: str

    def values(self) -> tuple[Any, ...]:
        number = self.number
        return (
            f"  User.{number}.{self.tag}@Example.COM",
            f"+1 (212) 5{number % 10}{number // 10 % 10}-{number % 10_000:04}",
            f"Zoë {number % 977}",
            f"Smith-{number % 499}",
            "New  York",
            COUNTRIES[number % 4],
            number % 97,
            "crm",
            f"{self.tag}-{number}",
            f"2026-01-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:00Z",
        )


def people(rows: int, tag: str) -> Iterator[tuple[Any, ...]]:
    return (Person(number, tag).values() for number in range(rows))


def as_csv(rows: int, tag: str) -> bytes:
    lines = [",".join(map(str, values)) for values in people(rows, tag)]
    return "\n".join([",".join(_COLUMNS), *lines, ""]).encode()


def as_lines(rows: int, tag: str) -> bytes:
    return b"".join(orjson.dumps(dict(zip(_COLUMNS, values, strict=True))) + b"\n" for values in people(rows, tag))


def as_xml(rows: int, tag: str) -> bytes:
    template = "<person>" + "".join(f"<{name}>{{}}</{name}>" for name in _COLUMNS) + "</person>"
    return "\n".join(["<people>", *(template.format(*values) for values in people(rows, tag)), "</people>"]).encode()


def as_parquet(rows: int, tag: str) -> bytes:
    columns = zip(*people(rows, tag), strict=True)
    sink = pa.BufferOutputStream()
    table = pa.table(dict(zip(_COLUMNS, map(pa.array, map(list, columns)), strict=True)))
    parquet.write_table(table, sink, row_group_size=100_000)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def as_csv_gzip(rows: int, tag: str) -> bytes:
    return gzip.compress(as_csv(rows, tag), 6)


FORMATS: Mapping[str, Callable[[int, str], bytes]] = {
    "people.csv": as_csv,
    "people.jsonl": as_lines,
    "people.parquet": as_parquet,
    "people.xml": as_xml,
    "people.csv.gz": as_csv_gzip,
}


def admin_of(stack: Stack) -> Client:
    settings = Settings.model_validate({name.lower(): value for name, value in stack.environment(WORKER).items()})
    return clickhouse_connect.get_client(
        host=settings.clickhouse_host,
        port=settings.clickhouse_port,
        username=settings.clickhouse_user,
        password=settings.clickhouse_password.get_secret_value(),
        database=settings.clickhouse_database,
    )


class ByClickHouse:
    """The baseline: the CSV straight to ClickHouse, which parses and normalises it."""

    def __init__(self, stack: Stack) -> None:
        self._client = admin_of(stack)
        dataset = load_datasets(Path("configs/datasets"))["people"]
        self._client.command("DROP VIEW IF EXISTS bench_view")
        self._client.command("DROP TABLE IF EXISTS bench_raw")
        self._client.command(_RAW.format(columns=", ".join(f"{name} String" for name in _COLUMNS)))
        self._client.command(_NORMALISED.format(key=dedupe_key_sql(dataset, "sipHash128(email)")))

    def load(self, data: bytes, rows: int, tag: str) -> float:
        """Seconds. The rows are counted, for a baseline that lost some would look fast."""
        begin = time.perf_counter()
        self._client.raw_insert("bench_raw", insert_block=data, fmt="CSVWithNames")
        return self._counted(time.perf_counter() - begin, rows, tag)

    def load_xml_by_pandas(self, data: bytes, rows: int, tag: str) -> float:
        """Seconds, to read the XML into a data frame and to insert that."""
        begin = time.perf_counter()
        frame = pd.read_xml(BytesIO(data), parser="lxml")
        # As text, which is what the normalisation takes.
        self._client.insert_df("bench_raw", frame.astype(str))
        return self._counted(time.perf_counter() - begin, rows, tag)

    def _counted(self, taken: float, rows: int, tag: str) -> float:
        found = self._client.query(_COUNT, parameters={"tag": f"{tag}-"}).result_rows
        assert found == [(rows,)], found
        return taken


@dataclass(frozen=True)
class Loaded:
    seconds: float
    rss_mib: float  # the most of one worker, with the child that reads for it


async def load(stack: Stack, data: bytes, filename: str, rows: int, workers: tuple[str, ...] = (WORKER,)) -> Loaded:
    """From the 202 to all rows visible, through the gateway."""
    status = stack.status()
    async with httpx.AsyncClient(base_url=stack.url(), headers={"x-api-key": status.admin_key}, timeout=120) as http:
        params = {"dataset": "people", "filename": filename}
        sent = await http.post("/v1/uploads", params=params, content=data)
        assert sent.status_code == 202, sent.text
        begin, rss = time.perf_counter(), 0.0
        while time.perf_counter() - begin < _LOADED_S:
            found = (await http.get(f"/v1/uploads/{sent.json()['upload_id']}")).json()
            rss = max(rss, *(_rss_mib(stack, worker) for worker in workers))
            if found["finished_at"]:
                assert found["rows"]["accepted"] == rows, found
                return Loaded(time.perf_counter() - begin, rss)
            await asyncio.sleep(_POLL_S)
    raise TimeoutError(f"{filename} was not loaded in {_LOADED_S} s")


def _rss_mib(stack: Stack, worker: str) -> float:
    try:
        process = psutil.Process(stack.status().to_json()["processes"][worker]["pid"])
        parts = [process, *process.children(recursive=True)]
        return sum(part.memory_info().rss for part in parts) / (1 << 20)
    except psutil.NoSuchProcess:  # a child that ended meanwhile
        return 0.0
