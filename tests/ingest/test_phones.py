"""The compiled patterns against the library they were compiled from."""

import random

import phonenumbers
import pyarrow as pa
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from common.normalise import Rejection
from common.normalise.phone import phone
from ingest.phones import _region, plain_phones

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.TOLL_FREE, PhoneNumberType.VOIP)
FORMATS = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL)
EXTENSIONS = (
    "x7",
    " x 12",
    " ext. 12",
    "ext123456",
    " Ext:9",
    "x12345678",
    " EXTN 1",
    " x",
    "/x3",
    " ext.. 4",
    "12x",
    ", 5",
)
SOURCES = ("US", "CA", "GB", "DE", "IT", "IN", "BR", "AR", "MX", "RU", "KZ", "CN", "JP", "NO", "FI", "AU", "JM", "GG")


def examples(region: str, chance: random.Random) -> list[str]:
    """Real numbers of a region in several notations, with digits changed, dropped, added and put in front."""
    found: list[str] = []
    for kind in KINDS:
        number = phonenumbers.example_number_for_type(region, kind)
        if number is None:
            continue
        for written in (phonenumbers.format_number(number, one) for one in FORMATS):
            found += [written, _changed(written, chance), _changed(_changed(written, chance), chance)]
        found += [f"{written}{chance.choice(EXTENSIONS)}" for written in found[:3]]
        digits = str(number.national_number)
        found += [
            digits,
            digits[1:],
            digits[:-1],
            f"{digits}0",
            f"0{digits}",
            f"1{digits}",
            f"00{digits}",
            f"8{digits}",
        ]
        found += [
            f"{number.country_code}{digits}",
            f"+{number.country_code}0{digits}",
            f"+{number.country_code}1{digits}",
        ]
    return found


def _changed(written: str, chance: random.Random) -> str:
    places = [place for place, mark in enumerate(written) if mark.isdigit()]
    place = chance.choice(places)
    return written[:place] + chance.choice("0123456789") + written[place + 1 :]


def disagreements(placed: list[str]) -> list[tuple[str, object, object]]:
    decided, values, reasons = plain_phones(pa.array(placed))
    found: list[tuple[str, object, object]] = []
    for text, certain, value, reason in zip(
        placed, decided.to_pylist(), values.to_pylist(), reasons.to_pylist(), strict=True
    ):
        ours = Rejection(reason) if reason else value
        if certain and phone(text[2:], text[:2]) != ours:
            found.append((text, ours, phone(text[2:], text[:2])))
    return found


@pytest.mark.parametrize("start", range(0, len(REGIONS), 35))
def test_every_region_is_read_as_the_library_reads_it(start: int) -> None:
    chance = random.Random(start)  # noqa: S311 - the same numbers each time
    placed = [f"{region}{text}" for region in REGIONS[start : start + 35] for text in examples(region, chance)]
    placed += [f"{source}{text[2:]}" for text in placed[::7] for source in chance.sample(SOURCES, 2)]
    assert disagreements(placed) == []


def test_any_digits_are_read_as_the_library_reads_them() -> None:
    chance = random.Random(7)  # noqa: S311 - likewise
    placed = [
        chance.choice(SOURCES)
        + chance.choice(["", "+", "(", "+1", "+44", "+7", "00"])
        + str(chance.randrange(10**6, 10**12))
        for _ in range(8000)
    ]
    assert disagreements(placed) == []


@pytest.mark.parametrize(
    "text", ["US212 555 0100 /x7", "US1-800-FLOWERS", "USn/a", "US", "XX2125550100", "US+999123456"]
)
def test_what_is_not_plain_is_left_to_the_library(text: str) -> None:
    decided, _, _ = plain_phones(pa.array([text]))
    assert decided.to_pylist() == [False]


def test_most_regions_are_compiled_and_plain_numbers_are_decided_without_the_library() -> None:
    assert sum(1 for name in REGIONS if _region(name)) > 0.95 * len(REGIONS)
    placed = [
        "US(212) 555-0100",
        "US+44 7911 123456",
        "DE+49 1512 3456789",
        "IN98765 43210",
        "CA+1 416-555-0100 ext. 7",
    ]
    decided, values, reasons = plain_phones(pa.array([*placed, "US+44 7700 900123"]))
    assert decided.to_pylist() == [True] * 6
    assert reasons.to_pylist() == [None] * 5 + ["phone_invalid"]
    assert values.to_pylist()[:2] == ["+12125550100", "+447911123456"]
    assert not isinstance(phone("98765 43210", "IN"), Rejection)
