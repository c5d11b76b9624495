"""`bigdata dead-letters list | replay`: of KAFKA_BROKERS, else of the local stack."""

import asyncio
import json
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from common.dead_letter_box import Letter, Place
    from common.settings import KafkaSettings

T = TypeVar("T")
_FAULT, _ABSENT = 1, 3
_SHOWN_CHARS = 60
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(help="What no retry could help, and sending it again.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--folder", "-C", envvar="BIGDATA_HOME", help="Data folder of the local stack.")]
Topic = Annotated[str, typer.Option(help="The dead letters of the loaders, or audit.dead.v1: those of the log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
_FOLDER, _TOPIC = Path(".bigdata"), "ingest.dead.v1"


@app.command("list")
def list_letters(
    folder: Folder = _FOLDER,
    topic: Topic = _TOPIC,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """The newest dead letters: where they were, why they are here, what they say."""
    from common.dead_letter_box import newest  # noqa: PLC0415 - `bigdata --help` need not wait for a Kafka client

    letters = _run(newest(_settings(folder), _known(topic), limit))
    if as_json:
        typer.echo(json.dumps([letter.document() for letter in letters], indent=2))
    else:
        _show(letters)


@app.command()
def replay(
    folder: Folder = _FOLDER,
    topic: Topic = _TOPIC,
    *,
    at: Annotated[
        list[str] | None, typer.Option(help="PARTITION:OFFSET of one letter, as `list` shows it; may be repeated.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Send records to this dataset instead of the one named.")] = None,
    as_json: Json = False,
) -> None:
    """Send dead letters to where they came from: all that were not sent before, or some.

    Exits with 1 when some could not be sent: they are listed.
    """
    from common.dead_letter_box import replay as send_again  # noqa: PLC0415 - as above

    only = [_place(one) for one in at or []]
    done = _run(send_again(_settings(folder), _known(topic), only=only, dataset=dataset))
    if as_json:
        kept = [{**letter.document(), "why_not": letter.why_not} for letter in done.kept]
        typer.echo(json.dumps({"sent": done.sent, "kept": kept}, indent=2))
    else:
        _out.print(f"{done.sent} sent again")
        for letter in done.kept:
            _err.print(f"{letter.partition}:{letter.offset} stays: {letter.why_not}", markup=False)
    if done.kept:
        raise typer.Exit(_FAULT)


def _show(letters: "list[Letter]") -> None:
    if not letters:
        _out.print("none: nothing was given up on")
        return
    table = Table("at", "came from", "reason", "value", "sent again", box=None, pad_edge=False)
    for letter in letters:
        source = f"{letter.text('topic')} {letter.text('partition')}:{letter.text('offset')}"
        cells = (f"{letter.partition}:{letter.offset}", source, letter.text("reason") or "", _excerpt(letter.value))
        # Whatever a sender wrote: no markup, and no escape sequences into somebody's terminal.
        table.add_row(*(_plain(cell) for cell in cells), "yes" if letter.replayed else "")
    _out.print(table)


def _excerpt(value: bytes | None) -> str:
    return "none" if value is None else value[:_SHOWN_CHARS].decode("utf-8", "backslashreplace")


def _plain(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415 - beside its only use

    return escape("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text))


def _place(text: str) -> "Place":
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{text!r}: write it as PARTITION:OFFSET, e.g. 0:12", param_hint="--at")
    return int(partition), int(offset)


def _known(topic: str) -> str:
    from common.topics import DEAD  # noqa: PLC0415 - as above

    names = [one.name for one in DEAD]
    if topic not in names:
        raise typer.BadParameter(f"{topic!r} holds no dead letters; one of {', '.join(names)}", param_hint="--topic")
    return topic


def _settings(folder: Path) -> "KafkaSettings":
    from common.dead_letter_box import BrokerSettings  # noqa: PLC0415 - as above
    from common.settings import BadSettings, load_settings  # noqa: PLC0415 - as above

    try:
        if "KAFKA_BROKERS" in os.environ:
            return load_settings(BrokerSettings)
        return BrokerSettings(kafka_brokers=_brokers_of_stack(folder))
    except BadSettings as exc:
        _fail(str(exc), _ABSENT)


def _brokers_of_stack(folder: Path) -> str:
    from devstack.stack import Stack  # noqa: PLC0415 - as above

    stack = Stack(folder)
    brokers = stack.status().kafka if stack.exists() else None
    if brokers is None:
        _fail(f"set KAFKA_BROKERS, or run `bigdata up`: there is no stack in {stack.folder}", _ABSENT)
    return brokers


def _run(work: Coroutine[Any, Any, T]) -> T:
    from common.errors import Permanent, Transient  # noqa: PLC0415 - as above

    try:
        return asyncio.run(work)
    except (Permanent, Transient) as exc:
        _fail(str(exc), _FAULT)


def _fail(message: str, code: int) -> NoReturn:
    _err.print(message, markup=False)
    raise typer.Exit(code)
