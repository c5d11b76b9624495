"""The body of POST /v1/query. What depends on the dataset (fields, operators, types of values) is query_plan's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PrivateAttr, WithJsonSchema

from common.prices import number_to_millicredits

LIMIT_MAX = 1000
LIMIT_DEFAULT = 100
STREAM_LIMIT_MAX = 1_000_000
OFFSET_MAX = 100_000
FIELDS_MAX = 200
WAIT_MS_MAX = 300_000
SIMILAR_CHARS_MIN = 3
T = TypeVar("T")
# Of one request: it is asked in few forms, by callers who may see it all or not.
_WORKED_OUT_MAX = 8
FormatName = Literal["json", "ndjson", "csv", "parquet", "arrow"]

MaxCredits = Annotated[
    int, BeforeValidator(number_to_millicredits), Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]


class _Model(BaseModel):
    # Strict: `true` and "5" are not integers here.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Range(_Model):
    """Both ends belong to the range; one of them may be absent."""

    from_: JsonValue = Field(None, alias="from")
    to: JsonValue = None


class Fuzzy(_Model):
    """Case-insensitive contains; with a threshold, at least so similar."""

    query: str = Field(min_length=1, max_length=1000)
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="0 to 1, for a query of at least 3 characters: 1 minus edit distance by length for texts of at "
        "most 32 characters, the share of the query's n-grams found for longer ones",
    )


class TimeBucket(_Model):
    """A group for each span of time: `{"column": "record_ts", "every": "day"}`."""

    column: str = Field(max_length=63)
    every: Literal["minute", "hour", "day", "week", "month", "quarter", "year"]
    as_: str | None = Field(None, alias="as", max_length=63, description="its name; default: column_every")


class Aggregate(_Model):
    group_by: list[str | TimeBucket] = Field(
        default_factory=list,
        max_length=10,
        description='columns; for spans of time `{"column": "record_ts", "every": "day"}` or "day(record_ts)"',
    )
    metrics: dict[str, str] = Field(
        min_length=1,
        max_length=50,
        description="by name: count(), count(column), sum, avg, min, max or uniq of a column, quantile(column, 0.95)",
        examples=[{"n": "count()", "people": "uniq(email)"}],
    )


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
    limit: int | None = Field(
        None,
        ge=1,
        le=STREAM_LIMIT_MAX,
        description=f"at most {LIMIT_MAX} for json (default {LIMIT_DEFAULT}), {STREAM_LIMIT_MAX} for the other formats",
    )
    offset: int = Field(0, ge=0, le=OFFSET_MAX, description="beyond it, and for long lists, use cursor")
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=8000,
        description="next_cursor of the page before, with the same query; json only",
    )
    count: Literal["exact", "none"] | None = Field(
        None, description="total_records; default: exact for json, none for the other formats"
    )
    format: FormatName | None = Field(None, description="default: what Accept names, else json")
    aggregate: Aggregate | None = None
    csv_raw: bool = Field(
        default=False, description="keep text in CSV cells as it is, also where a spreadsheet would run it"
    )
    # Kept in millicredits, like every amount behind the public API.
    max_credits: MaxCredits | None = Field(
        None, description="the query is refused, or stopped and not charged, when it would cost more"
    )
    quote_id: str | None = Field(
        None, min_length=1, max_length=4000, description="of POST /v1/query/quote: the query does not cost more"
    )
    wait_ms: int | None = Field(
        None, ge=0, le=WAIT_MS_MAX, description="longest wait for the upload that X-Wait-For-Upload names"
    )
    # What follows from the request alone, worked out once while equal bodies are one object (json_body remembers them).
    _worked_out: dict[object, Any] = PrivateAttr(default_factory=dict)

    def once(self, key: object, work: Callable[[], T]) -> T:
        """`work()`, unless it is known by this key. It must not depend on anything that the key does not say."""
        if key not in self._worked_out:
            if len(self._worked_out) >= _WORKED_OUT_MAX:
                self._worked_out.clear()
            self._worked_out[key] = work()
        return cast("T", self._worked_out[key])
