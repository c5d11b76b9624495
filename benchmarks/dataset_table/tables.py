"""The SQL: invented people, the tables that are compared, and how each is read."""

# Every name and value in it is a literal of this file.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.datasets import Column, load_datasets
from common.identity import dedupe_key_sql, identity_key_sql

PEOPLE = load_datasets(Path(__file__).parents[2] / "configs" / "datasets")["people"]
UPLOADS = 10
PAGE = 100
_TOKENS_MAX = 10_000
_NEWEST_FIRST = "ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key"
_NAMES = ", ".join(PEOPLE.columns)
# What a row is, whoever stored it; ingest_ts is the time of the insert and differs by nature.
ROW = f"{_NAMES}, extra, version, upload_id, row_no"
SHOWN = "email, phone, first_name, city, country, age, record_ts"


def upload_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


def _type(column: Column) -> str:
    if column.type == "country":
        return "LowCardinality(Nullable(String))"
    return {"integer": "Nullable(Int64)", "timestamp": "Nullable(DateTime64(6, 'UTC'))"}.get(
        column.type, "Nullable(String)"
    )


_COLUMNS = f"""
    {", ".join(f"{name} {_type(column)}" for name, column in PEOPLE.columns.items())},
    extra String,
    dedupe_key FixedString(16) DEFAULT {dedupe_key_sql(PEOPLE, f"sipHash128('people', '', tuple({_NAMES}))")},
    version UInt128,
    ingest_ts DateTime64(6, 'UTC') DEFAULT now64(6),
    upload_id UUID,
    row_no UInt64"""
# Every column of an identity; rows are in order of a hash, so nothing else finds them without reading all.
_FINDABLE = ", ".join(
    f"INDEX find_{name} {name} TYPE bloom_filter(0.01) GRANULARITY 1"
    for name in ("email", "phone", "customer_id", "source_id")
)
# The window holds more inserts than can come between an insert and its last retry.
_EVERY = f"""
    CREATE TABLE {{}} ({_COLUMNS}, {_FINDABLE}) ENGINE = MergeTree ORDER BY (dedupe_key, version)
    SETTINGS non_replicated_deduplication_window = {_TOKENS_MAX}"""
_CURRENT = f"""
    CREATE TABLE {{}} ({_COLUMNS}{{}}) ENGINE = ReplacingMergeTree(version) ORDER BY dedupe_key
    SETTINGS non_replicated_deduplication_window = {_TOKENS_MAX}"""
TABLES = {
    "every": [_EVERY.format("every")],
    "twice": [_EVERY.format("twice_history"), _CURRENT.format("twice", f", {_FINDABLE}")],
    "people": [
        _EVERY.format("people_history"),
        _CURRENT.format("people", ""),
        "CREATE MATERIALIZED VIEW people_fill TO people AS SELECT * FROM people_history",
    ],
}
ARRIVALS = f"CREATE TABLE arrivals ({_COLUMNS}) ENGINE = MergeTree ORDER BY row_no"
TRUTH = f"CREATE TABLE {{}} ({_COLUMNS}) ENGINE = MergeTree ORDER BY dedupe_key"

