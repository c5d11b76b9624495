"""`bigdata` against answers made up here: what is printed where, and with which exit code it ends."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from bigdata_client import AsyncClient, Client, Retries
from bigdata_client.cli import build
from bigdata_client.command.output import printable, text_of

Handler = Callable[[httpx.Request], httpx.Response]

_META: dict[str, Any] = {"query_id": "q1", "returned": 2, "credits_used": 1, "credits_remaining": 9, "total_records": 4}
_ROWS = [{"name": "Ann", "note": "=1+1"}, {"name": "Bob\x1b[31m", "note": None}]


class Bigdata:
    """The command, with every request answered by a function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.seen: list[httpx.Request] = []
        self.handler: Handler = lambda _: httpx.Response(200, json={})
        self._env = {"BIGDATA_CONFIG": str(tmp_path / "config.yaml"), "BIGDATA_HOME": str(tmp_path), "COLUMNS": "200"}
        transport, once = httpx.MockTransport(self._answer), Retries(attempts_max=1)
        monkeypatch.setattr("bigdata_client.command.session.Client", partial(Client, transport=transport, retries=once))
        fake = partial(AsyncClient, transport=transport, retries=once)
        monkeypatch.setattr("bigdata_client.command.ingest.AsyncClient", fake)

    def __call__(self, *arguments: str, given: str | None = None, url: str | None = "http://gateway") -> Result:
        env = self._env | ({"BIGDATA_URL": url, "BIGDATA_API_KEY": "bd_key"} if url else {})
        return CliRunner().invoke(build(), list(arguments), input=given, env=env)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.handler(request)

    @property
    def body(self) -> Any:
        return json.loads(self.seen[-1].content)


@pytest.fixture
def bigdata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bigdata:
    for name in ("BIGDATA_URL", "BIGDATA_API_KEY", "BIGDATA_ADMIN_KEY", "BIGDATA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return Bigdata(monkeypatch, tmp_path)


def _rows(request: httpx.Request) -> httpx.Response:
    """Two pages of two rows."""
    more = "cursor" not in json.loads(request.content)
    return httpx.Response(200, json={"metadata": {**_META, "next_cursor": "c2" if more else None}, "data": _ROWS})


def test_a_query_of_flags_prints_a_table_and_says_its_cost_on_stderr(bigdata: Bigdata) -> None:
    bigdata.handler = _rows
    shown = bigdata("query", "people", "-w", "country=IN", "-s", "name,note", "--sort", "name DESC", "-n", "2")
    assert shown.exit_code == 0
    assert bigdata.body == {
        "dataset": "people",
        "filters": {"country": "IN"},
        "select": ["name", "note"],
        "sort": ["name DESC"],
        "limit": 2,
    }
    assert shown.stdout.split("\n")[0].split() == ["name", "note"]
    assert "\x1b" not in shown.stdout
    assert "2 of 4 rows" in shown.stderr
    assert "credits used 1, left 9; query q1" in shown.stderr
    assert "--cursor c2" in shown.stderr


def test_a_body_from_stdin_is_overruled_by_flags(bigdata: Bigdata) -> None:
    bigdata.handler = _rows
    shown = bigdata("query", "--body", "-", "-n", "1", "--json", given='{"dataset": "flights", "limit": 9}')
    assert bigdata.body == {"dataset": "flights", "limit": 1}
    assert json.loads(shown.stdout)["metadata"]["query_id"] == "q1"


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "table"])
def test_follow_writes_every_page_in_each_form(bigdata: Bigdata, form: str) -> None:
    bigdata.handler = _rows
    shown = bigdata("query", "people", "--follow", "-o", form)
    assert shown.exit_code == 0, shown.output
    assert "4 rows in 2 pages; credits used 2" in shown.stderr
    match form:
        case "json":
            assert json.loads(shown.stdout) == _ROWS * 2
        case "ndjson":
            assert [json.loads(line) for line in shown.stdout.splitlines()] == _ROWS * 2
        case "csv":
            read = list(csv.reader(io.StringIO(shown.stdout)))
            assert read[:2] == [["name", "note"], ["Ann", "'=1+1"]]
            assert len(read) == 5
        case "table":
            assert shown.stdout.count("Ann") == 2


