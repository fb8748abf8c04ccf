"""The dashboard's page: a few files, read once, the same for everybody. What it shows it asks the admin API for.

So the files are open to all, and the page can do no more than whoever looks at it. It takes nothing from elsewhere,
runs no script but its own, and may stand in nobody's frame.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

FILES = Path(__file__).with_name("ui")
PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
    ".js": "text/javascript; charset=utf-8",
}  # fmt: skip
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked for again each time, as another version may serve by then
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    content: bytes
    kind: str
    tag: str


def dashboard_router(directory: Path = FILES) -> APIRouter:
    """Blocks while it reads them."""
    router = APIRouter()
    files = {path.name: _read(path) for path in sorted(directory.iterdir()) if path.suffix in _TYPES}

    @router.api_route("/ui", methods=["GET", "HEAD"])
    async def ui() -> Response:
        return to_dashboard()

    @router.api_route("/ui/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return _answer(files[PAGE], request)

    @router.api_route("/ui/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404)
        return _answer(files[name], request)

    return router


def to_dashboard() -> Response:
    """Relative, so that it holds behind a proxy that has vllama below a path, too."""
    return RedirectResponse("ui/", 307, headers={"vary": "accept"})


def wants_page(request: Request) -> bool:
    """A browser's address bar; programs do not ask for HTML."""
    return "text/html" in request.headers.get("accept", "")


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content=content, kind=_TYPES[path.suffix], tag=f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer(file: File, request: Request) -> Response:
    headers = _HEADERS | {"etag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.kind, headers=headers)