# One row in ten is about a person who was there before, in any order of time; a third of those have a new phone.
# `kind` decides which identities a person has; 1 % have none.
_INVENTED = """
    WITH number AS n, cityHash64(n) AS h, if(h % 10 = 0 AND n > 0, cityHash64(n, 1) % n, n) AS person,
         cityHash64(person, 2) % 100 AS kind, cityHash64(n, 3) AS h3, cityHash64(n, 4) AS h4,
         intDiv(n * {uploads}, {rows}) AS upload
    SELECT
        if(kind < 90, concat('user', toString(person), '@example.com'), NULL) AS email,
        if(kind < 96, concat('+1', toString(2000000000 + if(n != person AND h3 % 3 = 0, n, person))), NULL) AS phone,
        concat(['Ma','Pra','Jo','An','Sö','We','Ol','Li','Ka','Be','To','Fe','Gu','Ha','Iv','Ju','Ne','Pe','Ra','Su']
                   [h3 % 20 + 1],
               ['thik','thap','ria','hn','na','ren','i','ga','sa','rin','tta','ter','mas','lix','nnes','an','lia',
                'lson','dro','chel','zan','mir','ko','ja','lo'][intDiv(h3, 20) % 25 + 1]) AS first_name,
        concat('Last', toString(h4 % 5000)) AS last_name,
        concat('City', toString(cityHash64(n, 5) % 500)) AS city,
        concat('State', toString(h4 % 50)) AS state,
        ['IN','US','DE','FR','GB','BR','JP','PT','ES','IT','NL','SE','NO','DK','FI','PL','CZ','AT','CH','AU']
            [cityHash64(n, 6) % 20 + 1] AS country,
        toInt64(18 + cityHash64(n, 7) % 70) AS age,
        ['crm','web','shop'][person % 3 + 1] AS source,
        if(kind IN (97, 98), concat('S', toString(person)), NULL) AS source_id,
        if(kind IN (96, 97), concat('C', toString(person)), NULL) AS customer_id,
        if(h4 % 20 = 0, NULL, toDateTime64('2024-01-01 00:00:00', 6, 'UTC')
                              + toIntervalHour(cityHash64(n, 8) % 17520)) AS record_ts,
        '{{}}' AS extra,
        bitShiftLeft(toUInt128(toUnixTimestamp64Micro(ifNull(record_ts,
            toDateTime64('2026-01-01 00:00:00', 6, 'UTC') + toIntervalHour(upload))) + 2208988800000000), 74)
            + bitShiftLeft(toUInt128(upload + 1), 42) + n AS version,
        toUUID(concat('00000000-0000-7000-8000-', leftPad(toString(upload), 12, '0'))) AS upload_id,
        n AS row_no
    FROM numbers({rows})"""


def invented(rows: int) -> str:
    return f"INSERT INTO arrivals ({ROW}) {_INVENTED.format(rows=rows, uploads=UPLOADS)}"


@dataclass(frozen=True)
class Shapes:
    """How one candidate is read. `newest` and `of_keys` are relations with one row per identity."""

    name: str
    newest: str
    of_keys: Callable[[str], str]
    any_version: str  # where the keys of rows with a value are found
    finds_keys_first: bool  # other identities in two steps
    filters_keys_first: bool  # every filter in two steps

    def other_identity(self, condition: str) -> str:
        return self._two_steps(condition) if self.finds_keys_first else self.newest

    def filtered(self, condition: str) -> str:
        return self._two_steps(condition) if self.filters_keys_first else self.newest

    def _two_steps(self, condition: str) -> str:
        return self.of_keys(f"dedupe_key IN (SELECT dedupe_key FROM {self.any_version} WHERE {condition})")


def _newest_of(table: str, condition: str) -> str:
    return f"(SELECT * FROM {table} WHERE {condition} {_NEWEST_FIRST})"


def every_version(table: str, seen: str = "1", name: str = "A") -> Shapes:
    """`seen` limits the versions that count: without an upload, or up to a time."""
    return Shapes(
        name,
        _newest_of(table, seen),
        lambda keys: _newest_of(table, f"{keys} AND {seen}"),
        table,
        finds_keys_first=True,
        filters_keys_first=True,
    )


def always_final(table: str) -> Shapes:
    return Shapes(
        "B",
        f"{table} FINAL",
        lambda keys: f"(SELECT * FROM {table} FINAL WHERE {keys})",
        table,
        finds_keys_first=False,
        filters_keys_first=False,
    )


def current_and_history(table: str) -> Shapes:
    """Scans by FINAL; keys by the history's indexes, their rows by LIMIT 1 BY."""
    return Shapes(
        "C",
        f"{table} FINAL",
        lambda keys: _newest_of(table, keys),
        f"{table}_history",
        finds_keys_first=True,
        filters_keys_first=False,
    )


def plain(table: str) -> Shapes:
    """The truth has one row per identity already."""
    return Shapes(
        "truth",
        table,
        lambda keys: f"(SELECT * FROM {table} WHERE {keys})",
        table,
        finds_keys_first=False,
        filters_keys_first=False,
    )


def _first_identity(shapes: Shapes, n: int) -> str:
    email = f"'user{n}@example.com'"
    key = f"dedupe_key = {identity_key_sql(PEOPLE, ['email'], {'email': email})}"
    return f"SELECT {SHOWN} FROM {shapes.of_keys(key)} WHERE email = {email}"


