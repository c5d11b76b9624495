"""How a command ends: one exit code for each kind of outcome, and on stderr what is wrong and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console

from bigdata_client.errors import (
    AlreadyDelivered,
    ApiError,
    BigDataError,
    Forbidden,
    InsufficientCredits,
    InvalidApiKey,
    InvalidRequest,
    MissingApiKey,
    NotFound,
    QueryTooExpensive,
    RateLimited,
    TooLarge,
    Unavailable,
    Unreachable,
    UploadBusy,
    UsernameTaken,
)


class Exit(IntEnum):
    """The exit codes of every command; docs/command-line.md lists them."""

    OK = 0
    FAILED = 1  # it was done, and what came out is bad: a failed load, a dead part, books that drift
    USAGE = 2  # the command line itself is wrong
    ABSENT = 3  # there is nothing to talk to
    REFUSED = 4  # the gateway refused: key, rights, an object that is not there, a request that is not valid
    NO_CREDITS = 5
    TRY_LATER = 6  # rate limit, outage, time limit: the same command may work in a while
    REJECTS = 7  # loaded, but some rows were rejected
    INTERRUPTED = 130


_TRY_LATER_STATUS = frozenset({429, 502, 503, 504})
_NO_CREDITS_STATUS = 402
_err = Console(stderr=True, highlight=False, soft_wrap=True)


class Stop(Exception):
    """Raised anywhere inside a command to end it with a message and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def fail(message: str, code: int = Exit.FAILED) -> NoReturn:
    """End the command: the message to stderr, the code to whoever called."""
    _err.print(message, markup=False)
    raise typer.Exit(code)


def say(message: str) -> None:
    """To the person, not to the program that reads stdout."""
    _err.print(message, markup=False)


@contextmanager
def outcomes() -> Iterator[None]:
    """Around the body of a command: whatever goes wrong becomes a message, a hint and an exit code."""
    try:
        yield
    except Stop as stop:
        fail(str(stop), stop.code)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:
        # `| head` has read enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(Exit.OK) from None
    except (BigDataError, TimeoutError, OSError) as error:
        fail(told(error), code_of(error))


def code_of(error: Exception) -> Exit:
    match error:
        case ApiError():
            return _code(error)
        case Unreachable():
            return Exit.ABSENT
        case TimeoutError():
            return Exit.TRY_LATER
        case OSError():
            return Exit.USAGE
    return Exit.FAILED


def told(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    match error:
        case ApiError():
            return _told(error)
        case Unreachable():
            return f"{error}\nIs it running? `bigdata status` for the local stack, `bigdata up` starts it."
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason}"
    return str(error)


def _code(error: ApiError) -> Exit:
    if error.status == _NO_CREDITS_STATUS:
        return Exit.NO_CREDITS
    return Exit.TRY_LATER if error.status in _TRY_LATER_STATUS else Exit.REFUSED


def _told(error: ApiError) -> str:
    lines = [f"{error.message} ({error.code})"]
    if isinstance(error, InvalidRequest) and error.faults:
        # The rest of the sentence says where a program finds what follows here.
        lines = [f"{error.message.partition(';')[0]} ({error.code}):", *(f"  {fault}" for fault in error.faults)]
    hint = _hint(error)
    if hint:
        lines.append(hint)
    if error.request_id:
        lines.append(f"request {error.request_id}")
    return "\n".join(lines)


def _hint(error: ApiError) -> str:  # noqa: C901, PLR0911 - a table, one line each
    match error:
        case MissingApiKey() | InvalidApiKey():
            return "Set BIGDATA_API_KEY, give --key, or store one: `bigdata profile set NAME --url URL --key KEY`."
        case Forbidden():
            return "This needs another key: an admin's, or one with the scope that is named above."
        case InsufficientCredits():
            return f"Available {error.available}, needed {error.needed}. An admin grants more: `bigdata credits grant`."
        case InvalidRequest() if any("no such column" in fault for fault in error.faults):
            return "Its columns: `bigdata datasets show NAME`."
        case NotFound():
            return "Check the id or name; what belongs to another user looks the same."
        case QueryTooExpensive():
            return "Narrow it by filters, select fewer rows, or look first with --quote."
        case RateLimited() | Unavailable():
            return f"Try again in {error.retry_after_s:g} s." if error.retry_after_s else "Try again in a moment."
        case TooLarge():
            return "Split the file, or ask an admin for a larger limit."
        case UsernameTaken():
            return "Choose another name, or see who has it: `bigdata users show NAME`."
        case UploadBusy():
            return "Wait until it has ended: `bigdata uploads watch ID`."
        case AlreadyDelivered():
            return "It was paid for once; its receipt: `bigdata receipt ID`."
    return ""


def exit_of_load(state: str) -> Exit:
    """The exit code that the end of an upload deserves."""
    return {"completed": Exit.OK, "completed_with_rejects": Exit.REJECTS}.get(state, Exit.FAILED)
