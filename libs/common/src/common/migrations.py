"""Numbered SQL files, applied forward, once, by whoever comes first.

Safe to run twice and from two places at once: an advisory lock on the schema makes the second wait, then find nothing
to do. A file that changed after it was applied is refused by name: write a new one.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from common.settings import PostgresSettings

_BOOK = """
    CREATE TABLE IF NOT EXISTS {schema}.schema_migrations (
        name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""


class MigrationChanged(Exception):
    """A migration that was applied is not the one in the package."""


@dataclass(frozen=True)
class Migration:
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


async def migrate(settings: PostgresSettings, schema: str, package: str) -> list[str]:
    """Apply what is missing from `<package>/migrations/*.sql` to the schema; returns the names that were applied."""
    url = settings.migrate_postgres_url or settings.postgres_url
    connection = await asyncpg.connect(url.get_secret_value())
    try:
        # Held for the session: a migration may use several transactions one day.
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", f"migrate:{schema}")
        await connection.execute(_BOOK.format(schema=schema))
        rows = await connection.fetch(f"SELECT name, sha256 FROM {schema}.schema_migrations")  # noqa: S608 - a schema name of ours
        return await _apply(connection, schema, _read(package), {row["name"]: row["sha256"] for row in rows})
    finally:
        await connection.close()


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]",
    schema: str,
    wanted: list[Migration],
    applied: dict[str, str],
) -> list[str]:
    done: list[str] = []
    for migration in wanted:
        if migration.name in applied:
            if applied[migration.name] != migration.sha256:
                raise MigrationChanged(f"{schema}: {migration.name} was changed after it was applied")
            continue
        async with connection.transaction():
            await connection.execute(f"SET LOCAL search_path TO {schema}")
            await connection.execute(migration.sql)
            await connection.execute(
                f"INSERT INTO {schema}.schema_migrations (name, sha256) VALUES ($1, $2)",  # noqa: S608 - as above
                migration.name,
                migration.sha256,
            )
        done.append(migration.name)
    return done


def _read(package: str) -> list[Migration]:
    folder = files(package) / "migrations"
    return [
        Migration(file.name, file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    ]
