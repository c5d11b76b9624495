"""The tables that a declaration makes in ClickHouse: a history of every version, and a current table that a view fills
from it (docs/decisions/0007-dataset-table.md). Created and extended while loads run; what would lose rows is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from clickhouse_connect.driver.asyncclient import AsyncClient

from common.column_types import ColumnType
from common.datasets import Dataset
from common.identity import dedupe_key_sql, own_key_sql
from ingest.warehouse import outages_are_transient

# The most inserts into one table between a try and its retry that deduplication must still see.
DEDUPLICATION_WINDOW = 100_000
SYSTEM_TYPES: Mapping[str, str] = {
    "extra": "String",
    "dedupe_key": "FixedString(16)",
    "version": "UInt128",
    "upload_id": "LowCardinality(String)",
    "row_no": "UInt64",
    "ingest_ts": "DateTime64(6, 'UTC')",
}
_TYPES: Mapping[str, str] = {
    "string": "String",
    "country": "LowCardinality(String)",
    "enum": "LowCardinality(String)",  # not Enum8: one more value must not change the table
    "json": "String",
    "integer": "Int64",
    "float": "Float64",
    "boolean": "Bool",
    "date": "Date32",
    "timestamp": "DateTime64(6, 'UTC')",
}


class TableDiffers(Exception):
    """The tables cannot become what the declaration says without a reload."""


async def ensure_tables(client: AsyncClient, dataset: Dataset) -> list[str]:
    """Create the tables or add what they lack; returns the changes. Another type or identity raises TableDiffers.

    Safe to repeat, from two places at once, and where it died half-way. The current table always comes first: the
    view must find every column there that the history may pass on.
    """
    changes: list[str] = []
    async with outages_are_transient():
        for table in (dataset.name, dataset.history):
            for statement in await _lacking(client, dataset, table):
                await client.command(statement)
                changes.append(statement)
        await client.command(_VIEW.format(name=dataset.name, history=dataset.history))
    return changes


_VIEW = "CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_fill TO {name} AS SELECT * FROM {history}"


async def _lacking(client: AsyncClient, dataset: Dataset, table: str) -> list[str]:
    if not await _exists(client, table):
        return [_create_sql(dataset, table)]
    described = await client.query(f"DESCRIBE TABLE {table}")
    existing = {str(row[0]): str(row[1]) for row in described.result_rows}
    shown = await client.query(f"SHOW CREATE TABLE {table}")
    made_by = str(shown.result_rows[0][0])
    _refuse_other_types(dataset, table, existing)
    _refuse_other_identity(dataset, made_by)
    return [f"ALTER TABLE {table} {change}" for change in _changes(dataset, table, existing, made_by)]


async def _exists(client: AsyncClient, table: str) -> bool:
    return str(await client.command(f"EXISTS TABLE {table}")) == "1"


def _changes(dataset: Dataset, table: str, existing: Mapping[str, str], made_by: str) -> list[str]:
    missing = [name for name in dataset.columns if name not in existing]
    changes = [f"ADD COLUMN IF NOT EXISTS {_column_sql(dataset, name)}" for name in missing]
    if missing:
        changes.append(f"MODIFY COLUMN dedupe_key {_key_sql(dataset)}")
    if table == dataset.history:
        for name in dataset.findable:
            if f"INDEX {_index_name(name)} " not in made_by:
                changes.append(f"ADD {_index_sql(name, 'IF NOT EXISTS ')}")
                # Of rows that are there already; it goes on in the background.
                changes += [] if name in missing else [f"MATERIALIZE INDEX {_index_name(name)}"]
    return changes


def _create_sql(dataset: Dataset, table: str) -> str:
    parts = [
        *(_column_sql(dataset, name) for name in dataset.columns),
        f"extra {SYSTEM_TYPES['extra']}",
        f"dedupe_key {_key_sql(dataset)}",
        *(f"{name} {SYSTEM_TYPES[name]}" for name in ("version", "upload_id", "row_no")),
        f"ingest_ts {SYSTEM_TYPES['ingest_ts']} DEFAULT now64(6, 'UTC')",
    ]
    if table == dataset.history:
        parts += [_index_sql(name) for name in dataset.findable]
        engine = "MergeTree ORDER BY (dedupe_key, version)"
    else:
        # No skip index here: FINAL beside one gave a stale row in a trial.
        engine = "ReplacingMergeTree(version) ORDER BY dedupe_key"
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(parts)}) ENGINE = {engine} "
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW} "
        f"COMMENT '{_identity_note(dataset)}'"
    )


def clickhouse_type(column: ColumnType) -> str:
    """A list is empty where nothing is given, every other column null."""
    if column.of is not None:
        return f"Array({_plain_type(column.of)})"
    plain = _plain_type(column)
    if plain.startswith("LowCardinality("):
        return plain.replace("(String)", "(Nullable(String))")
    return f"Nullable({plain})"


def _plain_type(column: ColumnType) -> str:
    return f"Decimal({column.precision}, {column.scale})" if column.kind == "decimal" else _TYPES[column.kind]


def _column_sql(dataset: Dataset, name: str) -> str:
    return f"`{name}` {clickhouse_type(dataset.columns[name].parsed)}"


def _index_name(name: str) -> str:
    return f"{name}_exact"


def _index_sql(name: str, condition: str = "") -> str:
    return f"INDEX {condition}{_index_name(name)} `{name}` TYPE bloom_filter(0.01) GRANULARITY 1"


def _key_sql(dataset: Dataset) -> str:
    return f"{SYSTEM_TYPES['dedupe_key']} DEFAULT {_default_key_sql(dataset)}"


def _default_key_sql(dataset: Dataset) -> str:
    """Only for rows without the first identity: all the other branches, of which the digest is most of the work.

    Of a DEFAULT expression ClickHouse computes every branch for every row, but a lambda over an empty array for none.
    """
    if not dataset.identity:
        return _digest_sql(dataset, _quoted)
    names = [*dataset.columns, "extra"]

    def of_row(name: str) -> str:
        return f"row.{names.index(name) + 1}"

    present, first_key = own_key_sql(dataset, dataset.identity[0])
    any_key = dedupe_key_sql(dataset, _digest_sql(dataset, of_row), of=of_row)
    row = f"tuple({', '.join(map(_quoted, names))})"
    return f"if({present}, {first_key}, arrayElement(arrayMap(row -> {any_key}, if({present}, [], [{row}])), 1))"


def _quoted(name: str) -> str:
    return f"`{name}`"


def _digest_sql(dataset: Dataset, of: Callable[[str], str]) -> str:
    """Of the values that are there, with names and lengths: a column that is added later changes no old digest."""
    parts = [_digested(name, of(name), dataset.columns[name].parsed) for name in sorted(dataset.columns)]
    return f"sipHash128('{dataset.name}', 'row', concat({', '.join([*parts, of('extra')])}))"


def _digested(name: str, value: str, column: ColumnType) -> str:
    absent, text = f"isNull({value})", f"toString(assumeNotNull({value}))"
    if column.of is not None:
        absent, text = f"empty({value})", f"toString({value})"
    return f"if({absent}, '', concat('{name}=', toString(length({text})), ':', {text}))"


def _identity_note(dataset: Dataset) -> str:
    return "identity: " + (", ".join("+".join(names) for names in dataset.identity) or "the whole row")


def _refuse_other_types(dataset: Dataset, table: str, existing: Mapping[str, str]) -> None:
    for name, column in dataset.columns.items():
        if name in existing and existing[name] != clickhouse_type(column.parsed):
            raise TableDiffers(
                f"dataset {dataset.name}: column {name} is {existing[name]} in the table and {column.type} in the "
                "declaration; declare a column of another name, or another dataset, and load it"
            )
    for name, wanted in SYSTEM_TYPES.items():
        if existing.get(name) != wanted:
            raise TableDiffers(
                f"dataset {dataset.name}: the table {table} is not one of this version of the system ({name} is "
                f"{existing.get(name, 'missing')}, expected {wanted}); rename it away, migrate, and load again"
            )


def _refuse_other_identity(dataset: Dataset, made_by: str) -> None:
    found = re.search(r"COMMENT '(identity: [^']*)'", made_by)
    wanted = _identity_note(dataset)
    if found and found[1] != wanted:
        raise TableDiffers(
            f"dataset {dataset.name}: the table was made with {found[1]}, the declaration says {wanted}; "
            "keys of loaded rows cannot change: declare another dataset and load it"
        )


def row_columns(dataset: Dataset) -> Sequence[str]:
    """Every column of both tables, to name them on both sides of an INSERT … SELECT."""
    return [*(f"`{name}`" for name in dataset.columns), *SYSTEM_TYPES]
