"""Countries: ISO 3166 alpha-2 from either code, a name or a common alias, in any case and with or without accents."""

import re
import unicodedata
from functools import cache
from importlib.resources import files

from common.normalise.rejection import Normalised, Rejection

REASON = "country_unknown"
_NOT_LETTERS = re.compile(r"[^a-z]+")


def country(value: str) -> Normalised:
    if not value.strip():
        return None
    return _by_label().get(_label(value)) or Rejection(REASON)


def _label(written: str) -> str:
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", written) if not unicodedata.combining(mark))
    return _NOT_LETTERS.sub("", bare.lower().replace("&", "and"))


@cache
def _by_label() -> dict[str, str]:
    lines = (files("common.normalise") / "countries.txt").read_text(encoding="utf-8").splitlines()
    labels: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        alpha2, alpha3, names = line.split(" ", 2)
        labels |= {_label(label): alpha2 for label in (alpha2, alpha3, *names.split("|"))}
    return labels
