"""``/v1``: pictures in, labels, features or neighbours out. [the request's connection]"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from mirabelle.bundle import Bundle
from mirabelle.errors import UserError
from mirabelle.serve import answers, shapes
from mirabelle.serve.body import read_body
from mirabelle.serve.current import Served
from mirabelle.serve.documenting import PICTURES, PROBLEMS, documented
from mirabelle.serve.forms import pictures_of
from mirabelle.serve.problems import Code, Problem, of_reject
from mirabelle.serve.state import asked_of, shared_of
from mirabelle.serve.work import Outcome, within

router = APIRouter(prefix="/v1", tags=["pictures"])
# Pictures of one request that are explained; each takes the network's time of several.
MAX_EXPLAINED = 4

Members = dict[str, Any]
# From a picture that was answered to further members of its entry.
Say = Callable[[Served, Outcome], Awaitable[Members]]


@router.post("/predict", responses=documented(shapes.Predictions), openapi_extra=PICTURES)
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=10_000, description="How many of the likeliest labels.")] = 5,
    features: Annotated[bool, Query(description="With what the network says of each picture.")] = False,
    explain: Annotated[bool, Query(description="With what it looked at, for up to 4 pictures.")] = False,
) -> Response:
    """What pictures show, and how sure that is."""
    work = shared_of(request).work

    async def say(served: Served, outcome: Outcome) -> Members:
        assert outcome.row is not None and outcome.picture is not None
        told = answers.of_answer(answers.answer_of(served.bundle, outcome.row.outputs, top))
        if features:
            told["features"] = outcome.row.outputs.features[0]
        if explain:
            told["explanation"] = answers.data_address(await work.explain(served, outcome.picture.pixels))
        return told

    return await _answered(request, say, MAX_EXPLAINED if explain else None)


@router.post("/embed", responses=documented(shapes.Embeddings), openapi_extra=PICTURES)
async def embed(request: Request) -> Response:
    """What the network says of pictures: their features, and what the PCA made of them."""

    async def say(_: Served, outcome: Outcome) -> Members:
        assert outcome.row is not None
        reduced = outcome.row.outputs.reduced
        return {"features": outcome.row.outputs.features[0], "reduced": None if reduced is None else reduced[0]}

    return await _answered(request, say)


@router.post(
    "/neighbours",
    responses={**documented(shapes.Neighbours), 404: PROBLEMS[404]},
    openapi_extra=PICTURES,
)
async def neighbours(
    request: Request, k: Annotated[int, Query(ge=1, le=100, description="How many neighbours.")] = 8
) -> Response:
    """The pictures nearest to these among those that were learnt from."""

    async def say(served: Served, outcome: Outcome) -> Members:
        assert outcome.row is not None
        try:
            # Not here, where all other requests would stand still meanwhile: a large index takes tens of milliseconds.
            found = await asyncio.to_thread(served.bundle.neighbours, outcome.row.outputs.features[0], k)
        except UserError as error:
            raise Problem(404, Code.NO_INDEX, str(error)) from error
        return {"neighbours": [answers.of_neighbour(one) for one in found]}

    return await _answered(request, say)


async def _answered(request: Request, say: Say, max_pictures: int | None = None) -> Response:
    """Read a request's pictures, have them answered, and say of each what ``say`` does."""
    shared = shared_of(request)
    limit = min(shared.settings.max_pictures, max_pictures or shared.settings.max_pictures)
    async with read_body(request, shared.settings, shared.held) as body:
        pictures = pictures_of(body, request.headers.get("content-type", ""), limit)
        asked_of(request).notes["pictures"] = len(pictures)
        with shared.current.using() as served:

            async def work() -> list[Members]:
                outcomes = await shared.work.answer(served, pictures)
                return [await _entry(served, outcome, say) for outcome in outcomes]

            entries = await within(shared.settings.deadline_seconds, request.receive, work)
            return _response(request, served.bundle, entries)


async def _entry(served: Served, outcome: Outcome, say: Say) -> Members:
    entry = answers.of_outcome(outcome)
    if outcome.error is not None:
        return {**entry, "_error": outcome.error}
    return {**entry, **await say(served, outcome)}


def _response(request: Request, bundle: Bundle, entries: Sequence[Members]) -> Response:
    """200 with what there is; the first reject's status where there is nothing else."""
    errors = [entry.pop("_error", None) for entry in entries]
    rejects = [error for error in errors if error is not None]
    if rejects:
        asked_of(request).notes["rejects"] = [error.code for error in rejects]
    if len(rejects) == len(entries):
        raise of_reject(rejects[0], {"pictures": entries})
    content = {"model": answers.of_model(bundle), "request_id": asked_of(request).id, "pictures": entries}
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
