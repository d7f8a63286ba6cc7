"""What the OpenAPI document says that FastAPI cannot see: bodies that are read by ours, problems, examples. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mirabelle.errors import RejectCode
from mirabelle.serve import problems, shapes
from mirabelle.serve.example import example_inference
from mirabelle.serve.problems import TITLES, Code

DESCRIPTION = """Pictures in, answers out. Send one picture as it is, or several as files of a form:

    curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' HOST/v1/predict
    curl -F a=@one.jpg -F b=@two.png 'HOST/v1/predict?top=3'

Where the server has tokens, add `-H "Authorization: Bearer $TOKEN"`. What goes wrong is an RFC 9457 problem document;
a bad picture among good ones fails alone, with the code that the batch job's rejects have. Beside `/v1` stands the Open
Inference Protocol v2, below `/v2`, for clients of KServe and Triton."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
# Kinds of pictures that are read, whatever a request calls them.
KINDS = ("image/jpeg", "image/png", "image/webp", "image/*", "application/octet-stream")

PICTURES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One picture as it is, or several as files of a form, under any names.",
        "content": {
            **dict.fromkeys(KINDS, _BINARY),
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"picture": {"type": "array", "minItems": 1, "items": _BINARY["schema"]}},
                    "required": ["picture"],
                }
            },
        },
    }
}


INFERENCE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Tensors in JSON, or behind it as Inference-Header-Content-Length tells.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Inference"}, "example": example_inference()}
        },
    }
}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": TITLES[status],
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string", "enum": ["image", "pixels"]},
                    "shape": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 1},
                        "minItems": 1,
                        "maxItems": 4,
                    },
                    "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
                    "data": {"type": "array", "description": "Files in base64, or numbers from 0 to 255."},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        },
    },
}

PROBLEMS: dict[int | str, dict[str, Any]] = {status: _problem(status) for status in TITLES}
_OF_ANY = (400, 401, 408, 413, 415, 422, 429, 431, 500, 503)


def documented(shape: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """An operation's answers: the good one, and the problems that any may have."""
    return {200: {"model": shape, "description": "At least one picture was answered."}, **refused()}


def of_protocol(description: str) -> dict[int | str, dict[str, Any]]:
    """A good answer of the Open Inference Protocol, whose shapes are its own."""
    return {200: {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}}


def refused() -> dict[int | str, dict[str, Any]]:
    """The problems that any operation may have."""
    return {status: PROBLEMS[status] for status in _OF_ANY}


# Every code that a problem document may have: its status, and what it means for whoever asked.
CODES: dict[str, tuple[int, str]] = {
    Code.BAD_REQUEST: (400, "This is no HTTP request."),
    Code.BAD_FORM: (400, "The form is broken; let a library write it. 422 where a part is no file."),
    Code.BAD_JSON: (400, "The body is no JSON."),
    Code.BAD_TENSOR: (400, "A tensor's name, type, shape or data do not fit each other or this model."),
    Code.NO_PICTURE: (400, "The request holds no picture."),
    Code.TOKEN: (401, "A bearer token is needed, or the one that came is none that is known."),
    Code.NOT_FOUND: (404, "Nothing has this address."),
    Code.NO_INDEX: (404, "The bundle knows no neighbours: mirabelle bundle --index makes one that does."),
    Code.METHOD_NOT_ALLOWED: (405, "The address is asked in another way."),
    Code.TOO_SLOW: (408, "Head or body did not come in time."),
    Code.BODY_TOO_LARGE: (413, "The body is larger than one request may be; send fewer pictures."),
    Code.TOO_MANY_PICTURES: (413, "More pictures than one request may have; send several requests."),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "The Content-Type is none that is read here."),
    Code.INVALID: (422, "A parameter has a value that it may not have; errors says which."),
    Code.RATE: (429, "More requests than this client may make; Retry-After says when to come again."),
    Code.HEADERS_TOO_LARGE: (431, "The request's head is too large."),
    Code.BUSY: (503, "The server has as much to do as it takes in; Retry-After says when to come again."),
    Code.DEADLINE: (503, "There was no answer in time; the server has much to do."),
    Code.NOT_READY: (503, "The server is starting or stopping; ask another."),
    Code.INTERNAL: (500, "Something broke; the log has more by the request's id."),
    RejectCode.EMPTY: (400, "The picture has no bytes."),
    RejectCode.NOT_AN_IMAGE: (415, "The content is no image format that is known here, whatever its name says."),
    RejectCode.FORMAT_NOT_ALLOWED: (415, "An image, of a format that is not read."),
    RejectCode.NO_DECODER: (415, "An image, of a format for which the server lacks a package."),
    RejectCode.TOO_MANY_BYTES: (413, "The picture has more bytes than the bundle decodes."),
    RejectCode.TOO_MANY_PIXELS: (413, "The picture has more pixels than the bundle decodes; it was not decoded."),
    RejectCode.TRUNCATED: (422, "The file ends before the picture does."),
    RejectCode.CORRUPT: (422, "The right format, and damaged."),
    RejectCode.NOT_FINITE: (422, "The network answered what is no number."),
    RejectCode.ENGINE_FAILED: (500, "The engine could not run this picture."),
}

_FETCH = "curl -s HOST/static/example.png"
# By address, a line to copy; HOST stands for where the server is.
SAMPLES = {
    "/v1/predict": f"{_FETCH} | curl -s --data-binary @- -H 'Content-Type: image/png' 'HOST/v1/predict?top=3'",
    "/v1/embed": f"{_FETCH} | curl -s -F 'picture=@-;filename=a.png' HOST/v1/embed",
    "/v1/neighbours": f"{_FETCH} | curl -s --data-binary @- -H 'Content-Type: image/png' 'HOST/v1/neighbours?k=3'",
    "/v2": "curl -s HOST/v2",
    "/v2/health/live": "curl -s HOST/v2/health/live",
    "/v2/health/ready": "curl -s HOST/v2/health/ready",
    "/v2/models/{name}": "curl -s HOST/v2/models/MODEL",
    "/v2/models/{name}/ready": "curl -s HOST/v2/models/MODEL/ready",
    "/v2/models/{name}/infer": f"""{_FETCH} | base64 -w0 |
  sed 's/.*/{{"inputs": [{{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["&"]}}]}}/' |
  curl -s -d @- -H 'Content-Type: application/json' HOST/v2/models/MODEL/infer""",
}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the shapes that it does not know of, and without the one that it supposes."""
    for path, methods in document["paths"].items():
        for told in methods.values():
            told["x-codeSamples"] = [{"lang": "Shell", "source": SAMPLES[path]}]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = shapes.Problem.model_json_schema()
    schemas["Inference"] = _INFERENCE
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"token": []}]
    return document
