"""The manifest on a real Postgres, asked by many at once."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import pytest_asyncio

from common.events import UploadReceived
from common.ids import new_id
from common.migrations import migrate
from common.postgres import open_postgres
from devstack.stack import Stack
from ingest.formats.layout import Layout
from ingest.formats.records import Place
from ingest.manifest import Counts, Manifest, PlannedChunk, Upload
from ingest.settings import Settings
from support.uploads import manifest as look

LAYOUT = Layout(format="csv", delimiter=",", quote='"', header=("email",), offset=6, line=2)


@pytest_asyncio.fixture
async def manifest(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manifest]:
    for name, value in servers.environment("ingest-worker").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    await migrate(settings, "ingest", "ingest")
    async with open_postgres(settings) as pool:
        yield Manifest(pool)


def received(content: str | None = None) -> UploadReceived:
    upload_id = new_id()
    return UploadReceived(
        upload_id=upload_id,
        dataset="people",
        object_key=f"uploads/{upload_id}/object",
        filename="a.csv",
        size=100,
        sha256=hashlib.sha256((content or str(upload_id)).encode()).hexdigest(),
        received_at=datetime.now(UTC),
    )


async def planned(manifest: Manifest, chunks: int) -> Upload:
    upload = await manifest.claim(received())
    cuts = [
        PlannedChunk(number * 10, number * 10 + 10, Place(number * 10, row=number * 5 + 1), 5)
        for number in range(chunks)
    ]
    await manifest.planned(upload, LAYOUT, cuts)
    return upload


async def load(manifest: Manifest, upload_id: UUID, chunk_no: int, counts: Counts) -> str | None:
    chunk = await manifest.begin(upload_id, 1, chunk_no)
    return await manifest.done(chunk, counts, {}) if chunk else None


async def test_of_many_who_claim_the_same_content_one_loads_it(manifest: Manifest, servers: Stack) -> None:
    events = [received("the same") for _ in range(20)]
    claims = await asyncio.gather(*(manifest.claim(event) for event in [*events, *events]))
    states = Counter(claim.state for claim in claims)
    assert states == {"planning": 2, "duplicate": 38}
    first = next(claim.upload_id for claim in claims if claim.state == "planning")
    rows = await look(servers, "SELECT DISTINCT duplicate_of FROM ingest.uploads WHERE sha256 = $1", events[0].sha256)
    assert {row["duplicate_of"] for row in rows} == {None, first}


async def test_content_of_a_failed_upload_is_free_again(manifest: Manifest) -> None:
    first = await manifest.claim(received("failed once"))
    assert await manifest.fail(first.upload_id, "bad")
    assert not await manifest.fail(first.upload_id, "again")
    assert (await manifest.claim(received("failed once"))).state == "planning"


async def test_of_loaders_that_finish_together_exactly_one_ends_the_upload(manifest: Manifest) -> None:
    for _ in range(10):
        upload = await planned(manifest, 4)
        outcomes = await asyncio.gather(
            *(load(manifest, upload.upload_id, no, Counts(4, 1)) for no in [0, 1, 2, 3] * 2)
        )
        assert Counter(outcomes) == {None: 7, "completed_with_rejects": 1}


async def test_a_plan_is_written_once_and_its_chunks_are_announced_once(manifest: Manifest) -> None:
    upload = await planned(manifest, 3)
    await manifest.planned(upload, LAYOUT, [PlannedChunk(0, 1, Place(), 1)])
    assert sorted(await manifest.chunks_to_announce(upload, stalled_s=300, ahead=9)) == [0, 1, 2]
    assert await manifest.chunks_to_announce(upload, stalled_s=300, ahead=9) == []
    await manifest.announcement_failed(upload, [1])
    assert await manifest.chunks_to_announce(upload, stalled_s=300, ahead=9) == [1]
    assert len(await manifest.chunks_to_announce(upload, stalled_s=0, ahead=9)) == 3


async def test_no_more_chunks_are_announced_than_may_wait(manifest: Manifest) -> None:
    upload = await planned(manifest, 5)
    assert await manifest.chunks_to_announce(upload, stalled_s=300, ahead=2) == [0, 1]
    assert await manifest.chunks_to_announce(upload, stalled_s=300, ahead=2) == []
    await load(manifest, upload.upload_id, 1, Counts(5, 0))
    assert await manifest.chunks_to_announce(upload, stalled_s=300, ahead=2) == [2]


async def test_a_chunk_of_an_upload_that_ended_is_nobodys(manifest: Manifest) -> None:
    upload = await planned(manifest, 2)
    await manifest.fail(upload.upload_id, "bad")
    assert await manifest.begin(upload.upload_id, 1, 0) is None
    assert await manifest.begin(upload.upload_id, 2, 0) is None
    assert await manifest.begin(new_id(), 1, 0) is None


async def test_attempts_that_were_interrupted_do_not_count(manifest: Manifest) -> None:
    upload = await planned(manifest, 1)
    for _ in range(3):
        chunk = await manifest.begin(upload.upload_id, 1, 0)
        assert chunk is not None
        assert chunk.attempts == 1
        await manifest.interrupted(chunk)


@pytest.mark.parametrize(
    ("counts", "state", "error"),
    [
        (Counts(5, 0), "completed", None),
        (Counts(4, 1), "completed_with_rejects", None),
        (Counts(0, 5), "failed", "all 5 rows were rejected"),
    ],
)
async def test_an_upload_ends_as_its_rows_did(
    manifest: Manifest, servers: Stack, counts: Counts, state: str, error: str | None
) -> None:
    upload = await planned(manifest, 1)
    assert await load(manifest, upload.upload_id, 0, counts) == state
    (row,) = await look(servers, "SELECT * FROM ingest.upload_status WHERE upload_id = $1", upload.upload_id)
    assert (row["state"], row["error"], row["rows_total"]) == (state, error, 5)
    assert (row["rows_accepted"], row["rows_rejected"]) == (counts.accepted, counts.rejected)
    assert await manifest.finished([upload.upload_id, new_id()]) == {upload.upload_id}
