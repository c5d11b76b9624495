"""The query route with every other part played."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio

from common import http
from support.played_query import Everything


@pytest.fixture(params=["framework", "hot"])
def everything(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Everything:
    """Twice: as the framework routes it, and past it (gateway/hot_routes.py). Nobody may see a difference."""
    # Drawing a traceback with all its variables for the terminal takes seconds.
    monkeypatch.setattr(http, "_log", SimpleNamespace(error=lambda *_, **__: None))
    return Everything(tmp_path, hot=request.param == "hot")


@pytest_asyncio.fixture
async def client(everything: Everything) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(everything.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers={"x-api-key": "k"}) as opened:
        yield opened
