"""What each target begins with: good and broken inputs, made by seeded generators, and the words of its languages."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from fuzz.targets import NAMES
from support.audit_events import some_finished
from support.hostile_files import external, laughs, mutants
from support.written import FORMATS, as_xml

_DIRTY = (
    b'email,age\na@x.org,1\n"b@x.org,2\n',
    b'email;age\r\n"a@x.org";"1\r\n2"\r\nb@x.org;3;4\r\n',
    b"email\tage\ra@x.org\t1\r",
    b"email,source\na@x.org,a\x00b\n\xff\xfe,x\n",
    b'[{"email": "a@x.org"}, 5, {"age": 1e400}, {"age": [1]}]',
    b'{"email": "a@x.org"}\n{"email":\n{"note": {"a": [1, 2]}}\n',
    b'{"rows": [{"email": "a@x.org"}], "next": null}',
)
_BODIES: Sequence[Mapping[str, Any]] = (
    {
        "dataset": "people",
        "filters": {"country": "IN", "city": ["Delhi", "x"], "age": {"gte": 18, "ne": 5}, "phone": "+14155550100"},
        "range": {"record_ts": {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01"}},
        "fuzzy": {"city": {"query": "delli", "threshold": 0.5}},
        "select": ["email", "city"],
        "sort": ["city DESC", "age"],
        "limit": 10,
        "offset": 5,
        "count": "none",
        "max_credits": 5.5,
    },
    {
        "filters": {"marks": {"contains": 5}, "tags": {"is_null": True}, "size": "small", "active": False},
        "aggregate": {
            "group_by": ["country", "day(record_ts)", {"column": "born", "every": "year", "as": "y"}],
            "metrics": {"n": "count()", "s": "sum(age)", "q": "quantile(score, 0.95)", "u": "uniq(email)"},
        },
        "sort": "n DESC",
        "format": "csv",
    },
    {"dataset": "flights", "filters": {"carrier": {"prefix": "U", "nin": ["a"]}, "flight": [1, 2]}, "csv_raw": True},
)
_ROWS = 8
_MUTANTS = 40


def _rows(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)  # noqa: S311 - it repeats on purpose
    return [
        {
            "email": f"{chance.choice('abcü')}{number}@example.org",
            "age": chance.choice([None, number, 2**63]),
            "source": chance.choice(["x", 'say "hi"', "two\nlines", ""]),
            "record_ts": f"2026-01-{number + 1:02}T00:00:00Z",
        }
        for number in range(_ROWS)
    ]


def files(seed: int) -> Iterator[bytes]:
    whole = [data for name, write in FORMATS.items() if "parquet" not in name and (data := write(_rows(seed)))]
    hostile = [laughs(3).encode(), external("http://127.0.0.1:9", "entity"), as_xml(_rows(seed), "utf-16")]
    for number, data in enumerate((*whole, *hostile, *_DIRTY)):
        yield bytes([number % len(NAMES)]) + data
        yield bytes([0]) + data
    for number, data in enumerate(mutants(whole, _MUTANTS, seed)):
        yield bytes([number % len(NAMES)]) + data


def queries(seed: int) -> Iterator[bytes]:
    bodies = [orjson.dumps(body) for body in _BODIES]
    for number, body in enumerate((*bodies, *mutants(bodies, _MUTANTS, seed))):
        yield bytes([number * 29 % 256]) + body


def messages(seed: int) -> Iterator[bytes]:
    one = str(UUID(int=seed))
    upload = {"upload_id": one, "dataset": "people", "object_key": "uploads/a", "filename": "a.csv", "size": 1}
    credit = {"user_id": one, "entry_id": one, "hold_id": one, "amount_mc": 5, "posted_mc": 5, "available_mc": 5}
    bucket = {"bucket": {"name": "b"}, "object": {"key": "inbox%2Fpeople/a+b.csv"}}
    documents: list[Any] = [
        upload | {"sha256": "0" * 64, "received_at": "2026-11-21T12:00:00Z"},
        {"upload_id": one, "generation": 1, "chunk_no": 0},
        {"upload_id": one, "kind": "undo", "requested_by": one},
        {"upload_id": one, "kind": "replay", "dry_run": True},
        {"kind": "erase", "dataset": "people", "column": "email", "value": "a@x.org"},
        *(orjson.loads(event.encoded()) | {"details": {"a": [1]}} for event in some_finished(3, seed)),
        credit,
        credit | {"threshold_mc": 1},
        {"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": bucket}]},
        {"detail-type": "Object Created", "detail": bucket},
        _rows(seed)[0],
    ]
    values = [json.dumps(document).encode() for document in documents]
    for number, value in enumerate((*values, b"\n".join(values), *mutants(values, _MUTANTS, seed))):
        yield bytes([number % 256]) + value


SEEDS: Mapping[str, Callable[[int], Iterator[bytes]]] = {"files": files, "queries": queries, "messages": messages}
_OPERATORS = "eq ne in nin gt gte lt lte prefix contains is_null from to query threshold group_by metrics every as"
_COUNTS = "count() sum(age) avg(paid) min(born) max(city) uniq(phone) quantile(score, 0.5) week(record_ts)"
WORDS: Mapping[str, Sequence[str]] = {
    "files": ("email", "phone", "source_id", "record_ts", '""', "\r\n", "<?xml", "<!DOCTYPE", "xmlns=", "PK\x03\x04"),
    "queries": (
        *_OPERATORS.split(),
        *_COUNTS.split(" "),
        "filters",
        "aggregate",
        "\\u0000",
        "1e400",
        "NaN",
        "ingest_ts",
    ),
    "messages": ("event_id", "occurred_at", "schema_version", "duration_ms", "credits_used_mc", "kind", "Records"),
}
