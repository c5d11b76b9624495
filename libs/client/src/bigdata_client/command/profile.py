"""`bigdata profile`: installations to work with, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from bigdata_client.command.groups import group
from bigdata_client.command.outcome import Exit, Stop, outcomes
from bigdata_client.command.output import Output
from bigdata_client.command.profiles import Profile, Profiles, read_profiles
from bigdata_client.command.session import Json

Name = Annotated[str, typer.Argument(metavar="NAME")]
_SHOWN_CHARS = 8


def register(app: typer.Typer) -> None:
    profile = group(app, "profile", "Installations to work with, by name.", panel="Account")
    profile.command("list")(list_profiles)
    profile.command("set")(set_profile)
    profile.command("use")(use)
    profile.command("remove")(remove)


def list_profiles(*, as_json: Json = False) -> None:
    """The profiles, with no more of a key than its beginning; the current one is used when nothing else is said."""
    with outcomes():
        found = read_profiles()
        shown = [_shown(found, name) for name in sorted(found.known)]
        Output(as_json=as_json).items(
            shown, ("name", "current", "url", "key", "admin_key"), none=f"none in {found.path}"
        )


def set_profile(
    name: Name,
    *,
    url: Annotated[str | None, typer.Option("--url", help="The gateway.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="The API key; - asks for it without showing it.")] = None,
    admin_key: Annotated[str | None, typer.Option("--admin-key", help="For what only admins may; - asks.")] = None,
    as_json: Json = False,
) -> None:
    """Make a profile, or change what is given of it."""
    with outcomes():
        profiles = read_profiles()
        old = profiles.known.get(name)
        if old is None and url is None:
            raise Stop(f"{name} is a new profile: give its --url", Exit.USAGE)
        given = {"url": url, "key": _asked(key, "key"), "admin_key": _asked(admin_key, "admin key")}
        changed = replace(old or Profile(url or ""), **{k: v for k, v in given.items() if v is not None})
        profiles = profiles.with_profile(name, changed)
        profiles.write()
        Output(as_json=as_json).item({**_shown(profiles, name), "file": str(profiles.path)})


def use(name: Name, *, as_json: Json = False) -> None:
    """Make this the current profile."""
    with outcomes():
        profiles = read_profiles()
        profiles.named(name)
        replace(profiles, current=name).write()
        Output(as_json=as_json).item({"current": name})


def remove(name: Name, *, as_json: Json = False) -> None:
    """Forget a profile."""
    with outcomes():
        read_profiles().without(name).write()
        Output(as_json=as_json).item({"removed": name})


def _asked(given: str | None, what: str) -> str | None:
    return typer.prompt(what, hide_input=True, err=True) if given == "-" else given


def _shown(profiles: Profiles, name: str) -> dict[str, object]:
    one = profiles.named(name)
    return {
        "name": name,
        "current": profiles.current == name,
        "url": one.url,
        "key": _beginning(one.key),
        "admin_key": _beginning(one.admin_key),
    }


def _beginning(key: str | None) -> str | None:
    return f"{key[:_SHOWN_CHARS]}…" if key else None
