"""The forms an answer can take: which one is asked for, and how ClickHouse is asked to write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.query_request import LIMIT_DEFAULT, LIMIT_MAX, STREAM_LIMIT_MAX, QueryRequest


@dataclass(frozen=True)
class Form:
    """`written` is ClickHouse's name of the format. Streamed ones have their metadata in headers."""

    name: str
    written: str
    media_type: str
    compressible: bool = True

    @property
    def streamed(self) -> bool:
        return self.name != "json"

    @property
    def limit_max(self) -> int:
        return STREAM_LIMIT_MAX if self.streamed else LIMIT_MAX

    @property
    def limit_default(self) -> int:
        return STREAM_LIMIT_MAX if self.streamed else LIMIT_DEFAULT


JSON_FORM = Form("json", "JSONEachRow", "application/json")
FORMS: Mapping[str, Form] = {
    "json": JSON_FORM,
    "ndjson": Form("ndjson", "JSONEachRow", "application/x-ndjson"),
    # Without names: the header line is ours, so that every line of ClickHouse is a row.
    "csv": Form("csv", "CSV", "text/csv; charset=utf-8; header=present"),
    "parquet": Form("parquet", "Parquet", "application/vnd.apache.parquet", compressible=False),
    # The streaming kind: a file's footer would have to wait for the end, and its reader for the footer.
    "arrow": Form("arrow", "ArrowStream", "application/vnd.apache.arrow.stream"),
}
_BY_MEDIA_TYPE: Mapping[str, Form] = {
    "application/json": JSON_FORM,
    "application/x-ndjson": FORMS["ndjson"],
    "application/ndjson": FORMS["ndjson"],
    "application/jsonl": FORMS["ndjson"],
    "text/csv": FORMS["csv"],
    "application/vnd.apache.parquet": FORMS["parquet"],
    "application/x-parquet": FORMS["parquet"],
    "application/vnd.apache.arrow.stream": FORMS["arrow"],
}


def form_of(ask: QueryRequest, accept: str) -> Form:
    """What the body names, else the first choice of Accept that is one of ours, else JSON."""
    if ask.format is not None:
        return FORMS[ask.format]
    if not accept or accept == "*/*":
        return JSON_FORM
    choices = sorted(_choices(accept), key=lambda choice: -choice[1])
    return next((_BY_MEDIA_TYPE[name] for name, share in choices if share > 0 and name in _BY_MEDIA_TYPE), JSON_FORM)


def completed(ask: QueryRequest, accept: str) -> QueryRequest:
    """With its defaults spelt out, so that leaving them away makes no other query."""
    form = form_of(ask, accept)
    return ask.once(form.name, lambda: _completed(ask, form))


def _completed(ask: QueryRequest, form: Form) -> QueryRequest:
    count = ask.count or ("none" if form.streamed else "exact")
    defaults = {"format": form.name, "limit": ask.limit or form.limit_default, "count": count}
    # Not a copy, which would share what was worked out for the request before it was complete.
    return QueryRequest.model_construct(**ask.__dict__ | defaults)


def coding_of(accept_encoding: str) -> str | None:
    """Zstd or gzip, whichever the client likes more; None when it wants neither."""
    shares = dict(_choices(accept_encoding))
    best = max(("zstd", "gzip"), key=lambda name: shares.get(name, shares.get("*", 0.0)))
    return best if shares.get(best, shares.get("*", 0.0)) > 0 else None


def _choices(header: str) -> list[tuple[str, float]]:
    """Names and their q of an Accept header; what cannot be read counts as not wanted."""
    found = []
    for part in header[:1000].split(","):
        name, *terms = (piece.strip().lower() for piece in part.split(";"))
        share = next((term[2:] for term in terms if term.startswith("q=")), "1")
        try:
            found.append((name, float(share)))
        except ValueError:
            found.append((name, 0.0))
    return found
