"""What routes answer besides what their parameters, bodies and keys explain: for the OpenAPI document."""

from common.errors import (
    AlreadyDelivered,
    BadHeader,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    QueryTimeout,
    QueryTooExpensive,
    TooLarge,
    UnsupportedFormat,
    UploadBusy,
    UsernameTaken,
)
from common.openapi import Errors
from gateway.upload_body import BodyTooSlow

_QUERY = (
    BadHeader,
    UploadBusy,
    InsufficientCredits,
    IdempotencyInProgress,
    AlreadyDelivered,
    IdempotencyMismatch,
    QueryTooExpensive,
    QueryTimeout,
    NotFound,
    UnsupportedFormat,
)
_FILE = (BodyTooSlow, TooLarge, UnsupportedFormat, UploadBusy, InvalidRequest, BadHeader)
ERRORS: dict[str, Errors] = {
    "POST /v1/query": _QUERY,
    "POST /v1/query/quote": _QUERY,
    "POST /v1/uploads": _FILE,
    "DELETE /v1/uploads/{upload_id}": (UploadBusy,),
    "POST /v1/uploads/{upload_id}/replay": (UploadBusy,),
    "GET /v1/uploads/{upload_id}/rejects": (UnsupportedFormat,),
    "POST /v1/admin/create-user": (UsernameTaken,),
    "POST /v1/admin/add-credits": (NotFound, IdempotencyMismatch),
    "POST /v1/admin/user/{user_id}/update-credits": (IdempotencyMismatch,),
    "GET /v1/admin/logs": (UnsupportedFormat,),
}
