"""Parquet row groups as Arrow batches. The footer may lie about everything, so nothing is taken from it on trust."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ingest.formats.sandboxed.pipes import Given, Output, Refusal

_GROUPS_MAX, _COLUMNS_MAX = 100_000, 4096
_BUFFER_BYTES = 1 << 20
# Read at once, and sent at once: small enough that a cell of any size that is allowed fits, large enough to be fast.
_READ_ROWS, _READ_BYTES = 8192, 8 << 20
_BLOCK_ROWS, _BLOCK_BYTES = 98_304, 16 << 20
_FIRST_BLOCK_ROWS = 24_576  # until it is there, nothing is inserted
_FAULTS = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, UnicodeDecodeError, RuntimeError)


def look(given: Given, output: Output, values: Mapping[str, Any]) -> None:
    """Names of the columns, and the rows that each row group claims to have."""
    del values
    with _opened(given) as file:
        footer = file.metadata
        if footer.num_row_groups > _GROUPS_MAX or len(file.schema_arrow.names) > _COLUMNS_MAX:
            raise Refusal(f"more than {_GROUPS_MAX} row groups, or {_COLUMNS_MAX} columns")
        rows = [int(footer.row_group(number).num_rows) for number in range(footer.num_row_groups)]
        if any(count < 0 for count in rows):
            raise Refusal("a row group has less than no rows")
        output.meta({"columns": list(file.schema_arrow.names), "rows": rows})


def run(given: Given, output: Output, values: Mapping[str, Any]) -> None:
    """`first` and `last`: row groups. `columns`: those that are wanted."""
    with _opened(given) as file:
        groups = range(values["first"], values["last"] + 1)
        _send_all((batch for number in groups for batch in _batches(file, number, values["columns"])), output)


class _Opened:
    """A file whose faults, whichever call meets them, are refusals."""

    def __init__(self, given: Given) -> None:
        self._given = given

    def __enter__(self) -> Any:
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        try:
            return parquet.ParquetFile(
                pa.PythonFile(self._given, "r"),
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                thrift_string_size_limit=64 << 20,
                thrift_container_size_limit=1 << 20,
            )
        except MemoryError:
            raise
        except _FAULTS as exc:
            raise _refusal(exc) from exc

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, _FAULTS) and not isinstance(exc, MemoryError | BrokenPipeError | Refusal):
            raise _refusal(exc) from exc


def _opened(given: Given) -> _Opened:
    return _Opened(given)


def _refusal(exc: BaseException) -> Refusal:
    return Refusal((str(exc).splitlines() or [repr(exc)])[0][:300])


def _batches(file: Any, number: int, columns: list[str]) -> Iterator[Any]:
    group = file.metadata.row_group(number)
    row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
    rows = min(_READ_ROWS, max(64, _READ_BYTES // row_bytes))
    return file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)  # type: ignore[no-any-return]


def _send_all(batches: Iterator[Any], output: Output) -> None:
    """Blocks are cut by the content alone: whoever reads the groups again makes the same ones."""
    waiting: list[Any] = []
    limit = _FIRST_BLOCK_ROWS
    for batch in batches:
        waiting.append(_without_dictionaries(batch))
        if sum(one.num_rows for one in waiting) >= limit or sum(one.nbytes for one in waiting) >= _BLOCK_BYTES:
            _send(waiting, output)
            waiting, limit = [], _BLOCK_ROWS
    if waiting:
        _send(waiting, output)


def _send(batches: list[Any], output: Output) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    output.data(sink.getvalue())


def _without_dictionaries(batch: Any) -> Any:
    """A dictionary hides how much a column holds, and the parent would have to do without one anyway."""
    columns = [one.cast(one.type.value_type) if pa.types.is_dictionary(one.type) else one for one in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)
