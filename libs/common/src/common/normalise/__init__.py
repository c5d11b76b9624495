"""How a value of a column is written, so that the same thing is always the same text.

These functions are the rule. The ingest worker applies them to whole columns, with vectorised shortcuts for the values
that need no thought; the gateway applies them to the values of a query, so that an e-mail in capitals finds its row.
"""

from collections.abc import Callable, Mapping

from common.column_types import ColumnType
from common.datasets import Column
from common.normalise.country import country
from common.normalise.email import email
from common.normalise.enumeration import one_of
from common.normalise.json_text import json_text
from common.normalise.lists import list_of
from common.normalise.moment import day, timestamp, written_as
from common.normalise.numbers import boolean, decimal, floating, integer
from common.normalise.phone import phone
from common.normalise.rejection import Normalised, Rejection
from common.normalise.text import text

__all__ = ["Normalised", "Rejection", "normalise", "normalise_value", "rule_of"]

Rule = Callable[[str], Normalised]
_BY_NORMALISER: Mapping[str, Rule] = {"email": email, "name": text, "text": text}
_BY_TYPE: Mapping[str, Rule] = {
    "integer": integer,
    "float": floating,
    "boolean": boolean,
    "date": day,
    "timestamp": timestamp,
    "country": country,
    "json": json_text,
}


def rule_of(column: Column, region: str) -> Rule | None:
    """The rule of a column; None where any text is stored as it came. A list comes out as a JSON array."""
    if column.parsed.of is not None:
        return list_of(column.parsed.of, _rule_of_one(column, column.parsed.of, region))
    return _rule_of_one(column, column.parsed, region)


def _rule_of_one(column: Column, kind: ColumnType, region: str) -> Rule | None:
    if column.normalise == "phone":
        return lambda value: phone(value, region)
    if column.normalise:
        return _BY_NORMALISER[column.normalise]
    if kind.kind == "decimal":
        return lambda value: decimal(value, kind.precision, kind.scale)
    if kind.kind == "enum":
        return one_of(column.values)
    if column.formats:
        return written_as(column.formats, _BY_TYPE[kind.kind])
    return _BY_TYPE.get(kind.kind)


def normalise(column: Column, value: str, *, region: str) -> Normalised:
    """The value as the column stores it, None when nothing is left of it, or a Rejection with the reason."""
    rule = rule_of(column, region)
    return value if rule is None else rule(value)


def normalise_value(column: Column, value: str, *, region: str) -> str | None:
    """The value as the column stores it, written as ClickHouse reads it; None: no row can hold this value.

    `region` is the ISO country that phone numbers without a + belong to.
    """
    normalised = normalise(column, value, region=region)
    return None if isinstance(normalised, Rejection) else normalised
