"""A whole stack in one folder: start it, look at it, stop it. For development, tests and demonstration."""

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack import bucket, parts, ports, process, services, state
from devstack.part import Part, Site
from devstack.process import Record, StackError
from devstack.status import Status, describe


@dataclass(frozen=True)
class Progress:
    """One part became ready. `note` says why it was started when that is not obvious."""

    name: str
    seconds: float
    note: str = ""


Report = Callable[[Progress], None]


def no_report(_: Progress) -> None:
    return


class Stack:
    """One data folder and what runs from it. Commands of several processes on one folder take turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self._state = state.load(self.folder) or state.State()

    @property
    def site(self) -> Site:
        return Site(self.folder, self._state.ports, self._state.secrets, self._broker)

    @property
    def _broker(self) -> str:
        return self._state.kafka or "local"

    @property
    def user_key(self) -> str | None:
        return self._state.user_key

    def url(self, name: str = services.GATEWAY) -> str:
        """The address of a gateway or credits process, by its name; a further copy has its own."""
        return services.url(self.site, name)

    def ops_url(self, name: str) -> str:
        """Where a service answers /healthz, /readyz and /metrics."""
        return services.ops_url(self.site, name)

    def environment(self, name: str) -> dict[str, str]:
        """The settings a service is started with, for tests that build the same resources."""
        return dict(parts.find(name, broker=self._broker).command(self.site).env)

    def exists(self) -> bool:
        return state.load(self.folder) is not None

    async def up(
        self,
        *,
        servers_only: bool = False,
        ports_wanted: Mapping[str, int] | None = None,
        kafka: str | None = None,
        report: Report = no_report,
    ) -> None:
        """Start what does not run, with the data and secrets of last time. Raises StackError; what runs goes on."""
        self._make_folders()
        async with state.locked(self.folder):
            self._reload()
            self._choose_broker(kafka)
            self._forget_dead_copies()
            self._claim_ports(ports_wanted or {})
            self._settle_ports(parts.all_parts(self._broker), move=True)
            bucket.make(self.site)
            wanted = list(parts.servers(self._broker).values()) if servers_only else parts.all_parts(self._broker)
            self._state.wanted = sorted({*self._state.wanted, *(part.name for part in wanted)})
            await self._bring_up_all(wanted, report)
            if not servers_only and self._state.user_key is None:
                self._state.user_key = await services.create_demo_user(self.site)
                self._save()

    async def down(self, *, purge: bool = False) -> list[str]:
        """Stop everything, services first; returns the parts that had to be killed. The data stays unless purged."""
        if not self.exists():
            return []
        async with state.locked(self.folder):
            self._reload()
            killed = [name for stage in parts.stages(self._state.processes) for name in await self._stop_all(stage)]
            self._state.wanted = []
            self._save()
            if purge:
                self._purge()
        return killed

    def status(self) -> Status:
        current = state.load(self.folder) or self._state
        return describe(Site(self.folder, current.ports, current.secrets, current.kafka or "local"), current)

    async def start(self, name: str, env: Mapping[str, str] | None = None) -> Record:
        """Start one part that does not run, with additional environment; a later `up` takes that away again."""
        async with state.locked(self.folder):
            self._reload()
            self._settle_ports(parts.all_parts(self._broker))
            await self._bring_up(parts.find(name, env, self._broker), no_report)
            return self._state.processes[name]

    async def start_extra(self, name: str, index: int = 2, env: Mapping[str, str] | None = None) -> Record:
        """Start a further copy of a service, called `<name>-<index>`. `down` stops it, `up` does not bring it back."""
        part = parts.further_copy(name, index, env)
        async with state.locked(self.folder):
            self._reload()
            self._settle_ports([part])
            await self._bring_up(part, no_report)
            return self._state.processes[part.name]

    async def stop(self, name: str) -> None:
        async with state.locked(self.folder):
            self._reload()
            self._recorded(name)
            await self._stop_all([name])
            self._save()

    async def restart(self, name: str, env: Mapping[str, str] | None = None) -> Record:
        await self.stop(name)
        return await self.start(name, env)

    async def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a part and all it started; after SIGKILL wait until it is gone."""
        record = self._recorded(name)
        process.send(record, number)
        if number == signal.SIGKILL and not await process.wait_gone(record):
            raise StackError(f"{name} (pid {record.pid}) survives SIGKILL")

    async def _bring_up_all(self, wanted: Iterable[Part], report: Report) -> None:
        """Each part starts as soon as what it needs is ready; one that fails stops only those that need it."""
        tasks: dict[str, asyncio.Task[None]] = {}
        failures: dict[str, StackError] = {}
        left_out: set[str] = set()  # for want of another

        async def in_turn(part: Part) -> None:
            if part.needs:
                await asyncio.wait([tasks[name] for name in part.needs])
            if (failures.keys() | left_out) & set(part.needs):
                left_out.add(part.name)
                return
            try:
                await self._bring_up(part, report)
            except StackError as exc:
                failures[part.name] = exc

        async with asyncio.TaskGroup() as group:
            for part in wanted:
                tasks[part.name] = group.create_task(in_turn(part))
        if failures:
            raise StackError("\n".join(map(str, failures.values())))

    async def _bring_up(self, part: Part, report: Report) -> None:
        try:
            began = time.monotonic()
            note = await self._ensure_started(part)
            record = self._state.processes[part.name]
            await process.wait_ready(part.name, record, lambda: part.ready(self.site), part.ready_s)
            if not record.prepared:
                await part.after(self.site)
                record.prepared = True
                self._save()
            report(Progress(part.name, time.monotonic() - began, note))
        except StackError:
            raise
        except Exception as exc:  # whatever a driver raises, the user needs the part's name and its log
            tail = process.log_tail_of(self.site.log(part.name))
            raise StackError(f"{part.name} cannot be used: {type(exc).__name__}: {exc}; {tail}") from exc

    async def _ensure_started(self, part: Part) -> str:
        """Returns what the user should know about it, or nothing."""
        record = self._state.processes.get(part.name)
        if record is None:
            await self._start(part)
            return ""
        if process.is_alive(record) and record.fingerprint != part.command(self.site).fingerprint():
            await process.stop(record)
            await self._start(part)
            return "restarted: its settings changed"
        # Asked before believed: it may have been killed a moment ago and still be on its way out.
        if process.is_alive(record) and (await part.ready(self.site) or process.is_alive(record)):
            return "was running" if record.prepared else ""
        note = "" if record.stopped else f"restarted: it {process.how_it_ended(record)}"
        await self._start(part)
        return note

    async def _start(self, part: Part) -> None:
        self.site.data(part.name).mkdir(exist_ok=True)
        await part.before(self.site)
        command = part.command(self.site)
        if not await ports.comes_free(command.port):
            raise StackError(f"{part.name} cannot start: its port {command.port} is in use by another program")
        self._state.processes[part.name] = process.start(
            command, self.site.log(part.name), self.site.exit_file(part.name)
        )
        self._save()  # before it is ready: an interrupted `up` must leave nothing that `down` cannot find

    def _recorded(self, name: str) -> Record:
        current = state.load(self.folder)
        if current is None or name not in current.processes:
            raise StackError(f"{name} was never started in {self.folder}")
        return current.processes[name]

    async def _stop_all(self, names: Iterable[str]) -> list[str]:
        async def one(name: str) -> bool:
            record = self._state.processes[name]
            clean = await process.stop(record)
            record.stopped = True
            return clean

        names = list(names)
        return [name for name, clean in zip(names, await asyncio.gather(*map(one, names)), strict=True) if not clean]

    def _choose_broker(self, wanted: str | None) -> None:
        """Once per folder: the other broker would not know what is in it."""
        parts.servers(wanted or self._broker)
        if self._state.kafka is None:
            self._state.kafka = wanted or "local"
        elif wanted not in (None, self._state.kafka):
            raise StackError(f"{self.folder} has the broker {self._state.kafka}: name another folder for {wanted}")

    def _claim_ports(self, wanted: Mapping[str, int]) -> None:
        names = [name for part in parts.all_parts(self._broker) for name in part.ports]
        if unknown := wanted.keys() - set(names):
            raise StackError(f"no part has a port named {min(unknown)}; ports: {', '.join(names)}")
        self._state.ports.update(wanted)

    def _settle_ports(self, starting: Iterable[Part], *, move: bool = False) -> None:
        """Last time's ports, or new ones; `move` leaves one that a stranger took, and restarts whoever knew it."""
        assigned = self._state.ports
        for part in starting:
            record = self._state.processes.get(part.name)
            ours = record is not None and process.is_alive(record)
            for name in part.ports:
                if name not in assigned or (move and not ours and not ports.is_free(assigned[name])):
                    assigned[name] = ports.choose(assigned.values())
        self._save()

    def _forget_dead_copies(self) -> None:
        for name, record in list(self._state.processes.items()):
            if not parts.known(name) and not process.is_alive(record):
                del self._state.processes[name]

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("data", "logs", "run", "spool"):
            (self.folder / name).mkdir(exist_ok=True)

    def _purge(self) -> None:
        """Only what this stack made: the folder itself goes when nothing else is in it."""
        for name in ("data", "logs", "run", "spool"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (state.STATE_FILE, ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self._state = state.State()

    def _reload(self) -> None:
        self._state = state.load(self.folder) or self._state

    def _save(self) -> None:
        state.save(self.folder, self._state)
