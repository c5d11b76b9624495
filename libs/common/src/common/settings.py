"""Settings: configs/config.yaml, then .env, then the environment. Built once in main() and frozen.

Each group is a mixin; a service's Settings class inherits the groups it uses, so an operator sets one flat name
(POSTGRES_URL, KAFKA_BROKERS) wherever it is needed. Secrets have no default: the process stops and names the setting.
"""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

CONFIG_FILE_DEFAULT = "configs/config.yaml"


class ProcessSettings(BaseSettings):
    """What every process has."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env")
    config_section: ClassVar[str] = "common"

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    ops_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics; never the public one")
    ops_port: int = Field(0, ge=0, le=65535, description="0 takes a free port")
    datasets_folder: Path = Field(Path("configs/datasets"), description="one YAML file per dataset")
    shutdown_s: float = Field(25, gt=0, le=600, description="intake stopped to process gone")
    otel_exporter_otlp_endpoint: str | None = Field(
        None, pattern="^(https?://.+)?$", description="OTLP over HTTP, http://host:4318; empty: there are no traces"
    )
    trace_share: float = Field(1, ge=0, le=1, description="of the traces that begin here, those that are kept")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _ConfigFile(settings_cls), file_secret_settings


class PostgresSettings(ProcessSettings):
    postgres_url: SecretStr = Field(description="postgresql://role:password@host:port/bigdata")
    migrate_postgres_url: SecretStr | None = Field(None, description="the owner role's; POSTGRES_URL when absent")
    postgres_pool_max: int = Field(16, ge=1, le=500)
    postgres_statement_s: float = Field(10, gt=0, le=600, description="deadline of one statement")


class ClickHouseSettings(ProcessSettings):
    clickhouse_host: str = "127.0.0.1"
    clickhouse_port: int = Field(8123, ge=1, le=65535)
    clickhouse_user: str
    clickhouse_password: SecretStr
    clickhouse_database: str = "bigdata"
    clickhouse_secure: bool = False
    clickhouse_connections_max: int = Field(64, ge=1, le=1000)
    clickhouse_timeout_s: float = Field(300, gt=0, le=3600)


class RedisSettings(ProcessSettings):
    redis_url: SecretStr = Field(description="redis://[:password@]host:port/0, rediss:// for TLS")
    redis_timeout_s: float = Field(0.05, gt=0, le=5, description="beyond it the caller's policy for an outage applies")


class KafkaSettings(ProcessSettings):
    kafka_brokers: str = Field(description="host:port, comma separated")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_user: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ca_file: Path | None = None
    kafka_idle_pause_s: float = Field(0, ge=0, le=1, description="for brokers that do not wait for data; 0 for Kafka")
    # A process that was killed takes its place in the group again at once instead of waiting out the session of its
    # predecessor. noida-db, the local broker, never ends that session: there a killed consumer stops its group.
    kafka_instance_id: str | None = Field(
        None, min_length=1, description="unique and lasting name of this process in its groups"
    )


class BucketSettings(ProcessSettings):
    bucket_url: str = Field(description="file:///folder or s3://bucket/prefix")


class _ConfigFile(PydanticBaseSettingsSource):
    """config.yaml: the section `common`, overlaid by the service's own. An unknown name in the latter is a fault."""

    def __call__(self) -> dict[str, Any]:
        path = Path(os.environ.get("CONFIG_FILE", CONFIG_FILE_DEFAULT))
        if not path.exists():
            return {}
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        section = getattr(self.settings_cls, "config_section", "common")
        own = document.get(section) or {}
        for name in own:
            if name not in self.settings_cls.model_fields:
                raise BadSettings(f"{path}: {section}.{name} is not a setting of this service")
        known = {k: v for k, v in (document.get("common") or {}).items() if k in self.settings_cls.model_fields}
        return known | own

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # __call__ reads the whole file at once


class BadSettings(Exception):
    """One line that names the setting; never its value, which may be a secret."""


S = TypeVar("S", bound=ProcessSettings)


def load_settings(settings_class: type[S]) -> S:
    """Build the settings or raise BadSettings with one line that names the first bad one."""
    try:
        return settings_class()
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"]).upper()
        # A rule between two settings has no place of its own: its message names both.
        raise BadSettings(f"setting {name}: {fault['msg']}" if name else fault["msg"]) from None


def settings_or_exit(settings_class: type[S]) -> S:
    """For main(): a bad setting stops the process with its one line and exit code 2."""
    try:
        return load_settings(settings_class)
    except BadSettings as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
