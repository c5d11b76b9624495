"""The three users and what each may do: gateway reads, ingest writes, admin does everything.

Inside, the engine has one user, `default`, who owns nothing but three roles. Each request takes exactly one role
with SET ROLE, and the gateway's requests also its profile; both are written to users_config.xml and enforced by
the engine. What grants do not reach (system tables, the scalar file(), INTO OUTFILE, nested SETTINGS) guard.py
refuses.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

from devstack.clickhouse_http.refusals import AUTHENTICATION_FAILED, Refusal

UserName = Literal["gateway", "ingest", "admin"]
USER_NAMES: Final[tuple[UserName, ...]] = ("gateway", "ingest", "admin")

DATABASE: Final = "bigdata"

# Limits of the gateway's profile: its default is its maximum, a query may lower it, and 0 (unlimited) is below 1.
GATEWAY_LIMITS: Final[dict[str, int]] = {
    "max_result_rows": 10_000_000,
    "max_result_bytes": 4 << 30,
    "max_rows_to_read": 10_000_000_000,
    "max_bytes_to_read": 1 << 40,
    "max_execution_time": 300,
    "max_memory_usage": 2 << 30,
    "max_threads": 16,
    "max_block_size": 1 << 20,
}
# Starting values where the maximum would be a poor default.
_GATEWAY_STARTS: Final[dict[str, int]] = {"max_threads": 2, "max_block_size": 65409}

# `break` returns part of a result as if it were the whole.
OVERFLOW_MODES: Final = (
    "read_overflow_mode",
    "read_overflow_mode_leaf",
    "result_overflow_mode",
    "group_by_overflow_mode",
    "sort_overflow_mode",
    "distinct_overflow_mode",
    "set_overflow_mode",
    "join_overflow_mode",
    "transfer_overflow_mode",
    "timeout_overflow_mode",
    "timeout_overflow_mode_leaf",
)

_GRANTS: Final[dict[UserName, tuple[str, ...]]] = {
    "gateway": (f"GRANT SELECT, SHOW TABLES, SHOW COLUMNS, SHOW DICTIONARIES ON {DATABASE}.*",),
    "ingest": (f"GRANT ALL ON {DATABASE}.*",),
    "admin": ("GRANT ALL ON *.* WITH GRANT OPTION",),
}


@dataclass(frozen=True)
class Passwords:
    """One per user; comparing them takes the same time whatever was sent."""

    by_user: Mapping[UserName, str]

    def check(self, name: str, password: str) -> UserName:
        """Raise Refusal 516 (HTTP 403) for an unknown user and for a wrong password alike."""
        for known, expected in self.by_user.items():
            if known == name and hmac.compare_digest(expected.encode(), password.encode()):
                return known
        message = "Authentication failed: password is incorrect, or there is no user with such name."
        raise Refusal(AUTHENTICATION_FAILED, f"{name or 'default'}: {message}")


def credentials(headers: Mapping[bytes, bytes], params: Mapping[str, str]) -> tuple[str, str]:
    """User and password from X-ClickHouse-User/Key, else Authorization: Basic, else the URL."""
    if user := headers.get(b"x-clickhouse-user"):
        return user.decode("latin-1"), headers.get(b"x-clickhouse-key", b"").decode("latin-1")
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"basic":
        try:
            user_name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise Refusal(AUTHENTICATION_FAILED, "Invalid HTTP Basic authorization.") from exc
        return user_name, password
    return params.get("user", ""), params.get("password", "")


def session_setup(user: UserName, database: str) -> list[str]:
    """Statements that turn a fresh connection into this user's.

    The profile's values are also SET one by one: SET profile alone brings its constraints but not its values, and
    a limit that still stands at 0 may then be "set" to 0.
    """
    quoted = database.replace("\\", "\\\\").replace("`", "\\`")
    statements = [f"SET ROLE {user}", f"USE `{quoted}`"]
    if user == "gateway":
        values = [f"{name} = {_GATEWAY_STARTS.get(name, limit)}" for name, limit in GATEWAY_LIMITS.items()]
        values += [f"{mode} = 'throw'" for mode in OVERFLOW_MODES]
        statements += [f"SET {', '.join(values)}, readonly = 2", "SET profile = 'gateway'"]
    return statements


def users_config() -> str:
    """users_config.xml: roles with their grants, and the gateway's profile with its constraints."""
    limits = "".join(f"<{name}><min>1</min><max>{limit}</max></{name}>" for name, limit in GATEWAY_LIMITS.items())
    fixed = "".join(f"<{name}><const/></{name}>" for name in (*OVERFLOW_MODES, "readonly"))
    roles = "".join(
        f"<{user}><grants>{''.join(f'<query>{escape(grant)}</query>' for grant in grants)}</grants></{user}>"
        for user, grants in _GRANTS.items()
    )
    return (
        "<clickhouse>"
        f"<profiles><default/><gateway><readonly>2</readonly><constraints>{limits}{fixed}</constraints></gateway></profiles>"
        f"<quotas><default/></quotas><roles>{roles}</roles>"
        "<users><default><password></password><networks><ip>127.0.0.1</ip><ip>::1</ip></networks>"
        "<profile>default</profile><quota>default</quota>"
        f"<grants><query>GRANT {', '.join(_GRANTS)}</query></grants></default></users>"
        "</clickhouse>"
    )
