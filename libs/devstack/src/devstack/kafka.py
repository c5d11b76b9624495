"""A broker that speaks the Kafka protocol: noida-db with only its Kafka service.

After SIGTERM it acknowledges for a moment what it no longer writes (seen in six of eight stops under load, in none when
its own `stop` came first). Killed (SIGKILL), it has lost nearly everything since its last snapshot: tests of a broker's
crash belong on Apache Kafka (`make conformance`).
"""

import asyncio
import re
from functools import partial

from devstack.part import Part, Site, inside_wheel
from devstack.ports import HOST
from devstack.process import Command

NAME = "kafka"
_ANSWER_S = 1.0


def brokers(site: Site) -> str:
    """host:port of every broker, comma separated: the local one, or those of Apache Kafka."""
    mine = [name for name in site.ports if re.fullmatch(rf"{NAME}(-\d+)?", name)]
    return ",".join(f"{HOST}:{site.ports[name]}" for name in sorted(mine))


def _command(site: Site) -> Command:
    folder = site.data(NAME)
    program = str(inside_wheel("noida_db", "noida-db"))
    options = ("--data-dir", str(folder), "--host", HOST, "--only", "kafka")
    argv = (program, "start", *options, "--kafka-port", str(site.ports[NAME]))
    farewell = (program, "stop", "kafka", "--data-dir", str(folder))
    return Command(NAME, argv, folder, site.ports[NAME], farewell=farewell)


async def _forget_last_run(site: Site) -> None:
    """After a kill this file names a pid that may be anybody's by now."""
    (site.data(NAME) / "noida.control.json").unlink(missing_ok=True)


async def is_listening(name: str, site: Site) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(HOST, site.ports[name])
            writer.close()
            await writer.wait_closed()
    except OSError:  # TimeoutError is one
        return False
    return True


async def _create_topics(site: Site) -> None:
    # Here, not above: it takes longer to import than the other servers take to start.
    from common.kafka import create_topics  # noqa: PLC0415

    await create_topics(brokers(site))


PART = Part(NAME, _command, partial(is_listening, NAME), ports=(NAME,), before=_forget_last_run, after=_create_topics)
