"""Pictures out of a request's body: one as it is, or several in a form. Pure: bytes in, bytes out.

The form's parser is our own: the body is there whole and within its limit, so that looking for the boundary is all
there is to it. It takes what RFC 7578 asks of clients, and passes over every byte once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirabelle.serve.problems import Code, Problem

# RFC 2046: up to 70 of these characters, and no space at the end.
_BOUNDARY = re.compile(
    r"""boundary=(?:"([0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?])"|([^\s";,]{1,70}))(?:\s*;|\s*$)""", re.I
)
_FILE_NAME = re.compile(r"""filename="((?:[^"\\]|\\.)*)"|filename=([^\s";]+)""", re.I)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_PART_HEAD_BYTES = 4096
MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Picture:
    """One picture of a request: its bytes, and the name it came with, for a person to know it by; never a path."""

    content: bytes
    name: str | None = None


def is_picture_type(content_type: str) -> bool:
    """Whether a body of this type is one picture as it is. What kind it is, its bytes tell."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("image/") or kind == "application/octet-stream"


def pictures_of(body: bytes, content_type: str, max_pictures: int) -> list[Picture]:
    """The pictures of a body, in order.

    Raises:
        Problem: the type is none that is read here, the form is broken, holds too many parts or none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if is_picture_type(content_type):
        if not body:
            raise Problem(400, Code.NO_PICTURE, "the body is empty; send a picture")
        return [Picture(body)]
    if kind != "multipart/form-data":
        raise Problem(
            415,
            Code.UNSUPPORTED_MEDIA_TYPE,
            "send a picture as image/jpeg (or another image/*), or several as multipart/form-data",
            {"Accept": "image/*, multipart/form-data"},
        )
    found = _BOUNDARY.search(content_type)
    if not found:
        raise Problem(400, Code.BAD_FORM, "the form's Content-Type has no boundary that is one")
    parts = _parts(body, (found[1] or found[2]).encode("latin-1", "replace"), max_pictures)
    if not parts:
        raise Problem(400, Code.NO_PICTURE, "the form holds no picture")
    return parts


def _parts(body: bytes, boundary: bytes, max_parts: int) -> list[Picture]:
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        # A preamble, which nobody sends; the delimiter then stands at the start of a line.
        start = body.find(b"\r\n" + delimiter)
        if start < 0:
            raise _broken("its boundary is not in it")
        body = body[start + 2 :]
    parts: list[Picture] = []
    at = len(delimiter)
    while not body.startswith(b"--", at):
        if len(parts) == max_parts:
            raise Problem(413, Code.TOO_MANY_PICTURES, f"a form may have {max_parts} parts")
        head_at = body.find(b"\n", at, at + 72) + 1
        if not head_at or body[at:head_at].strip(b" \t\r\n"):
            raise _broken("something follows its boundary on the same line")
        next_at = body.find(b"\r\n" + delimiter, head_at - 2)
        if next_at < 0:
            raise _broken("it ends before its last boundary")
        head_end = body.find(b"\r\n\r\n", head_at - 2, min(next_at + 2, head_at + MAX_PART_HEAD_BYTES))
        if head_end < 0:
            raise _broken("a part's head does not end, or is longer than 4,096 bytes")
        parts.append(_picture(body[head_at : max(head_at, head_end)], body[head_end + 4 : next_at]))
        at = next_at + 2 + len(delimiter)
    return parts


def _picture(head: bytes, content: bytes) -> Picture:
    fields = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        fields[key.strip().lower()] = value.strip()
    disposition = fields.get("content-disposition", "")
    if not disposition.lower().startswith("form-data"):
        raise _broken("a part has no Content-Disposition: form-data")
    name = _FILE_NAME.search(disposition)
    if not name and not is_picture_type(fields.get("content-type", "")):
        raise Problem(422, Code.BAD_FORM, "a part of the form is no file; options stand in the address: ?top=5")
    return Picture(content, shown_name(name[1] or name[2] or "") if name else None)


def shown_name(name: str) -> str | None:
    """A file's name as it is shown again: its last part, one line, not too long; None where nothing is left."""
    last = re.split(r"[/\\]", name.replace('\\"', '"'))[-1]
    clean = _UNPRINTABLE.sub("", last).strip()[:MAX_NAME_CHARACTERS]
    return clean if clean.strip(".") else None


def _broken(what: str) -> Problem:
    return Problem(400, Code.BAD_FORM, f"the form is broken: {what}")
