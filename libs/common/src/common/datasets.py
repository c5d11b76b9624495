"""Datasets are declared: one YAML file each, the same for every service (design: ingestion.md)."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from common.settings import BadSettings

_NAME = r"^[a-z][a-z0-9_]{0,62}$"
_SCALAR = re.compile(r"string|integer|float|boolean|date|timestamp|country|json|decimal\(\d+,\s*\d+\)")
SYSTEM_COLUMNS: Mapping[str, str] = {
    "dedupe_key": "string",
    "ingest_ts": "timestamp",
    "upload_id": "string",
    "row_no": "integer",
}


class Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    normalise: Literal["email", "phone", "name", "text"] | None = None
    aliases: tuple[str, ...] = ()
    pii: bool = False
    index: Literal["exact", "text"] | None = None

    @model_validator(mode="after")
    def _known_type(self) -> Self:
        if not _SCALAR.fullmatch(self.type):
            raise ValueError(
                f"unknown type {self.type!r}: string, integer, decimal(p,s), float, boolean, date, "
                "timestamp, country or json"
            )
        if self.normalise and self.type != "string":
            raise ValueError(f"normalise: {self.normalise} needs type string, not {self.type}")
        return self


def _to_millicredits(value: object) -> object:
    """The file says credits; inside, amounts are integers of a thousandth."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    millicredits = round(value * 1000)
    if abs(millicredits - value * 1000) > 1e-6:  # noqa: PLR2004 - float noise of a decimal with three places
        raise ValueError("credits have at most three decimal places")
    return millicredits


Millicredits = Annotated[int, BeforeValidator(_to_millicredits), Field(ge=0, le=10**12)]


class PriceList(BaseModel):
    """What a query costs, in millicredits once read. `cached` is the share of the price that a cached answer costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_query: Millicredits = 1000
    per_row: Millicredits = 0
    per_million_rows_read: Millicredits = 0
    per_query_max: Millicredits = 20_000
    aggregate: Millicredits | None = Field(None, description="per_query of an aggregation; per_query when absent")
    cached: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _cap_covers_query(self) -> Self:
        if self.per_query_max < max(self.per_query, self.aggregate or 0):
            raise ValueError("per_query_max is below the price of one query")
        return self


class Dataset(BaseModel):
    """A declaration. `identity`: the first whose columns are all present identifies a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    description: str = ""
    identity: tuple[tuple[str, ...], ...] = ()
    columns: dict[str, Column] = Field(min_length=1)
    extra: Literal["keep", "drop", "reject"] = "keep"
    on_invalid: Literal["drop_value", "reject_row"] = "drop_value"
    default_region: str = Field("US", pattern="^[A-Z]{2}$", description="of phone numbers in rows without a country")
    price: PriceList = PriceList()

    @model_validator(mode="before")
    @classmethod
    def _identity_as_lists(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("identity"), list):
            return data | {"identity": [[one] if isinstance(one, str) else one for one in data["identity"]]}
        return data

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        for name in self.columns:
            if not re.fullmatch(_NAME, name) or name in SYSTEM_COLUMNS or name in {"version", "extra"}:
                raise ValueError(f"column name {name!r} is reserved or not a lower-case identifier")
        for names in self.identity:
            for name in names:
                if name not in self.columns:
                    raise ValueError(f"identity names {name!r}, which is not a column")
        seen: dict[str, str] = {}
        for name, column in self.columns.items():
            for label in (name, *column.aliases):
                if seen.setdefault(label, name) != name:
                    raise ValueError(f"{label!r} names both {seen[label]!r} and {name!r}")
        return self

    def column_of(self, label: str) -> str | None:
        """The column that an input field of this name fills, by name or alias; case and blanks do not matter."""
        return self._by_label.get(label.strip().lower().replace(" ", "_"))

    @cached_property  # asked for every field of every record
    def _by_label(self) -> dict[str, str]:
        return {label: name for name, column in self.columns.items() for label in (name, *column.aliases)}


class Datasets(Mapping[str, Dataset]):
    """Every declared dataset, by name."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = dict(datasets)

    def __getitem__(self, name: str) -> Dataset:
        return self._datasets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


def load_datasets(folder: Path) -> Datasets:
    """Read and check every declaration in the folder; BadSettings names the file and the place of the first fault."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BadSettings(f"{folder}: no dataset is declared here, expected at least one .yaml file")
    return Datasets({file.stem: _load(file) for file in files})


def _load(file: Path) -> Dataset:
    try:
        dataset = Dataset.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as exc:
        raise BadSettings(f"{file}: {exc}") from None
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        raise BadSettings(f"{file}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    if dataset.name != file.stem:
        raise BadSettings(f"{file}: name is {dataset.name!r}, the file says {file.stem!r}")
    return dataset
