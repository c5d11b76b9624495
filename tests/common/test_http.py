import pytest
from pydantic import BaseModel, ConfigDict

from common.errors import InvalidRequest, MalformedJson
from common.http import parse_body, strict_json


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    limit: int = 1
    text: str = ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"limit": 1,}',
        '{"limit": 1}'.encode("utf-16"),
        b'{"text": "\xff"}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=["empty", "cut", "quotes", "comma", "utf-16", "bad utf-8", "100,000 levels"],
)
def test_what_is_not_json_in_utf8_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        strict_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"limit": NaN}',
        b'{"limit": -Infinity}',
        b'{"limit": 1e400}',
        b'{"limit": 1, "limit": 2}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"\\udfff": 1}',
        b'{"text": ["deep", {"er": "\\ud83d"}]}',
    ],
)
def test_json_that_parsers_let_through_and_databases_do_not_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        strict_json(raw)


def test_surrogate_pairs_are_text_like_any_other() -> None:
    assert strict_json(b'{"text": "\\ud83d\\ude00"}') == {"text": "\U0001f600"}


@pytest.mark.parametrize("raw", [b'{"limit": true}', b'{"limit": "5"}', b'{"limits": 5}', b"[]", b"7"])
def test_each_fault_is_named_with_its_path_and_without_the_input(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(Ask, raw)
    assert caught.value.details
    assert set(caught.value.details[0]) == {"path", "error"}
