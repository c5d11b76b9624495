from typing import Any

import orjson
import pytest

from common.redaction import clean, clean_details

KEY = "bd_0a1b2c3d_" + "x" * 43
CONTROLS = ["\r", "\n", "\x00", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"]


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_are_escaped(control: str) -> None:
    cleaned = clean(f"ada{control}[31m", 100)
    assert control not in cleaned
    assert cleaned.startswith("ada\\")
    assert cleaned.endswith("[31m")


@pytest.mark.parametrize(
    "secret",
    [KEY, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "Bearer abc.def", "basic dTpw"],
)
def test_what_looks_like_a_secret_is_hidden(secret: str) -> None:
    assert clean(f"key {secret} of", 200) == "key [hidden] of"


def test_the_password_in_an_address_is_hidden() -> None:
    assert clean("postgresql://ada:secret@host/db", 200) == "postgresql://[hidden]@host/db"


def test_a_secret_is_hidden_before_the_text_is_cut() -> None:
    assert clean("x" * 10 + " " + KEY, 20) == "x" * 10 + " [hidden]"


@pytest.mark.parametrize("text", ["ada", "/v1/query", "2001:db8::1", "Grüße, 日本", "bd_0a1b2c3d", ""])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text, 100) == text


def test_long_text_is_cut_and_shows_it() -> None:
    assert clean("x" * 1_000_000, 64) == "x" * 63 + "…"


def test_every_text_of_the_details_is_clean_and_what_was_a_number_stays_one() -> None:
    told = {
        "role": {"old": "user", "new": f"admin {KEY}"},
        "credits": {"old": 1.5, "new": 2},
        "why\r\n": ["a\x00b", None],
    }
    assert orjson.loads(clean_details(told)) == {
        "role": {"old": "user", "new": "admin [hidden]"},
        "credits": {"old": 1.5, "new": 2},
        "why\\x0d\\x0a": ["a\\x00b", None],
    }


@pytest.mark.parametrize("details", [{"n": 2**70}, {f"k{n}": "x" * 200 for n in range(50)}])
def test_details_that_are_no_details_are_not_kept(details: dict[str, Any]) -> None:
    assert clean_details(details) == '{"cut":true}'


def test_details_within_details_end_somewhere() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"more": deep}
    assert len(clean_details(deep)) < 100
