# ruff: noqa: S608 -- the tables are the tests' own
from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError


def refused(server: Any, user: str, sql: str | bytes, **params: str) -> str:
    """The error code a raw request is refused with: raw, so that no client library declines to send it."""
    secrets = {"gateway": "g-secret", "ingest": "i-secret", "admin": "a-secret"}
    headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": secrets[user]}
    data = sql.encode() if isinstance(sql, str) else sql
    address = f"http://127.0.0.1:{server.port}/?{urllib.parse.urlencode(params)}"
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- our own address
            pytest.fail(f"answered {answer.read(200)!r}")
    except urllib.error.HTTPError as refusal:
        with refusal:
            return str(refusal.headers["X-ClickHouse-Exception-Code"])


OUTSIDE = [
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM s3('http://127.0.0.1:1/b/k', 'CSV')",
    "SELECT * FROM remote('127.0.0.1', 'bigdata', 't')",
    "SELECT * FROM executable('x', 'TSV', 'a String')",
    "SELECT * FROM sqlite('/tmp/x', 'y')",
    "SELECT * FROM python(x)",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM '/etc/passwd'",
    "SELECT aiGenerate('x', 'y')",
    "SELECT * FROM merge('system', 'one')",
    "SELECT * FROM view(SELECT * FROM file('/etc/passwd'))",
    "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "SELECT file('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\" /* hidden */ ('/etc/passwd')",
    "SELECT `f\\x69le`('/etc/passwd')",
    "SELECT 1 UNION ALL SELECT length(file('/etc/passwd'))",
    "WITH (SELECT file('/etc/passwd')) AS x SELECT x",
]
SYSTEM = [
    "SELECT * FROM system.tables",
    "SELECT * FROM `system`.processes",
    'SELECT * FROM "system" . "query_log"',
    "SELECT * FROM SYSTEM.one",
    "SELECT name, value, readonly FROM system.settings LIMIT 10001",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM INFORMATION_SCHEMA.COLUMNS",
    "SELECT * FROM `system.one`",
    "EXISTS TABLE system.tables",
    "SHOW PROCESSLIST",
    "SHOW TABLES FROM system",
    "SYSTEM FLUSH LOGS",
]
WRITES = [
    "INSERT INTO bigdata.t VALUES (1)",
    "INSERT INTO FUNCTION file('/tmp/x.csv') SELECT 1",
    "CREATE TABLE bigdata.x (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE x (a UInt8)",
    "DROP TABLE bigdata.t",
    "ALTER TABLE bigdata.t DELETE WHERE 1",
    "GRANT ALL ON *.* TO default",
    "BACKUP DATABASE bigdata TO File('/tmp/b')",
    "SET ROLE admin",
    "SET max_result_rows = 0",
    "USE system",
    "KILL QUERY WHERE 1",
    "WITH 1 AS x INSERT INTO bigdata.t SELECT x",
    "SELECT 1 INTO OUTFILE '/tmp/out.csv'",
    "SELECT 1 INTO /* */ OUTFILE '/tmp/out.csv'",
]


@pytest.mark.parametrize("sql", [*OUTSIDE, *SYSTEM, *WRITES])
def test_the_gateway_cannot(server: Any, sql: str) -> None:
    assert refused(server, "gateway", sql) in {"497", "36", "62", "60"}


@pytest.mark.parametrize(
    "hidden",
    [
        b"SELECT 1 // '\n, file('/etc/passwd') // '",
        b"SELECT 1 # '\n, file('/etc/passwd') # '",
        b"SELECT 1 /* /* */ ' */, file('/etc/passwd') -- '",
        b"SELECT $a$ ' $a$, file('/etc/passwd'), $a$ ' $a$",
        "SELECT \u2018a', file('/etc/passwd'), 'b\u2019".encode(),
        b"SELECT 1\0, file('/etc/passwd')",
        b"SELECT 'a\\'', file('/etc/passwd')",
        b"SELECT 'a''', file('/etc/passwd')",
        b"SELECT '\\\\', file('/etc/passwd'), '\\\\'",
    ],
)
def test_a_call_cannot_hide_behind_quotes_and_comments(server: Any, hidden: bytes) -> None:
    assert refused(server, "gateway", hidden) in {"497", "62"}


LIMITS = [
    "max_result_rows",
    "max_result_bytes",
    "max_rows_to_read",
    "max_bytes_to_read",
    "max_execution_time",
    "max_memory_usage",
]
MODES = ["result_overflow_mode", "read_overflow_mode", "timeout_overflow_mode", "group_by_overflow_mode"]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", ["0", "9999999999999"])
def test_the_gateway_cannot_lift_a_limit(server: Any, name: str, value: str) -> None:
    # 36 is a time the engine cannot even represent.
    assert refused(server, "gateway", "SELECT 1", **{name: value}) in {"452", "36"}
    assert refused(server, "gateway", f"SELECT 1 SETTINGS {name} = {value}") in {"452", "36"}


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT * FROM {x:Identifier}.one", "system"),
        ("SELECT * FROM {x : Identifier}.tables", "INFORMATION_SCHEMA"),
        ("SELECT * FROM {x:Identifier}", "system.one"),
        ("SELECT {x:Identifier}('/etc/passwd')", "file"),
        ("SELECT * FROM {x:Identifier}('/etc/passwd')", "file"),
    ],
)
@pytest.mark.parametrize("user", ["gateway", "ingest"])
def test_a_name_in_a_parameter_opens_nothing(server: Any, user: str, sql: str, value: str) -> None:
    assert refused(server, user, sql, param_x=value) == "497"


