"""A new bundle takes over only once it answers; what is wrong with it is told, and the one before goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

from mirabelle.errors import OutputError
from mirabelle.serve.current import self_test
from stand_in_bundle import StandIn, write_stand_in

from .conftest import Serve, Serving, picture

PNG = {"content-type": "image/png"}


def who(one: Serving) -> str:
    return str(one.client.post("/v1/predict", content=picture(), headers=PNG).json()["model"]["id"])


def until(one: Serving, wanted: str) -> None:
    end = time.monotonic() + 10
    while who(one) != wanted:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_bundle_is_opened_anew(serve: Serve, tmp_path: Path) -> None:
    one = serve()
    write_stand_in(tmp_path / "bundle", id_="two")
    assert who(one) == "one"
    assert one.call(one.server.shared.current.reload())
    assert who(one) == "two"
    assert one.metric("reloads_total", outcome="taken") == 1
    assert one.metric("bundle_info", id="two", fingerprint="f" * 64) == 1
    assert one.metric("bundle_info", id="one", fingerprint="f" * 64) == 0


@pytest.mark.parametrize("told", [{"id_": "bad", "broken": True}, {"unknown": 1}, None])
def test_a_bad_bundle_does_not_take_over(serve: Serve, tmp_path: Path, told: dict[str, object] | None) -> None:
    one = serve()
    if told is None:
        (tmp_path / "bundle" / "stand-in.json").unlink()
    else:
        write_stand_in(tmp_path / "bundle", **told)
    assert not one.call(one.server.shared.current.reload())
    assert who(one) == "one"
    assert one.metric("reloads_total", outcome="refused") == 1
    assert one.client.get("/health/ready").status_code == 200


def test_requests_that_were_taken_in_before_are_answered_by_the_one_before(serve: Serve, tmp_path: Path) -> None:
    import threading

    one = serve(seconds=0.3)
    write_stand_in(tmp_path / "bundle", id_="two")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(who(one)))
    asking.start()
    time.sleep(0.1)
    before = one.server.shared.current.served
    assert one.call(one.server.shared.current.reload())
    asking.join()
    assert answers == ["one"]
    assert who(one) == "two"
    assert before.is_retired
    assert before.users == 0


def point(pointer: Path, text: str) -> None:
    """Write a pointer whole or not at all, as a store does."""
    beside = pointer.with_suffix(".new")
    beside.write_text(text)
    beside.replace(pointer)


def test_a_pointer_is_watched(serve: Serve, tmp_path: Path) -> None:
    pointer = tmp_path / "current.json"
    for name in ("one", "two"):
        write_stand_in(tmp_path / name, id_=name)
    write_stand_in(tmp_path / "bad", id_="bad", broken=True)
    point(pointer, '{"bundle": "one"}')
    one = serve("watch_seconds=0.05", address=str(pointer))
    assert who(one) == "one"
    point(pointer, '{"bundle": "two"}')
    until(one, "two")
    for bad in ('{"bundle": "bad"}', '{"bundle": "../two"}', "no json", '{"bundle": "none"}'):
        point(pointer, bad)
        time.sleep(0.3)
        assert who(one) == "two"
    # Each is refused once, not at every look.
    assert one.metric("reloads_total", outcome="refused") == 4
    point(pointer, '{"bundle": "one"}')
    until(one, "one")
    # Mended under its name, it is taken when the pointer, which was put back meanwhile, names it again.
    point(pointer, '{"bundle": "bad"}')
    time.sleep(0.3)
    point(pointer, '{"bundle": "one"}')
    time.sleep(0.3)
    shutil.rmtree(tmp_path / "bad")
    write_stand_in(tmp_path / "bad", id_="bad")
    point(pointer, '{"bundle": "bad"}')
    until(one, "bad")


@pytest.mark.parametrize("named", ["../a", "/etc", "a/../../b", "s3://other/a", "..\\a", "", 5, None])
def test_a_pointer_leads_nowhere_else(serve: Serve, tmp_path: Path, named: object) -> None:
    write_stand_in(tmp_path / "one")
    pointer = tmp_path / "current.json"
    pointer.write_text(json.dumps({"bundle": "one"}))
    one = serve("watch_seconds=60", address=str(pointer))
    pointer.write_text(json.dumps({"bundle": named}))
    with pytest.raises(OutputError, match=r"current\.json"):
        one.server.shared.current.target()


def test_the_self_test_asks_for_numbers_sizes_and_probabilities() -> None:
    self_test(StandIn(), 2)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="probability"):
        self_test(StandIn(broken=True), 2)  # type: ignore[arg-type]

    class Forgetful(StandIn):
        def infer(self, pixels, half=None):  # type: ignore[no-untyped-def]
            found = super().infer(pixels, half)
            return dataclasses.replace(found, probabilities=found.probabilities[:, :2])

    with pytest.raises(OutputError, match="probability"):
        self_test(Forgetful(), 2)  # type: ignore[arg-type]
