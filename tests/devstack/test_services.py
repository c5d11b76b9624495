"""What the stack does around the services, with stand-ins that start in a moment."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from devstack import ports, state
from devstack.parts import SERVERS
from devstack.process import StackError
from devstack.services import SERVICES
from devstack.stack import Stack
from support.stack import environment, further_copy, running_stack

_FAKE = Path(__file__).with_name("fake_service.py")


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("fakes")
    for service in SERVICES.values():
        (folder / service.module).mkdir()
        (folder / service.module / "__init__.py").touch()
        (folder / service.module / "__main__.py").write_text(_FAKE.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))  # before the installed packages, also in the children
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole(fakes: None) -> AsyncIterator[Stack]:  # noqa: ARG001 - it must be there first
    async with running_stack() as running:
        yield running


async def _environment_of(whole: Stack, name: str) -> dict[str, str]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{whole.ops_url(name)}/env")
    found: dict[str, str] = answer.json()
    return found


async def test_up_starts_servers_then_services_and_makes_a_user(whole: Stack) -> None:
    status = whole.status()
    assert {name: one.state for name, one in status.processes.items()} == dict.fromkeys(
        [*SERVERS, *SERVICES], "running"
    )
    assert status.user_key == "bd_key_of_demo"
    assert status.gateway == whole.url() == f"http://127.0.0.1:{status.processes['gateway'].port}"


async def test_the_demo_user_is_made_only_once(whole: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: object) -> str:
        raise AssertionError("asked twice")

    monkeypatch.setattr("devstack.services.create_demo_user", refuse)
    await whole.up()
    assert whole.user_key == "bd_key_of_demo"


async def test_each_service_gets_its_own_role_and_only_the_secrets_it_needs(whole: Stack) -> None:
    gateway, audit = await _environment_of(whole, "gateway"), await _environment_of(whole, "audit-logger")
    key = whole.site.secrets.admin_key
    assert gateway["ADMIN_API_KEY"] == hashlib.sha256(key.encode()).hexdigest()
    assert gateway["CLICKHOUSE_USER"] == "gateway"
    assert "//gateway:" in gateway["POSTGRES_URL"]
    assert "//gateway_owner:" in gateway["MIGRATE_POSTGRES_URL"]
    assert "//audit:" in audit["POSTGRES_URL"]
    assert not audit.keys() & {"CREDITS_TOKENS", "ADMIN_API_KEY", "CLICKHOUSE_PASSWORD", "REDIS_URL"}


async def test_a_part_runs_with_additional_settings_for_a_while(whole: Stack) -> None:
    async with environment(whole, "ingest-worker", {"FAULTPOINTS": "after_insert"}):
        assert (await _environment_of(whole, "ingest-worker"))["FAULTPOINTS"] == "after_insert"
    assert "FAULTPOINTS" not in await _environment_of(whole, "ingest-worker")


async def test_a_further_copy_has_its_own_ports_and_spool(whole: Stack) -> None:
    async with further_copy(whole, "gateway", env={"FAULTPOINTS": "x"}) as copy:
        first, second = await _environment_of(whole, "gateway"), await _environment_of(whole, copy)
        assert whole.url(copy) != whole.url()
        for own in ("SERVER_PORT", "OPS_PORT", "SPOOL_FOLDER"):
            assert first[own] != second[own]
        assert second["FAULTPOINTS"] == "x"
        assert first["POSTGRES_URL"] == second["POSTGRES_URL"]
    assert whole.status().processes[copy].state == "stopped"


async def test_a_killed_copy_is_not_brought_back_by_up(whole: Stack) -> None:
    await whole.start_extra("ingest-worker", 3)
    await whole.kill("ingest-worker-3")
    await whole.up()
    assert "ingest-worker-3" not in whole.status().processes


async def test_a_server_on_a_new_port_restarts_the_services_that_use_it(whole: Stack) -> None:
    notes: dict[str, str] = {}
    await whole.stop("redis")
    await whole.up(
        ports_wanted={"redis": ports.choose()},
        report=lambda progress: notes.update({progress.name: progress.note}),
    )
    assert notes["gateway"] == "restarted: its settings changed"
    assert notes["audit-logger"] == "was running"


async def test_a_failed_migration_is_told_with_its_output_and_spares_the_others(
    whole: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await whole.down()
    del whole._state.processes["credits"]
    state.save(whole.folder, whole._state)
    monkeypatch.setenv("FAKE_MIGRATION_FAULT", 'relation "accounts" does not exist')
    with pytest.raises(StackError) as raised:
        await whole.up()
    assert "credits: its migration failed; its log is " in str(raised.value)
    assert 'relation "accounts" does not exist' in str(raised.value)
    assert whole.status().processes["postgres"].state == "running"
    assert whole.status().dead["credits"].detail == "was never started"
    monkeypatch.undo()
    await whole.up()
    assert not whole.status().dead
