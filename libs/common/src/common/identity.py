"""Which row is which: the key that ClickHouse computes when a row arrives, and that a lookup asks for.

Both sides use this one expression, so a lookup by identity finds its row through the primary key.
"""

from collections.abc import Mapping, Sequence

from common.datasets import Dataset


def identity_key_sql(dataset: Dataset, columns: Sequence[str], values: Mapping[str, str]) -> str:
    """SQL of the 128-bit key of one identity; `values` maps each of its columns to a SQL expression of a String."""
    name = "+".join(columns)
    parts = ", ".join(values[column] for column in columns)
    return f"sipHash128('{dataset.name}', '{name}', {parts})"


def dedupe_key_sql(dataset: Dataset, row_digest: str) -> str:
    """The DEFAULT expression of dedupe_key: the first identity whose columns are all present.

    `row_digest` is the SQL of a hash of the whole normalised row: rows without any identity do not swallow one another.
    """
    branches: list[str] = []
    for columns in dataset.identity:
        present = " AND ".join(
            f"isNotNull({column}) AND notEmpty(toString(assumeNotNull({column})))" for column in columns
        )
        values = {column: f"toString(assumeNotNull({column}))" for column in columns}
        branches += [present, identity_key_sql(dataset, columns, values)]
    if not branches:
        return row_digest
    return f"multiIf({', '.join([*branches, row_digest])})"
