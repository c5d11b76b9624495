from uuid import UUID

import pytest

from common.errors import Forbidden
from gateway.roles import ADMIN_READERS, ADMINS, require_may_change, require_role, require_scope, scopes_of
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


def test_nobody_changes_themselves_and_an_admin_no_super_admin() -> None:
    admin, other = caller("admin"), UUID(int=99)
    require_may_change(admin, other, "user")
    require_may_change(caller("super_admin"), other, "super_admin")
    with pytest.raises(Forbidden):
        require_may_change(admin, admin.user_id, "admin")
    with pytest.raises(Forbidden):
        require_may_change(admin, other, "super_admin")
