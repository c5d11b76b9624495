"""Errors say what the receiver does next.

A ClientError carries its code and status of the HTTP API. A worker's error is Transient (try again, the message
keeps its place) or Permanent (dead letter, with the reason). Drivers' errors are translated at the edge, `from exc`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class Transient(Exception):
    """Nothing was decided: the same message must be tried again."""


class Permanent(Exception):
    """Trying again cannot help: the message goes to the dead letters with this reason."""


class ClientError(Exception):
    """An answer other than 2xx that the caller can act on."""

    code: ClassVar[str] = "invalid_request"
    status: ClassVar[int] = 400
    retry_after_s: int | None = None

    def __init__(self, message: str | None = None, details: Any = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message or (self.__doc__ or self.code).splitlines()[0].rstrip("."))
        self.details = details
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def headers(self) -> Mapping[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class MalformedJson(ClientError):
    """The body is not valid JSON."""

    code = "malformed_json"


class BadHeader(ClientError):
    """A header is not what this route accepts."""

    code = "bad_header"


class MissingApiKey(ClientError):
    """Send your key in the x-api-key header."""

    code, status = "missing_api_key", 401


class InvalidApiKey(ClientError):
    """This API key is not valid."""  # unknown, revoked, expired and disabled look the same on purpose

    code, status = "invalid_api_key", 401


class InsufficientCredits(ClientError):
    """Insufficient credits."""

    code, status = "insufficient_credits", 402


class Forbidden(ClientError):
    """This key may not do that."""

    code, status = "forbidden", 403


class NotFound(ClientError):
    """There is nothing here."""  # another user's object looks the same

    code, status = "not_found", 404


class MethodNotAllowed(ClientError):
    """This route does not answer that method."""

    code, status = "not_found", 405


class Conflict(ClientError):
    """The request conflicts with what is there; `code` says how."""

    status = 409


class IdempotencyInProgress(Conflict):
    """A request with this Idempotency-Key is still running."""

    code = "idempotency_in_progress"
    retry_after_s = 1


class AlreadyDelivered(Conflict):
    """This request was answered before and its answer was too large to keep."""

    code = "already_delivered"


class UsernameTaken(Conflict):
    """Another user has this name."""

    code = "username_taken"


class UploadBusy(Conflict):
    """This upload is still being loaded."""

    code = "upload_busy"


class TooLarge(ClientError):
    """The body is larger than this route accepts."""

    code, status = "too_large", 413


class UnsupportedFormat(ClientError):
    """This format cannot be read."""

    code, status = "unsupported_format", 415


class InvalidRequest(ClientError):
    """The request is not valid; details names each fault with its path."""

    code, status = "invalid_request", 422


class IdempotencyMismatch(ClientError):
    """This Idempotency-Key was used with another body."""

    code, status = "idempotency_mismatch", 422


class QueryTooExpensive(ClientError):
    """The query would read or return more than its price covers."""

    code, status = "query_too_expensive", 422


class RateLimited(ClientError):
    """Too many requests."""

    code, status = "rate_limited", 429


class Unavailable(ClientError):
    """A part of the system is not available; nothing was charged."""

    code, status = "unavailable", 503
    retry_after_s = 1


class QueryTimeout(ClientError):
    """The query ran into its time limit; nothing was charged."""

    code, status = "query_timeout", 504