def test_a_column_may_be_named_by_a_parameter(gateway: Client) -> None:
    assert gateway.query("SELECT {x:Identifier} FROM (SELECT 7 AS a)", parameters={"x": "a"}).result_rows == [(7,)]


def test_no_threads_means_as_many_as_cores_not_without_limit(server: Any, gateway: Client) -> None:
    assert refused(server, "gateway", "SELECT 1", max_threads="17") == "452"
    cores = gateway.query("SELECT getSetting('max_threads')", settings={"max_threads": 0}).result_rows[0][0]
    assert int(cores) <= 1024


@pytest.mark.parametrize("name", LIMITS)
def test_the_gateway_may_lower_a_limit(gateway: Client, name: str) -> None:
    value = 1_000_000 if "bytes" in name or "memory" in name else 2
    assert gateway.query("SELECT 1", settings={name: value}).result_rows == [(1,)]
    assert gateway.query(f"SELECT 1 SETTINGS {name} = {value}").result_rows == [(1,)]


@pytest.mark.parametrize("name", MODES)
def test_the_gateway_cannot_change_an_overflow_mode(server: Any, name: str) -> None:
    assert refused(server, "gateway", "SELECT 1", **{name: "break"}) in {"452", "164"}
    assert refused(server, "gateway", f"SELECT 1 SETTINGS {name} = 'break'") == "452"
    assert refused(server, "gateway", f"SELECT * FROM (SELECT 1 SETTINGS {name} = 'break')") == "452"
    assert refused(server, "gateway", f"WITH x AS (SELECT 1 SETTINGS {name} = 'break') SELECT * FROM x") == "452"


@pytest.mark.parametrize(
    ("name", "value"),
    [("readonly", "0"), ("profile", "default"), ("allow_ddl", "1"), ("query_cache_tag", "x"), ("max_ast_depth", "9")],
)
def test_the_gateway_sets_nothing_else(server: Any, name: str, value: str) -> None:
    assert refused(server, "gateway", "SELECT 1", **{name: value}) == "164"
    assert refused(server, "gateway", f"SELECT 1 SETTINGS {name} = '{value}'") == "452"
    assert refused(server, "gateway", f"SELECT 1 SETTINGS max_threads = 1, {name} = '{value}'") == "452"


