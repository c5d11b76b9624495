"""Installations that a person works with, by name: in ~/.config/bigdata/config.yaml, or the system's like of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from bigdata_client.command.outcome import Exit, Stop

CONFIG = "BIGDATA_CONFIG"
_FIELDS = ("url", "key", "admin_key")


@dataclass(frozen=True)
class Profile:
    url: str
    key: str | None = None
    admin_key: str | None = None


@dataclass(frozen=True)
class Profiles:
    """`current` is used when nothing else says what to talk to."""

    path: Path
    current: str | None = None
    known: Mapping[str, Profile] = field(default_factory=dict)

    def named(self, name: str) -> Profile:
        if name not in self.known:
            there = ", ".join(sorted(self.known)) or "none"
            raise Stop(f"no profile {name!r} in {self.path}; there are: {there}", Exit.USAGE)
        return self.known[name]

    def with_profile(self, name: str, profile: Profile) -> Profiles:
        return replace(self, known={**self.known, name: profile}, current=self.current or name)

    def without(self, name: str) -> Profiles:
        self.named(name)
        left = {one: profile for one, profile in self.known.items() if one != name}
        return replace(self, known=left, current=None if self.current == name else self.current)

    def write(self) -> None:
        """Readable by its owner only: it holds keys."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: {k: v for k, v in asdict(one).items() if v is not None} for name, one in self.known.items()}
        text = yaml.safe_dump({"current": self.current, "profiles": kept}, sort_keys=False)
        fresh = self.path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(self.path)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ[CONFIG]) if environ.get(CONFIG) else user_config_path("bigdata") / "config.yaml"


def read_profiles(environ: Mapping[str, str] = os.environ) -> Profiles:
    """None is a valid number of profiles. Stops with the place of what is wrong in the file."""
    path = config_path(environ)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Profiles(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise Stop(f"{path} cannot be read: {exc}", Exit.USAGE) from exc
    return _profiles(path, document)


def _profiles(path: Path, document: Any) -> Profiles:
    if not isinstance(document, dict) or not isinstance(document.get("profiles", {}), dict):
        raise Stop(f"{path}: expected `current:` and `profiles:`, each profile with a url", Exit.USAGE)
    known = {}
    for name, found in (document.get("profiles") or {}).items():
        if not isinstance(found, dict) or not isinstance(found.get("url"), str) or not set(found) <= set(_FIELDS):
            raise Stop(f"{path}: profile {name!r} needs url, and may have key and admin_key; nothing else", Exit.USAGE)
        known[str(name)] = Profile(**found)
    return Profiles(path, document.get("current"), known)
