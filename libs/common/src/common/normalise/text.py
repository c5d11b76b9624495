"""Names and text: Unicode NFC, control characters gone, white space collapsed. Case is the writer's own."""

import re
import unicodedata

from common.normalise.rejection import Normalised

_WHITE = re.compile(r"\s+")
# The white ones (tab, line feed, \x1c to \x1f, next line) are blanks by the time this is applied.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text(value: str) -> Normalised:
    """Blank is nothing. Composed last: removing a character may let its neighbours compose."""
    blanks = _CONTROL.sub("", _WHITE.sub(" ", value))
    return unicodedata.normalize("NFC", _WHITE.sub(" ", blanks)).strip() or None
