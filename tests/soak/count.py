"""What must be there at the end, counted in the stores: rows of files and records, and every invariant."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from bigdata_client import AsyncClient, BigDataError, Upload
from devstack.reconcile import ask, books_of_stack, drifts
from devstack.stack import Stack
from soak.load import Account
from support.invariants import broken_invariants
from support.offsets import chunks_given_up, committed_past_effect
from support.polling import until
from support.uploads import select

_SETTLED_S = 300.0
# What a file's own rows are when they fit: counted by e-mail address, of which there are no two.
_SHOWN = "SELECT count(), uniqExact(email) FROM bigdata.people FINAL WHERE upload_id IN {ids:Array(String)}"
_RECORDS = "SELECT count() FROM bigdata.people FINAL WHERE source IN {sources:Array(String)}"


@dataclass(frozen=True)
class Count:
    loaded: int
    rows_sent: int
    lost: int
    twice: int
    left_by_undo: int
    failed: Mapping[str, int]
    broken: Mapping[str, int]
    drifted: Mapping[str, int | str]


async def count(stack: Stack, account: Account) -> Count:
    """Waits for everything that was accepted."""
    uploads, failed = await _ended(stack, account)
    rows = await _rows(stack, account, uploads)
    undone = await _undone(stack, account)
    broken = await broken_invariants(stack, account.request_ids)
    if ahead := await committed_past_effect(stack):
        broken["I5 partitions committed past the last durable effect"] = len(ahead)
    if given_up := await chunks_given_up(stack):
        broken["I5 chunks committed and not loaded"] = len(given_up)
    return Count(
        loaded=len(uploads),
        rows_sent=sum(one.rows.total or 0 for one in uploads.values()),
        lost=rows.lost,
        twice=rows.twice,
        left_by_undo=undone,
        failed=failed,
        broken=broken,
        drifted=drifts(ask(books_of_stack(stack))),
    )


async def _ended(stack: Stack, account: Account) -> tuple[dict[str, Upload], Counter[str]]:
    ended: dict[str, Upload] = {}
    failed: Counter[str] = Counter()
    async with AsyncClient(stack.url("gateway"), stack.status().admin_key) as admin:
        for upload_id in account.files:
            try:
                ended[upload_id] = await admin.wait_for_upload(upload_id, deadline_s=_SETTLED_S)
            except (BigDataError, TimeoutError) as fault:
                failed[f"{type(fault).__name__}: {fault}"[:200].replace(upload_id, "…")] += 1
    return ended, failed


@dataclass(frozen=True)
class _Rows:
    """Of what was accepted: what is not shown, and what is shown more often than once."""

    lost: int
    twice: int


async def _rows(stack: Stack, account: Account, uploads: Mapping[str, Upload]) -> _Rows:
    sent = sum(account.records.values())

    async def records_shown() -> bool:
        return _records_shown(stack, account) >= sent

    with suppress(AssertionError):
        await until("every record to be shown", records_shown, deadline_s=_SETTLED_S, every_s=1)
    records = _records_shown(stack, account)
    never_ended = sum(fit for upload_id, fit in account.files.items() if upload_id not in uploads)
    expected = sum(account.files[upload_id] for upload_id in uploads)
    # Sent again after a 503, the first may have been loaded after all: the rows are those of the first.
    ids = {one.duplicate_of or upload_id for upload_id, one in uploads.items()}
    ((shown, different),) = ((int(count), int(emails)) for count, emails in select(stack, _SHOWN, {"ids": list(ids)}))
    return _Rows(
        lost=never_ended + max(0, expected - different) + max(0, sent - records),
        twice=max(0, records - sent) + shown - different,
    )


def _records_shown(stack: Stack, account: Account) -> int:
    sources = [f"run-{run}" for run in account.records]
    return int(select(stack, _RECORDS, {"sources": sources})[0][0])


async def _undone(stack: Stack, account: Account) -> int:
    """Rows that an undo left behind."""

    def left() -> int:
        return int(select(stack, _SHOWN, {"ids": list(account.undone)})[0][0])

    async def none() -> bool:
        return left() == 0

    try:
        await until("every undo to be done", none, deadline_s=_SETTLED_S, every_s=1)
    except AssertionError:
        return left()
    return 0
