from pathlib import Path

import pytest

from common.column_types import ColumnType, column_type
from common.datasets import load_datasets
from common.settings import BadSettings

_HEAD = "name: things\nidentity: [code]\ncolumns:\n  code: {type: string}\n"


def _declare(folder: Path, text: str) -> Path:
    (folder / "things.yaml").write_text(text)
    return folder


def test_the_shipped_datasets_are_valid() -> None:
    datasets = load_datasets(Path("configs/datasets"))
    assert set(datasets) == {"people", "flights"}
    assert datasets["people"].identity[-1] == ("source", "source_id")


def test_an_input_field_finds_its_column_by_name_alias_and_spelling() -> None:
    people = load_datasets(Path("configs/datasets"))["people"]
    assert people.column_of("E-mail") is None
    assert people.column_of("Email Address") == "email"
    assert people.column_of(" FNAME ") == "first_name"


def test_prices_are_read_as_credits_and_kept_as_millicredits(tmp_path: Path) -> None:
    things = load_datasets(_declare(tmp_path, _HEAD + "price: {per_query: 0.5, per_row: 0.001, per_query_max: 2}"))
    assert things["things"].price.per_query == 500
    assert things["things"].price.per_row == 1


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (_HEAD + "price: {per_row: 0.0001}", 5, "price.per_row"),
        (_HEAD + "price: {per_query: 5, per_query_max: 1}", 5, "per_query_max"),
        (_HEAD.replace("[code]", "[kode]"), 2, "identity names 'kode', which is not a column"),
        (_HEAD.replace("type: string", "type: strnig"), 4, "unknown type 'strnig': string, integer, decimal(p,s)"),
        (_HEAD.replace("type: string", "type: 'decimal(39,2)'"), 4, "p from 1 to 38"),
        (_HEAD.replace("type: string", "type: decimal(9,2)"), 4, 'as in "decimal(9,2)"'),
        (_HEAD.replace("type: string", "type: list(json)"), 4, "declare the column as json"),
        (_HEAD.replace("type: string", "type: enum"), 4, "an enum needs values: [first, second]"),
        (_HEAD.replace("type: string", "type: list(string)"), 2, "'code' is a list(string) and cannot identify a row"),
        (_HEAD + "  n: {type: integer, normalise: email}", 5, "email needs type string"),
        (_HEAD.replace("code:", "dedupe_key:").replace("[code]", "[]"), 4, "dedupe_key"),
        (_HEAD + "  other: {type: string, aliases: [code]}", 5, "'code' names both 'code' and 'other'"),
        (_HEAD + "  d: {type: date, formats: [dd.mm]}", 5, "'dd.mm' is not a format such as"),
        (_HEAD + "  code: {type: integer}", 5, "'code' is there twice, first in line 4"),
        (_HEAD + "colour: red", 5, "colour: is not known here; expected one of name, description"),
        (_HEAD.replace("type: string", "type: string, pi: true"), 4, "did you mean pii? "),
        (_HEAD + "extra: kep", 5, "'keep', 'drop' or 'reject'"),
        (_HEAD + "retention:\n  rows: 730d\n  objects: 30", 7, "retention.objects: expected days from 1d"),
        (_HEAD + "access:\n  query: {roles: [boss]}", 6, "'super_admin', 'admin', 'viewer' or 'user'"),
        ("name: [", 1, "not valid YAML"),
        ("identity: []\ncolumns: {a: {type: string}}", 1, "name: is missing"),
        ("[]", 1, "expected a mapping"),
        (_HEAD.replace("name: things", "name: other"), 1, "they must be the same"),
        (_HEAD.replace("name: things", "name: people_history"), 1, "the name of a table of the system"),
    ],
)
def test_a_bad_declaration_names_the_file_the_line_and_what_would_be_right(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        load_datasets(_declare(tmp_path, text))
    assert f"things.yaml:{line}: " in str(caught.value)
    assert said in str(caught.value)


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    text = _HEAD + "  n: {type: intger}\nextra: kep\n"
    with pytest.raises(BadSettings) as caught:
        load_datasets(_declare(tmp_path, text))
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["5", "6"]


def test_terms_are_open_unless_they_are_declared(tmp_path: Path) -> None:
    things = load_datasets(_declare(tmp_path, _HEAD))["things"]
    assert things.access.may_query("user", "ada")
    assert things.access.may_load("user", "ada")
    assert things.retention.rows is None
    closed = load_datasets(
        _declare(tmp_path, _HEAD + "access: {query: {roles: [admin], users: [ada]}, load: {}}\nretention: {rows: 2d}\n")
    )["things"]
    assert [closed.access.may_query(*who) for who in (("user", "ada"), ("user", "bob"), ("admin", "bob"))] == [
        True, False, True,
    ]  # fmt: skip
    assert not closed.access.may_load("admin", "ada")
    assert closed.access.may_load("super_admin", "root")
    assert closed.retention.rows == 2


def test_types_are_read_into_their_parts() -> None:
    assert column_type("decimal(12, 2)") == ColumnType("decimal", 12, 2)
    assert column_type("list(decimal(4,1))").item == ColumnType("decimal", 4, 1)
    assert column_type("string").item.kind == "string"


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"\.yaml"):
        load_datasets(tmp_path)
