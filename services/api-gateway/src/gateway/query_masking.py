"""What a caller without the scope pii sees of personal columns, and what it may ask of them.

| column | shown as |
|---|---|
| e-mail | first letter, three stars, domain: `a***@example.com` |
| phone | of the same length, the first three and the last two characters: `+91********10` |
| name | first letter, three stars: `P***` |
| other text | three stars |
| anything else, and `extra` | nothing: null, or an empty list |

One whole value can be looked up in a column that identifies rows or has an exact index, since whoever asks has it
already. Whatever would let somebody find a value step by step cannot be asked: lists, negation, comparison, prefix,
contains, fuzzy, sorting, grouping, every metric but count and uniq, and any value of the other columns, which have few.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.query_columns import Field

MASKED_METRICS = frozenset({"count", "uniq"})
WITHOUT_PII = "a personal column: without the scope pii this is not possible"
_MASKS: Mapping[str, str] = {
    "email": "if(positionUTF8({0}, '@') < 2, '***', "
    "concat(substringUTF8({0}, 1, 1), '***', substringUTF8({0}, greatest(positionUTF8({0}, '@'), 2))))",
    "phone": "concat(substring({0}, 1, 3), repeat('*', greatest(length({0}), 5) - 5), "
    "substring({0}, greatest(length({0}) - 1, 4)))",
    "name": "concat(substringUTF8({0}, 1, 1), '***')",
}
_OTHER_TEXT = "if(isNull({0}), NULL, '***')"
# A null of the column's own type, which Parquet and Arrow need.
_NOTHING = "nullIf({0}, {0})"
_EMPTY_LIST = "arraySlice({0}, 1, 0)"


def shown(field: Field) -> str:
    """SQL of the column as this caller may see it."""
    if not field.hidden:
        return field.sql
    if field.kind == "list":
        return _EMPTY_LIST.format(field.sql)
    if field.kind != "string":
        return _NOTHING.format(field.sql)
    return _MASKS.get(field.column.normalise or "", _OTHER_TEXT).format(field.sql)
