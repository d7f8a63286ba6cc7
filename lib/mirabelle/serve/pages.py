"""What is there beside the API: the page, its documentation, health and metrics. [files of this package]"""

from __future__ import annotations

import functools
from html import escape
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from mirabelle.serve import documentation, metrics
from mirabelle.serve.example import example_picture
from mirabelle.serve.problems import Code, Problem
from mirabelle.serve.state import shared_of

router = APIRouter(include_in_schema=False)
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# The files there are; a request can name no other.
STATIC = ("page.css", "page.js", "icon.svg")
EXAMPLE = "example.png"


@router.get("/")
async def page() -> Response:
    """The page that people use."""
    return _file("index.html")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's documentation."""
    bundle = shared_of(request).current.served.bundle
    text = documentation.page(request.app.openapi())
    text = text.replace("MODEL", escape(bundle.info.name)).replace("HOST", escape(str(request.base_url).rstrip("/")))
    return Response(text, media_type="text/html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file of the page's."""
    if name == EXAMPLE:
        return Response(example_picture(), media_type="image/png")
    if name not in STATIC:
        raise Problem(404, Code.NOT_FOUND, "there is no such file")
    return _file(name)


@router.get("/health/live")
async def live() -> Response:
    """Whether the process answers at all."""
    return Response(b'{"status":"live"}', media_type="application/json")


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Whether requests should be sent here: a bundle has answered its self-test, and no end is near."""
    check_ready(request)
    return Response(b'{"status":"ready"}', media_type="application/json")


@router.get("/metrics")
async def prometheus(request: Request) -> Response:
    """Counters, in Prometheus's text format."""
    return Response(shared_of(request).metrics.text(), media_type=metrics.CONTENT_TYPE)


def check_ready(request: Request) -> None:
    """Raise ``Problem`` 503 where requests should go elsewhere."""
    shared = shared_of(request)
    if shared.is_stopping or not shared.current.is_ready:
        raise Problem(503, Code.NOT_READY, "the server is stopping; ask another", {"Retry-After": "5"})


@functools.cache
def _content(name: str) -> bytes:
    return files(__package__).joinpath("static", name).read_bytes()


def _file(name: str) -> Response:
    kind = KINDS[name[name.rindex(".") :]]
    return Response(_content(name), media_type=kind, headers={"Cache-Control": "no-cache"})
