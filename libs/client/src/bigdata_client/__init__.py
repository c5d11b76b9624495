"""The Python client of BigData API: `Client` and `AsyncClient`, typed results, errors by code."""

from bigdata_client.async_client import AsyncClient
from bigdata_client.client import Client
from bigdata_client.errors import (
    AlreadyDelivered,
    ApiError,
    BigDataError,
    BrokenAnswer,
    Forbidden,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidApiKey,
    InvalidRequest,
    MissingApiKey,
    NotFound,
    QueryTimeout,
    QueryTooExpensive,
    RateLimited,
    TooLarge,
    Unavailable,
    Unreachable,
    UnsupportedFormat,
    UploadBusy,
    UploadFailed,
    UsernameTaken,
)
from bigdata_client.queries import Metadata, QueryResult, Quote, Receipt
from bigdata_client.retry import Retries
from bigdata_client.uploads import Upload

__all__ = [
    "AlreadyDelivered",
    "ApiError",
    "AsyncClient",
    "BigDataError",
    "BrokenAnswer",
    "Client",
    "Forbidden",
    "IdempotencyInProgress",
    "IdempotencyMismatch",
    "InsufficientCredits",
    "InvalidApiKey",
    "InvalidRequest",
    "Metadata",
    "MissingApiKey",
    "NotFound",
    "QueryResult",
    "QueryTimeout",
    "QueryTooExpensive",
    "Quote",
    "RateLimited",
    "Receipt",
    "Retries",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "UnsupportedFormat",
    "Upload",
    "UploadBusy",
    "UploadFailed",
    "UsernameTaken",
]
