from pathlib import Path

import pytest

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
    ("text", "said"),
    [
        (_HEAD + "price: {per_row: 0.0001}", "price.per_row"),
        (_HEAD + "price: {per_query: 5, per_query_max: 1}", "per_query_max"),
        (_HEAD.replace("[code]", "[kode]"), "kode"),
        (_HEAD.replace("type: string", "type: strnig"), "strnig"),
        (_HEAD.replace("code:", "dedupe_key:").replace("[code]", "[]"), "dedupe_key"),
        (_HEAD + "  other: {type: string, aliases: [code]}", "code"),
        (_HEAD + "colour: red", "colour"),
        ("name: [", "things.yaml"),
        (_HEAD.replace("name: things", "name: other"), "other"),
    ],
)
def test_a_bad_declaration_names_the_file_and_the_fault(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        load_datasets(_declare(tmp_path, text))
    assert "things.yaml" in str(caught.value)
    assert said in str(caught.value)


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"\.yaml"):
        load_datasets(tmp_path)
