from __future__ import annotations

import asyncio
import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

AWKWARD = ["tab\there", "quote ' and \\ backslash", "line\nbreak", "äöü 漢字", "\\N", ""]


def ask(server: Any, sql: str | bytes, headers: dict[str, str] | None = None, **params: str) -> tuple[int, Any, bytes]:
    query = urllib.parse.urlencode(params)
    data = sql.encode() if isinstance(sql, str) else sql
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/?{query}", data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 -- our own address
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


GATEWAY = basic("gateway", "g-secret")
ADMIN = basic("admin", "a-secret")


@pytest.mark.parametrize("value", AWKWARD)
def test_a_bound_parameter_arrives_as_it_was_sent(gateway: Client, value: str) -> None:
    assert gateway.query("SELECT {x:String}", parameters={"x": value}).result_rows == [(value,)]


@pytest.mark.parametrize("value", AWKWARD)
def test_parameters_in_a_form_arrive_as_they_were_sent(server: Any, value: str) -> None:
    client = server.client("gateway", form_encode_query_params=True)
    assert client.query("SELECT {x:String}", parameters={"x": value}).result_rows == [(value,)]


async def test_the_async_client_sends_forms_too(server: Any) -> None:
    client = await server.async_client("gateway", form_encode_query_params=True)
    answer = await client.query("SELECT {x:Array(String)}", parameters={"x": ["a'b", "c\td"]})
    await client.close()
    assert answer.result_rows == [(["a'b", "c\td"],)]


async def test_one_async_client_runs_many_queries_at_once(async_gateway: AsyncClient) -> None:
    answers = await asyncio.gather(
        *(async_gateway.query("SELECT {x:UInt64} * 2", parameters={"x": x}) for x in range(60))
    )
    assert [answer.result_rows[0][0] for answer in answers] == [x * 2 for x in range(60)]


def test_a_binary_query_may_hold_any_bytes(server: Any) -> None:
    status, _, body = ask(server, b"SELECT hex('\xff\x01')", ADMIN)
    assert (status, body) == (200, b"FF01\n")


def test_settings_and_database_come_from_the_url(server: Any) -> None:
    sql = "SELECT currentDatabase(), getSetting('max_threads')"
    assert ask(server, sql, ADMIN, database="system", max_threads="3")[2] == b"system\t3\n"
    assert ask(server, sql, {**ADMIN, "X-ClickHouse-Database": "bigdata"}, max_threads="1")[2] == b"bigdata\t1\n"


def test_the_format_comes_from_the_query_then_the_url_then_a_header(server: Any) -> None:
    header = {**GATEWAY, "X-ClickHouse-Format": "JSONEachRow"}
    assert ask(server, "SELECT 1 AS a", GATEWAY)[2] == b"1\n"
    assert ask(server, "SELECT 1 AS a", header)[2] == b'{"a":1}\n'
    assert ask(server, "SELECT 'x' AS a", header, default_format="CSV")[2] == b'"x"\n'
    status, headers, body = ask(server, "SELECT 1 AS format FORMAT JSONCompactEachRow", header, default_format="CSV")
    assert (status, body, headers["X-ClickHouse-Format"]) == (200, b"[1]\n", "JSONCompactEachRow")


def test_headers_are_those_of_clickhouse(server: Any) -> None:
    _, headers, _ = ask(server, "SELECT * FROM numbers(10)", GATEWAY, query_id="mine", session_timezone="Asia/Tokyo")
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Timezone"] == "Asia/Tokyo"
    assert headers["X-ClickHouse-Server-Display-Name"]
    summary = json.loads(headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("10", "10")


def test_a_query_id_cannot_add_headers(server: Any) -> None:
    _, headers, _ = ask(server, "SELECT 1", GATEWAY, query_id="a\r\nX-Evil: 1")
    assert headers["X-Evil"] is None


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT a FROM nowhere", 404, 60),
        ("SELECT nothing", 404, 47),
        ("SELEC 1", 400, 62),
        ("SELECT toUInt8('x')", 400, 6),
        ("SELECT throwIf(1)", 500, 395),
        ("SELECT 1 FORMAT Nonsense", 404, 73),
        ("SELECT 1 SETTINGS nonsense = 1", 404, 115),
        ("SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 1, max_block_size = 1", 408, 159),
    ],
)
def test_errors_look_like_clickhouses(server: Any, sql: str, status: int, code: int) -> None:
    answered, headers, body = ask(server, sql, ADMIN)
    assert answered == status
    assert headers["X-ClickHouse-Exception-Code"] == str(code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert body.count(b"DB::Exception") == 1


def test_who_asks_may_be_said_in_three_ways(server: Any) -> None:
    named = {"X-ClickHouse-User": "gateway", "X-ClickHouse-Key": "g-secret"}
    assert ask(server, "SELECT 1", named)[0] == 200
    assert ask(server, "SELECT 1", GATEWAY)[0] == 200
    assert ask(server, "SELECT 1", user="gateway", password="g-secret")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{}, basic("gateway", "a-secret"), basic("nobody", "g-secret"), basic("default", ""), {"Authorization": "Basic !"}],
)
def test_anybody_else_is_refused(server: Any, headers: dict[str, str]) -> None:
    status, answered, body = ask(server, "SELECT 1", headers)
    assert (status, answered["X-ClickHouse-Exception-Code"]) == (403, "516")
    assert b"Authentication failed" in body or b"Invalid HTTP Basic" in body


def test_columns_of_a_limit_0_query_are_known(gateway: Client) -> None:
    assert gateway.query("SELECT 1 AS a, 'x' AS b LIMIT 0").column_names == ("a", "b")


def test_get_reads_only(server: Any) -> None:
    def get(sql: str) -> int:
        url = f"http://127.0.0.1:{server.port}/?query={urllib.parse.quote(sql)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=ADMIN)) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    assert get("SELECT 1") == 200
    assert get("CREATE TABLE bigdata.by_get (a UInt8) ENGINE = Memory") == 500


def test_readonly_in_the_url_is_obeyed(server: Any) -> None:
    assert ask(server, "SELECT 1", ADMIN, readonly="1", max_threads="1")[0] == 200
    status, headers, _ = ask(server, "CREATE TABLE bigdata.x (a UInt8) ENGINE = Memory", ADMIN, readonly="1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")


def test_a_failed_query_leaves_nothing_for_the_next_on_its_connection(server: Any) -> None:
    client = server.client("gateway")
    for number in range(30):
        with pytest.raises(DatabaseError):
            client.query("SELECT throwIf(number = 300000, 'stop'), 'failed' FROM numbers(400000)")
        assert client.query("SELECT {n:UInt64}", parameters={"n": number}).result_rows == [(number,)]


def test_the_query_log_is_there_for_the_admin(admin: Client) -> None:
    admin.query("SELECT 'find me'", settings={"query_id": "logged-once"})
    admin.command("SYSTEM FLUSH LOGS")
    found = admin.query("SELECT DISTINCT query FROM system.query_log WHERE log_comment = 'logged-once'").result_rows
    assert [row[0] for row in found] == ["SELECT 'find me'\n FORMAT Native"]
