"""Phone numbers by the metadata of the phonenumbers library, compiled into patterns that run over whole columns.

Only what the library would certainly read in this one way is decided here; it is asked for the rest (letters,
national prefixes, national numbers that are not valid). The steps are those of its parse() and
is_valid_number():
- digits after a + begin with a calling code; without a + they are a whole national number of the row's region, which
  is certain only if they match its general description and begin with neither its national nor its exit prefix;
- a calling code that several regions share belongs to the first whose leading digits or number types match;
- a number is valid if one of the number types of its region has its length and pattern.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
from phonenumbers import PhoneMetadata

from common.normalise.phone import REASON

_REGION_CHARS = 2
_WRITTEN_PLAINLY = r"^[A-Z]{2}\(?\+?[0-9(][0-9() ./-]{4,29}$"
_EXTENSION = r"(?i)([0-9]) *(?:extn?|x)[.:]? ?[0-9]{1,6}$"
_INTERNATIONAL = r"^[A-Z]{2}\(?\+"
_CODE_DIGITS_MAX = 3
_TYPES = (
    "mobile",
    "fixed_line",
    "premium_rate",
    "toll_free",
    "shared_cost",
    "voip",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
)

Mask = npt.NDArray[np.bool_]


def plain_phones(placed: Any) -> tuple[Any, Any, Any]:
    """Of texts that begin with their region's code: which are decided, E.164 of all, and why decided ones are refused.

    What stands at places that are not decided means nothing.
    """
    placed = pc.replace_substring_regex(placed, _EXTENSION, r"\1")
    shaped = _matches(placed, _WRITTEN_PLAINLY)
    international = shaped & _matches(placed, _INTERNATIONAL)
    digits = pc.replace_substring_regex(pc.utf8_slice_codeunits(placed, _REGION_CHARS), "[^0-9]+", "")
    right, wrong = np.zeros(len(placed), np.bool_), np.zeros(len(placed), np.bool_)
    codes = np.full(len(placed), "+", object)
    for code, rows in _by_calling_code(digits, international):
        national = pc.utf8_slice_codeunits(digits.take(rows), len(str(code)))
        certain, valid = _certain(_region(_main_region(code)), national), _valid(code, national)
        right[rows] = certain & valid
        # Refused for certain only where every region that might claim the number could be asked.
        wrong[rows] = certain & ~valid & _is_known(code)
    for name, rows in _by_region(placed, shaped & ~international):
        region = _region(name)
        if region is not None:
            national = digits.take(rows)
            right[rows] = _certain(region, national) & region.is_whole(national) & _valid(region.code, national)
            codes[rows] = f"+{region.code}"
    values = pc.binary_join_element_wise(pa.array(codes, pa.string()), digits, "")
    refused = pa.array(wrong)
    return (
        pa.array(right | wrong),
        pc.if_else(refused, pa.scalar(None, pa.string()), values),
        pc.if_else(refused, REASON, pa.scalar(None, pa.string())),
    )


def _by_calling_code(digits: Any, rows: Mask) -> Iterable[tuple[int, npt.NDArray[np.int64]]]:
    codes = {str(code): code for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    begins = pc.dictionary_encode(pc.utf8_slice_codeunits(digits, 0, _CODE_DIGITS_MAX))
    found = [
        next((codes[begin[:size]] for size in (1, 2, 3) if begin[:size] in codes), 0)
        for begin in begins.dictionary.to_pylist()
    ]
    of_row = np.where(rows, np.asarray([*found, 0])[begins.indices.to_numpy()], 0)
    return ((int(code), np.flatnonzero(of_row == code)) for code in np.unique(of_row) if code)


def _by_region(placed: Any, rows: Mask) -> Iterable[tuple[str, npt.NDArray[np.int64]]]:
    regions = pc.dictionary_encode(pc.utf8_slice_codeunits(placed, 0, _REGION_CHARS))
    of_row = np.where(rows, regions.indices.to_numpy(), -1)
    names = regions.dictionary.to_pylist()
    return ((names[index], np.flatnonzero(of_row == index)) for index in np.unique(of_row) if index >= 0)


def _certain(region: "_Region | None", national: Any) -> Mask:
    """Not something that parse() would take a prefix off."""
    if region is None:
        return np.zeros(len(national), np.bool_)
    certain = np.ones(len(national), np.bool_)
    for prefix in region.prefixes:
        certain &= ~_matches(national, f"^(?:{prefix})")
    return certain


@cache
def _is_known(code: int) -> bool:
    return all(_region(name) is not None for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code])


def _valid(code: int, national: Any) -> Mask:
    """is_valid_number(): the first region of the code that claims a number decides."""
    valid = np.zeros(len(national), np.bool_)
    open_rows = np.arange(len(national))
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]:
        region = _region(name)
        if region is None:
            break  # not certain of this one, nor of those it might have claimed from the next
        rest = national.take(open_rows)
        if region.leading is None:
            claimed = region.has_type(rest)
            valid[open_rows[claimed]] = True
        else:
            claimed = _matches(rest, f"^(?:{region.leading})")
            valid[open_rows[claimed]] = region.has_type(rest.take(np.flatnonzero(claimed)))
        open_rows = open_rows[~claimed]
        if not len(open_rows):
            break
    return valid


@dataclass(frozen=True)
class _Description:
    pattern: str
    lengths: tuple[int, ...]

    def fits(self, national: Any) -> Mask:
        fits = _matches(national, f"^(?:{self.pattern})$")
        if self.lengths:
            fits &= np.isin(pc.binary_length(national).to_numpy(), self.lengths)
        return fits


@dataclass(frozen=True)
class _Region:
    code: int
    general: _Description
    types: Sequence[_Description]
    leading: str | None
    prefixes: Sequence[str]

    def is_whole(self, national: Any) -> Mask:
        return self.general.fits(national)

    def has_type(self, national: Any) -> Mask:
        found = np.zeros(len(national), np.bool_)
        open_rows = np.flatnonzero(self.general.fits(national))
        for description in self.types:
            if not len(open_rows):
                break
            fits = description.fits(national.take(open_rows))
            found[open_rows[fits]] = True
            open_rows = open_rows[~fits]
        return found


@cache
def _region(name: str) -> _Region | None:
    """None where the library has no such region, or describes it by patterns that Arrow's engine cannot run."""
    metadata = PhoneMetadata.metadata_for_region(name, None) if name in phonenumbers.SUPPORTED_REGIONS else None
    general = _description(getattr(metadata, "general_desc", None))
    if metadata is None or metadata.country_code is None or general is None:
        return None
    region = _Region(
        metadata.country_code,
        general,
        [found for kind in _TYPES if (found := _description(getattr(metadata, kind)))],
        metadata.leading_digits,
        [prefix for prefix in (metadata.national_prefix_for_parsing, metadata.international_prefix) if prefix],
    )
    try:
        region.has_type(_PROBE)
        _certain(region, _PROBE)
        _matches(_PROBE, f"^(?:{region.leading or ''})")
    except pa.ArrowInvalid:
        return None
    return region


_PROBE = pa.array(["0", "2125550100"])


def _description(found: Any) -> _Description | None:
    pattern = getattr(found, "national_number_pattern", None)
    return _Description(pattern, tuple(found.possible_length)) if pattern else None


def _main_region(code: int) -> str:
    name: str = phonenumbers.region_code_for_country_code(code)
    return name


def _matches(texts: Any, pattern: str) -> Mask:
    found: Mask = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found
