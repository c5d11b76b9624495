"""`python -m common.prepare`: what an empty installation needs before any service can migrate.

Creates the database, its schemas and the two roles of each service, and the Kafka topics. Safe to run again: it sets
the passwords it is given and leaves everything else that exists as it is. The only command that needs an administrator.
"""

import asyncio
import sys
from typing import ClassVar

from pydantic import Field, SecretStr

from common.kafka import client_security, create_topics
from common.logs import configure_logs, get_logger
from common.postgres_roles import ROLES, bootstrap
from common.settings import KafkaSettings, settings_or_exit

_log = get_logger(__name__)


class Settings(KafkaSettings):
    """One password per role: POSTGRES_ROLE_PASSWORDS='{"gateway": "...", "gateway_owner": "...", ...}'."""

    config_section: ClassVar[str] = "prepare"

    postgres_admin_url: SecretStr = Field(description="a superuser's, naming any existing database")
    postgres_role_passwords: dict[str, SecretStr] = Field(description="JSON: one password for each role")
    kafka_replication: int = Field(1, ge=1, le=9, description="copies of each partition; 3 where there are 3 brokers")
    kafka_min_insync: int = Field(1, ge=1, le=9, description="copies that must have a record before it is acknowledged")


async def prepare(settings: Settings) -> None:
    passwords = {role: secret.get_secret_value() for role, secret in settings.postgres_role_passwords.items()}
    await bootstrap(settings.postgres_admin_url.get_secret_value(), passwords)
    _log.info("roles and schemas are there", roles=len(ROLES))
    await create_topics(
        settings.kafka_brokers,
        replication=settings.kafka_replication,
        min_insync=settings.kafka_min_insync,
        **client_security(settings),
    )
    _log.info("topics are there", replication=settings.kafka_replication, min_insync=settings.kafka_min_insync)


def main() -> None:
    settings = settings_or_exit(Settings)
    missing = sorted(set(ROLES) - settings.postgres_role_passwords.keys())
    if missing:
        sys.stderr.write(f"setting POSTGRES_ROLE_PASSWORDS: no password for {', '.join(missing)}\n")
        sys.exit(2)
    configure_logs("prepare", settings.log_level)
    asyncio.run(prepare(settings))


if __name__ == "__main__":
    main()
