"""Records on a topic become rows; what cannot is a dead letter, and a flood of those stops the consumer."""

import httpx
import pytest

from common.ids import new_id
from common.topics import INGEST_RECORDS
from devstack.stack import Stack
from support.polling import until
from support.records import PEOPLE, all_shown, buried, headers_of, people, produce, shown
from support.stack import environment
from support.uploads import dead_letters, manifest, select

pytestmark = pytest.mark.usefixtures("answered")

WORKER = "ingest-worker"


async def test_records_become_rows_that_say_where_they_came_from_and_are_counted(
    stack: Stack, admin: httpx.AsyncClient
) -> None:
    async def ingested_today() -> int:
        return int((await admin.get("/v1/admin/stats")).raise_for_status().json()["ingested_today"])

    run, before = new_id(), await ingested_today()
    await produce(stack, *people(run, range(300)), partition=4)
    await all_shown(stack, run, 300)
    found = select(
        stack,
        "SELECT uniqExact(row_no), min(upload_id), max(upload_id) FROM bigdata.people FINAL WHERE source = {r:String}",
        {"r": f"run-{run}"},
    )
    assert found == [(300, f"{INGEST_RECORDS.name}/4", f"{INGEST_RECORDS.name}/4")]

    async def counted() -> bool:
        return await ingested_today() >= before + 300

    await until("the records to be counted", counted, deadline_s=60)


async def test_the_newest_record_of_an_identity_is_shown_and_the_datasets_version_rises(stack: Stack) -> None:
    run = new_id()
    version = "SELECT version FROM ingest.dataset_freshness WHERE dataset = 'people'"
    (before,) = await manifest(stack, version) or [{"version": 0}]
    first, second = people(run, [1])[0], people(run, [1])[0]
    second[0]["first_name"] = "Newer"
    # Of one partition, as a key makes it: between partitions messages of the same millisecond have no order.
    await produce(stack, first, second, partition=3)
    name = "SELECT first_name FROM bigdata.people FINAL WHERE source = {r:String}"

    async def newer() -> bool:
        return select(stack, name, {"r": f"run-{run}"}) == [("Newer",)]

    await until("the newer record", newer, deadline_s=60)

    async def risen() -> bool:
        return bool((await manifest(stack, version))[0]["version"] > before["version"])

    await until("the version to rise", risen, deadline_s=30)


async def test_poison_is_one_dead_letter_each_and_the_next_record_is_loaded(stack: Stack) -> None:
    """30."""
    run = new_id()
    value, oversize = f"{{poison {run}".encode(), b'{"note": "' + f"{run}".encode() * 90_000 + b'"}'
    headers = {f'{{"email": "{kind}.{run}@example.com"}}'.encode(): kind for kind in ("null", "binary", "unknown")}
    kinds: dict[str, list[tuple[str, bytes | None]]] = {
        "null": [("dataset", None)],
        "binary": [("dataset", b"\xff\xfe"), ("other", b"\xff")],
        "unknown": [("dataset", b"planets")],
    }
    poison = [(value, PEOPLE), (oversize, PEOPLE), *((one, kinds[kind]) for one, kind in headers.items())]
    for number, one in enumerate(poison):
        await produce(stack, one, *people(run, [number]), partition=2)
        await all_shown(stack, run, number + 1)

    async def all_buried() -> bool:
        return len(await buried(stack, value, *headers)) == 4

    await until("the dead letters", all_buried, deadline_s=30)
    letters = await dead_letters(stack)
    (cut,) = [one for one in letters if one.value and one.value == oversize[: len(one.value)]]
    assert int(headers_of(cut)["truncated_from"]) == len(oversize)
    reasons = {headers_of(one)["reason"] for one in await buried(stack, value, *headers)}
    assert "json_syntax" in reasons
    (unknown,) = [one for one in await buried(stack, *headers) if headers[one.value] == "unknown"]
    assert headers_of(unknown)["reason"].startswith("header dataset: 'planets' is not declared")
    assert headers_of(unknown)["dataset"] == "planets"
    assert (headers_of(unknown)["topic"], headers_of(unknown)["partition"]) == (INGEST_RECORDS.name, "2")


async def ready(stack: Stack) -> dict[str, str]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        found: dict[str, str] = (await http.get(f"{stack.ops_url(WORKER)}/readyz")).json()
        return found


@pytest.mark.long
async def test_a_flood_of_poison_stops_the_consumer_and_a_restart_goes_on_where_it_stopped(stack: Stack) -> None:
    """33."""
    run = new_id()
    flood = [f"{number:02} flood {run}".encode() for number in range(12)]
    async with environment(stack, WORKER, {"DEAD_LETTERS_MAX": "5", "DEAD_LETTERS_SHARE_MAX": "0.5"}):
        await produce(stack, *((one, PEOPLE) for one in flood), *people(run, [1]), partition=7)

        async def stopped() -> bool:
            return (await ready(stack))["records"] == "unhealthy"

        await until("the consumer to stop", stopped, deadline_s=60, every_s=0.2)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            alive = await http.get(f"{stack.ops_url(WORKER)}/healthz")
            metrics = (await http.get(f"{stack.ops_url(WORKER)}/metrics")).text
        assert alive.is_success, "a restart by the orchestrator would only bury more"
        assert f'bigdata_dead_letter_budget_spent{{topic="{INGEST_RECORDS.name}"}} 1.0' in metrics
        assert sorted(one.value for one in await buried(stack, *flood)) == flood[:5]
        assert shown(stack, run) == 0
    await all_shown(stack, run, 1)

    async def all_buried() -> bool:
        return len(await buried(stack, *flood)) >= len(flood)

    await until("the rest to be buried", all_buried, deadline_s=30)
    assert sorted(one.value for one in await buried(stack, *flood)) == flood, "each once"
