"""Apache Kafka itself, one broker or three on this machine: `bigdata up --kafka apache`. Needs Java 17 and Maven once.

It keeps what it acknowledged when a broker is killed, which the default broker of the local stack does not. The jars
come from Maven Central into a cache of the user's, shared by every stack. KRaft: each broker is a controller too.
"""

import asyncio
import base64
import fcntl
import shutil
import subprocess
import uuid
from functools import partial
from pathlib import Path

import platformdirs

from devstack.kafka import NAME, brokers, is_listening
from devstack.part import Part, Site
from devstack.ports import HOST
from devstack.process import Command, StackError

VERSION = "4.1.1"
_DOWNLOAD_S = 600.0
_FORMAT_S = 60.0
_READY_S = 90.0
_STOP_S = 60.0
_TOPICS_S = 60.0
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bigdata</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


def names(count: int) -> list[str]:
    return [NAME, *(f"{NAME}-{number}" for number in range(2, count + 1))]


def parts(count: int) -> list[Part]:
    """The others first: whoever needs `kafka` gets all of them, and its topics need every copy."""
    first, *others = names(count)
    return [
        *(_part(name, number, count) for number, name in enumerate(others, 2)),
        _part(first, 1, count, needs=tuple(others)),
    ]


def missing() -> str | None:
    """What this machine lacks, or None."""
    lacking = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return f"Apache Kafka needs {' and '.join(lacking)}, which is not installed" if lacking else None


def _part(name: str, number: int, count: int, needs: tuple[str, ...] = ()) -> Part:
    return Part(
        name=name,
        command=partial(_command, name),
        ready=partial(is_listening, name),
        ports=(name, _controller(name)),
        needs=needs,
        before=partial(_prepare, name, number, count),
        after=partial(_after, name, count),
        ready_s=_READY_S,
    )


def _controller(name: str) -> str:
    return f"{name}-controller"


def _jars() -> Path:
    return platformdirs.user_cache_path("bigdata") / f"kafka-{VERSION}"


def _java(*arguments: str) -> tuple[str, ...]:
    program = shutil.which("java") or "java"  # the part is started without a search of PATH
    return (program, "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{_jars()}/*", *arguments)


def _command(name: str, site: Site) -> Command:
    folder = site.data(name)
    argv = _java("-Dlog4j2.level=WARN", "kafka.Kafka", str(folder / "server.properties"))
    return Command(name, argv, folder, site.ports[name], stop_s=_STOP_S)


async def _prepare(name: str, number: int, count: int, site: Site) -> None:
    if lacking := missing():
        raise StackError(lacking)
    await asyncio.to_thread(_fetch_jars)
    folder = site.data(name)
    (folder / "server.properties").write_text(_properties(name, number, count, site), encoding="utf-8")
    if not (folder / "log" / "meta.properties").exists():
        await asyncio.to_thread(_format, site, folder)


def _fetch_jars() -> None:
    jars = _jars()
    jars.parent.mkdir(parents=True, exist_ok=True)
    with jars.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.exists():
            return
        fresh = jars.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        (fresh / "pom.xml").write_text(_POM, encoding="utf-8")
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}")
        _run(("mvn", "-q", "-B", "-f", str(fresh / "pom.xml"), *goal), "Apache Kafka cannot be fetched", _DOWNLOAD_S)
        fresh.rename(jars)


def _format(site: Site, folder: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_URL, site.folder.as_uri()).bytes).decode().rstrip("=")
    arguments = ("format", "--cluster-id", cluster, "--config", str(folder / "server.properties"))
    _run(_java("kafka.tools.StorageTool", *arguments), "Kafka's folder cannot be made", _FORMAT_S)


def _run(argv: tuple[str, ...], what: str, deadline_s: float) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise StackError(f"{what}: it takes longer than {deadline_s:.0f} s") from None
    if done.returncode:
        raise StackError(f"{what}: {(done.stdout + done.stderr).strip()[-600:]}")


def _properties(name: str, number: int, count: int, site: Site) -> str:
    voters = ",".join(f"{no}@{HOST}:{site.ports[_controller(broker)]}" for no, broker in enumerate(names(count), 1))
    copies = min(count, 3)
    settings = {
        "node.id": number,
        "process.roles": "broker,controller",
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{site.ports[name]},CONTROLLER://{HOST}:{site.ports[_controller(name)]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{site.ports[name]}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": site.data(name) / "log",
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": 6,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": 6,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": _min_insync(count),
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # On one machine a silent broker is a dead one.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "unclean.leader.election.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _min_insync(count: int) -> int:
    return 2 if count > 1 else 1


async def _after(name: str, count: int, site: Site) -> None:
    """Topics are made once all brokers are there, by the last one to start."""
    if name != NAME:
        return None
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - it takes longer to import than servers take to start

    from common.kafka import create_topics  # noqa: PLC0415 - likewise

    give_up = asyncio.get_running_loop().time() + _TOPICS_S
    while True:
        try:
            return await create_topics(brokers(site), replication=min(count, 3), min_insync=_min_insync(count))
        except KafkaError:  # a broker that listens may not be registered yet
            if asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(0.5)
