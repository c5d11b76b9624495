"""A gateway for benchmarks alone, in which requests leave no event: what is charged still is. No setting does this."""

from typing import Any
from uuid import UUID

from gateway import audit_trail, main, spool_sender
from gateway.spool import Captured, Released, Spool

_append = Spool.append


def _append_settlements(
    self: Spool, event: bytes, settlement: Captured | Released | None, user_id: UUID | None
) -> bool:
    return settlement is None or _append(self, event, settlement, user_id)


def _no_event(*_: Any, **__: Any) -> bytes:
    return b""


async def _send_nothing(*_: Any) -> None:
    """The records are acknowledged at once, so that the spool empties."""


def without_audit() -> None:
    Spool.append = _append_settlements  # type: ignore[method-assign]  # that is what this process is for
    audit_trail._event = _no_event  # noqa: SLF001 - likewise
    spool_sender._audit = _send_nothing  # type: ignore[assignment]  # noqa: SLF001 - likewise


if __name__ == "__main__":
    without_audit()
    main.main()
