from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from common.settings import BucketSettings, ClickHouseSettings, KafkaSettings, PostgresSettings, RedisSettings
from gateway.roles import Scope

SIGNING_KEY_CHARS_MIN = 12
PerMinute = Annotated[int, Field(ge=1, le=10_000_000)]


class Plan(BaseModel):
    """What one user may ask for; absent means without limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: PerMinute | None = Field(None, description="of all of the user's keys together")
    key_requests_per_minute: PerMinute | None = Field(None, description="of one key that has no limit of its own")
    by_class: dict[Scope, PerMinute] | None = Field(None, description="of the routes that need this scope")
    at_once: int | None = Field(None, ge=1, le=10_000, description="running at the same time, per gateway process")


_PLANS = {
    "standard": Plan(requests_per_minute=600, at_once=20),
    "bulk": Plan(requests_per_minute=6000, at_once=60),
    "unlimited": Plan(),
}


class Settings(PostgresSettings, ClickHouseSettings, RedisSettings, KafkaSettings, BucketSettings):
    config_section: ClassVar[str] = "gateway"

    server_host: str = "127.0.0.1"
    server_port: int = Field(8000, ge=0, le=65535)
    trusted_proxies: str = Field(
        "", description="addresses and networks whose X-Forwarded-For counts, comma separated; * for any, none if empty"
    )
    connections_max: int = Field(1000, ge=1, le=100_000, description="beyond it a connection is answered 503")
    body_bytes_max: int = Field(1 << 20, ge=1024, le=1 << 30, description="of a JSON body")

    admin_api_key: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="hex SHA-256 of the first super admin's key"
    )
    admin_username: str = Field("admin", pattern=r"^[A-Za-z0-9_.@-]{1,64}$")
    api_key_cache_s: float = Field(5, ge=0, le=60, description="how long a revoked key may still be admitted")
    api_key_cache_max: int = Field(50_000, ge=1, le=10_000_000)

    keys_per_user_max: int = Field(20, ge=1, le=10_000, description="that work; revoked and expired ones do not count")
    key_grace_max_s: int = Field(7 * 86400, ge=0, le=366 * 86400, description="longest life of a key that is replaced")

    plans: dict[str, Plan] = Field(_PLANS)
    bad_keys_per_minute: int = Field(100, ge=1, le=1_000_000, description="per address; beyond it 429 instead of 401")
    rate_limit_decision_s: float = Field(0.05, gt=0, le=1, description="beyond it the local bucket decides")

    credits_url: str = Field(description="http://host:port of the credits service")
    credits_tokens: SecretStr = Field(description="bearer tokens, comma separated; the first is sent")
    credits_timeout_s: float = Field(2, gt=0, le=60, description="deadline of one call")
    credits_waiting_max: int = Field(10_000, ge=1, le=1_000_000, description="operations; beyond it 503")

    spool_folder: Path = Field(description="finished requests not yet acknowledged; must outlive the process")
    spool_bytes_max: int = Field(1 << 30, ge=1 << 16, description="beyond it finished requests are dropped and counted")
    spool_segment_bytes_max: int = Field(4 << 20, ge=1 << 12)
    spool_linger_s: float = Field(0.06, ge=0, le=0.09, description="how long settlements gather before they are sent")

    query_timeout_s: float = Field(30, gt=0, le=300, description="at most what the ClickHouse profile allows")
    stream_timeout_s: float = Field(300, gt=0, le=300, description="longest export; the ClickHouse profile's maximum")
    query_rows_read_max: int = Field(
        10_000_000_000, ge=1, le=10_000_000_000, description="rows one query may read; beyond it query_too_expensive"
    )
    user_scans_max: int = Field(4, ge=1, le=1000, description="scans of one user at once, per gateway process")
    scan_wait_s: float = Field(10, ge=0, le=60, description="longest wait for such a place; beyond it 429")
    quote_ttl_s: int = Field(300, ge=1, le=86_400, description="how long a quote is honoured")
    signing_keys: SecretStr = Field(
        description=f"of cursors and quotes, comma separated, at least {SIGNING_KEY_CHARS_MIN} characters each; the "
        "first signs"
    )
    query_wait_max_s: float = Field(30, ge=0, le=300, description="longest wait for an upload to be visible")
    hold_ttl_s: int = Field(120, ge=1, le=3600)
    upload_bytes_max: int = Field(10 << 30, ge=1)
    console_idle_s: int = Field(1800, ge=60, le=86_400, description="without a request for so long, sign in again")
    console_session_s: int = Field(43_200, ge=60, le=604_800, description="longest session, however busy")
    upload_idle_s: float = Field(30, gt=0, le=3600, description="an upload that sends nothing for so long is ended")

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, listed: str) -> str:
        """A name or a typing error would be taken for a proxy that never comes: every address in the log were its."""
        for one in filter(None, map(str.strip, listed.split(","))):
            if one != "*":
                ip_network(one)  # raises ValueError, which says what is wrong with it
        return listed

    @model_validator(mode="after")
    def _signing_keys_are_secrets_of_their_own(self) -> Self:
        """Whoever may call credits could otherwise seal what the gateway opens, and a short key is soon found."""
        tokens = {one.strip() for one in self.credits_tokens.get_secret_value().split(",")}
        keys = self.sealing_keys
        if not keys or any(len(key) < SIGNING_KEY_CHARS_MIN or key in tokens for key in keys):
            raise ValueError(
                f"SIGNING_KEYS needs a key; each has at least {SIGNING_KEY_CHARS_MIN} characters and is none of "
                "CREDITS_TOKENS"
            )
        return self

    @property
    def sealing_keys(self) -> list[str]:
        return [key for key in map(str.strip, self.signing_keys.get_secret_value().split(",")) if key]

    @model_validator(mode="after")
    def _spool_holds_segments(self) -> Self:
        """The segment being written is never trimmed: a spool of one segment would stay full once it was."""
        if self.spool_bytes_max < 2 * self.spool_segment_bytes_max:
            raise ValueError("SPOOL_BYTES_MAX must be at least twice SPOOL_SEGMENT_BYTES_MAX")
        return self
