"""What the OpenAPI document says that FastAPI cannot see: bodies that are read by ours, problems, examples. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mirabelle.serve import problems, shapes
from mirabelle.serve.example import example_inference
from mirabelle.serve.problems import TITLES

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


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the shapes that it does not know of, and without the one that it supposes."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = shapes.Problem.model_json_schema()
    schemas["Inference"] = _INFERENCE
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"token": []}]
    return document