def _other(condition: str) -> Callable[[Shapes, int], str]:
    def sql(shapes: Shapes, n: int) -> str:
        where = condition.format(n=n, phone=2_000_000_000 + n, source=["crm", "web", "shop"][n % 3])
        return f"SELECT {SHOWN} FROM {shapes.other_identity(where)} WHERE {where} ORDER BY dedupe_key"

    return sql


def _text(n: int) -> str:
    needle = ("PRATH", "sörin", "kadro", "fezan", "olmir", "rachel", "ivko", "gulson")[n % 8]
    return f"positionCaseInsensitiveUTF8(first_name, '{needle}') > 0"


def _text_page(shapes: Shapes, n: int) -> str:
    where = _text(n)
    return f"SELECT {SHOWN} FROM {shapes.filtered(where)} WHERE {where} ORDER BY dedupe_key LIMIT {PAGE}"


def _text_count(shapes: Shapes, n: int) -> str:
    return f"SELECT count() FROM {shapes.newest} WHERE {_text(n)}"


def _range_page(shapes: Shapes, n: int) -> str:
    start = f"toDateTime64('2024-01-01 00:00:00', 6, 'UTC') + toIntervalDay({n % 600})"
    where = f"record_ts BETWEEN {start} AND {start} + toIntervalDay(30)"
    order = f"ORDER BY record_ts DESC, dedupe_key LIMIT {PAGE}"
    return f"SELECT {SHOWN} FROM {shapes.filtered(where)} WHERE {where} {order}"


def _group(shapes: Shapes, _: int) -> str:
    return f"SELECT country, count(), uniqExact(city) FROM {shapes.newest} GROUP BY country ORDER BY country"


def _count(shapes: Shapes, _: int) -> str:
    return f"SELECT count() FROM {shapes.newest}"


def _after(n: int) -> str:
    return f"dedupe_key > toFixedString(unhex('{n % 250:02x}'), 16)"


def _next_page(shapes: Shapes, n: int) -> str:
    return f"SELECT {SHOWN} FROM {shapes.newest} WHERE {_after(n)} ORDER BY dedupe_key LIMIT {PAGE}"


QUERIES: dict[str, Callable[[Shapes, int], str]] = {
    "first identity (email)": _first_identity,
    "second identity (phone)": _other("phone = '+1{phone}'"),
    "third identity (customer_id)": _other("customer_id = 'C{n}'"),
    "fourth identity (source, source_id)": _other("source = '{source}' AND source_id = 'S{n}'"),
    "text page": _text_page,
    "text count": _text_count,
    "range page, sorted": _range_page,
    "group by": _group,
    "count of everything": _count,
    "next page, key order": _next_page,
}
POINT_LOOKUPS = 4  # the first of QUERIES: many runs are cheap
OF_FEW = ("third identity (customer_id)", "fourth identity (source, source_id)")  # only kind 97 has both


def as_of_page(history: str, seen: str, n: int) -> str:
    """The page after a cursor as it was at a time, in key order and without filters: the keys, then their versions.

    The inner LIMIT is what stops the reading early: DISTINCT alone reads on to the last key. Where keys have more
    than two versions each, the page is short although it is not the last.
    """
    versions = f"SELECT dedupe_key FROM {history} WHERE {_after(n)} AND {seen} ORDER BY dedupe_key LIMIT {2 * PAGE}"
    keys = f"SELECT DISTINCT dedupe_key FROM ({versions}) ORDER BY dedupe_key LIMIT {PAGE}"
    newest = _newest_of(history, f"dedupe_key IN ({keys}) AND {seen}")
    return f"SELECT {SHOWN} FROM {newest} ORDER BY dedupe_key"


def restore(current: str, history: str, excluded: str) -> str:
    """The newest version that is left of every identity an excluded upload had touched.

    Never deduplicated: undone for the second time, an upload makes the same block as before.
    """
    touched = f"dedupe_key IN (SELECT dedupe_key FROM {history} WHERE upload_id IN ({excluded}))"
    left = _newest_of(history, f"{touched} AND upload_id NOT IN ({excluded})")
    into = f"{current} (dedupe_key, ingest_ts, {ROW}) SETTINGS insert_deduplicate = 0"
    return f"INSERT INTO {into} SELECT dedupe_key, ingest_ts, {ROW} FROM {left}"