def test_a_setting_cannot_carry_sql(server: Any) -> None:
    assert refused(server, "ingest", "SELECT 1", **{"max_threads = 1; DROP TABLE x; SET max_threads": "1"}) == "115"
    assert refused(server, "ingest", "SELECT 1", log_comment="x", max_threads="1'; SELECT 2; --") not in {"", "62"}
    assert refused(server, "ingest", "SELECT 1", database="x`; DROP DATABASE bigdata; --") in {"497", "81"}


def test_the_gateway_stays_in_its_database(server: Any) -> None:
    assert refused(server, "gateway", "SELECT 1", database="system") == "497"
    assert refused(server, "gateway", "SELECT 1", database="default") == "497"


def test_limits_throw_instead_of_returning_a_part(gateway: Client) -> None:
    with pytest.raises(DatabaseError, match="TOO_MANY_ROWS_OR_BYTES"):
        gateway.query("SELECT number FROM numbers(1000)", settings={"max_result_rows": 10})
    with pytest.raises(DatabaseError, match="TIMEOUT_EXCEEDED"):
        gateway.query("SELECT sum(cityHash64(number)) FROM numbers(9000000000)", settings={"max_execution_time": 1})
    with pytest.raises(DatabaseError, match="MEMORY_LIMIT_EXCEEDED"):
        gateway.query("SELECT groupArray(number) FROM numbers(100000000)", settings={"max_memory_usage": 50_000_000})


def test_rows_read_are_limited_too(ingest: Client, gateway: Client, table: str) -> None:
    ingest.command(f"INSERT INTO {table} SELECT number, '' FROM numbers(10000)")
    with pytest.raises(DatabaseError, match="TOO_MANY_ROWS"):
        gateway.query(f"SELECT count() FROM {table} WHERE name = 'x'", settings={"max_rows_to_read": 100})


@pytest.mark.parametrize("user", ["gateway", "ingest", "admin"])
@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE x", "SELECT 1;;SELECT ';'"])
def test_more_than_one_statement_is_refused(server: Any, user: str, sql: str) -> None:
    assert refused(server, user, sql) == "62"


def test_a_second_statement_cannot_follow_values(server: Any, ingest: Client, table: str) -> None:
    assert refused(server, "ingest", f"INSERT INTO {table} VALUES (1, 'a'); DROP TABLE {table}") == "62"
    assert ingest.query(f"SELECT count() FROM {table}").result_rows == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file('/etc/passwd')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "INSERT INTO FUNCTION file('/tmp/x.csv') SELECT 1",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM system.query_log",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "CREATE USER x",
    ],
)
def test_ingest_stays_out_of_files_networks_and_the_system(server: Any, sql: str) -> None:
    assert refused(server, "ingest", sql) in {"497", "60"}


@pytest.mark.parametrize("user", ["ingest", "admin"])
def test_nobody_reads_or_writes_files_by_a_clause(server: Any, user: str) -> None:
    assert refused(server, user, "SELECT 1 INTO OUTFILE '/tmp/out.csv'") == "36"
    assert refused(server, user, "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString") == "36"


def test_ordinary_names_that_look_dangerous_are_fine(gateway: Client, ingest: Client, table: str) -> None:
    ingest.command(f"ALTER TABLE {table} ADD COLUMN file String, ADD COLUMN system String, ADD COLUMN url String")
    ingest.command(f"ALTER TABLE {table} ADD COLUMN settings UInt8, ADD COLUMN format UInt8")
    sql = (
        f"SELECT file, `system`, url, settings, format, 'INTO OUTFILE file(system.x)' FROM {table}"
        " WHERE url IN ('a') AND file = 'x' AND settings = 1 -- it's fine"
    )
    assert gateway.query(sql).result_rows == []
