"""Style and scripts of the console. Their address carries their hash, so a browser may keep them for ever."""

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Response

from common.errors import NotFound
from gateway.console.door import HOME

router = APIRouter(include_in_schema=False)
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_KEPT = "public, max-age=31536000, immutable"


def _read() -> dict[str, tuple[bytes, str]]:
    """By name: content and media type. Read once, with the package."""
    folder = files("gateway.console") / "static"
    found = {one.name: one.read_bytes() for one in folder.iterdir() if not one.name.startswith(".")}
    return {name: (content, _TYPES["." + name.rpartition(".")[2]]) for name, content in found.items()}


_FILES = _read()
# One hash for all: a script imports its neighbours by relative address, which must change with them.
_VERSION = hashlib.sha256(b"".join(content for _, (content, _) in sorted(_FILES.items()))).hexdigest()[:12]


def address_of(name: str) -> str:
    if name not in _FILES:
        raise KeyError(f"static/{name} does not exist")
    return f"{HOME}/static/{_VERSION}/{name}"


@router.get(HOME + "/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    if name not in _FILES or version != _VERSION:
        raise NotFound
    content, media_type = _FILES[name]
    return Response(content, media_type=media_type, headers={"Cache-Control": _KEPT})
