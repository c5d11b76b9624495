"""The vectorised shortcuts against the rules they stand for."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.datasets import Column
from common.normalise import Rejection, normalise
from ingest.normalise import arrow_type, normal, normal_phones

COLUMNS = {
    "email": Column(type="string", normalise="email"),
    "name": Column(type="string", normalise="name"),
    **{kind: Column(type=kind) for kind in ("integer", "float", "boolean", "date", "timestamp", "country", "json")},
    "decimal": Column(type="decimal(12,3)"),
}
characters = st.characters(exclude_categories=["Cs"])
DAY, TIME = "(19|20)[0-9]{2}-[0-3][0-9]-[0-3][0-9]", "[0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
likely = st.one_of(
    st.text(characters, max_size=20),
    st.text("0123456789.eE+-", max_size=20),
    st.text("0123456789-:TZ. +", max_size=26),
    st.text("ab1.-_@ \tÄéﬁ", max_size=16),
    st.from_regex(r"[A-Za-z0-9.+-]{1,20}@[a-z0-9.-]{1,20}\.[a-z0-9]{1,5} ?", fullmatch=True),
    st.from_regex(rf"{DAY}([T ]{TIME}(\.[0-9]{{1,7}})?(Z|[+-][01][0-9]:?[0-9]{{2}})?)?", fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.parametrize("name", sorted(COLUMNS))
@given(texts=st.lists(st.one_of(st.none(), likely), min_size=1, max_size=30))
def test_a_column_becomes_what_its_rule_makes_of_each_value(name: str, texts: list[str | None]) -> None:
    column = COLUMNS[name]
    found = normal(column, pa.array(texts, pa.string()), region="US")
    answers = [None if text is None else normalise(column, text, region="US") for text in texts]
    expected = [None if isinstance(answer, Rejection) else answer for answer in answers]
    reasons = [answer.reason if isinstance(answer, Rejection) else None for answer in answers]
    assert found.values.equals(pa.array(expected, pa.string()).cast(arrow_type(column)))
    assert (found.reasons.to_pylist() if found.reasons is not None else [None] * len(texts)) == reasons


def test_phones_take_the_region_of_their_row() -> None:
    texts = pa.array(["0151 23456789", "0151 23456789", None, "+1 212 555 0100", ""])
    found = normal_phones(texts, pa.array(["DE", "US", "DE", "IN", "US"]))
    assert found.values.to_pylist() == ["+4915123456789", None, None, "+12125550100", None]
    assert found.reasons is not None
    assert found.reasons.to_pylist() == [None, "phone_invalid", None, None, None]
