from typing import ClassVar

from pydantic import Field, SecretStr

from common.settings import KafkaSettings, PostgresSettings


class Settings(PostgresSettings, KafkaSettings):
    config_section: ClassVar[str] = "credits"

    server_host: str = "127.0.0.1"
    server_port: int = Field(8081, ge=0, le=65535)
    credits_tokens: SecretStr = Field(
        description="bearer tokens, comma separated; all are accepted, so they can rotate"
    )
    body_bytes_max: int = Field(8 << 20, ge=1 << 12, le=1 << 28, description="of one call, stored answers included")

    operation_s: float = Field(2, gt=0, le=60, description="deadline of one call, waiting included; beyond it 503")
    batch_operations_max: int = Field(512, ge=1, le=10_000, description="of one transaction")
    queue_operations_max: int = Field(10_000, ge=1, le=1_000_000, description="waiting; beyond it 503")
    account_operations_max: int = Field(5_000, ge=1, le=1_000_000, description="waiting of one account; beyond it 503")

    expiry_pause_s: float = Field(1, gt=0, le=60)
    expiry_holds_max: int = Field(1_000, ge=1, le=100_000, description="closed in one step")
    purge_pause_s: float = Field(60, gt=0, le=3600)
    purge_rows_max: int = Field(10_000, ge=1, le=1_000_000, description="of each table in one step")
    receipts_days: int = Field(30, ge=1, le=3650)
    reconcile_pause_s: float = Field(60, gt=0, le=3600)
    reconcile_s: float = Field(60, gt=0, le=3600, description="deadline of all its questions together")
    outbox_pause_s: float = Field(0.2, gt=0, le=60, description="between looks at an empty outbox")
    outbox_events_max: int = Field(500, ge=1, le=10_000, description="published before the next are read")
