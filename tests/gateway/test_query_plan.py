import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.datasets import PriceList
from common.errors import InvalidRequest, QueryTooExpensive
from gateway.query_formats import FORMS
from gateway.query_order import Position
from gateway.query_plan import Terms, plan_query
from gateway.query_request import QueryRequest
from support.plans import COLUMNS, assert_only_our_sql, datasets, faults, plan, where


def test_without_a_selection_every_declared_column_and_the_time_of_loading_are_answered() -> None:
    planned = plan()
    assert planned.columns == (*COLUMNS, "ingest_ts")
    assert planned.places
    assert planned.sql.endswith("FROM people FINAL ORDER BY dedupe_key LIMIT {limit:UInt64} OFFSET {offset:UInt64}")
    assert planned.count_sql == "SELECT count() FROM people FINAL"
    assert planned.parameters == {"limit": 100, "offset": 0}


def test_system_columns_are_selected_on_request() -> None:
    assert plan(select=["upload_id", "row_no", "extra"]).columns == ("upload_id", "row_no", "extra")


@pytest.mark.parametrize(
    ("asked", "condition", "value"),
    [
        ("Delhi", "`city` = {p0:String}", "Delhi"),
        (["Delhi", "Pune"], "`city` IN {p0:Array(String)}", ["Delhi", "Pune"]),
        ({"ne": "Delhi"}, "ifNull(`city` != {p0:String}, true)", "Delhi"),
        ({"nin": ["Delhi"]}, "ifNull(`city` NOT IN {p0:Array(String)}, true)", ["Delhi"]),
        ({"prefix": "%_\\"}, "startsWith(`city`, {p0:String})", "%_\\"),
        ({"contains": "%"}, "position(`city`, {p0:String}) > 0", "%"),
        ({"gte": "D"}, "`city` >= {p0:String}", "D"),
    ],
)
def test_each_operator_is_a_condition_over_a_bound_value(asked: Any, condition: str, value: Any) -> None:
    planned = plan(filters={"city": asked})
    assert (where(planned), planned.parameters["p0"]) == (condition, value)


