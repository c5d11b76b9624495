"""The body of POST /v1/query. What depends on the dataset (fields, operators, types of values) is query_plan's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema

from common.prices import number_to_millicredits

LIMIT_MAX = 1000
OFFSET_MAX = 100_000
FIELDS_MAX = 200
FORMATS = ("json",)


def _refuse_format(value: str) -> str:
    if value not in FORMATS:
        raise ValueError(f"supported formats: {', '.join(FORMATS)}")
    return value


def _not_yet(value: Any) -> Any:
    if value is not None:
        raise ValueError("not supported yet")
    return value


MaxCredits = Annotated[
    int, BeforeValidator(number_to_millicredits), Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
NotYet = Annotated[None, BeforeValidator(_not_yet)]


class _Model(BaseModel):
    # Strict: `true` and "5" are not integers here.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Range(_Model):
    """Both ends belong to the range; one of them may be absent."""

    from_: JsonValue = Field(None, alias="from")
    to: JsonValue = None


class Fuzzy(_Model):
    """Case-insensitive contains."""

    query: str = Field(min_length=1, max_length=1000)
    threshold: NotYet = None


class QueryRequest(_Model):
    dataset: str = Field("people", max_length=63)
    filters: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=FIELDS_MAX,
        description="by field, all of them must hold: a value is equality, a list is IN, an object holds operators "
        "(eq, ne, in, nin, gt, gte, lt, lte, prefix, contains, is_null)",
        examples=[{"country": "IN", "city": ["Delhi", "Mumbai"], "age": {"gte": 18}}],
    )
    range: dict[str, Range] = Field(default_factory=dict, max_length=FIELDS_MAX)
    fuzzy: dict[str, Fuzzy] = Field(default_factory=dict, max_length=FIELDS_MAX)
    select: list[str] | None = Field(None, min_length=1, max_length=FIELDS_MAX, description="default: every column")
    sort: str | list[str] | None = Field(None, description='"field [ASC|DESC]", or a list of them')
    limit: int = Field(100, ge=1, le=LIMIT_MAX)
    offset: int = Field(0, ge=0, le=OFFSET_MAX)
    cursor: NotYet = None
    count: Literal["exact", "none"] = "exact"
    format: Annotated[str, AfterValidator(_refuse_format)] = "json"
    aggregate: NotYet = None
    # Kept in millicredits, like every amount behind the public API.
    max_credits: MaxCredits | None = Field(
        None, description="the query is refused, or stopped and not charged, when it would cost more"
    )
