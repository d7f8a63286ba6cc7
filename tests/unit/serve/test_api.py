"""``/v1`` over HTTP, on a real server of a stand-in bundle."""

from __future__ import annotations

import base64
import io
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import SHARED
from mirabelle.decode import DecodeOptions, decode
from mirabelle.errors import DecodeError
from mirabelle.serve.problems import STATUS_OF_REJECT
from stand_in_bundle import SELF_TEST, SIDE

from .conftest import Asked, Serve, Serving, picture, shares

RED, BLUE = (200, 100, 50), (10, 20, 240)
PNG = {"content-type": "image/png"}


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("picture", (f"{place}.png", content, "image/png")) for place, content in enumerate(contents)]


def test_one_picture_as_it_is(server: Asked) -> None:
    answer = server.client.post("/v1/predict", content=picture(RED), headers=PNG)
    assert answer.status_code == 200
    told = answer.json()
    assert told["model"] == server.model()
    assert told["request_id"] == answer.headers["x-request-id"]
    (one,) = told["pictures"]
    assert (one["name"], one["width_px"], one["height_px"]) == (None, 20, 10)
    assert (one["label"], one["sure"]) == ("red", True)
    assert {each["label"]: each["probability"] for each in one["probabilities"]} == pytest.approx(shares(RED), abs=1e-6)
    assert set(one["ms"]) == {"decode", "wait", "network"}
    assert "features" not in one
    assert "explanation" not in one


def test_several_pictures_of_a_form_in_order(server: Asked) -> None:
    told = server.client.post("/v1/predict?top=1&features=true", files=files(picture(RED), picture(BLUE))).json()
    assert [one["name"] for one in told["pictures"]] == ["0.png", "1.png"]
    assert [one["label"] for one in told["pictures"]] == ["red", "blue"]
    assert [len(one["probabilities"]) for one in told["pictures"]] == [1, 1]
    assert np.array([one["features"] for one in told["pictures"]]) == pytest.approx(np.array([RED, BLUE]), abs=1e-4)


def test_a_bad_picture_among_good_ones_fails_alone(server: Asked) -> None:
    before = server.metric("rejects_total", code="not_an_image")
    told = server.client.post("/v1/predict", files=files(picture(RED), b"<!doctype html>", picture(BLUE)))
    assert told.status_code == 200
    first, second, third = told.json()["pictures"]
    assert (first["label"], third["label"]) == ("red", "blue")
    assert second["rejected"]["code"] == "not_an_image"
    assert second["rejected"]["stage"] == "decode"
    assert server.metric("rejects_total", code="not_an_image") == before + 1


def test_nothing_but_bad_pictures_is_a_problem(server: Asked) -> None:
    answer = server.client.post("/v1/embed", files=files(picture()[:40], b""))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["code"] == "truncated"
    assert [one["rejected"]["code"] for one in told["pictures"]] == ["truncated", "empty"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "no_picture"),
        (b"no picture at all", 415, "not_an_image"),
        (picture()[:50], 422, "truncated"),
        (picture(size=(6000, 5000)), 413, "too_many_pixels"),
        (picture(size=(1, 1)).replace(b"IDAT", b"JDAT"), 422, "corrupt"),
    ],
)
def test_each_reject_has_its_status(server: Asked, content: bytes, status: int, code: str) -> None:
    answer = server.client.post("/v1/predict", content=content, headers=PNG)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    assert told["status"] == status
    assert told["type"] == f"/docs#{code}"
    assert told["request_id"] == answer.headers["x-request-id"]


def test_awkward_files_get_what_the_decoder_says(server: Asked) -> None:
    folder = SHARED / "data" / "awkward"
    if not folder.is_dir():
        pytest.skip("the awkward pictures (shared/data/awkward) are not on this machine")
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        answer = server.client.post("/v1/embed", files={"picture": (path.name, content)})
        try:
            wanted = decode(content, SIDE, DecodeOptions())
        except DecodeError as error:
            assert (answer.status_code, answer.json()["code"]) == (STATUS_OF_REJECT[error.code], error.code), path.name
            continue
        (one,) = answer.json()["pictures"]
        assert (one["width_px"], one["height_px"]) == (wanted.width_px, wanted.height_px), path.name
        assert one["features"] == pytest.approx(wanted.pixels.mean(axis=(0, 1)).tolist(), abs=1e-3), path.name


