"""Tensors as the Open Inference Protocol v2 has them: JSON, and bytes behind it. Pure.

The protocol is KServe's, with Triton's extension for binary data: tensors behind the JSON, whose length a header tells,
strings with four bytes of length before each.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import orjson

from mirabelle.serve.problems import Code, Problem

LENGTH_HEADER = "inference-header-content-length"
ENCODED, PIXELS = "image", "pixels"
"""The inputs: pictures as files (BYTES), or as the network takes them (UINT8). One of them at a time."""
MOST_LENGTHS = 4  # of a shape: pictures, rows, columns, colours

Members = dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """One input: ``content`` is a list of files' bytes for ``image``, and a flat uint8 array for ``pixels``."""

    name: str
    shape: tuple[int, ...]
    content: Any


@dataclass(frozen=True)
class Inference:
    """What is asked: one input, which outputs, and which of them are wanted in binary."""

    id: str | None
    tensor: Tensor
    outputs: tuple[str, ...] | None
    binary: frozenset[str]
    is_binary: bool

    def in_binary(self, name: str) -> bool:
        """Whether an output is wanted as bytes behind the JSON."""
        return self.is_binary or name in self.binary


def wrong(what: str) -> Problem:
    """400: a tensor is not as it should be."""
    return Problem(400, Code.BAD_TENSOR, what)


def parse(body: bytes, header_length: str | None, max_pictures: int) -> Inference:
    """A request's body; raises ``Problem`` 400 where it is none of the protocol's."""
    # Of thousands of digits Python makes no number, but an error of its own.
    if header_length is not None and re.fullmatch("[0-9]{1,19}", header_length) is None:
        raise wrong("Inference-Header-Content-Length is no length")
    length = len(body) if header_length is None else int(header_length)
    if length > len(body):
        raise wrong("Inference-Header-Content-Length says more than the body has")
    try:
        told = orjson.loads(body[:length])
    except orjson.JSONDecodeError as error:
        raise Problem(400, Code.BAD_JSON, f"the body is no JSON: {error.msg} at {error.pos}") from error
    if not isinstance(told, dict):
        raise wrong("the body is no JSON object")
    inputs = told.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise wrong(f"give one input: {ENCODED!r} (BYTES) or {PIXELS!r} (UINT8)")
    id_ = told.get("id")
    if id_ is not None and not isinstance(id_, str):
        raise wrong("id is no string")
    tensor = _tensor(inputs[0], body[length:], max_pictures)
    outputs, binary = _wanted(told.get("outputs"))
    return Inference(id_, tensor, outputs, binary, _parameters(told).get("binary_data_output") is True)


def _parameters(told: Members) -> Members:
    found = told.get("parameters")
    if found is not None and not isinstance(found, dict):
        raise wrong("parameters are no object")
    return found or {}


def _wanted(outputs: Any) -> tuple[tuple[str, ...] | None, frozenset[str]]:
    if outputs is None or outputs == []:
        return None, frozenset()
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise wrong("outputs are no list of objects")
    names = [one.get("name") for one in outputs]
    if not all(isinstance(name, str) for name in names):
        raise wrong("an output has no name")
    binary = [one["name"] for one in outputs if _parameters(one).get("binary_data") is True]
    return tuple(dict.fromkeys(names)), frozenset(binary)


def _tensor(told: Members, behind: bytes, max_pictures: int) -> Tensor:
    name, datatype = told.get("name"), told.get("datatype")
    if (name, datatype) not in ((ENCODED, "BYTES"), (PIXELS, "UINT8")):
        raise wrong(f"give one input: {ENCODED!r} (BYTES) or {PIXELS!r} (UINT8)")
    is_encoded = name == ENCODED
    shape = _shape(told.get("shape"), max_pictures)
    if is_encoded and (len(shape) > 2 or math.prod(shape) != shape[0]):
        raise wrong(f"{ENCODED!r} has the shape [n], a picture each")
    count, size = math.prod(shape), _parameters(told).get("binary_data_size")
    if size is None and not behind:
        content = _from_json(told.get("data"), is_encoded, count)
    elif type(size) is int and size == len(behind) and "data" not in told:
        content = _strings(behind, count) if is_encoded else np.frombuffer(behind, np.uint8)
    else:
        raise wrong("binary_data_size is not the number of bytes behind the JSON")
    if len(content) != count:
        raise wrong(f"the shape {list(shape)} has {count:,} elements, and there are {_number(len(content), count)}")
    return Tensor(ENCODED if is_encoded else PIXELS, shape, content)


def _shape(told: Any, max_pictures: int) -> tuple[int, ...]:
    # A bool is an int to Python, and no length.
    if (
        not isinstance(told, list)
        or not 0 < len(told) <= MOST_LENGTHS
        or not all(type(one) is int and one > 0 for one in told)
    ):
        raise wrong("shape is no list of up to four lengths")
    if told[0] > max_pictures:
        raise Problem(413, Code.TOO_MANY_PICTURES, f"a request may have {max_pictures} pictures")
    return tuple(told)


def _number(found: int, count: int) -> str:
    return f"{found:,}" if found <= count else "more"


def _from_json(data: Any, is_encoded: bool, count: int) -> Any:
    if not isinstance(data, list):
        raise wrong("data is no list")
    # One more tells that there are too many; the rest is not looked at.
    found = list(islice(_flat(data), count + 1))
    if is_encoded:
        return [_decoded(one) for one in found]
    # NumPy would make room for the longest string a million times.
    if not all(type(one) is int and 0 <= one <= 255 for one in found):
        raise wrong("data has something else than whole numbers from 0 to 255")
    return np.array(found, np.uint8)


def _flat(data: list[Any], depth: int = MOST_LENGTHS) -> Iterator[Any]:
    for one in data:
        if isinstance(one, list) and depth > 1:
            yield from _flat(one, depth - 1)
        else:
            yield one


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise wrong("data has something else than pictures in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong("data has something else than pictures in base64") from error


def _strings(behind: bytes, count: int) -> list[bytes]:
    """Those behind the JSON; one more than wanted tells that there are too many."""
    found: list[bytes] = []
    at = 0
    while at < len(behind) and len(found) <= count:
        end = at + 4 + int.from_bytes(behind[at : at + 4], "little")
        if at + 4 > len(behind) or end > len(behind):
            raise wrong("the bytes behind the JSON end within a string")
        found.append(behind[at + 4 : end])
        at = end
    return found


def render(model: Members, inference: Inference, outputs: Sequence[tuple[str, str, Any]]) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON where bytes follow that.

    Args:
        model: members that name the model.
        inference: what was asked.
        outputs: name, datatype, and a float32 array, or a list of strings.
    """
    told, behind = [], []
    for name, datatype, values in outputs:
        shape = [len(values)] if datatype == "BYTES" else list(values.shape)
        one: Members = {"name": name, "datatype": datatype, "shape": shape}
        if inference.in_binary(name):
            content = _packed(values) if datatype == "BYTES" else np.ascontiguousarray(values, "<f4").tobytes()
            one["parameters"] = {"binary_data_size": len(content)}
            behind.append(content)
        else:
            one["data"] = list(values) if datatype == "BYTES" else np.ascontiguousarray(values).reshape(-1)
        told.append(one)
    head = {**model, **({} if inference.id is None else {"id": inference.id}), "outputs": told}
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    return text + b"".join(behind), len(text) if behind else None


def _packed(strings: Sequence[str]) -> bytes:
    return b"".join(len(one).to_bytes(4, "little") + one for one in (text.encode() for text in strings))
