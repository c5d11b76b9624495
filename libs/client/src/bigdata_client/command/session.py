"""What the commands share: `@with_session` adds --url, --key, --profile and --json, and hands over a Session."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from bigdata_client.client import Client
from bigdata_client.command.outcome import outcomes
from bigdata_client.command.output import Output
from bigdata_client.command.target import Flags, Target, resolve

P = ParamSpec("P")

Url = Annotated[
    str | None,
    typer.Option("--url", help="The gateway; else BIGDATA_URL, the profile, or the local stack.", show_default=False),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", help="The API key; better in BIGDATA_API_KEY or a profile.", show_default=False),
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="A profile of `bigdata profile list`.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]


@dataclass(frozen=True)
class Session:
    """One run of a command: whom it talks to, and how it answers."""

    flags: Flags
    out: Output

    def target(self) -> Target:
        return resolve(self.flags)

    def client(self, *, admin: bool = False, timeout_s: float = 60) -> Client:
        """As the user; with `admin` by the admin's key, when there are two."""
        target = self.target()
        return Client(target.url, target.key_for(admin=admin), timeout_s=timeout_s)


def with_session(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """For functions that begin with a Session: typer sees the shared options in its place."""

    @functools.wraps(command)
    def run(
        *,
        url: str | None = None,
        key: str | None = None,
        profile: str | None = None,
        as_json: bool = False,
        **given: Any,
    ) -> None:
        with outcomes():
            command(Session(Flags(url, key, profile), Output(as_json=as_json)), **given)  # type: ignore[call-arg]

    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    shared = [
        _keyword("as_json", Json, default=False),
        _keyword("url", Url, default=None),
        _keyword("key", KeyOption, default=None),
        _keyword("profile", ProfileName, default=None),
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    # Typer would look through the wrapper at the function itself.
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    del run.__wrapped__
    return run


def _keyword(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
