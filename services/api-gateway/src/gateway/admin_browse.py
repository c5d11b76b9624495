"""The admin side's view of what was loaded: rows of a dataset, and everybody's uploads."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.answers import CURSOR_HEADER, Limit, Text, encoded, one
from gateway.api_keys import Caller, caller_with
from gateway.audit_trail import trail_of
from gateway.query_plan import dataset_named
from gateway.records import OFFSET_MAX, count_records, read_records
from gateway.roles import ADMIN_READERS
from gateway.upload_status import UploadFilter, every_upload
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
Reader = Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]
Running = Annotated[Gateway, Depends(gateway_of)]
Search = Annotated[Text | None, Query(description="a part of any text in the row, whatever its case")]
_PII = "pii"


@router.get("/records")
async def records(
    *,
    request: Request,
    caller: Reader,
    gateway: Running,
    dataset: Annotated[str, Query(max_length=63)] = "people",
    search: Search = None,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
) -> Response:
    """Rows of a dataset, those that came last first. Costs nothing. Personal columns need the scope pii."""
    browsed = dataset_named(dataset, gateway.datasets)
    trail_of(request).dataset = browsed.name
    pii = _PII in caller.scopes
    found = await read_records(gateway.warehouse, browsed, search=search, pii=pii, limit=limit, offset=offset)
    return Response(found, media_type="application/json")


class Total(BaseModel):
    total: int


@router.get("/records/count", response_model=Total)
async def count(
    *,
    request: Request,
    caller: Reader,
    gateway: Running,
    dataset: Annotated[str, Query(max_length=63)] = "people",
    search: Search = None,
) -> Response:
    """How many rows /records shows in all."""
    browsed = dataset_named(dataset, gateway.datasets)
    trail_of(request).dataset = browsed.name
    pii = _PII in caller.scopes
    return one({"total": await count_records(gateway.warehouse, browsed, search=search, pii=pii)})


class Rows(BaseModel):
    total: int | None
    accepted: int
    rejected: int


class ListedUpload(BaseModel):
    upload_id: UUID
    user_id: UUID | None = Field(description="none for a file that was dropped into the bucket")
    dataset: str
    filename: str
    state: str
    rows: Rows


@router.get("/uploads", response_model=list[ListedUpload])
async def uploads(
    *,
    _: Reader,
    gateway: Running,
    dataset: Text | None = None,
    state: Text | None = None,
    user_id: UUID | None = None,
    limit: Limit = 100,
    cursor: Annotated[UUID | None, Query(description="X-Next-Cursor of the page before")] = None,
) -> Response:
    """Everybody's uploads, newest first: their status documents, and whose they are."""
    wanted = UploadFilter(dataset, state, user_id)
    found, following = await every_upload(gateway.postgres, wanted, before=cursor, limit=limit)
    headers = {CURSOR_HEADER: str(following)} if following else None
    return Response(encoded(found), headers=headers, media_type="application/json")
