"""``/v2``: the Open Inference Protocol, for clients of KServe and Triton. [the request's connection]

A picture that gets no answer fails the request, as a tensor has no place for one: ``/v1`` says of each by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from mirabelle import __version__
from mirabelle.bundle import Bundle
from mirabelle.errors import ImageError
from mirabelle.serve.answers import answer_of
from mirabelle.serve.batching import Row
from mirabelle.serve.body import read_body
from mirabelle.serve.current import Served
from mirabelle.serve.documenting import INFERENCE, PROBLEMS, of_protocol, refused
from mirabelle.serve.forms import Picture
from mirabelle.serve.pages import check_ready
from mirabelle.serve.problems import Code, Problem, of_reject
from mirabelle.serve.state import asked_of, shared_of
from mirabelle.serve.tensors import ENCODED, LENGTH_HEADER, PIXELS, Inference, Tensor, parse, render, wrong
from mirabelle.serve.work import within

Members = dict[str, Any]
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
VERSION = "1"
_MODEL = "/models/{name}"
_VERSIONED = "/models/{name}/versions/{version}"
# A name that leads nowhere is a client's mistake that every one of these can be told of.
_NAMED: dict[int | str, Members] = {404: PROBLEMS[404]}


@router.get("", responses=of_protocol("What this server is."))
async def server() -> Members:
    """The server's name, version and extensions."""
    return {"name": "mirabelle", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", responses=of_protocol("It lives."))
async def live() -> Members:
    """Whether the process answers at all."""
    return {"live": True}


@router.get("/health/ready", responses={**of_protocol("It is ready."), 503: PROBLEMS[503]})
async def ready(request: Request) -> Members:
    """Whether requests should be sent here."""
    check_ready(request)
    return {"ready": True}


@router.get(_MODEL, responses={**of_protocol("The model's inputs and outputs."), **_NAMED})
async def metadata(request: Request, name: str) -> Members:
    """The model's inputs and outputs."""
    bundle = _bundle(request, name)
    info = bundle.info
    return {
        "name": info.name,
        "versions": [VERSION],
        "platform": "mirabelle_openvino",
        "inputs": [
            {"name": ENCODED, "datatype": "BYTES", "shape": [-1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, *info.pixels]},
        ],
        "outputs": [
            {"name": output, "datatype": kind, "shape": [-1] if wide is None else [-1, wide]}
            for output, (kind, wide) in _outputs_of(bundle).items()
        ],
        "parameters": {"labels": list(info.labels), "fingerprint": info.fingerprint, "bundle": info.id},
    }


@router.get(_MODEL + "/ready", responses={**of_protocol("The model is ready."), **_NAMED, 503: PROBLEMS[503]})
async def model_ready(request: Request, name: str) -> Members:
    """Whether the model answers."""
    _bundle(request, name)
    check_ready(request)
    return {"name": name, "ready": True}


@router.post(
    _MODEL + "/infer",
    responses={**of_protocol("One row for each picture."), **refused(), **_NAMED},
    openapi_extra=INFERENCE,
)
async def infer(request: Request, name: str) -> Response:
    """Have pictures answered: `image`, files in base64 or behind the JSON, or `pixels`, as the network takes them."""
    _bundle(request, name)
    shared = shared_of(request)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/octet-stream"):
        raise Problem(415, Code.UNSUPPORTED_MEDIA_TYPE, "send application/json, with tensors in it or behind it")
    async with read_body(request, shared.settings, shared.held) as body:
        asked = parse(body, request.headers.get(LENGTH_HEADER), shared.settings.max_pictures)
        asked_of(request).notes["pictures"] = asked.tensor.shape[0]
        with shared.current.using() as served:
            _check(served.bundle, asked)
            rows = await within(
                shared.settings.deadline_seconds, request.receive, lambda: _rows(request, served, asked.tensor)
            )
            return _response(served.bundle, asked, rows)


@router.get(_VERSIONED, include_in_schema=False)
async def metadata_of_version(request: Request, name: str, version: str) -> Members:
    """As without the version, of which there is one."""
    _check_version(version)
    return await metadata(request, name)


@router.get(_VERSIONED + "/ready", include_in_schema=False)
async def version_ready(request: Request, name: str, version: str) -> Members:
    """As without the version."""
    _check_version(version)
    return await model_ready(request, name)


@router.post(_VERSIONED + "/infer", include_in_schema=False)
async def infer_with_version(request: Request, name: str, version: str) -> Response:
    """As without the version."""
    _check_version(version)
    return await infer(request, name)


def _check_version(version: str) -> None:
    if version != VERSION:
        raise Problem(404, Code.NOT_FOUND, f"there is the version {VERSION} alone")


def _bundle(request: Request, name: str) -> Bundle:
    bundle = shared_of(request).current.served.bundle
    if name not in (bundle.info.name, bundle.info.id):
        raise Problem(404, Code.NOT_FOUND, f"there is one model, {bundle.info.name}")
    return bundle


def _outputs_of(bundle: Bundle) -> dict[str, tuple[str, int | None]]:
    """Datatype of each output, and numbers for each picture; None: one string."""
    info = bundle.info
    found: dict[str, tuple[str, int | None]] = {
        "probabilities": ("FP32", len(info.labels)),
        "label": ("BYTES", None),
        "given": ("BYTES", None),
        "features": ("FP32", info.width),
    }
    found |= {"coarse": ("FP32", len(info.coarse_labels))} if info.coarse_labels else {}
    return found | ({"reduced": ("FP32", info.components)} if info.components else {})


def _check(bundle: Bundle, asked: Inference) -> None:
    known = _outputs_of(bundle)
    for name in asked.outputs or ():
        if name not in known:
            raise wrong(f"there is no such output; there are {', '.join(known)}")
    wanted = bundle.info.pixels
    if asked.tensor.name == PIXELS and asked.tensor.shape[1:] != wanted:
        raise wrong(f"{PIXELS!r} has the shape [n, {', '.join(map(str, wanted))}]")


async def _rows(request: Request, served: Served, tensor: Tensor) -> list[Row]:
    """One row for each picture; raises ``Problem`` of the first that gets none."""
    work = shared_of(request).work
    if tensor.name == PIXELS:
        return await work.run(served, list(tensor.content.reshape(tensor.shape)))
    outcomes = await work.answer(served, [Picture(content) for content in tensor.content])
    for place, outcome in enumerate(outcomes):
        if outcome.error is not None:
            asked_of(request).notes["rejects"] = [one.error.code for one in outcomes if one.error]
            raise of_reject(_placed(outcome.error, place, len(outcomes)), {"picture": place})
    return [outcome.row for outcome in outcomes if outcome.row is not None]


def _placed(error: ImageError, place: int, count: int) -> ImageError:
    return error if count == 1 else type(error)(error.code, f"picture {place}: {error.detail}")


def _response(bundle: Bundle, asked: Inference, rows: list[Row]) -> Response:
    outputs = [row.outputs for row in rows]
    values: dict[str, Callable[[], Any]] = {
        "probabilities": lambda: np.concatenate([one.probabilities for one in outputs]),
        "label": lambda: [answer_of(bundle, one, 1).label for one in outputs],
        # A tensor of strings has no null: nothing is given where it is not sure.
        "given": lambda: [answer_of(bundle, one, 1).given or "" for one in outputs],
        "coarse": lambda: np.concatenate([one.coarse for one in outputs]),
        "features": lambda: np.concatenate([one.features for one in outputs]),
        "reduced": lambda: np.concatenate([one.reduced for one in outputs if one.reduced is not None]),
    }
    known = _outputs_of(bundle)
    told = [(name, known[name][0], values[name]()) for name in asked.outputs or known]
    body, length = render({"model_name": bundle.info.name, "model_version": VERSION}, asked, told)
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={LENGTH_HEADER: str(length)})
