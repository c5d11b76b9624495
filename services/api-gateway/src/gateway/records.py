"""Looking through a dataset on the admin side: the newest rows, or those that contain a text anywhere."""

from collections.abc import Mapping

import orjson

from common.datasets import Dataset
from gateway.warehouse import Warehouse

OFFSET_MAX = 100_000
_SYSTEM = ("ingest_ts", "upload_id", "row_no")
_TEXTS = frozenset({"string", "country", "enum"})
_CONTAINS = "positionCaseInsensitiveUTF8(ifNull(toString(`{}`), ''), {{search:String}}) > 0"


async def read_records(
    warehouse: Warehouse, dataset: Dataset, *, search: str | None, pii: bool, limit: int, offset: int
) -> bytes:
    """A JSON array, the rows that came last first. Without `pii` personal columns are left out, of the search too."""
    columns = ", ".join(f"`{name}`" for name in [*_columns(dataset, pii=pii), *_SYSTEM])
    # The tie-break makes pages stable.
    statement = (
        f"SELECT {columns} FROM {dataset.name} FINAL{_where(dataset, search, pii=pii)} "  # noqa: S608 - declared names
        "ORDER BY ingest_ts DESC, dedupe_key LIMIT {limit:UInt64} OFFSET {offset:UInt64}"
    )
    bound = {**_bound(search), "limit": limit, "offset": offset}
    return await warehouse.rows(statement, bound)


async def count_records(warehouse: Warehouse, dataset: Dataset, *, search: str | None, pii: bool) -> int:
    statement = f"SELECT count() AS total FROM {dataset.name} FINAL{_where(dataset, search, pii=pii)}"  # noqa: S608 - as above
    return int(orjson.loads(await warehouse.rows(statement, _bound(search)))[0]["total"])


def _columns(dataset: Dataset, *, pii: bool) -> list[str]:
    return [name for name, column in dataset.columns.items() if pii or not column.pii]


def _where(dataset: Dataset, search: str | None, *, pii: bool) -> str:
    if not search:
        return ""
    texts = [name for name in _columns(dataset, pii=pii) if dataset.columns[name].type in _TEXTS]
    return f" WHERE ({' OR '.join(map(_CONTAINS.format, texts))})" if texts else " WHERE false"


def _bound(search: str | None) -> Mapping[str, object]:
    return {"search": search} if search else {}