def test_conditions_are_all_required_and_the_count_has_the_same_ones() -> None:
    planned = plan(
        filters={"age": {"gte": 18, "lt": 65}, "active": True},
        range={"record_ts": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T05:30:00+05:30"}},
        fuzzy={"city": {"query": "DEL"}},
    )
    assert where(planned) == (
        "`age` >= {p0:Int64} AND `age` < {p1:Int64} AND `active` = {p2:Bool}"
        " AND `record_ts` >= {p3:DateTime64(6, 'UTC')} AND `record_ts` <= {p4:DateTime64(6, 'UTC')}"
        " AND positionCaseInsensitiveUTF8(`city`, {p5:String}) > 0"
    )
    assert planned.parameters["p2"] == "true"
    assert planned.parameters["p4"] == "2026-01-02 00:00:00.000000"
    assert planned.count_sql is not None
    assert where(planned) in planned.count_sql


def test_nothing_is_counted_when_no_total_is_wanted() -> None:
    assert plan(count="none").count_sql is None


def test_absence_is_asked_for_with_is_null() -> None:
    assert where(plan(filters={"city": {"is_null": True}})) == "isNull(`city`)"
    assert where(plan(filters={"city": {"is_null": False}})) == "isNotNull(`city`)"


def test_equality_on_the_first_identity_finds_its_row_through_the_key() -> None:
    planned = plan(filters={"email": " A@B.Com"})
    assert planned.sql.endswith(
        "FROM (SELECT * FROM people WHERE dedupe_key = sipHash128('people', 'email', toString({p0:String})) "
        "ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key) WHERE `email` = {p0:String} "
        "ORDER BY dedupe_key LIMIT {limit:UInt64} OFFSET {offset:UInt64}"
    )
    assert planned.parameters["p0"] == "a@b.com"
    assert (planned.one_row_at_most, planned.scans, planned.places) == (True, False, False)


def test_an_identity_of_several_columns_needs_all_of_them() -> None:
    assert not plan(dataset="flights", filters={"carrier": "UA"}).one_row_at_most
    planned = plan(dataset="flights", filters={"flight": 15, "carrier": "UA"})
    assert "sipHash128('flights', 'carrier+flight', toString({p1:String}), toString({p0:Int64}))" in planned.sql


@pytest.mark.parametrize(
    "filters",
    [
        {"phone": "+14155550100"},
        {"email": ["a@b.com"]},
        {"email": {"ne": "a@b.com"}},
        {"email": {"gte": "a"}},
    ],
)
def test_what_is_not_equality_on_the_first_identity_does_not_claim_to_be_one_row(filters: dict[str, Any]) -> None:
    assert not plan(filters=filters).one_row_at_most


def test_parts_of_an_email_are_lowered_and_not_taken_for_whole_addresses() -> None:
    planned = plan(filters={"email": {"prefix": "Prath", "gt": "A"}})
    assert (planned.parameters["p0"], planned.parameters["p1"]) == ("prath", "a")


@pytest.mark.parametrize(
    ("filters", "bound"),
    [
        ({"phone": "(212) 555-2368"}, "+12125552368"),
        ({"phone": "+91 98765 43210"}, "+919876543210"),
        ({"country": "India", "phone": "098765 43210"}, "+919876543210"),
        ({"country": {"eq": "india"}}, "IN"),
        ({"city": "  New   Delhi "}, "New Delhi"),
    ],
)
def test_values_are_written_as_the_column_writes_them(filters: dict[str, Any], bound: str) -> None:
    assert bound in plan(filters=filters).parameters.values()


def test_sorting_is_stable_and_puts_absent_values_last() -> None:
    assert "ORDER BY `age` DESC NULLS LAST, dedupe_key LIMIT" in plan(sort="age desc").sql
    assert "ORDER BY `city` ASC NULLS LAST, `age` DESC NULLS LAST, dedupe_key" in plan(sort=["city", "age DESC"]).sql


def test_every_fault_is_named_at_once_and_none_repeats_the_value() -> None:
    found = faults(
        filters={"nope": 1, "age": "secret", "city": {"like": "x"}, "active": {"gt": True}, "country": {"prefix": "I"}},
        range={"age": {}},
        fuzzy={"age": {"query": "x"}},
        select=["email", "email", "dedupe_key"],
        sort=["age SIDEWAYS", "nope"],
    )
    assert set(found) == {
        "filters.nope",
        "filters.age",
        "filters.city.like",
        "filters.active.gt",
        "filters.country.prefix",
        "range.age",
        "fuzzy.age",
        "select.1",
        "select.2",
        "sort.0",
        "sort.1",
    }
    assert "secret" not in str(found)


def each(column: str, values: list[Any]) -> list[tuple[str, Any]]:
    return [(column, value) for value in values]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *each("age", [True, "5", 5.0, 2**63, -(2**63) - 1, None, [], {}, [1, "2"], [None]]),
        *each("email", ["a@b", "not an address", "", " "]),
        *each("phone", ["12", "+1", "call me"]),
        ("country", "Atlantis"),
        *each("score", [True, "5", 10**400]),
        *each("paid", [True, "x", "NaN", "Infinity", 0.001, 10**9, "1e400", "-1e-400"]),
        *each("active", [1, 0, "true", "yes"]),
        *each("born", ["2026-02-30", "2026-1-1", "1899-12-31", "2300-01-01", 5, "٢٠٢٦-01-01"]),
        *each("record_ts", ["yesterday", "2300-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 0, ""]),
        *each("city", [5, True, "x" * 10_001, [["a"]], {"eq": {"eq": "a"}}, {"in": "Delhi"}, {"in": []}]),
        *each("city", [{"is_null": "yes"}, {"is_null": 1}, {"prefix": 5}, {"contains": None}]),
        ("tags", {"a": 1}),
        ("age", list(range(10_001))),
        ("city", ["'" * 1000] * 62),
        ("city", [f"{number:08d}" for number in range(10_001)]),
    ],
)
def test_a_value_that_the_column_cannot_hold_is_refused(column: str, value: Any) -> None:
    assert all(path.startswith(f"filters.{column}") for path in faults(filters={column: value}))


@pytest.mark.parametrize(
    ("column", "value", "bound"),
    [
        ("age", -(2**63), -(2**63)),
        ("score", 3, "3.0"),
        ("paid", 1, "1.00"),
        ("paid", 0.1, "0.10"),
        ("paid", "99999999.99", "99999999.99"),
        ("paid", "1e3", "1000.00"),
        ("paid", -0.5, "-0.50"),
        ("active", False, "false"),
        ("born", "1900-01-01", "1900-01-01"),
        ("record_ts", "2026-01-01", "2026-01-01 00:00:00.000000"),
        ("record_ts", "2026-01-01T00:00:00.123456+01:00", "2025-12-31 23:00:00.123456"),
    ],
)
def test_a_value_is_bound_as_the_column_reads_it(column: str, value: Any, bound: Any) -> None:
    assert plan(filters={column: value}).parameters["p0"] == bound


def test_an_unknown_dataset_is_refused_by_naming_the_known_ones() -> None:
    assert "people, flights" in faults(dataset="'; DROP TABLE people")["dataset"]


def test_a_flat_price_holds_one_query_and_sets_no_limit_on_rows() -> None:
    planned = plan({"per_query": 1})
    assert (planned.price_cap, planned.settings) == (1000, {"max_execution_time": 30})


def test_a_ceiling_becomes_a_limit_on_rows_and_the_price_never_passes_it() -> None:
    planned = plan({"per_query": 1, "per_row": 0.01, "per_query_max": 20}, limit=1000, max_credits=2)
    assert (planned.price_cap, planned.settings["max_result_rows"]) == (2000, 100)
    assert planned.price(rows=100, rows_read=10**9) == 2000


def test_a_ceiling_below_the_price_of_a_query_is_refused_with_both_figures() -> None:
    with pytest.raises(QueryTooExpensive) as refusal:
        plan({"per_query": 2}, max_credits=1)
    assert refusal.value.details == {"estimate": 2, "limit": 1}


def test_a_price_by_rows_read_holds_the_maximum_and_limits_the_reading() -> None:
    planned = plan({"per_query": 1, "per_million_rows_read": 1, "per_query_max": 11})
    assert (planned.price_cap, planned.settings["max_rows_to_read"]) == (11_000, 10_000_000)
    assert planned.counts_rows_read
    cheap = plan({"per_query": 0, "per_million_rows_read": 0.001, "per_query_max": 1000})
    assert cheap.settings["max_rows_to_read"] == 10_000_000_000  # what the profile allows


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from([*COLUMNS, "ingest_ts", "upload_id", "row_no", "extra", "dedupe_key"]) | st.text()
OPERATORS = st.sampled_from(["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "prefix", "contains", "is_null"])
FUNCTIONS = st.sampled_from(["count", "sum", "uniq", "min", "quantile", "day", "week", "file", "x"])
CALLS = st.builds("{}({})".format, FUNCTIONS, NAMES | st.just("") | st.just("age, 0.5")) | st.text()
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "filters": st.dictionaries(NAMES, JSON | st.dictionaries(OPERATORS, JSON, max_size=3), max_size=5),
        "range": st.dictionaries(NAMES, st.fixed_dictionaries({}, optional={"from": JSON, "to": JSON}), max_size=3),
        "fuzzy": st.dictionaries(
            NAMES,
            st.fixed_dictionaries({"query": st.text(min_size=1)}, optional={"threshold": st.floats(0, 1)}),
            max_size=3,
        ),
        "aggregate": st.fixed_dictionaries(
            {"metrics": st.dictionaries(st.text(max_size=9) | st.just("n"), CALLS, min_size=1, max_size=3)},
            optional={"group_by": st.lists(NAMES | CALLS, max_size=3)},
        ),
        "format": st.sampled_from(["json", "ndjson", "csv", "parquet", "arrow"]),
        "select": st.lists(NAMES, min_size=1, max_size=5),
        "sort": NAMES | st.lists(NAMES | NAMES.map("{} DESC".format), max_size=4),
    },
)


@settings(deadline=None, max_examples=300)
@given(body=BODIES, pii=st.booleans())
def test_no_body_makes_the_planner_fail_or_puts_a_text_of_it_into_sql(body: dict[str, Any], pii: bool) -> None:  # noqa: FBT001
    ask = QueryRequest.model_validate(body)
    try:
        planned = plan_query(ask, datasets(), Terms(pii=pii, form=FORMS[body.get("format", "json")]))
    except InvalidRequest:
        return
    assert_only_our_sql(planned)


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_a_text_reaches_the_query_as_a_bound_value_only(text: str) -> None:
    marked = f"~{text}~"  # no SQL of ours has one
    planned = plan(filters={"email": {"contains": marked}, "city": marked}, fuzzy={"phone": {"query": marked}})
    assert "~" not in planned.sql
    assert planned.parameters["p2"] == unicodedata.normalize("NFC", marked)


def test_the_price_list_travels_with_the_plan() -> None:
    assert plan().price_list == PriceList(per_query=1)


def test_similarity_is_asked_of_short_and_long_texts_in_their_own_way() -> None:
    planned = plan(fuzzy={"city": {"query": " DELLHI ", "threshold": 0.75}})
    assert "editDistanceUTF8" in where(planned)
    assert "ngramSearchUTF8(lowerUTF8(`city`), {p0:String})" in where(planned)
    assert where(planned).endswith(">= {p1:Float64}")
    assert (planned.parameters["p0"], planned.parameters["p1"]) == ("dellhi", "0.75")
    assert "at least 3" in faults(fuzzy={"city": {"query": " de ", "threshold": 0.5}})["fuzzy.city.query"]


def test_elements_of_a_list_are_values_of_its_type() -> None:
    planned = plan(filters={"marks": {"contains": 5, "is_null": False}})
    assert where(planned) == "has(`marks`, {p0:Int64}) AND notEmpty(`marks`)"
    assert "filters.marks.contains" in faults(filters={"marks": {"contains": "5"}})
    assert "filters.marks.eq" in faults(filters={"marks": {"eq": 5}})


def test_an_enum_is_one_of_its_values() -> None:
    assert plan(filters={"size": "small"}).parameters["p0"] == "small"
    assert "values the dataset declares" in faults(filters={"size": "huge"})["filters.size"]


def test_groups_and_metrics_have_aliases_of_ours_inside_and_the_callers_names_outside() -> None:
    planned = plan(
        filters={"age": {"gt": 3}},
        aggregate={
            "group_by": ["country", "day(record_ts)", {"column": "born", "every": "year", "as": "y"}],
            "metrics": {"age": "count()", "mid": "quantile(score, 0.95)", "who": "uniq(email)"},
        },
        sort="mid DESC",
    )
    assert planned.columns == ("country", "record_ts_day", "y", "age", "mid", "who")
    assert planned.sql == (
        "SELECT __g0 AS `country`, __g1 AS `record_ts_day`, __g2 AS `y`, __m0 AS `age`, __m1 AS `mid`, __m2 AS `who` "
        "FROM (SELECT `country` AS __g0, toDate32(`record_ts`) AS __g1, makeDate32(toYear(`born`), 1, 1) AS __g2, "
        "count() AS __m0, quantile(0.950000)(`score`) AS __m1, uniqExact(`email`) AS __m2 "
        "FROM people FINAL WHERE `age` > {p0:Int64} GROUP BY __g0, __g1, __g2) "
        "ORDER BY __m1 DESC NULLS LAST, __g0, __g1, __g2 LIMIT {limit:UInt64} OFFSET {offset:UInt64}"
    )
    assert planned.count_sql is not None
    assert planned.count_sql.startswith("SELECT count() FROM (SELECT")


@pytest.mark.parametrize(
    ("aggregate", "path"),
    [
        ({"metrics": {"n": "count(nope)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "sum(city)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "sum()"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "quantile(age)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "quantile(age, 1.5)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "quantile(age, .)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "sum(age, 0.5)"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "file('/etc/passwd')"}}, "aggregate.metrics.n"),
        ({"metrics": {"n": "count() FROM x"}}, "aggregate.metrics.n"),
        ({"metrics": {"n`; DROP": "count()"}}, "aggregate.metrics.n`; DROP"),
        ({"metrics": {"n": "count()"}, "group_by": ["nope"]}, "aggregate.group_by.0"),
        ({"metrics": {"n": "count()"}, "group_by": ["tags"]}, "aggregate.group_by.0"),
        ({"metrics": {"n": "count()"}, "group_by": ["day(city)"]}, "aggregate.group_by.0"),
        ({"metrics": {"n": "count()"}, "group_by": ["hour(born)"]}, "aggregate.group_by.0"),
        ({"metrics": {"n": "count()"}, "group_by": ["decade(born)"]}, "aggregate.group_by.0"),
        ({"metrics": {"city": "count()"}, "group_by": ["city"]}, "aggregate"),
    ],
)
def test_what_cannot_be_aggregated_is_refused_with_its_path(aggregate: dict[str, Any], path: str) -> None:
    assert path in faults(aggregate=aggregate)


def test_an_aggregation_is_sorted_by_what_it_answers_and_selects_nothing_else() -> None:
    metrics = {"metrics": {"n": "count()"}, "group_by": ["city"]}
    assert set(faults(aggregate=metrics, sort="age", select=["age"])) == {"sort", "select"}


def test_an_aggregation_has_a_price_of_its_own() -> None:
    prices = {"per_query": 1, "aggregate": 3, "per_query_max": 5}
    assert plan(prices, aggregate={"metrics": {"n": "count()"}}).price_cap == 3000


def test_the_next_page_begins_behind_the_last_row_of_the_one_before() -> None:
    position = Position("2026-01-01 00:00:00.000000", ("5", None), "00" * 16, total=9)
    planned = plan(terms=Terms(position=position), sort=["age DESC", "city"], cursor="x")
    assert planned.sql.partition(" LIMIT 1 BY dedupe_key) WHERE ")[2].partition(" ORDER BY ")[0] == (
        "((ifNull(`age` < {p2:Int64}, true)) OR "
        "(`age` = {p2:Int64} AND isNull(`city`) AND dedupe_key > toFixedString(unhex({p1:String}), 16)))"
    )
    assert "FROM (SELECT * FROM people_history WHERE ingest_ts <= {p0:DateTime64(6, 'UTC')} ORDER BY" in planned.sql
    assert planned.count_sql is None
    alone = plan(terms=Terms(position=Position("2026-01-01 00:00:00", (), "ff" * 16)), cursor="x", limit=10)
    assert "dedupe_key > toFixedString(unhex({p1:String}), 16)" in alone.sql
    assert (alone.parameters["p2"], alone.parameters["p3"], alone.short) == (20, 10, True)
    assert alone.count_sql is not None
    assert "unhex" not in alone.count_sql


def test_cursors_go_with_pages_of_rows_only() -> None:
    assert set(faults(cursor="x", offset=5, aggregate={"metrics": {"n": "count()"}})) == {"cursor", "offset"}
    with pytest.raises(InvalidRequest):
        plan(terms=Terms(form=FORMS["csv"]), cursor="x")


def test_each_form_has_limits_of_its_own() -> None:
    assert "limit" in faults(limit=1001)
    streamed = plan(terms=Terms(form=FORMS["parquet"], stream_timeout_s=120), limit=1_000_000)
    assert (streamed.limit, streamed.settings["max_execution_time"], streamed.count_sql) == (1_000_000, 120, None)
    assert (plan(terms=Terms(form=FORMS["csv"])).limit, plan().limit) == (1_000_000, 100)
    assert plan(terms=Terms(form=FORMS["csv"]), count="exact").count_sql is not None


def test_free_text_in_csv_cells_cannot_begin_a_formula() -> None:
    planned = plan(terms=Terms(form=FORMS["csv"]), select=["city", "phone", "age"])
    assert planned.sql.startswith("SELECT if(has(['=', '+', '-', '@', char(9), char(10), char(13)], ")
    assert planned.sql.count("concat(char(39)") == 1
    assert "AS `city`, `phone`, `age` FROM (SELECT `city`, `phone`, `age` FROM people FINAL" in planned.sql
    assert "char(39)" not in plan(terms=Terms(form=FORMS["csv"]), csv_raw=True).sql
    assert "char(39)" not in plan(terms=Terms(form=FORMS["ndjson"])).sql


def test_a_ceiling_of_reading_is_a_limit_whatever_the_price() -> None:
    assert plan(terms=Terms(rows_read_max=10)).settings["max_rows_to_read"] == 10


def test_a_quote_brings_its_own_prices_and_ceiling() -> None:
    promised = Terms(prices=PriceList.model_validate({"per_query": 0.5, "per_query_max": 0.9}), ceiling=700)
    planned = plan({"per_query": 9, "per_query_max": 9}, terms=promised)
    assert (planned.price_cap, planned.price(rows=1, rows_read=0)) == (500, 500)


def test_another_identity_is_found_through_the_history_and_judged_by_the_newest_version() -> None:
    planned = plan(filters={"phone": ["+14155550100"], "age": 5, "city": "Delhi"})
    assert planned.sql.partition(" FROM ")[2] == (
        "(SELECT * FROM people WHERE dedupe_key IN "
        "(SELECT dedupe_key FROM people_history WHERE `phone` IN {p0:Array(String)}) "
        "ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key) "
        "WHERE `phone` IN {p0:Array(String)} AND `age` = {p1:Int64} AND `city` = {p2:String} "
        "ORDER BY dedupe_key LIMIT {limit:UInt64} OFFSET {offset:UInt64}"
    )
    assert (planned.scans, planned.one_row_at_most) == (False, False)
    assert plan(filters={"phone": {"ne": "+14155550100"}}).scans


def test_part_of_an_identity_finds_too_much_to_be_looked_up() -> None:
    assert "FROM flights FINAL WHERE" in plan(dataset="flights", filters={"carrier": "UA"}).sql
    whole = plan(dataset="flights", filters={"carrier": "UA", "flight": [1, 2]})
    assert "SELECT dedupe_key FROM flights_history WHERE `carrier` = {p0:String} AND `flight` IN" in whole.sql


@pytest.mark.parametrize("filters", [{}, {"email": "a@b.com"}, {"phone": "+14155550100"}, {"age": 5}])
def test_while_an_upload_is_undone_the_history_is_read_without_it(filters: dict[str, Any]) -> None:
    planned = plan(terms=Terms(excluded=("one", "two")), filters=filters)
    inside = planned.sql.partition("LIMIT 1 BY")[0]
    assert "SELECT * FROM people_history WHERE" in inside
    assert "upload_id NOT IN {p" in inside
    assert ["one", "two"] in planned.parameters.values()
    assert planned.count_sql is not None
    assert "upload_id NOT IN" in planned.count_sql
