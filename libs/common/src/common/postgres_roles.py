"""The database, its schemas and its roles: two roles per service, and nobody writes another's schema.

`<service>_owner` owns the schema and runs its migrations; `<service>` is what the process connects as, and gets only
what those migrations grant. That is how the ledger stays append-only even for the process that writes it.
"""

from collections.abc import Mapping

import asyncpg

SCHEMAS = ("gateway", "credits", "ingest", "audit")
ROLES = tuple(role for schema in SCHEMAS for role in (f"{schema}_owner", schema))
DATABASE = "bigdata"


async def bootstrap(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing and set the passwords; safe to run again. `admin_dsn` names any existing database."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
        for role in ROLES:
            await _ensure_role(connection, role, passwords[role])
    finally:
        await connection.close()
    connection = await asyncpg.connect(admin_dsn, database=DATABASE)
    try:
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for schema in SCHEMAS:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {schema}_owner")
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
    finally:
        await connection.close()


async def _ensure_role(connection: "asyncpg.Connection[asyncpg.Record]", role: str, password: str) -> None:
    verb = "ALTER" if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) else "CREATE"
    quoted = await connection.fetchval(
        "SELECT quote_literal($1::text)", password
    )  # utility statements take no parameters
    await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD {quoted}")