@pytest.mark.parametrize("query", ["top=0", "top=x", "top=1e3", "features=perhaps", "explain=2"])
def test_parameters_that_make_no_sense(server: Asked, query: str) -> None:
    answer = server.client.post(f"/v1/predict?{query}", content=picture(), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["in"] == f"query.{query.partition('=')[0]}"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/mixed; boundary=a", ""])
def test_other_kinds_of_content(server: Asked, kind: str) -> None:
    answer = server.client.post("/v1/predict", content=picture(), headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    encoded = server.client.post("/v1/predict", content=picture(), headers={**PNG, "content-encoding": "gzip"})
    assert encoded.status_code == 415


def test_what_it_looked_at_is_a_picture_of_the_inputs_size(stand_in: Serving) -> None:
    told = stand_in.client.post("/v1/predict?explain=true", content=picture((255, 255, 255)), headers=PNG).json()
    kind, _, encoded = told["pictures"][0]["explanation"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as heat:
        assert (heat.size, heat.mode, heat.getextrema()) == ((SIDE, SIDE), "L", (255, 255))
    too_many = stand_in.client.post("/v1/predict?explain=true", files=files(*[picture()] * 5))
    assert (too_many.status_code, too_many.json()["code"]) == (413, "too_many_pictures")


def test_neighbours(server: Asked) -> None:
    told = server.client.post("/v1/neighbours?k=2", content=picture(), headers=PNG).json()
    nearest, next_ = told["pictures"][0]["neighbours"]
    assert nearest == {
        "path": "red.png",
        "label": "red",
        "cosine": pytest.approx(1.0, abs=1e-6),
        "thumbnail": "data:image/png;base64,iVBORw==",
    }
    assert next_["cosine"] <= nearest["cosine"]


def test_neighbours_without_an_index(serve: Serve) -> None:
    without = serve(index=False).client.post("/v1/neighbours", content=picture(), headers=PNG)
    assert (without.status_code, without.json()["code"]) == (404, "no_index")
    assert "--index" in without.json()["detail"]


def test_a_picture_that_the_network_fails_on_fails_alone(stand_in: Serving) -> None:
    answer = stand_in.client.post("/v1/predict", files=files(picture(RED), picture((13, 13, 13))))
    good, bad = answer.json()["pictures"]
    assert good["label"] == "red"
    assert bad["rejected"] == {"code": "engine_failed", "stage": "embed", "detail": "poisoned"}
    alone = stand_in.client.post("/v1/predict", content=picture((13, 13, 13)), headers=PNG)
    assert (alone.status_code, alone.json()["code"]) == (500, "engine_failed")


def test_limits_of_a_request(serve: Serve) -> None:
    limited = serve("max_body_bytes=2000", "max_pictures=2")
    many = limited.client.post("/v1/predict", files=files(*[picture()] * 3))
    assert (many.status_code, many.json()["code"]) == (413, "too_many_pictures")
    large = limited.client.post("/v1/predict", content=b"x" * 2001, headers=PNG)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    chunked = limited.client.post("/v1/predict", content=iter([b"x" * 1500] * 2), headers=PNG)
    assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")
    # The connection is of use again.
    assert limited.client.post("/v1/predict", content=picture(), headers=PNG).status_code == 200
    assert limited.server.shared.held.bytes == 0


def ask_in_threads(one: Serving, count: int) -> list[httpx.Response]:
    answers: list[Any] = [None] * count

    def ask(place: int) -> None:
        answers[place] = httpx.post(f"{one.url}/v1/predict", content=picture(), headers=PNG, timeout=30)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_requests_that_come_together_share_batches(serve: Serve) -> None:
    one = serve(seconds=0.1)
    answers = ask_in_threads(one, 8)
    assert {answer.status_code for answer in answers} == {200}
    batches = one.bundles[0].batches[SELF_TEST:]
    assert sum(batches) == 8
    assert len(batches) <= 4
    assert one.metric("batch_pictures_count") == len(batches)


@pytest.mark.slow
def test_a_full_queue_says_when_to_come_again(serve: Serve) -> None:
    one = serve("queue=2", "max_batch=1", seconds=0.3)
    answers = ask_in_threads(one, 8)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 503
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["code"] == "busy"
    assert int(refused.headers["retry-after"]) >= 1
    assert one.server.shared.work.taken_in == 0
    assert one.client.post("/v1/predict", content=picture(), headers=PNG).status_code == 200


@pytest.mark.slow
def test_what_would_be_too_late_is_refused_at_once(serve: Serve) -> None:
    """As many as are answered within the deadline at the speed of late, whatever the queue would take in."""
    one = serve("deadline_seconds=2", "max_batch=1", seconds=0.5)
    assert one.client.post("/v1/predict", content=picture(), headers=PNG).status_code == 200
    answers = ask_in_threads(one, 12)
    refused = [answer for answer in answers if answer.status_code == 503]
    # The last one that was taken in is due just before the deadline, and may miss it.
    at_once = [answer for answer in refused if answer.json()["code"] == "busy"]
    assert len(at_once) >= 7 and len(refused) - len(at_once) <= 1 and len(refused) < 12
    assert max(answer.elapsed.total_seconds() for answer in at_once) < 2
    assert one.client.post("/v1/predict", content=picture(), headers=PNG).status_code == 200


@pytest.mark.slow
def test_a_deadline_that_passes(serve: Serve) -> None:
    one = serve("deadline_seconds=0.2", seconds=1.5)
    started = time.monotonic()
    answer = one.client.post("/v1/predict", content=picture(), headers=PNG)
    assert time.monotonic() - started < 1.4
    assert (answer.status_code, answer.json()["code"]) == (503, "deadline")
    assert one.server.shared.work.taken_in == 0


def test_bodies_that_are_held_have_a_limit_together(serve: Serve) -> None:
    one = serve("max_held_bytes=1000")
    answer = one.client.post("/v1/predict", content=b"x" * 1001, headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert one.server.shared.held.bytes == 0


def test_file_names_are_shown_and_never_opened(server: Asked, tmp_path: Path) -> None:
    for name, shown in (
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.png", "a.png"),
        ("..", None),
        ("a\r\nX-Evil: 1.png", "aX-Evil: 1.png"),
        ("x" * 300, "x" * 200),
    ):
        head = f'Content-Disposition: form-data; name="p"; filename="{name}"'.replace("\r\n", "%0D%0A")
        body = f"--b\r\n{head}\r\n\r\n".encode() + picture() + b"\r\n--b--\r\n"
        answer = server.client.post(
            "/v1/embed", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
        )
        told = answer.json()["pictures"][0]["name"]
        assert told == (shown.replace("aX-Evil", "a%0D%0AX-Evil") if shown else None)
