"""Which gateway a command talks to and with which keys: flags, environment, profile, or the local stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TypeAlias

from bigdata_client.command.outcome import Exit, Stop
from bigdata_client.command.profiles import Profile, read_profiles

URL, KEY, ADMIN_KEY, PROFILE = "BIGDATA_URL", "BIGDATA_API_KEY", "BIGDATA_ADMIN_KEY", "BIGDATA_PROFILE"
# Packages that run a stack say where it is: a function without arguments, None when there is none.
_LOCAL_STACKS = "bigdata.local_stack"
_NOWHERE = (
    "there is no gateway to talk to. One of these helps:\n"
    "  bigdata up                                     start one on this machine\n"
    "  bigdata profile set NAME --url URL --key KEY   remember one\n"
    f"  {URL} and {KEY}                in the environment, or --url and --key"
)


@dataclass(frozen=True)
class LocalStack:
    """What a stack on this machine says of itself."""

    url: str
    user_key: str | None
    admin_key: str | None


@dataclass(frozen=True)
class Target:
    """`source` says where it was found, for messages."""

    url: str
    key: str | None
    admin_key: str | None
    source: str

    def key_for(self, *, admin: bool) -> str:
        """The admin's key where that is what the command needs; who has only one key uses it for everything."""
        found = (self.admin_key or self.key) if admin else (self.key or self.admin_key)
        if found is None:
            raise Stop(f"no API key for {self.url} ({self.source}): set {KEY} or give --key", Exit.USAGE)
        return found


@dataclass(frozen=True)
class Flags:
    url: str | None = None
    key: str | None = None
    profile: str | None = None


FindLocal: TypeAlias = Callable[[], LocalStack | None]


def find_local_stack() -> LocalStack | None:
    """The first that any installed package knows of."""
    for entry in entry_points(group=_LOCAL_STACKS):
        try:
            found: LocalStack | None = entry.load()()
        except ImportError:
            continue
        if found is not None:
            return found
    return None


def resolve(flags: Flags, environ: Mapping[str, str] = os.environ, local_stack: FindLocal = find_local_stack) -> Target:
    """Flags win over the environment, that over a profile, that over the local stack.

    A key that was found with one address is never sent to another: only keys given outright go to any.
    """
    base = _base(flags, environ, local_stack)
    if flags.key:
        return Target(base.url, flags.key, None, base.source)
    if environ.get(KEY) or environ.get(ADMIN_KEY):
        return Target(base.url, environ.get(KEY) or None, environ.get(ADMIN_KEY) or None, base.source)
    return base


def _base(flags: Flags, environ: Mapping[str, str], local_stack: FindLocal) -> Target:
    if flags.url:
        return Target(flags.url, None, None, "--url")
    if flags.profile:
        return _of(read_profiles(environ).named(flags.profile), flags.profile)
    if environ.get(URL):
        return Target(environ[URL], None, None, URL)
    profiles = read_profiles(environ)
    if name := environ.get(PROFILE) or profiles.current:
        return _of(profiles.named(name), name)
    if stack := local_stack():
        return Target(stack.url, stack.user_key, stack.admin_key, "the local stack")
    raise Stop(_NOWHERE, Exit.ABSENT)


def _of(profile: Profile, name: str) -> Target:
    return Target(profile.url, profile.key, profile.admin_key, f"profile {name}")
