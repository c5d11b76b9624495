"""One request as a value: built without I/O, sent by the sync client and by the async one alike."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from bigdata_client.decoding import decode
from bigdata_client.errors import BrokenAnswer

T = TypeVar("T")
NEXT_CURSOR = "x-next-cursor"


@dataclass(frozen=True)
class Call(Generic[T]):
    """`repeatable`: sending it twice does what sending it once does."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def request(self) -> dict[str, Any]:
        """As httpx wants it. Parameters that are None are left out."""
        params = {name: value for name, value in self.params.items() if value is not None}
        body = {} if self.json is None else {"json": self.json}
        return {"params": params, "headers": dict(self.headers), **body}


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and where the next ones begin; None: these were the last."""

    items: tuple[T, ...]
    next_cursor: str | None = None


def json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as exc:
        raise BrokenAnswer(f"{answer.request.url.path} answered something else than JSON") from exc


def document(kind: type[T]) -> Callable[[httpx.Response], T]:
    return lambda answer: decode(kind, json_of(answer))


def documents(kind: type[T]) -> Callable[[httpx.Response], tuple[T, ...]]:
    return lambda answer: tuple(decode(kind, one) for one in json_of(answer))


def page(kind: type[T]) -> Callable[[httpx.Response], Page[T]]:
    return lambda answer: Page(documents(kind)(answer), answer.headers.get(NEXT_CURSOR))


def nothing(_: httpx.Response) -> None:
    return


def new_key() -> str:
    """An Idempotency-Key that nobody else uses."""
    return str(uuid.uuid4())