def test_csv_is_streamed_as_the_gateway_wrote_it(bigdata: Bigdata, tmp_path: Path) -> None:
    bigdata.handler = lambda _: httpx.Response(200, content=b"a\n1\n", headers={"X-Query-Id": "q7"})
    shown = bigdata("query", "people", "-o", "csv")
    assert (shown.stdout, bigdata.body["format"]) == ("a\n1\n", "csv")
    assert "bigdata receipt q7" in shown.stderr
    file = tmp_path / "rows.parquet"
    assert bigdata("query", "people", "-o", "parquet", "--to", str(file)).exit_code == 0
    assert file.read_bytes() == b"a\n1\n"


def test_combinations_that_cannot_be_are_refused_with_what_to_do(bigdata: Bigdata, tmp_path: Path) -> None:
    for arguments, said in (
        (["--follow", "-o", "parquet"], "--limit goes to a million"),
        (["--to", str(tmp_path / "x")], "a table is for people"),
        (["-w", "nonsense"], "write FIELD=VALUE"),
        (["-o", "csv", "--to", str(tmp_path / "nowhere" / "x.csv")], "there is no such folder"),
    ):
        shown = bigdata("query", "people", *arguments)
        assert (shown.exit_code, said in shown.stderr) == (2, True), shown.output
    assert bigdata.seen == []


def test_digits_for_a_text_column_are_text(bigdata: Bigdata) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/datasets":
            columns = [{"name": "zip", "type": "string"}, {"name": "age", "type": "integer"}]
            return httpx.Response(200, json=[{"name": "people", "columns": columns}])
        return _rows(request)

    bigdata.handler = handler
    bigdata("query", "-w", "zip=10001", "-w", "age=5")
    assert bigdata.body["filters"] == {"zip": "10001", "age": 5}


@pytest.mark.parametrize(
    ("status", "code", "details", "exit_code", "hint"),
    [
        (401, "invalid_api_key", None, 4, "BIGDATA_API_KEY"),
        (402, "insufficient_credits", {"available": 0, "needed": 1}, 5, "Available 0, needed 1"),
        (403, "forbidden", None, 4, "another key"),
        (422, "invalid_request", [{"path": "limit", "error": "at most 1000"}], 4, "limit: at most 1000"),
        (429, "rate_limited", None, 6, "Try again"),
        (503, "unavailable", None, 6, "Try again"),
        (504, "query_timeout", None, 6, "query_timeout"),
        (500, "internal", None, 4, "internal"),
    ],
)
def test_each_refusal_has_its_exit_code_and_says_what_to_do(  # noqa: PLR0917
    bigdata: Bigdata, status: int, code: str, details: Any, exit_code: int, hint: str
) -> None:
    refusal = {"error": "No", "code": code, "details": details, "request_id": "r9"}
    bigdata.handler = lambda _: httpx.Response(status, json=refusal)
    shown = bigdata("query", "people")
    assert shown.exit_code == exit_code
    assert shown.stdout == ""
    assert hint in shown.stderr
    assert "request r9" in shown.stderr


def test_nobody_there_is_told_apart(bigdata: Bigdata) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    bigdata.handler = handler
    shown = bigdata("credits", "balance")
    assert shown.exit_code == 3
    assert "no answer from http://gateway: Connection refused" in shown.stderr
    assert bigdata("credits", "balance", url=None).exit_code == 3


