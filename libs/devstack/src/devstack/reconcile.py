"""`bigdata reconcile`: what the credits service says when it holds its books against each other."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from devstack import services
from devstack.stack import Stack

# Every row of the books is read for it.
_ANSWER_S = 300.0
_CONNECT_S = 5.0
Figures = Mapping[str, int | str]
# A figure that is not here is shown by its name alone.
MEANINGS: Mapping[str, str] = {
    "accounts_unlike_entries": "accounts whose balance is not the sum of their entries",
    "entries_without_account": "entries of an account that does not exist",
    "accounts_unlike_holds": "accounts whose held credits are not the sum of their open holds",
    "accounts_negative": "accounts below zero, or that hold more than they have",
    "holds_overdue": "holds that are open half a minute after their deadline",
    "captures_unlike_entries": "holds that were charged otherwise than posted",
    "keys_captured_twice": "idempotency keys that were charged more than once",
    "receipts_unlike_price": "receipts whose charge is not what their price list says",
    "captures_without_audit": "charges without a request in the log",
    "audited_charges_without_capture": "requests in the log whose charge was not made",
}


class NothingToAsk(Exception):
    """No credits service answers; the message says in one line where one was looked for."""


@dataclass(frozen=True)
class Books:
    """Where a credits service is. Its token never enters a message."""

    url: str
    token: str


def books_of_environment(environment: Mapping[str, str]) -> Books | None:
    """A real installation's, by the names its services know: CREDITS_URL, and the first of CREDITS_TOKENS."""
    if "CREDITS_URL" not in environment:
        return None
    token = environment.get("CREDITS_TOKENS", "").split(",")[0].strip()
    if not token:
        raise NothingToAsk("CREDITS_URL is set and CREDITS_TOKENS is not: set it to a token of that credits service")
    return Books(environment["CREDITS_URL"].rstrip("/"), token)


def books_of_stack(stack: Stack) -> Books:
    """Raises NothingToAsk when this stack's credits were never started."""
    if not stack.exists() or "credits" not in stack.site.ports:
        raise NothingToAsk(f"no stack in {stack.folder}: run `bigdata up`, or set CREDITS_URL and CREDITS_TOKENS")
    return Books(services.url(stack.site, "credits"), stack.site.secrets.credits_token)


def ask(books: Books) -> Figures:
    """Every figure by its name: 0, or how many rows contradict each other, or why it could not be asked."""
    try:
        answer = httpx.get(
            f"{books.url}/v1/reconcile",
            headers={"Authorization": f"Bearer {books.token}"},
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            trust_env=False,
        )
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        raise NothingToAsk(f"credits at {books.url} does not answer: {exc or type(exc).__name__}") from exc
    if not answer.is_success:
        raise NothingToAsk(f"credits at {books.url} answers {answer.status_code}: {_told(answer)}")
    figures: Figures = answer.json()
    return figures


def _told(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def drifts(figures: Figures) -> Figures:
    """What is not 0. A figure that could not be asked proves nothing, so it is among them."""
    return {name: found for name, found in figures.items() if found != 0}
