import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.query_seals import BadSeal, Seals


@given(content=st.recursive(st.none() | st.text() | st.integers(-(2**53), 2**53), st.lists))
def test_what_was_sealed_comes_back(content: object) -> None:
    seals = Seals(["key"])
    assert seals.open("cursor", seals.seal("cursor", content)) == content


def test_a_key_is_rotated_by_putting_a_new_one_in_front() -> None:
    old = Seals(["old"]).seal("quote", {"most": 5})
    assert Seals(["new", "old"]).open("quote", old) == {"most": 5}
    with pytest.raises(BadSeal):
        Seals(["new"]).open("quote", old)
    assert Seals(["new"]).open("quote", Seals(["new", "old"]).seal("quote", 1)) == 1


def test_a_seal_is_for_one_purpose_and_shows_nothing() -> None:
    sealed = Seals(["key"]).seal("cursor", {"email": "a@b.com"})
    assert b"a@b.com" not in base64.urlsafe_b64decode(sealed + "===")
    assert sealed != Seals(["key"]).seal("cursor", {"email": "a@b.com"})
    with pytest.raises(BadSeal):
        Seals(["key"]).open("quote", sealed)


def test_any_change_breaks_a_seal() -> None:
    sealed = Seals(["key"]).seal("cursor", [1, 2, 3])
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    for place in range(len(raw)):
        changed = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        with pytest.raises(BadSeal):
            Seals(["key"]).open("cursor", base64.urlsafe_b64encode(changed).decode())


@given(text=st.text())
def test_what_is_no_seal_is_refused(text: str) -> None:
    with pytest.raises(BadSeal):
        Seals(["key"]).open("cursor", text)


def test_without_a_key_nothing_starts() -> None:
    with pytest.raises(ValueError, match="signing key"):
        Seals([])
