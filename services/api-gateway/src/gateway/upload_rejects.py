"""The rows of an upload that did not fit: where they were, why, and what they said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from common.datasets import Datasets
from common.errors import UnsupportedFormat
from gateway.api_keys import caller_with
from gateway.roles import ADMIN_READERS, Caller
from gateway.upload_status import rejects_of
from gateway.wiring import gateway_of

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
Looking = Annotated[Caller, Depends(caller_with("ingest", readers=ADMIN_READERS))]
# A spreadsheet runs a cell that begins like a formula; a quote in front makes it text.
_CELL = "if(match({0}, '^[=+@\\t\\r-]'), concat('''', {0}), {0}) AS {0}"
# A record as it came cannot be told apart into its columns, so all of it is masked where one of them is personal.
_MASKED = "'[masked: your key does not have the scope pii]' AS raw"
# A repeated insert may have left a second copy of a reject.
_REJECTS = """
    SELECT chunk_no, row_no, line, {column}, {reason}, {raw}, ts
      FROM quarantine
     WHERE upload_id = {{upload:String}} AND generation = {{generation:UInt32}} ORDER BY row_no LIMIT 1 BY row_no
"""
_FORMATS = {
    "ndjson": ("JSONEachRow", "application/x-ndjson"),
    "csv": ("CSVWithNames", "text/csv; charset=utf-8"),
}


@router.get("/{upload_id}/rejects")
async def get_rejects(
    request: Request,
    caller: Looking,
    upload_id: UUID,
    format: Annotated[str, Query()] = "ndjson",  # noqa: A002 - the parameter's public name
) -> StreamingResponse:
    """The rows that did not fit: place, column, reason, and the row as it came, if your key has the scope pii."""
    gateway = gateway_of(request)
    if format not in _FORMATS:
        raise UnsupportedFormat(f"format is one of {', '.join(_FORMATS)}")
    rejects = await rejects_of(upload_id, caller, gateway.postgres, gateway.bucket)
    form, media_type = _FORMATS[format]
    cells = {name: _CELL.format(name) if format == "csv" else name for name in ("column", "reason", "raw")}
    if "pii" not in caller.scopes and _has_personal(rejects.dataset, gateway.datasets):
        cells["raw"] = _MASKED
    bound = {"upload": str(rejects.upload_id), "generation": rejects.generation}
    pieces = gateway.warehouse.stream(_REJECTS.format(**cells), bound, form)
    # The first piece is awaited here, so that a fault of ClickHouse still is a status.
    first = await anext(pieces, b"")
    return StreamingResponse(_chained(first, pieces), media_type=media_type)


def _has_personal(name: str, datasets: Datasets) -> bool:
    """A dataset that is not declared any more may have had personal columns."""
    dataset = datasets.get(name)
    return dataset is None or any(column.pii for column in dataset.columns.values())


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
