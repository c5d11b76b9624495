"""A gateway for benchmarks alone, for which nothing costs credits: no hold, no capture. No setting does this."""

from typing import Any
from uuid import UUID

from common.credit_operations import Outcome
from gateway import main
from gateway.credits_client import CreditsClient
from gateway.spool import Captured, Released, Spool

_append = Spool.append


async def _held(_: CreditsClient, _user_id: UUID, hold_id: UUID, *_rest: Any) -> Outcome:
    return Outcome(ok=True, hold_id=hold_id, state="open", available_mc=0)


def _append_event(self: Spool, event: bytes, _: Captured | Released | None, user_id: UUID | None) -> bool:
    return _append(self, event, None, user_id)


def without_credits() -> None:
    CreditsClient.reserve = _held  # type: ignore[method-assign, assignment]  # that is what this process is for
    Spool.append = _append_event  # type: ignore[method-assign, assignment]  # likewise


if __name__ == "__main__":
    without_credits()
    main.main()
