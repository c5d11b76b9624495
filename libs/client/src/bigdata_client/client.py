"""The Python client: what a program does with the HTTP API, as methods."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

_UPLOAD_PIECE_BYTES = 1024 * 1024
_FINISHED = frozenset({"completed", "completed_with_rejects", "failed", "undone"})

Document = dict[str, Any]


class ApiError(Exception):
    """An answer other than 2xx: `code` is what to act on, `details` says what was wrong."""

    def __init__(self, status: int, code: str, message: str, details: Any = None, request_id: str = "") -> None:
        super().__init__(f"{message} ({code}, HTTP {status})")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id


class UploadFailed(Exception):
    """The upload ended in state `failed`; the message is the reason it gives."""


class AsyncClient:
    """One key, one gateway, a pool of connections. Use it as an async context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"x-api-key": api_key}, timeout=httpx.Timeout(timeout_s, connect=5)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def query(self, ask: Mapping[str, Any], *, idempotency_key: str | None = None) -> Document:
        """Run a query (the body of POST /v1/query). Raises ApiError, e.g. with code `insufficient_credits`."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer: Document = await self.call("POST", "/v1/query", json=dict(ask), headers=headers)
        return answer

    async def credits(self) -> Document:
        answer: Document = await self.call("GET", "/v1/credits")
        return answer

    async def upload(self, file: Path, dataset: str, *, filename: str | None = None) -> Document:
        """Send a file of any size; answers as soon as it is durable, before it is loaded. See `wait_for_upload`."""
        answer: Document = await self.call(
            "POST",
            "/v1/uploads",
            params={"dataset": dataset, "filename": filename or file.name},
            content=_pieces(file),
        )
        return answer

    async def upload_status(self, upload_id: str) -> Document:
        answer: Document = await self.call("GET", f"/v1/uploads/{upload_id}")
        return answer

    async def wait_for_upload(
        self,
        upload_id: str,
        *,
        deadline_s: float = 600,
        every_s: float = 0.1,
        on_progress: Callable[[Document], None] = lambda _: None,
    ) -> Document:
        """Wait until the upload is loaded. Raises UploadFailed with its reason, TimeoutError past the deadline."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            status = await self.upload_status(upload_id)
            on_progress(status)
            if status["state"] == "failed":
                raise UploadFailed(str(status["error"]))
            if status["state"] in _FINISHED:
                return status
            await asyncio.sleep(every_s)
        raise TimeoutError(f"upload {upload_id} is still {status['state']} after {deadline_s:g} s")

    async def rejects(self, upload_id: str) -> str:
        """The rows that were not loaded, as NDJSON: line, column, reason and the raw row."""
        answer = await self._http.get(f"/v1/uploads/{upload_id}/rejects", params={"format": "ndjson"})
        _raise_for_error(answer)
        return answer.text

    async def call(self, method: str, path: str, **request: Any) -> Any:
        """Any route: the decoded JSON of its answer. Raises ApiError for anything but 2xx."""
        answer = await self._http.request(method, path, **request)
        _raise_for_error(answer)
        return answer.json()


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_UPLOAD_PIECE_BYTES):
            yield piece


def _raise_for_error(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        document = answer.json()
        raise ApiError(
            answer.status_code, document["code"], document["error"], document["details"], document["request_id"]
        )
    except (ValueError, KeyError):
        raise ApiError(answer.status_code, "unknown", answer.text[:200] or answer.reason_phrase) from None
