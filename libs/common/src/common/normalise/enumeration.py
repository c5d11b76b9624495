"""Enums: one of the declared values, whatever its case or the blanks around it."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from common.normalise.rejection import Normalised, Rejection


@lru_cache(1000)
def one_of(values: Sequence[str]) -> Callable[[str], Normalised]:
    by_label = {value.casefold(): value for value in reversed(values)} | {value: value for value in values}

    def rule(text: str) -> Normalised:
        written = text.strip()
        if not written:
            return None
        return by_label.get(written) or by_label.get(written.casefold()) or Rejection("enum_value")

    return rule
