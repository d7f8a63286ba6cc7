"""Pictures out of bodies, held against another's writer of forms."""

from __future__ import annotations

import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.serve.forms import pictures_of, shown_name
from mirabelle.serve.problems import Problem

HEAD = b'Content-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
B = "multipart/form-data; boundary=b"


def form(parts: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A form as httpx writes it."""
    files = [("picture", (name, content, "image/png")) for name, content in parts]
    request = httpx.Request("POST", "http://a", files=files)
    return request.read(), request.headers["content-type"]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_what_another_writes_is_read_as_it_was(contents: list[bytes]) -> None:
    body, kind = form([(f"{place}.png", content) for place, content in enumerate(contents)])
    found = pictures_of(body, kind, 5)
    assert [one.content for one in found] == contents
    assert [one.name for one in found] == [f"{place}.png" for place in range(len(contents))]


@given(st.binary(max_size=300))
def test_a_single_picture_is_the_body(body: bytes) -> None:
    if body:
        assert [one.content for one in pictures_of(body, "image/jpeg; q=1", 1)] == [body]


PIECES = [b"--b", b"\r\n", b"\r\n--b", b"--", HEAD, b"Content-Disposition", b": form-data", b'filename="', b"x", b"\0"]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=30).map(b"".join))
def test_nothing_but_a_problem_comes_of_a_broken_form(body: bytes) -> None:
    try:
        found = pictures_of(body, B, 3)
    except Problem as problem:
        assert problem.status in (400, 413, 422)
    else:
        assert 1 <= len(found) <= 3


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_form"),
        (b"--b--\r\n", 400, "no_picture"),
        (b"--b\r\n" + HEAD + b"x", 400, "bad_form"),
        (b"--b\r\n" + HEAD + b"x\r\n--c--", 400, "bad_form"),
        (b"--b and more\r\n" + HEAD + b"x\r\n--b--", 400, "bad_form"),
        (b"--b\r\n\r\nx\r\n--b--", 400, "bad_form"),
        (b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--", 400, "bad_form"),
        (b"--b\r\nX: " + b"a" * 5000 + b"\r\n" + HEAD + b"x\r\n--b--", 400, "bad_form"),
        (b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n5\r\n--b--', 422, "bad_form"),
        ((b"--b\r\n" + HEAD + b"x\r\n") * 4 + b"--b--", 413, "too_many_pictures"),
    ],
)
def test_forms_that_are_refused(body: bytes, status: int, code: str) -> None:
    with pytest.raises(Problem) as refused:
        pictures_of(body, B, 3)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_what_the_standard_lets_clients_do() -> None:
    body = b"a preamble\r\n--b \t\r\n" + HEAD + b"x\r\n--c\r\n--b\r\n" + HEAD + b"\r\n--b--\r\nan epilogue"
    assert [one.content for one in pictures_of(body, 'multipart/form-data; boundary="b"; charset=utf-8', 3)] == [
        b"x\r\n--c",
        b"",
    ]
    # No name, but a kind; and a preamble that looks like the start.
    typed = b"--b\r\nContent-Disposition: form-data; name=a\r\ncontent-TYPE: image/png\r\n\r\nx\r\n--b--"
    assert [(one.name, one.content) for one in pictures_of(typed, B, 3)] == [(None, b"x")]


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="']
)
def test_forms_without_a_boundary(kind: str) -> None:
    with pytest.raises(Problem, match="boundary"):
        pictures_of(b"--b\r\n", kind, 3)


@pytest.mark.parametrize("filler", [b"\r\n--", b"\r\n--b-", b"\r\n\r\n", b"--b\r\n", b"\r"])
def test_time_grows_with_the_size_alone(filler: bytes) -> None:
    hostile = b"--b\r\n" + HEAD + filler * (4 * 2**20 // len(filler))
    started = time.perf_counter()
    with pytest.raises(Problem):
        pictures_of(hostile, B, 1000)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.png", "b.png"),
        ("..", None),
        (" ", None),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\r\nb\0", "ab"),
        ("Zürich 東京.jpg", "Zürich 東京.jpg"),
        ("x" * 999, "x" * 200),
    ],
)
def test_names_as_they_are_shown(name: str, shown: str | None) -> None:
    assert shown_name(name) == shown
