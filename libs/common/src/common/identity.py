"""Which row is which: the key that ClickHouse computes when a row arrives, and that a lookup asks for.

Both sides use this one expression, so a lookup by identity finds its row through the primary key.
"""

from collections.abc import Callable, Mapping, Sequence

from common.datasets import Dataset


def identity_key_sql(dataset: Dataset, columns: Sequence[str], values: Mapping[str, str]) -> str:
    """SQL of the 128-bit key of one identity; `values` maps each of its columns to a SQL expression of a String."""
    name = "+".join(columns)
    parts = ", ".join(values[column] for column in columns)
    return f"sipHash128('{dataset.name}', '{name}', {parts})"


def dedupe_key_sql(dataset: Dataset, row_digest: str, *, of: Callable[[str], str] = str) -> str:
    """The expression of dedupe_key: the first identity whose columns are all present. `of` is the SQL of a column.

    `row_digest` is the SQL of a hash of the whole normalised row: rows without any identity do not swallow one another.
    """
    branches: list[str] = []
    for columns in dataset.identity:
        branches += own_key_sql(dataset, columns, of)
    if not branches:
        return row_digest
    return f"multiIf({', '.join([*branches, row_digest])})"


def own_key_sql(dataset: Dataset, columns: Sequence[str], of: Callable[[str], str] = str) -> tuple[str, str]:
    """Whether a row has this identity, and its key if it has."""
    texts = {column: f"toString(assumeNotNull({of(column)}))" for column in columns}
    present = " AND ".join(f"isNotNull({of(column)}) AND notEmpty({texts[column]})" for column in columns)
    return present, identity_key_sql(dataset, columns, texts)
