"""Exactly one record per answered request, written before its last byte is passed on."""

from dataclasses import dataclass
from uuid import UUID

from fastapi import Request

from gateway.api_keys import Caller
from gateway.spool import Captured, Released


@dataclass(slots=True)
class Trail:
    """What is known about one request so far; at `request.state.trail`. Nothing secret may enter it."""

    caller: Caller | None = None
    rows: int = 0
    dataset: str | None = None
    error_code: str | None = None
    action: str | None = None
    target: str | None = None
    # Set before reserve is called: a hold that nothing settled by the end of the request is released.
    hold: UUID | None = None
    settlement: Captured | Released | None = None
    client_left: bool = False


def trail_of(request: Request) -> Trail:
    trail: Trail = request.state.trail
    return trail
