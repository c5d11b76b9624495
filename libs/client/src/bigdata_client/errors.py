"""What can go wrong, as exceptions by the code of the answer. `except InsufficientCredits` says what is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx


class BigDataError(Exception):
    """Everything that this package raises on its own account."""


class Unreachable(BigDataError):
    """No answer came. `sent` False: the request cannot have arrived; True: nobody knows whether it did."""

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.sent = sent


class BrokenAnswer(BigDataError):
    """An answer that was cut in its middle, or that is not what this route answers: do not use what came of it."""


class UploadFailed(BigDataError):
    """The upload ended in state `failed`; the message is the reason it gives."""


class ApiError(BigDataError):
    """An answer other than 2xx: `code` is what to act on, `details` says what was wrong."""

    code: str = ""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({code}, HTTP {status})")
        self.status = status
        self.code = code  # the answer's own: an unknown one has no class
        self.message = message
        self.details = details
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def amount(self, name: str) -> float | None:
        """A number among the details, when it is there."""
        found = self.details.get(name) if isinstance(self.details, Mapping) else None
        return found if isinstance(found, int | float) else None


class MalformedJson(ApiError):
    code = "malformed_json"


class BadHeader(ApiError):
    code = "bad_header"


class MissingApiKey(ApiError):
    code = "missing_api_key"


class InvalidApiKey(ApiError):
    """Unknown, revoked, expired and disabled look the same."""

    code = "invalid_api_key"


class InsufficientCredits(ApiError):
    code = "insufficient_credits"

    @property
    def available(self) -> float | None:
        return self.amount("available")

    @property
    def needed(self) -> float | None:
        return self.amount("needed")


class Forbidden(ApiError):
    code = "forbidden"


class NotFound(ApiError):
    """It is not there, or it is another user's."""

    code = "not_found"


class IdempotencyInProgress(ApiError):
    code = "idempotency_in_progress"


class AlreadyDelivered(ApiError):
    """This Idempotency-Key was answered before, too large to be kept: `details` holds the receipt."""

    code = "already_delivered"


class UsernameTaken(ApiError):
    code = "username_taken"


class UploadBusy(ApiError):
    code = "upload_busy"


class TooLarge(ApiError):
    code = "too_large"


class UnsupportedFormat(ApiError):
    code = "unsupported_format"


class InvalidRequest(ApiError):
    """`faults` has one line for each thing that is wrong: where, and what would be right."""

    code = "invalid_request"

    @property
    def faults(self) -> list[str]:
        return list(_faults(self.details))


class IdempotencyMismatch(ApiError):
    code = "idempotency_mismatch"


class QueryTooExpensive(ApiError):
    code = "query_too_expensive"


class RateLimited(ApiError):
    code = "rate_limited"


class Unavailable(ApiError):
    """A part of the system is away for a moment; nothing was charged."""

    code = "unavailable"


class QueryTimeout(ApiError):
    """Nothing was charged."""

    code = "query_timeout"


_BY_CODE: Mapping[str, type[ApiError]] = {kind.code: kind for kind in ApiError.__subclasses__()}


def error_of(answer: httpx.Response) -> ApiError:
    """The error that an answer stands for. What is not ours, a proxy's page for example, has the code `unknown`."""
    retry_after_s = _seconds(answer.headers.get("retry-after"))
    try:
        document = answer.json()
        code, message = str(document["code"]), str(document["error"])
    except (ValueError, KeyError, TypeError):
        message = answer.text[:200].strip() or answer.reason_phrase
        return ApiError(answer.status_code, "unknown", message, retry_after_s=retry_after_s)
    kind = _BY_CODE.get(code, ApiError)
    request_id = str(document.get("request_id") or answer.headers.get("x-request-id", ""))
    return kind(
        answer.status_code,
        code,
        message,
        details=document.get("details"),
        request_id=request_id,
        retry_after_s=retry_after_s,
    )


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds. The form with a date is nobody's here: it counts as absent."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def _faults(details: Any) -> Iterator[str]:
    for fault in details if isinstance(details, list) else []:
        if isinstance(fault, Mapping):
            yield f"{fault.get('path', '')}: {fault.get('error', '')}"
