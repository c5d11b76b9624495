"""The async client. `client.py` has the same methods for programs that do not await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

from bigdata_client import account, admin, datasets, queries, uploads, wire
from bigdata_client.account import Balance, DayOfUsage, Entry, Key, Me, NewKey
from bigdata_client.admin import CreatedUser, Granted, LedgerEntry, LogEntry, Stats, User, UserInFull
from bigdata_client.async_http import AsyncHttp
from bigdata_client.call import Page
from bigdata_client.datasets import Dataset
from bigdata_client.errors import ApiError, BrokenAnswer, Unreachable
from bigdata_client.event_stream import EventLines
from bigdata_client.queries import QueryFields, QueryResult, Quote, Receipt, Streamed
from bigdata_client.uploads import OnProgress, Outgoing, RejectFormat, Replay, Source, Upload

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Ask: TypeAlias = Mapping[str, Any] | str | None
StreamFormat = Literal["ndjson", "csv", "parquet", "arrow"]


class AsyncClient(AsyncHttp):
    """One key, one gateway, a pool of connections. Use it as an async context manager, or `aclose` it.

    Every query carries an Idempotency-Key of its own, so that a retry never pays twice; what is safe to repeat is
    repeated, as often as `retries` allows and no sooner than Retry-After asks for.
    """

    # Queries

    async def query(
        self,
        ask: Ask = None,
        *,
        idempotency_key: str | None = None,
        wait_for_upload: str | None = None,
        **fields: Unpack[QueryFields],
    ) -> QueryResult:
        """A page of rows: `query("people", filters={"country": "IN"})`, or with a whole body of POST /v1/query.

        Raises InsufficientCredits, InvalidRequest with its `faults`, QueryTooExpensive, QueryTimeout, …
        """
        return await self._send(queries.run(queries.body_of(ask, fields), idempotency_key, wait_for_upload))

    async def pages(self, ask: Ask = None, **fields: Unpack[QueryFields]) -> AsyncIterator[QueryResult]:
        """Every page, following cursors. Each page costs what a query costs; stop when you have enough."""
        body = queries.body_of(ask, fields)
        while True:
            found = await self.query(body)
            yield found
            if not found.metadata.next_cursor:
                return
            body = queries.following(body, found.metadata.next_cursor)

    async def query_arrow(self, ask: Ask = None, **fields: Unpack[QueryFields]) -> pa.Table:
        """Up to a million rows as an Arrow table. `table.schema.metadata[b"query_id"]` leads to the receipt."""
        call = queries.stream(queries.body_of(ask, fields), "arrow", None, None)
        async with self._stream(call) as answer:
            return wire.arrow_table(await answer.aread(), answer)

    async def query_df(self, ask: Ask = None, **fields: Unpack[QueryFields]) -> pd.DataFrame:
        """The same as a pandas DataFrame; `frame.attrs["query_id"]` leads to the receipt."""
        frame: pd.DataFrame = wire.data_frame(await self.query_arrow(ask, **fields))
        return frame

    async def query_to_file(
        self,
        path: Path | str,
        ask: Ask = None,
        *,
        format: StreamFormat = "parquet",  # noqa: A002 - the field's name
        wait_for_upload: str | None = None,
        **fields: Unpack[QueryFields],
    ) -> Streamed:
        """Stream rows into a file, in constant memory. The file appears when it is whole. Raises BrokenAnswer."""
        with wire.written_whole(Path(path)) as file:
            return await self.query_to(file, ask, format=format, wait_for_upload=wait_for_upload, **fields)

    async def query_to(
        self,
        file: IO[bytes],
        ask: Ask = None,
        *,
        format: StreamFormat = "ndjson",  # noqa: A002
        wait_for_upload: str | None = None,
        **fields: Unpack[QueryFields],
    ) -> Streamed:
        """Stream rows into an open file. After a BrokenAnswer what was written is not a whole answer."""
        call = queries.stream(queries.body_of(ask, fields), format, None, wait_for_upload)
        written = 0
        async with self._stream(call) as answer:
            async for piece in answer.aiter_bytes():
                file.write(piece)
                written += len(piece)
            return queries.streamed(answer, written)

    async def quote(self, ask: Ask = None, **fields: Unpack[QueryFields]) -> Quote:
        """What a query would cost. Its `quote_id`, put into the query, caps the price."""
        return await self._send(queries.quote(queries.body_of(ask, fields)))

    async def receipt(self, query_id: str) -> Receipt:
        """What a query cost and why, for 30 days. It follows its answer within a second."""
        return await self._send(queries.receipt(query_id))

    async def datasets(self) -> tuple[Dataset, ...]:
        return await self._send(datasets.datasets())

    async def dataset(self, name: str) -> Dataset:
        return await self._send(datasets.dataset(name))

    # Account

    async def me(self) -> Me:
        return await self._send(account.me())

    async def credits(self) -> Balance:
        return await self._send(account.credits())

    async def statement(self, *, limit: int = 100, cursor: str | None = None) -> Page[Entry]:
        return await self._send(account.statement(limit, cursor))

    async def usage(self, *, days: int = 30) -> tuple[DayOfUsage, ...]:
        return await self._send(account.usage(days))

    async def stats(self) -> dict[str, Any]:
        return await self._send(account.stats())

    async def keys(self) -> tuple[Key, ...]:
        return await self._send(account.keys())

    async def create_key(
        self, name: str, *, scopes: Sequence[str] | None = None, expires_at: datetime | None = None
    ) -> NewKey:
        """Its `api_key` is shown this once."""
        return await self._send(account.create_key(name, scopes, expires_at))

    async def rotate_key(self, key_id: str, *, grace_s: int = 0) -> NewKey:
        """A new secret; the old one works for `grace_s` more seconds."""
        return await self._send(account.rotate_key(key_id, grace_s))

    async def revoke_key(self, key_id: str) -> None:
        await self._send(account.revoke_key(key_id))

    # Uploads

    async def upload(
        self,
        source: Source,
        dataset: str,
        *,
        filename: str | None = None,
        format: str | None = None,  # noqa: A002
        replaces: str | None = None,
        wait: bool = False,
        deadline_s: float = 600,
        on_progress: OnProgress = lambda _: None,
    ) -> Upload:
        """Send a file of any size: a path, bytes, or an open file. It answers when the file is durable, or with
        `wait`, when it is loaded. `on_progress` is told of bytes sent (state `sending`), then of the load.

        Raises UploadFailed when it was to wait and the load failed, TimeoutError past the deadline.
        """
        file = uploads.outgoing(source, filename)
        call = uploads.send(file, dataset, format, replaces)
        accepted = await self._send(call, lambda: _pieces(file, dataset, on_progress))
        if not wait:
            return accepted
        return await self.wait_for_upload(accepted.upload_id, deadline_s=deadline_s, on_progress=on_progress)

    async def upload_status(self, upload_id: str) -> Upload:
        return await self._send(uploads.status(upload_id))

    async def uploads(self, *, limit: int = 100, cursor: str | None = None) -> Page[Upload]:
        return await self._send(uploads.uploads(limit, cursor))

    async def wait_for_upload(
        self, upload_id: str, *, deadline_s: float = 600, on_progress: OnProgress = lambda _: None
    ) -> Upload:
        """Wait until an upload has ended. Raises UploadFailed with its reason, TimeoutError past the deadline."""
        upload = None
        async for upload in self.watch_upload(upload_id, deadline_s=deadline_s):
            on_progress(upload)
        return uploads.ended(upload_id, upload, deadline_s)

    async def watch_upload(self, upload_id: str, *, deadline_s: float = 600) -> AsyncIterator[Upload]:
        """Its status whenever it changed, the final one last: pushed by the gateway where it can, else looked up."""
        until = time.monotonic() + deadline_s
        try:
            async for document in self._events(uploads.events(upload_id), until):
                upload = uploads.of_event(document)
                yield upload
                if upload.finished:
                    return
        except (ApiError, Unreachable, BrokenAnswer):
            pass  # looking says the same, and raises when nothing answers
        wait_s = wire.LOOK_FIRST_S
        while True:
            upload = await self.upload_status(upload_id)
            yield upload
            if upload.finished or time.monotonic() + wait_s > until:
                return
            await self._sleep(wait_s)
            wait_s = min(wire.LOOK_MAX_S, wait_s * 2)

    async def rejects(self, upload_id: str, *, format: RejectFormat = "ndjson") -> str:  # noqa: A002
        """The rows that were not loaded: line, column, reason and the row as it came."""
        return await self._send(uploads.rejects(upload_id, format))

    async def replay(self, upload_id: str, *, dry_run: bool = False, deadline_s: float = 600) -> Replay:
        """Load rejected rows again by the declaration of today; a dry run says how many would pass.

        Raises TimeoutError past the deadline: it is done nevertheless, later.
        """
        found = await self._send(uploads.replay(upload_id, dry_run=dry_run))
        until = time.monotonic() + deadline_s
        while not found.finished:
            uploads.require_time(until, f"the replay of upload {upload_id}")
            await self._sleep(wire.LOOK_MAX_S)
            found = await self._send(uploads.replay_status(upload_id, found.replay_id))
        return found

    async def undo_upload(self, upload_id: str, *, wait: bool = False, deadline_s: float = 600) -> Upload:
        """Leave the dataset as if this upload had never been loaded; answers when that is certain, or done.

        Raises TimeoutError past the deadline: it is done nevertheless, later.
        """
        found = await self._send(uploads.undo(upload_id))
        until = time.monotonic() + deadline_s
        while wait and found.state != "undone":
            uploads.require_time(until, f"the undo of upload {upload_id}")
            await self._sleep(wire.LOOK_MAX_S)
            found = await self.upload_status(upload_id)
        return found

    # Admin

    async def create_user(
        self,
        username: str,
        *,
        role: str = "user",
        credits: float = 100,  # noqa: A002 - the field's name
        plan: str = "standard",
    ) -> CreatedUser:
        """Its `api_key` is shown this once."""
        return await self._send(admin.create_user(username, role, credits, plan))

    async def add_credits(
        self,
        user_id: str,
        credits: float,  # noqa: A002
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Granted:
        return await self._send(admin.add_credits(user_id, credits, reason, idempotency_key))

    async def set_credits(
        self,
        user_id: str,
        credits: float,  # noqa: A002
        *,
        reason: str = "set by an admin",
        idempotency_key: str | None = None,
    ) -> Granted:
        """Set the balance; the ledger gets the difference as an adjustment."""
        return await self._send(admin.set_credits(user_id, credits, reason, idempotency_key))

    async def users(self, *, limit: int = 100, cursor: str | None = None, **wanted: str) -> Page[User]:
        """`wanted`: search, role, status, sort."""
        return await self._send(admin.users(limit, cursor, wanted))

    async def user(self, user_id: str) -> UserInFull:
        return await self._send(admin.user(user_id))

    async def user_statement(self, user_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[Entry]:
        return await self._send(admin.user_statement(user_id, limit, cursor))

    async def ledger(self, *, limit: int = 100, cursor: str | None = None, **wanted: str) -> Page[LedgerEntry]:
        """The statement of all accounts, newest first. `wanted`: user_id, kind, from, to."""
        return await self._send(admin.ledger(limit, cursor, wanted))

    async def user_usage(self, user_id: str, *, days: int = 30) -> tuple[DayOfUsage, ...]:
        return await self._send(admin.user_usage(user_id, days))

    async def regenerate_key(self, user_id: str, *, grace_s: int = 0) -> NewKey:
        """A new key for a user; the old ones end at once, or after `grace_s`."""
        return await self._send(admin.regenerate_key(user_id, grace_s))

    async def change_role(self, user_id: str, role: str) -> Any:
        return await self._send(admin.change_role(user_id, role))

    async def set_status(self, user_id: str, status: Literal["active", "disabled"]) -> Any:
        return await self._send(admin.set_status(user_id, status))

    async def logs(self, *, limit: int = 100, cursor: str | None = None, **wanted: Any) -> Page[LogEntry]:
        """The log of requests, newest first. `wanted`: user_id, endpoint, method, status, dataset, action."""
        return await self._send(admin.logs(limit, cursor, wanted))

    async def tail_logs(self, **wanted: Any) -> AsyncIterator[dict[str, Any]]:
        """Requests as they get into the log, until you stop asking. A stream that ends is taken up where it was."""
        lines = EventLines()
        while True:
            with suppress(BrokenAnswer):
                async for document in self._events(admin.tail(wanted, lines.last_id), lines=lines):
                    yield document
            await self._sleep(wire.RECONNECT_S)

    async def admin_stats(self) -> Stats:
        return await self._send(admin.stats())

    async def admin_uploads(self, *, limit: int = 100, cursor: str | None = None) -> Page[Upload]:
        return await self._send(admin.all_uploads(limit, cursor))


async def _pieces(file: Outgoing, dataset: str, on_progress: OnProgress) -> AsyncIterator[bytes]:
    with uploads.opened(file) as source:
        sent = 0
        while piece := await asyncio.to_thread(source.read, wire.PIECE_BYTES):
            yield piece
            sent += len(piece)
            on_progress(uploads.sending(file, dataset, sent))
