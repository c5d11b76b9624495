from typing import ClassVar

from pydantic import Field

from common.settings import KafkaSettings, PostgresSettings


class Settings(PostgresSettings, KafkaSettings):
    config_section: ClassVar[str] = "audit"

    audit_group: str = Field("audit-logger", min_length=1, description="consumer group; replicas share it")
    # The topic keeps 7 days: a log that kept less would refuse events that are merely late.
    audit_retention_days: int = Field(400, ge=8, le=3660, description="older days are dropped from the log")
    audit_days_ahead: int = Field(7, ge=1, le=60, description="partitions made before they are needed")
    audit_future_max_s: int = Field(86_400, ge=0, le=604_800, description="events dated later are dead letters")
    audit_housekeeping_s: float = Field(3600, gt=0, le=86_400, description="between two looks at the partitions")
    batch_rows_max: int = Field(20_000, ge=1, le=50_000, description="events between two commits of offsets")
    batch_bytes_max: int = Field(32 << 20, ge=1 << 20, le=1 << 28, description="of the events of one batch")
    batch_gather_s: float = Field(0.05, ge=0, le=5, description="how long events gather before they are written")
    batch_ms_max: int = Field(100, ge=1, le=10_000, description="wait for an event before looking again")
    retry_first_s: float = Field(0.2, gt=0, le=10, description="pause after a first failure; doubles")
    retry_max_s: float = Field(5, gt=0, le=15, description="longest pause between two tries of one batch")
    stalled_s: float = Field(60, ge=5, le=3600, description="without progress for so long, /healthz fails")
