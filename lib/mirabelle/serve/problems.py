"""What goes wrong with a request, as RFC 9457 has it: one JSON document with a code, a sentence and the way out.

Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from starlette.responses import Response

from mirabelle.errors import ImageError, RejectCode

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """What a request can be refused for, beside the decoder's own codes: the ``code`` of a problem document."""

    BAD_REQUEST = "bad_request"
    BAD_FORM = "bad_form"
    BAD_JSON = "bad_json"
    BAD_TENSOR = "bad_tensor"
    INVALID = "invalid"
    NO_PICTURE = "no_picture"
    NOT_FOUND = "not_found"
    NO_INDEX = "no_index"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOKEN = "token"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_PICTURES = "too_many_pictures"
    HEADERS_TOO_LARGE = "headers_too_large"
    TOO_SLOW = "too_slow"
    RATE = "rate"
    BUSY = "busy"
    DEADLINE = "deadline"
    NOT_READY = "not_ready"
    INTERNAL = "internal"


TITLES = {
    400: "The request cannot be understood",
    401: "A token is needed",
    404: "There is nothing here",
    405: "Not with this method",
    408: "The request came too slowly",
    413: "The request is too large",
    415: "Not a kind of content that is read here",
    422: "The content cannot be used",
    429: "Too many requests",
    431: "The request's head is too large",
    500: "Something broke here",
    503: "The server cannot answer now",
}

# What a picture's reject means for a request that has no other.
STATUS_OF_REJECT = {
    RejectCode.EMPTY: 400,
    RejectCode.NOT_AN_IMAGE: 415,
    RejectCode.FORMAT_NOT_ALLOWED: 415,
    RejectCode.NO_DECODER: 415,
    RejectCode.TOO_MANY_BYTES: 413,
    RejectCode.TOO_MANY_PIXELS: 413,
    RejectCode.TRUNCATED: 422,
    RejectCode.CORRUPT: 422,
    RejectCode.NOT_FINITE: 422,
}


class ClientGone(Exception):
    """Whoever asked is no longer there; nothing can be answered."""


@dataclass
class Problem(Exception):
    """A request is refused.

    Attributes:
        status: of the answer.
        code: from ``Code``, or a reject code of ``errors``.
        detail: one sentence for a person; holds nothing of a picture's content, and no secret.
        headers: that go with the status, such as Retry-After.
        more: further members of the document.
    """

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.status, self.code, self.detail)


def busy(detail: str, seconds: int, code: Code = Code.BUSY) -> Problem:
    """503 with when to come again."""
    return Problem(503, code, detail, {"Retry-After": str(max(1, seconds))})


def of_reject(error: ImageError, more: Mapping[str, Any] | None = None) -> Problem:
    """A picture's reject as the answer to the whole request."""
    return Problem(STATUS_OF_REJECT.get(error.code, 500), error.code, str(error), more=more or {})


def document(problem: Problem, request_id: str) -> dict[str, Any]:
    """The document's members. ``error`` is where clients of the Open Inference Protocol look for a sentence."""
    return {
        "type": f"/docs#{problem.code}",
        "title": TITLES.get(problem.status, "Refused"),
        "status": problem.status,
        "detail": problem.detail,
        "code": str(problem.code),
        "request_id": request_id,
        "error": problem.detail,
        **problem.more,
    }


def response(problem: Problem, request_id: str) -> Response:
    """The answer that says so."""
    return Response(orjson.dumps(document(problem, request_id)), problem.status, dict(problem.headers), MEDIA_TYPE)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Parameters that are not as they should be; what was given is not repeated."""
    found = [{"in": ".".join(map(str, one["loc"])), "message": str(one["msg"])} for one in errors]
    sentence = "; ".join(f"{one['in']}: {one['message']}" for one in found)
    return Problem(422, Code.INVALID, sentence, more={"errors": found})
