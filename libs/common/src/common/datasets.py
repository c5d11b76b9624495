"""Datasets are declared: one YAML file each, the same for every service (design: ingestion.md)."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from common.column_types import ColumnType, column_type
from common.dataset_faults import Misplaced, explained
from common.dataset_terms import Access, Retention
from common.settings import BadSettings
from common.yaml_places import BadYaml, Document, read_yaml

_NAME = r"^[a-z][a-z0-9_]{0,62}$"
# Of no dataset: the tables of one are <name>, <name>_history and <name>_fill, and this is every dataset's.
_RESERVED_TABLES = frozenset({"quarantine", "erased"})
_RESERVED_ENDS = ("_history", "_fill")
SYSTEM_COLUMNS: Mapping[str, str] = {
    "dedupe_key": "string",
    "ingest_ts": "timestamp",
    "upload_id": "string",
    "row_no": "integer",
}


class Column(BaseModel):
    """`formats`: how dates and timestamps may be written besides ISO 8601 and epochs, in strptime's notation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    values: tuple[str, ...] = Field((), description="of an enum: what it may be")
    normalise: Literal["email", "phone", "name", "text"] | None = None
    aliases: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    pii: bool = False
    index: Literal["exact", "text"] | None = None

    @field_validator("type")
    @classmethod
    def _known_type(cls, text: str) -> str:
        column_type(text)
        return text

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        kind, item = self.parsed.kind, self.parsed.item.kind
        if self.normalise and item != "string":
            raise Misplaced(("normalise",), f"{self.normalise} needs type string or list(string), not {self.type}")
        if item == "enum" and (not self.values or len(set(self.values)) < len(self.values) or "" in self.values):
            raise Misplaced(("values",), "an enum needs values: [first, second], each once and none empty")
        if self.values and item != "enum":
            raise Misplaced(("values",), f"only an enum has values, not {self.type}")
        if self.formats and item not in {"date", "timestamp"}:
            raise Misplaced(("formats",), f"only dates and timestamps have formats, not {self.type}")
        for place, form in enumerate(self.formats):
            if not _reads_what_it_writes(form):
                raise Misplaced(("formats", place), f"{form!r} is not a format such as %d.%m.%Y %H:%M")
        if self.index == "exact" and kind == "json":
            raise Misplaced(("index",), "a json column cannot be looked up; declare what is looked up as a column")
        if self.index == "text" and kind != "string":
            raise Misplaced(("index",), f"a text index needs type string, not {self.type}")
        return self

    @property
    def parsed(self) -> ColumnType:
        return column_type(self.type)


def _reads_what_it_writes(form: str) -> bool:
    moment = datetime(2001, 12, 31, 13, 14, 15, tzinfo=UTC)
    try:
        return datetime.strptime(moment.strftime(form), form).day == moment.day  # noqa: DTZ007 - its day is all that counts
    except ValueError:
        return False


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
    access: Access = Access()
    retention: Retention = Retention()

    @model_validator(mode="before")
    @classmethod
    def _identity_as_lists(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("identity"), list):
            return data | {"identity": [[one] if isinstance(one, str) else one for one in data["identity"]]}
        return data

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        if self.name in _RESERVED_TABLES or self.name.endswith(_RESERVED_ENDS):
            raise Misplaced(("name",), f"{self.name!r} is the name of a table of the system, choose another")
        for name in self.columns:
            if not re.fullmatch(_NAME, name) or name in SYSTEM_COLUMNS or name in {"version", "extra"}:
                raise Misplaced(("columns", name), f"column name {name!r} is reserved or not a lower-case identifier")
        self._check_identity()
        self._check_labels()
        return self

    def _check_identity(self) -> None:
        for place, names in enumerate(self.identity):
            here = ("identity", place)
            if not names or len(set(names)) < len(names):
                raise Misplaced(here, "expected a column, or a list of columns that are each there once")
            for name in names:
                if name not in self.columns:
                    raise Misplaced(here, f"identity names {name!r}, which is not a column")
                if self.columns[name].parsed.kind in {"json", "list"}:
                    raise Misplaced(here, f"{name!r} is a {self.columns[name].type} and cannot identify a row")

    def _check_labels(self) -> None:
        seen: dict[str, str] = {}
        for name, column in self.columns.items():
            for label in (name, *column.aliases):
                if seen.setdefault(label, name) != name:
                    raise Misplaced(("columns", name), f"{label!r} names both {seen[label]!r} and {name!r}")

    @property
    def identifying(self) -> tuple[str, ...]:
        """Every column of an identity, in the order of the declaration."""
        named = {name for names in self.identity for name in names}
        return tuple(name for name in self.columns if name in named)

    @property
    def history(self) -> str:
        """The table that keeps every version of every row; the one that has the dataset's name shows the newest."""
        return f"{self.name}_history"

    @property
    def findable(self) -> tuple[str, ...]:
        """The columns by whose exact value the history finds keys without reading everything."""
        named = set(self.identifying)
        return tuple(name for name, column in self.columns.items() if column.index == "exact" or name in named)

    def column_of(self, label: str) -> str | None:
        """The column that an input field of this name fills, by name or alias; case and blanks do not matter."""
        return self._by_label.get(label.strip().lower().replace(" ", "_"))

    @cached_property  # asked for every field of every record
    def _by_label(self) -> dict[str, str]:
        return {label: name for name, column in self.columns.items() for label in (name, *column.aliases)}


class Datasets(Mapping[str, Dataset]):
    """Every declared dataset, by name."""

    # By identity: read once, when the process starts, and never changed.
    __hash__ = object.__hash__

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = dict(datasets)

    def __getitem__(self, name: str) -> Dataset:
        return self._datasets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


def load_datasets(folder: Path) -> Datasets:
    """Read and check every declaration in the folder; BadSettings has a line for each fault, with its place."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BadSettings(f"{folder}: no dataset is declared here, expected at least one .yaml file")
    return Datasets({file.stem: load_dataset(file) for file in files})


def load_dataset(file: Path) -> Dataset:
    """One declaration. BadSettings has a line `file:line: fault` for each fault."""
    try:
        document = read_yaml(file.read_text(encoding="utf-8"))
        dataset = _declared(document)
    except BadYaml as exc:
        raise BadSettings(f"{file}:{exc}") from None
    except UnicodeDecodeError:
        raise BadSettings(f"{file}: expected UTF-8") from None
    except ValidationError as exc:
        faults = explained(exc, Dataset)
        raise BadSettings("\n".join(f"{file}:{document.line_of(path)}: {said}" for path, said in faults)) from None
    if dataset.name != file.stem:
        raise BadSettings(
            f"{file}:{document.line_of(('name',))}: name is {dataset.name!r} and the file is {file.name!r}: "
            "they must be the same"
        )
    return dataset


def _declared(document: Document) -> Dataset:
    if not isinstance(document.value, dict):
        raise BadYaml("1: expected a mapping that starts with name, identity and columns")
    return Dataset.model_validate(document.value)
