"""Which gateway and which key: the order of what is said, and that no key goes where it does not belong."""

import stat
from pathlib import Path

import pytest

from bigdata_client.command import Stop
from bigdata_client.command.profiles import Profile, read_profiles
from bigdata_client.command.target import Flags, LocalStack, Target, resolve

_STACK = LocalStack("http://local", "user-key", "admin-key")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"BIGDATA_CONFIG": str(tmp_path / "config.yaml")}


def _find() -> LocalStack:
    return _STACK


def _none() -> None:
    return None


def _save(environ: dict[str, str], name: str, profile: Profile) -> None:
    read_profiles(environ).with_profile(name, profile).write()


def test_nothing_said_means_the_local_stack_with_its_keys(environ: dict[str, str]) -> None:
    target = resolve(Flags(), environ, _find)
    assert target == Target("http://local", "user-key", "admin-key", "the local stack")
    assert (target.key_for(admin=False), target.key_for(admin=True)) == ("user-key", "admin-key")


def test_nowhere_to_go_says_what_helps(environ: dict[str, str]) -> None:
    with pytest.raises(Stop, match="bigdata up") as stop:
        resolve(Flags(), environ, _none)
    assert stop.value.code == 3


def test_flags_win_over_environment_over_profile_over_stack(environ: dict[str, str]) -> None:
    _save(environ, "prod", Profile("http://prod", "prod-key"))
    assert resolve(Flags(), environ, _find).url == "http://prod"
    environ |= {"BIGDATA_URL": "http://env", "BIGDATA_API_KEY": "env-key"}
    assert resolve(Flags(), environ, _find) == Target("http://env", "env-key", None, "BIGDATA_URL")
    assert resolve(Flags(profile="prod"), environ, _find).url == "http://prod"
    assert resolve(Flags(url="http://flag"), environ, _find).url == "http://flag"
    assert resolve(Flags(key="flag-key"), environ, _find).key_for(admin=True) == "flag-key"


def test_a_key_is_not_sent_to_another_address_than_its_own(environ: dict[str, str]) -> None:
    _save(environ, "prod", Profile("http://prod", "prod-key"))
    with pytest.raises(Stop, match="no API key for http://elsewhere"):
        resolve(Flags(url="http://elsewhere"), environ, _find).key_for(admin=False)


def test_profiles_are_kept_for_their_owner_only(environ: dict[str, str]) -> None:
    _save(environ, "prod", Profile("http://prod", "k", "a"))
    _save(environ, "dev", Profile("http://dev"))
    found = read_profiles(environ)
    assert (found.current, set(found.known)) == ("prod", {"prod", "dev"})
    assert found.named("prod") == Profile("http://prod", "k", "a")
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    found.without("prod").write()
    assert read_profiles(environ).current is None
    with pytest.raises(Stop, match="there are: dev"):
        read_profiles(environ).named("prod")


@pytest.mark.parametrize("text", ["[", "- a", "profiles: 3", "profiles: {a: 1}", "profiles: {a: {url: x, kee: y}}"])
def test_a_damaged_file_is_named(environ: dict[str, str], text: str) -> None:
    path = Path(environ["BIGDATA_CONFIG"])
    path.write_text(text)
    with pytest.raises(Stop, match=str(path)):
        read_profiles(environ)
