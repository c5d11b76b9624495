import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.datasets import Column
from common.normalise import Rejection, normalise, normalise_value

EMAIL = Column(type="string", normalise="email")
PHONE = Column(type="string", normalise="phone")
TEXT = Column(type="string", normalise="text")


def written(column: Column, value: str, region: str = "US") -> Any:
    found = normalise(column, value, region=region)
    return f"!{found.reason}" if isinstance(found, Rejection) else found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" Ada.Lovelace@Example.COM\t", "ada.lovelace@example.com"),
        ("o'hara+tag@sub.example.co.uk", "o'hara+tag@sub.example.co.uk"),
        ('"Ada L"@example.com', '"ada l"@example.com'),
        ("jörg@exämple.de", "jörg@exämple.de"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        ("a" * 65 + "@example.com", "!email_syntax"),
        ("a@" + "b" * 64 + ".com", "!email_syntax"),
        ("a@" + ".".join(["b" * 60] * 5), "!email_syntax"),
        ("ada@localhost", "!email_syntax"),
        ("ada@[192.0.2.1]", "!email_syntax"),
        ("ada@192.0.2.1", "!email_syntax"),
        (".ada@example.com", "!email_syntax"),
        ("a..b@example.com", "!email_syntax"),
        ("ada@-example.com", "!email_syntax"),
        ("ada@example.com, bob@example.com", "!email_syntax"),
        ("ada", "!email_syntax"),
        ("@", "!email_syntax"),
        ("ada\x00@example.com", "!email_syntax"),
        ("   ", None),
    ],
)
def test_an_email_is_lower_case_and_within_its_limits(value: str, expected: str | None) -> None:
    assert written(EMAIL, value) == expected


@pytest.mark.parametrize(
    ("value", "region", "expected"),
    [
        ("(212) 555-0100", "US", "+12125550100"),
        ("+1 212-555-0100 ext. 7", "DE", "+12125550100"),
        ("0151 23456789", "DE", "+4915123456789"),
        ("098765 43210", "IN", "+919876543210"),
        ("+44 7911 123456", "US", "+447911123456"),
        ("12", "US", "!phone_invalid"),
        ("n/a", "US", "!phone_invalid"),
        ("+1 212", "US", "!phone_invalid"),
        ("9" * 300, "US", "!phone_invalid"),
        ("", "US", None),
    ],
)
def test_a_phone_is_e164_by_its_region(value: str, region: str, expected: str | None) -> None:
    assert written(PHONE, value, region) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  Ada \t\n Lovelace ", "Ada Lovelace"),
        ("Jose\u0301", "José"),
        ("A\x00d\x07a", "Ada"),
        ("a\u00a0b\u2028c", "a b c"),
        ("MacDonald", "MacDonald"),
        (" \t ", None),
    ],
)
def test_text_is_composed_and_its_white_space_single(value: str, expected: str | None) -> None:
    assert written(TEXT, value) == expected


@given(st.text())
def test_normalised_text_stays_as_it_is(value: str) -> None:
    once = written(TEXT, value)
    assert once is None or (written(TEXT, once) == once and unicodedata.is_normalized("NFC", once))