def _loading(**ends: Any) -> Handler:
    """An upload that ends at the first look; `ends`: by file name."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            name = request.url.params.get("filename", "")
            return httpx.Response(202, json={"upload_id": name, "state": "received"})
        name = request.url.path.split("/")[3]
        if request.url.path.endswith("/events"):
            return httpx.Response(404, json={"error": "No", "code": "not_found"})
        return httpx.Response(200, json={"upload_id": name, **ends[name.partition(".")[0]]})

    return handler


_DONE = {"state": "completed", "rows": {"total": 2, "accepted": 2, "rejected": 0}}
_REJECTS = {"state": "completed_with_rejects", "rows": {"total": 2, "accepted": 1, "rejected": 1}}
_FAILED = {"state": "failed", "error": "this is an executable"}


def test_ingest_takes_patterns_and_ends_by_the_worst_outcome(bigdata: Bigdata, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text("x\n1\n")
    bigdata.handler = _loading(a=_DONE, b=_REJECTS, c=_FAILED)
    pattern = str(tmp_path / "[ab].csv")
    shown = bigdata("ingest", pattern, "-d", "people", "--json")
    assert shown.exit_code == 7
    assert [one["state"] for one in json.loads(shown.stdout)] == ["completed", "completed_with_rejects"]
    assert "quarantine list b.csv" in shown.stderr
    assert bigdata("ingest", str(tmp_path / "a.csv"), "-d", "people").exit_code == 0
    shown = bigdata("ingest", str(tmp_path / "*.csv"), "-d", "people")
    assert shown.exit_code == 1
    assert "this is an executable" in shown.stderr
    bigdata.handler = _loading(a={**_DONE, "duplicate_of": "earlier"})
    shown = bigdata("ingest", str(tmp_path / "a.csv"), "-d", "people")
    assert "a.csv: this content was loaded before, as earlier; nothing was loaded twice" in shown.stderr


def test_a_pattern_without_files_and_a_missing_file_are_errors(bigdata: Bigdata, tmp_path: Path) -> None:
    shown = bigdata("ingest", str(tmp_path / "*.csv"), "-d", "people")
    assert (shown.exit_code, "no file matches" in shown.stderr) == (2, True)
    missing = str(tmp_path / "gone.csv")
    shown = bigdata("ingest", missing, "-d", "people")
    assert shown.exit_code == 2
    assert f"{missing}: No such file or directory" in shown.stderr
    (tmp_path / "here.csv").write_text("x\n")
    bigdata.handler = _loading(here=_DONE)
    shown = bigdata("ingest", missing, str(tmp_path / "here.csv"), "-d", "people", "--json")
    assert shown.exit_code == 2
    assert [one.get("state") for one in json.loads(shown.stdout)] == [None, "completed"]


def test_ingest_of_stdin_has_the_name_that_it_is_given(bigdata: Bigdata) -> None:
    bigdata.handler = _loading(people=_DONE)
    assert bigdata("ingest", "-", "-d", "people", "--name", "people.csv", given="x\n1\n").exit_code == 0
    posted = next(request for request in bigdata.seen if request.method == "POST")
    assert dict(posted.url.params) == {"dataset": "people", "filename": "people.csv"}


def test_watch_ends_as_the_upload_did(bigdata: Bigdata) -> None:
    bigdata.handler = _loading(u=_REJECTS)
    shown = bigdata("uploads", "watch", "u")
    assert shown.exit_code == 7
    assert "rejected rows: 1" in shown.stderr


def test_undo_asks_first(bigdata: Bigdata) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = {"upload_id": "u", "state": "undone" if request.method == "DELETE" else "completed"}
        return httpx.Response(200, json=answer)

    bigdata.handler = handler
    assert bigdata("uploads", "undo", "u", given="n\n").exit_code == 1
    assert [request.method for request in bigdata.seen] == ["GET"]
    assert bigdata("uploads", "undo", "u", given="y\n").exit_code == 0
    assert bigdata("uploads", "undo", "u", "--yes").exit_code == 0


def test_users_are_found_by_name_and_a_wrong_one_gets_near_ones(bigdata: Bigdata) -> None:
    ann = {"id": "11111111-1111-1111-1111-111111111111", "username": "Ann", "role": "user", "status": "active"}
    bob = {**ann, "id": "2", "username": "annabel"}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/admin/users":
            search = request.url.params.get("search", "")
            return httpx.Response(200, json=[one for one in (bob, ann) if search.lower() in one["username"].lower()])
        return httpx.Response(200, json={**ann, "keys": [{"id": "k", "name": "first", "prefix": "bd_1"}]})

    bigdata.handler = handler
    shown = bigdata("users", "show", "ANN")
    assert "bd_1" in shown.stdout
    assert bigdata.seen[-1].url.path == f"/v1/admin/user/{ann['id']}"
    shown = bigdata("admin", "users", "show", "anna")
    assert (shown.exit_code, "did you mean annabel?" in shown.stderr) == (4, True)


def test_profiles_are_set_used_and_never_shown_whole(bigdata: Bigdata) -> None:
    assert bigdata("profile", "set", "prod").exit_code == 2
    shown = bigdata("profile", "set", "prod", "--url", "http://prod", "--key", "bd_12345678_secret")
    assert "secret" not in shown.output
    bigdata("profile", "set", "dev", "--url", "http://dev", "--key", "-", given="bd_typed\n")
    assert [one["current"] for one in json.loads(bigdata("profile", "list", "--json").stdout)] == [False, True]
    bigdata.handler = lambda _: httpx.Response(200, json={"id": "1", "username": "ann", "role": "user"})
    assert json.loads(bigdata("whoami", "--json", url=None).stdout)["gateway"] == "http://prod"
    assert json.loads(bigdata("whoami", "--json", "--profile", "dev", url=None).stdout)["found_in"] == "profile dev"
    bigdata("profile", "use", "dev")
    assert bigdata("profile", "remove", "prod").exit_code == 0
    assert bigdata("whoami", "--profile", "prod", url=None).exit_code == 2


def test_lists_go_on_to_the_number_that_was_asked_for(bigdata: Bigdata) -> None:
    entry = {"entry_id": "e", "kind": "grant", "amount": 1, "balance": 1, "created_at": "2026-01-01T00:00:00Z"}
    bigdata.handler = lambda request: httpx.Response(
        200, json=[entry] * int(request.url.params["limit"]), headers={"X-Next-Cursor": "c"}
    )
    assert len(json.loads(bigdata("credits", "statement", "-n", "1500", "--json").stdout)) == 1500
    assert [request.url.params["limit"] for request in bigdata.seen] == ["1000", "500"]


def test_logs_are_filtered_and_tailed(bigdata: Bigdata) -> None:
    event = {"created_at": "2026-01-01T00:00:00Z", "method": "POST", "endpoint": "/v1/query", "status": 200}
    answers = [httpx.Response(200, text=f"data: {json.dumps(event)}\n\n") for _ in range(2)]

    def handler(_: httpx.Request) -> httpx.Response:
        if len(bigdata.seen) % 2 == 0:
            raise KeyboardInterrupt
        return answers.pop()

    bigdata.handler = handler
    shown = bigdata("admin", "logs", "--tail", "--endpoint", "/v1/query")
    assert shown.exit_code == 130
    assert "200 POST   /v1/query" in shown.stdout
    assert dict(bigdata.seen[0].url.params) == {"endpoint": "/v1/query"}
    assert json.loads(bigdata("logs", "--tail", "--json").stdout) == event


def test_checking_declarations_names_file_and_line(bigdata: Bigdata, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\ncolumns:\n  age: {type: integr}\n")
    shown = bigdata("datasets", "check", str(file))
    assert shown.exit_code == 1
    assert f"{file}:3: columns.age.type" in shown.stderr
    assert json.loads(bigdata("datasets", "check", str(file), "--json").stdout)["faults"][0]["line"] == 3
    file.write_text("name: bad\ncolumns:\n  age: {type: integer}\n")
    assert bigdata("datasets", "check", str(tmp_path)).stdout == "1 valid: bad\n"
    assert bigdata("datasets", "check", str(tmp_path / "gone.yaml")).exit_code == 2


def test_what_a_terminal_would_obey_is_shown_as_it_is() -> None:
    assert printable("a\x1b[31mb\tc\nd é") == "a\\x1b[31mb\\tc\\nd é"
    assert [text_of(one) for one in (None, True, 1.50, 1_234_567.25, ["a", 1])] == [
        "",
        "yes",
        "1.5",
        "1234567.25",
        "a 1",
    ]


def test_a_client_that_is_interrupted_ends_at_once(bigdata: Bigdata) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    bigdata.handler = handler
    shown = bigdata("whoami")
    assert (shown.exit_code, shown.stderr) == (130, "interrupted\n")


def test_a_person_is_erased_by_one_identity_and_only_after_a_yes(bigdata: Bigdata) -> None:
    done = {"state": "done", "rows": 3}
    bigdata.handler = lambda _: httpx.Response(200, json=done)
    assert bigdata("erase", "--email", "a@x.org", given="n\n").exit_code == 0
    assert not bigdata.seen
    assert bigdata("erase", "--dataset", "people", "--email", "a@x.org", "--yes").exit_code == 0
    assert bigdata.seen[-1].url.path == "/v1/admin/erasures"
    assert bigdata.body == {"dataset": "people", "column": "email", "value": "a@x.org", "wait_s": 30}
    assert bigdata("erase", "--by", "customer_id=7", "--yes").exit_code == 0
    assert (bigdata.body["column"], bigdata.body["value"]) == ("customer_id", "7")
    for wrong in ((), ("--email", "a", "--phone", "1"), ("--by", "customer_id")):
        assert bigdata("erase", *wrong, "--yes").exit_code == 2
