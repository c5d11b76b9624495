"""Looking at one thing on the admin side: an account's statement, a dataset's loads, whether the books agree."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from common.errors import NotFound
from gateway.account import Entry, statement_of
from gateway.answers import Cursor, Limit, one, page
from gateway.api_keys import Caller, caller_with
from gateway.published_views import published
from gateway.roles import ADMIN_READERS
from gateway.users import require_user
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
Reader = Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]
Running = Annotated[Gateway, Depends(gateway_of)]


@router.get("/user/{user_id}/statement", response_model=list[Entry])
async def user_statement(
    _: Reader, gateway: Running, user_id: UUID, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Every change of a user's balance, newest first."""
    await require_user(gateway.postgres, user_id)
    return await statement_of(user_id, gateway, limit=limit, cursor=cursor)


@router.get("/reconcile", response_model=dict[str, int | str])
async def reconcile(_: Reader, gateway: Running) -> Response:
    """Contradictions between ledger, balances, holds and the log, by kind: each is 0, or says why it was not asked."""
    figures, _headers = await gateway.credits.read("/v1/reconcile")
    return one(figures)


class DayOfLoads(BaseModel):
    date: date
    rows: int


# Rows of files count on the day their load ended, rows of the records topic on the day they were loaded.
_LOADS = """
    SELECT name.dataset, d.day::date AS date, coalesce(f.rows, 0) + coalesce(r.rows, 0) AS rows
      FROM unnest($1::text[]) WITH ORDINALITY AS name (dataset, place)
     CROSS JOIN generate_series((now() AT TIME ZONE 'UTC')::date - ($2::int - 1), (now() AT TIME ZONE 'UTC')::date,
                                interval '1 day') AS d (day)
      LEFT JOIN (SELECT dataset, (finished_at AT TIME ZONE 'UTC')::date AS day, sum(rows_accepted)::bigint AS rows
                   FROM ingest.upload_status
                  WHERE dataset = ANY ($1) AND duplicate_of IS NULL
                    AND finished_at >= now() - make_interval(days => $2 + 1)
                  GROUP BY 1, 2) AS f ON f.dataset = name.dataset AND f.day = d.day::date
      LEFT JOIN (SELECT dataset, day, sum(accepted)::bigint AS rows FROM ingest.records_by_day
                  WHERE dataset = ANY ($1) GROUP BY 1, 2) AS r ON r.dataset = name.dataset AND r.day = d.day::date
     ORDER BY name.place, d.day
"""


Days = Annotated[int, Query(ge=1, le=366)]


@router.get("/loads", response_model=list[DayOfLoads])
async def all_loads(_: Reader, gateway: Running, days: Days = 30) -> Response:
    """Rows loaded into all datasets by day, oldest first, days without loads included."""
    every = await _loads(gateway, list(gateway.datasets), days)
    by_day = zip(*every.values(), strict=True)
    return page({"date": same_day[0]["date"], "rows": sum(one["rows"] for one in same_day)} for same_day in by_day)


@router.get("/datasets/{name}/loads", response_model=list[DayOfLoads])
async def loads(_: Reader, gateway: Running, name: str, days: Days = 30) -> Response:
    """The same of one dataset."""
    if name not in gateway.datasets:
        raise NotFound
    return page((await _loads(gateway, [name], days))[name])


class DatasetFigures(BaseModel):
    name: str
    rows: int | None = Field(description="null while ClickHouse cannot say; counted twice a minute at most")
    loads: list[DayOfLoads]


@router.get("/datasets", response_model=list[DatasetFigures])
async def datasets(_: Reader, gateway: Running, days: Days = 30) -> Response:
    """Every dataset with its rows, and the rows loaded into it by day, oldest first."""
    every = await _loads(gateway, list(gateway.datasets), days)
    counts = await gateway.record_counts.by_dataset() or {}
    return page({"name": name, "rows": counts.get(name), "loads": found} for name, found in every.items())


async def _loads(gateway: Gateway, datasets: list[str], days: int) -> dict[str, list[dict[str, Any]]]:
    """By dataset, in the order asked for, and by day."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in datasets}
    async with published("The state of uploads"):
        for row in await gateway.postgres.fetch(_LOADS, datasets, days):
            found[row["dataset"]].append({"date": row["date"], "rows": row["rows"]})
    return found
