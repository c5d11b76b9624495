from dataclasses import replace
from uuid import UUID

import pytest

from common.dataset_terms import Access
from common.datasets import Column, Dataset, Datasets
from common.errors import Forbidden
from gateway.roles import (
    ADMIN_READERS,
    ADMINS,
    datasets_of,
    may_load,
    require_another,
    require_covers,
    require_grantable,
    require_may_act,
    require_may_load,
    require_one_left,
    require_role,
    require_scope,
    scopes_of,
)
from support.gateway_parts import caller


def test_a_role_has_its_scopes() -> None:
    assert scopes_of("user", None) == {"query", "read"}
    assert scopes_of("viewer", None) == {"read"}
    assert scopes_of("admin", None) == scopes_of("super_admin", None) == {"query", "read", "ingest", "pii", "admin"}
    assert scopes_of("nobody", None) == set()


def test_a_key_never_has_more_than_its_role_may_be_given() -> None:
    assert scopes_of("user", ["query", "pii", "admin"]) == {"query", "pii"}
    assert scopes_of("viewer", ["read", "query"]) == {"read"}
    assert scopes_of("admin", ["read"]) == {"read"}


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(Forbidden) as refused:
        require_scope(caller("user"), "ingest")
    assert refused.value.details == {"scope": "ingest"}


@pytest.mark.parametrize(("role", "reads", "writes"), [
    ("super_admin", True, True), ("admin", True, True), ("viewer", True, False), ("user", False, False),
])  # fmt: skip
def test_who_reads_and_who_writes_on_the_admin_side(role: str, *, reads: bool, writes: bool) -> None:
    for roles, allowed in ((ADMIN_READERS, reads), (ADMINS, writes)):
        if allowed:
            require_role(caller(role), roles)
        else:
            with pytest.raises(Forbidden):
                require_role(caller(role), roles)


def test_an_admin_neither_touches_nor_makes_a_super_admin() -> None:
    require_may_act(caller("admin"), "admin", "user", "viewer")
    require_may_act(caller("super_admin"), "super_admin", "user", "super_admin")
    for roles in (("super_admin", "user"), ("user", "super_admin")):
        with pytest.raises(Forbidden):
            require_may_act(caller("admin"), "admin", *roles)


def test_what_counts_is_the_role_that_the_caller_has_now() -> None:
    with pytest.raises(Forbidden):
        require_may_act(caller("super_admin"), "admin", "super_admin")
    with pytest.raises(Forbidden):
        require_may_act(caller("admin"), "viewer", "user")


def test_nobody_changes_themselves_and_one_super_admin_stays() -> None:
    me, other = caller("super_admin"), UUID(int=99)
    require_another(me, other)
    with pytest.raises(Forbidden):
        require_another(me, me.user_id)
    require_one_left([me.user_id, other], other)
    with pytest.raises(Forbidden):
        require_one_left([other], other)


def test_nobody_deals_with_a_key_that_may_do_more_than_theirs() -> None:
    require_covers(caller("user"), ["query", "read"])
    with pytest.raises(Forbidden) as refused:
        require_covers(caller("user"), ["read", "pii"])
    assert refused.value.details == {"scope": "pii"}
    require_grantable("user", ["ingest", "pii"])
    with pytest.raises(Forbidden):
        require_grantable("user", ["admin"])


def test_a_dataset_is_seen_by_whom_it_declares_and_by_whom_it_was_granted() -> None:
    columns = {"a": Column(type="string")}
    closed = Access.model_validate({"query": {"roles": ["admin"]}, "load": {}})
    datasets = Datasets(
        {
            "open": Dataset(name="open", columns=columns),
            "closed": Dataset(name="closed", columns=columns, access=closed),
        }
    )
    granted = replace(caller("user"), datasets=frozenset({"closed"}))
    assert list(datasets_of(caller("user"), datasets)) == ["open"]
    assert list(datasets_of(caller("admin"), datasets)) == ["open", "closed"]
    assert list(datasets_of(granted, datasets)) == ["open", "closed"]
    assert [may_load(who, datasets["closed"]) for who in (caller("admin"), granted)] == [False, True]
    require_may_load(granted, datasets["closed"])
    with pytest.raises(Forbidden) as refused:
        require_may_load(caller("admin"), datasets["closed"])
    assert refused.value.details == {"dataset": "closed"}
