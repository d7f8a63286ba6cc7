"""Puts the application together. Touches nothing."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from mirabelle import __version__
from mirabelle.errors import ImageError
from mirabelle.serve import api, inference, pages, problems
from mirabelle.serve.documenting import DESCRIPTION, completed
from mirabelle.serve.front import GONE, Front
from mirabelle.serve.problems import ClientGone, Code, Problem, of_reject, of_validation
from mirabelle.serve.state import Shared, asked_of, shared_of

_CODES = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


def build_app(shared: Shared) -> ASGIApp:
    """The whole application, around one server's parts."""
    app = FastAPI(
        title="Mirabelle",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            Problem: _refused,
            ImageError: _rejected,
            RequestValidationError: _invalid,
            HTTPException: _no_such,
            ClientGone: _gone,
            Exception: _broke,
        },
    )
    app.state.shared = shared
    for router in (api.router, inference.router, pages.router):
        app.include_router(router)
    document = completed(app.openapi())
    app.openapi = lambda: document  # type: ignore[method-assign]
    return Front(app, shared)


def _refuse(request: Request, problem: Problem) -> Response:
    shared_of(request).metrics.refused.labels(problem.code).inc()
    asked_of(request).notes["code"] = problem.code
    return problems.response(problem, asked_of(request).id)


async def _refused(request: Request, error: Exception) -> Response:
    return _refuse(request, cast(Problem, error))


async def _rejected(request: Request, error: Exception) -> Response:
    return _refuse(request, of_reject(cast(ImageError, error)))


async def _invalid(request: Request, error: Exception) -> Response:
    return _refuse(request, of_validation(cast(RequestValidationError, error).errors()))


async def _no_such(request: Request, error: Exception) -> Response:
    told = cast(HTTPException, error)
    headers: dict[str, Any] = dict(told.headers or {})
    sentences = {404: "nothing has this address; see /docs", 405: "this address is asked in another way; see /docs"}
    code = _CODES.get(told.status_code, Code.BAD_REQUEST)
    return _refuse(request, Problem(told.status_code, code, sentences.get(told.status_code, str(told.detail)), headers))


async def _broke(request: Request, _: Exception) -> Response:
    return _refuse(request, Problem(500, Code.INTERNAL, "something broke here; the log has more by this request's id"))


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=GONE)
