import asyncio
import stat
from pathlib import Path

import pytest

from devstack import state
from devstack.process import Record, StackError
from devstack.state import State


def _record() -> Record:
    return Record(1, 2.0, 3, "log", 0, "exit", "print", 15, 20.0)


def test_a_folder_without_a_stack_has_no_state(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None


def test_everything_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = State(ports={"redis": 1}, processes={"redis": _record()}, user_key="bd_x")
    state.save(tmp_path, saved)
    assert state.load(tmp_path) == saved


def test_only_the_owner_can_read_the_secrets(tmp_path: Path) -> None:
    state.save(tmp_path, State())
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_two_stacks_share_no_secret() -> None:
    one, other = State().secrets, State().secrets
    assert one.admin_key.startswith("bd_")
    assert one.admin_key != other.admin_key
    assert not set(one.postgres.values()) & set(other.postgres.values())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"version": 1, "ports": ')
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        state.load(tmp_path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"version": 99}')
    with pytest.raises(StackError, match="another version"):
        state.load(tmp_path)


async def test_commands_on_one_folder_take_turns(tmp_path: Path) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with state.locked(tmp_path):
            order.append(f"{name} begins")
            await asyncio.sleep(0.02)
            order.append(f"{name} ends")

    await asyncio.gather(work("first"), work("second"))
    assert order == ["first begins", "first ends", "second begins", "second ends"]


async def test_waiting_for_the_other_command_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_LOCK_S", 0.1)
    async with state.locked(tmp_path):
        with pytest.raises(StackError, match="another bigdata command"):
            async with state.locked(tmp_path):
                pass