@given(st.text())
def test_a_normalised_email_stays_as_it_is(value: str) -> None:
    once = normalise_value(EMAIL, value, region="US")
    assert once is None or normalise_value(EMAIL, once, region="US") == once


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("us", "US"),
        ("USA", "US"),
        ("United States of America", "US"),
        ("united kingdom", "GB"),
        ("Côte d\u2019Ivoire", "CI"),
        ("COTE DIVOIRE", "CI"),
        ("Trinidad & Tobago", "TT"),
        ("Türkiye", "TR"),
        ("Deutschland", "DE"),
        ("Atlantis", "!country_unknown"),
        ("X", "!country_unknown"),
        ("", None),
    ],
)
def test_a_country_is_its_alpha_2_code(value: str, expected: str | None) -> None:
    assert written(Column(type="country"), value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-31T23:59:59Z", "2026-01-31 23:59:59.000000"),
        ("2026-01-31T23:59:59.123456789+02:00", "2026-01-31 21:59:59.123456"),
        ("2026-01-31 23:59", "2026-01-31 23:59:00.000000"),
        ("2026-01-31", "2026-01-31 00:00:00.000000"),
        ("20260131", "2026-01-31 00:00:00.000000"),
        ("20260131235959", "2026-01-31 23:59:59.000000"),
        ("1700000000", "2023-11-14 22:13:20.000000"),
        ("1700000000.25", "2023-11-14 22:13:20.250000"),
        ("1700000000123", "2023-11-14 22:13:20.123000"),
        ("-1000000000", "1938-04-24 22:13:20.000000"),
        ("1900-01-01T00:00:00Z", "1900-01-01 00:00:00.000000"),
        ("1899-12-31T23:59:59Z", "!timestamp_range"),
        ("2200-01-01T00:00:00Z", "!timestamp_range"),
        ("9999999999999", "!timestamp_range"),
        ("0001-01-01T00:00:00+14:00", "!timestamp_range"),
        ("31/31/2026", "!timestamp_syntax"),
        ("2026", "!timestamp_syntax"),
        ("12345", "!timestamp_syntax"),
        ("2026-02-30T00:00:00Z", "!timestamp_syntax"),
        ("yesterday", "!timestamp_syntax"),
    ],
)
def test_a_timestamp_is_utc_and_never_clamped(value: str, expected: str) -> None:
    assert written(Column(type="timestamp"), value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", " 42 ", "42"),
        ("integer", "+7", "7"),
        ("integer", "517.0", "517"),
        ("integer", "517.5", "!integer_syntax"),
        ("integer", "1e3", "!integer_syntax"),
        ("integer", "1_000", "!integer_syntax"),
        ("integer", "٣", "!integer_syntax"),
        ("integer", str(2**63 - 1), str(2**63 - 1)),
        ("integer", str(2**63), "!integer_range"),
        ("integer", str(-(2**63)), str(-(2**63))),
        ("integer", "9" * 100_000, "!integer_range"),
        ("float", "1.50", "1.5"),
        ("float", ".5", "0.5"),
        ("float", "NaN", None),
        ("float", "-Infinity", "!float_range"),
        ("float", "1e400", "!float_range"),
        ("float", "1,5", "!float_syntax"),
        ("boolean", "Yes", "true"),
        ("boolean", "0", "false"),
        ("boolean", "2", "!boolean_syntax"),
        ("date", "2026-01-31", "2026-01-31"),
        ("date", "2026-01-31T00:00:00", "2026-01-31"),
        ("date", "2026-01-31T01:00:00", "!date_syntax"),
        ("date", "2200-01-01", "!date_range"),
        ("date", "1/2/2026", "!date_syntax"),
        ("decimal(9,2)", "12.3", "12.30"),
        ("decimal(9,2)", "-1e3", "-1000.00"),
        ("decimal(9,2)", "12.345", "!decimal_range"),
        ("decimal(9,2)", "12345678.00", "!decimal_range"),
        ("decimal(9,2)", "1e999999999", "!decimal_range"),
        ("decimal(9,2)", "1e-999999999", "!decimal_range"),
        ("decimal(9,0)", "7.00", "7"),
        ("decimal(9,2)", "ten", "!decimal_syntax"),
        ("json", '{"a": 1}', '{"a":1}'),
        ("json", "{a}", "!json_syntax"),
        ("json", "[" * 100_000, "!json_syntax"),
        ("string", " as it is ", " as it is "),
    ],
)
def test_a_typed_value_is_exact_or_refused(kind: str, value: str, expected: str | None) -> None:
    assert written(Column(type=kind), value) == expected


@pytest.mark.parametrize(
    "kind", ["integer", "float", "boolean", "date", "timestamp", "country", "json", "decimal(9,2)"]
)
@given(value=st.text(max_size=60))
def test_any_text_is_answered_and_the_answer_stays_as_it_is(kind: str, value: str) -> None:
    once = normalise_value(Column(type=kind), value, region="US")
    assert once is None or normalise_value(Column(type=kind), once, region="US") == once


def test_a_value_that_no_row_can_hold_is_none() -> None:
    assert normalise_value(EMAIL, "nobody", region="US") is None


@pytest.mark.parametrize(
    ("column", "given", "stored"),
    [
        (Column(type="enum", values=("new", "Used")), " USED ", "Used"),
        (Column(type="enum", values=("new", "Used")), "old", Rejection("enum_value")),
        (Column(type="enum", values=("a", "A")), "A", "A"),
        (Column(type="list(integer)"), "1; 2;;3", "[1,2,3]"),
        (Column(type="list(integer)"), "[1, null, 2]", "[1,2]"),
        (Column(type="list(integer)"), "1;two", Rejection("integer_syntax")),
        (Column(type="list(integer)"), "[[1]]", Rejection("list_syntax")),
        (Column(type="list(string)"), "[", Rejection("list_syntax")),
        (Column(type="list(boolean)"), "yes;no", "[true,false]"),
        (Column(type="list(string)", normalise="email"), "A@X.org;b@x.org", '["a@x.org","b@x.org"]'),
        (Column(type="list(enum)", values=("a", "b")), "B", '["b"]'),
        (Column(type="list(decimal(6,2))"), "1.5;2", '["1.50","2.00"]'),
        (Column(type="list(float)"), " ", None),
        (Column(type="date", formats=("%d.%m.%Y", "%d/%m/%y")), "31.12.2025", "2025-12-31"),
        (Column(type="date", formats=("%d.%m.%Y", "%d/%m/%y")), "01/02/26", "2026-02-01"),
        (Column(type="date", formats=("%d.%m.%Y",)), "2025-12-31", "2025-12-31"),
        (Column(type="date", formats=("%d.%m.%Y",)), "31.02.2025", Rejection("date_syntax")),
        (
            Column(type="timestamp", formats=("%d.%m.%Y %H:%M %z",)),
            "1.2.2026 01:30 +0100",
            "2026-02-01 00:30:00.000000",
        ),
        (Column(type="timestamp", formats=("%d.%m.%Y",)), "1.2.1800", Rejection("timestamp_range")),
        (Column(type="timestamp", formats=("%d.%m.%Y",)), " ", None),
    ],
)
def test_values_are_written_as_their_declaration_says(column: Column, given: str, stored: object) -> None:
    assert normalise(column, given, region="US") == stored
