from typing import ClassVar

from pydantic import Field

from common.settings import BucketSettings, ClickHouseSettings, KafkaSettings, PostgresSettings
from ingest.formats.sandbox import Limits


class Settings(PostgresSettings, ClickHouseSettings, KafkaSettings, BucketSettings):
    config_section: ClassVar[str] = "ingest"

    planner_group: str = Field("ingest-planner", min_length=1, description="consumer group; replicas share it")
    loader_group: str = Field("ingest-loader", min_length=1, description="consumer group; replicas share it")
    records_group: str = Field("ingest-records", min_length=1, description="consumer group; replicas share it")
    records_rows_max: int = Field(50_000, ge=1, le=1_000_000, description="records of one INSERT")
    records_bytes_max: int = Field(16 << 20, ge=1 << 20, le=1 << 30, description="of the records of one INSERT")
    records_wait_s: float = Field(1, ge=0.01, le=60, description="how long records gather before they are loaded")
    dead_letters_max: int = Field(1000, ge=0, description="with the share: beyond both, records stop until a restart")
    dead_letters_share_max: float = Field(0.1, ge=0, le=1, description="of the records that may be dead letters")
    commands_group: str = Field("ingest-commands", min_length=1, description="consumer group; replicas share it")
    retention_s: float = Field(3600, gt=0, le=86_400, description="between two looks for what is kept long enough")
    jobs_pause_s: float = Field(1, gt=0, le=60, description="between two looks for undo, replay and erase to do")
    # Readers look for what they leave out every second.
    undo_readers_wait_s: float = Field(2, ge=0, le=60, description="until every reader leaves an undone upload out")
    chunk_bytes: int = Field(32 << 20, ge=1 << 16, le=1 << 30, description="about the size of one chunk of a file")
    chunks_ahead: int = Field(12, ge=1, le=10_000, description="of one upload that wait for loaders; others take turns")
    chunk_attempts_max: int = Field(3, ge=1, le=100, description="times a chunk may stop its loader; then it fails")
    rejects_max: int = Field(100_000, ge=0, description="with the share: beyond both in one chunk, the upload fails")
    rejects_share_max: float = Field(0.9, ge=0, le=1, description="of the rows of a chunk that may be rejected")
    chunk_stalled_s: float = Field(300, gt=0, le=86_400, description="silence before a chunk is announced again")
    # One handler call may last as long as one undivided file takes; a member silent for longer is thrown out.
    poll_interval_max_s: int = Field(3600, ge=60, le=86_400, description="longest load of one chunk")
    # What archives, XML and Parquet are taken apart with, in a child process each.
    reader_memory_bytes: int = Field(
        384 << 20, ge=64 << 20, le=64 << 30, description="of the child; then it is refused"
    )
    reader_stalled_s: float = Field(120, gt=0, le=3600, description="nothing comes of a file for so long: refused")
    unpack_bytes_max: int = Field(1 << 40, ge=1 << 20, le=1 << 50, description="one file may unpack or decode to")
    unpack_ratio_max: int = Field(200, ge=2, le=100_000, description="and to this many times its size")
    unpack_ratio_from_bytes: int = Field(
        256 << 20, ge=0, le=1 << 40, description="unpacked bytes that pass at any ratio"
    )
    bucket_group: str = Field("ingest-bucket", min_length=1, description="consumer group; replicas share it")
    inbox_stable_s: float = Field(2, ge=0, le=3600, description="unchanged for so long, a drop is complete")
    inbox_keep: bool = Field(False, description="leave files in the inbox once they are taken in")  # noqa: FBT003
    watch_s: float = Field(2, gt=0, le=3600, description="between two looks at the bucket's new objects")
    sweep_s: float = Field(600, gt=0, le=86_400, description="between two looks at all of the bucket's objects")
    reannounce_after_s: float = Field(15, gt=0, le=86_400, description="age of an unfinished upload to announce again")
    retry_first_s: float = Field(0.2, gt=0, le=10, description="pause after a first failure; doubles")
    retry_max_s: float = Field(10, gt=0, le=60, description="longest pause between two tries of one message")
    stalled_s: float = Field(120, ge=5, le=7200, description="without progress for so long, /healthz fails")

    @property
    def limits(self) -> Limits:
        """Of one child process."""
        return Limits(
            self.reader_memory_bytes,
            self.unpack_bytes_max,
            self.unpack_ratio_max,
            self.unpack_ratio_from_bytes,
            self.reader_stalled_s,
        )
