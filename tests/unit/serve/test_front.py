"""What every request passes: its id, tokens, rates, headers, the log."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from mirabelle.serve.asking import Rates, Tokens
from mirabelle.serve.logs import told
from mirabelle.serve.problems import Problem

from .conftest import Asked, Serve, Serving, picture

PNG = {"content-type": "image/png"}
TOKEN = "right-0123456789abcdef"


@pytest.mark.parametrize("path", ["/", "/docs", "/health/live", "/v2/health/ready", "/nowhere", "/v1/predict"])
def test_every_answer_has_the_headers_that_browsers_need(server: Asked, path: str) -> None:
    headers = server.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "server" not in headers


def test_a_requests_id_is_its_clients_where_that_is_one(server: Asked) -> None:
    assert server.client.get("/", headers={"x-request-id": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    for bad in ("a b", "x" * 65, '"', ""):
        told = server.client.get("/", headers={"x-request-id": bad}).headers["x-request-id"]
        assert len(told) == 32


def test_addresses_and_methods_that_are_not_there(server: Asked) -> None:
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/static/../secret", 404, "not_found"),
        ("GET", "/static/%2e%2e%2fapp.py", 404, "not_found"),
        ("GET", "/static/app.py", 404, "not_found"),
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("DELETE", "/", 405, "method_not_allowed"),
    ):
        answer = server.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer " + "a" * 12_000,
    ],
    ids=lambda it: str(it)[:24],
)
def test_without_the_right_token_nothing_is_answered(guarded: Serving, authorization: str | None) -> None:
    headers = PNG if authorization is None else {**PNG, "authorization": authorization}
    for path in ("/v1/predict", "/v1/embed", "/v2/models/colours/infer"):
        answer = guarded.client.post(path, content=picture(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text
    for path in ("/metrics", "/v2", "/v2/models/colours", "/nowhere"):
        assert guarded.client.get(path, headers=headers).status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/static/page.js", "/health/live", "/health/ready", "/v2/health/ready"):
        assert guarded.client.get(path, headers=headers).status_code == 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> object:
    from .conftest import serving

    with serving(tmp_path_factory.mktemp("guarded"), tokens=f"another-0123456789abcd,{TOKEN}") as one:
        yield one


def test_with_a_right_token_all_is_answered(guarded: Serving) -> None:
    for token in (TOKEN, "another-0123456789abcd"):
        headers = {**PNG, "authorization": f"Bearer {token}"}
        assert guarded.client.post("/v1/predict", content=picture(), headers=headers).status_code == 200
    assert guarded.client.get("/metrics", headers=headers).status_code == 200


def test_tokens_are_kept_as_digests_alone() -> None:
    tokens = Tokens([TOKEN])
    assert TOKEN not in repr(vars(tokens))
    assert tokens.check(f"bearer {TOKEN}".encode()) == "token 0"
    assert Tokens([]).check(None) is None


def test_a_rate_lets_a_burst_through_and_then_so_many_a_second() -> None:
    now = [0.0]
    rates = Rates(2.0, 3, lambda: now[0])
    for _ in range(3):
        rates.check("a")
    with pytest.raises(Problem) as refused:
        rates.check("a")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    rates.check("b")
    now[0] = 0.5
    rates.check("a")
    with pytest.raises(Problem):
        rates.check("a")
    now[0] = 1000.0
    for _ in range(3):
        rates.check("a")
    with pytest.raises(Problem):
        rates.check("a")


def test_a_rate_remembers_so_many_clients_and_no_more() -> None:
    rates = Rates(1.0, 1, lambda: 0.0)
    for number in range(20_000):
        rates.check(str(number))
    assert len(rates._left) == 10_000


def test_a_client_that_asks_too_often(serve: Serve) -> None:
    one = serve("rate=0.5", "burst=2")
    answers = [one.client.post("/v1/predict", content=picture(), headers=PNG) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate"
    assert int(answers[2].headers["retry-after"]) in (1, 2)
    # Probes are not counted.
    assert {one.client.get("/health/live").status_code for _ in range(5)} == {200}


def logged(caplog: pytest.LogCaptureFixture, event: str, count: int) -> list[dict[str, Any]]:
    """So many lines of the log; the last is written when its answer has gone out."""
    end = time.monotonic() + 10
    while True:
        found = [record.fields for record in caplog.records if record.getMessage() == event]
        if len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.01)


def test_the_log_has_each_request_and_nothing_of_anyones(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mirabelle.serve")
    one = serve(tokens=TOKEN)
    content = picture((1, 2, 3))
    headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "this-one"}
    form = {"picture": ("my secret holiday.png", content)}
    one.client.post("/v1/predict?top=2&who=me", files={**form, "other": ("b", b"no")}, headers=headers)
    one.client.post("/v1/predict", files=form, headers={"authorization": "Bearer wrong-0123456789abcdef"})
    good, refused = logged(caplog, "request", 2)
    assert good == {
        "request_id": "this-one",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "ms": good["ms"],
        "pictures": 2,
        "rejects": ["not_an_image"],
    }
    assert (refused["status"], refused["code"]) == (401, "token")
    everything = "".join(f"{record.__dict__}" for record in caplog.records)
    for hidden in (TOKEN, "wrong-0123", "holiday", "who=me", "127.0.0.1", content[10:30].hex()):
        assert hidden not in everything


def test_metrics_keep_no_method_that_a_client_made_up(serve: Serve) -> None:
    one = serve()
    assert one.client.request("MADEUP", "/health/live").status_code == 405
    text = one.client.get("/metrics").text
    assert "MADEUP" not in text and 'method="any"' in text


def test_metrics_are_what_was_asked(serve: Serve) -> None:
    one = serve()
    for _ in range(3):
        one.client.post("/v1/predict", content=picture(), headers=PNG)
    one.client.post("/v1/predict", content=b"no picture", headers=PNG)
    for number in range(5):
        one.client.get(f"/{number}")
    text = one.client.get("/metrics").text
    for line in (
        'mirabelle_requests_total{method="POST",route="/v1/predict",status="200"} 3.0',
        'mirabelle_requests_total{method="POST",route="/v1/predict",status="415"} 1.0',
        'mirabelle_requests_total{method="any",route="other",status="404"} 5.0',
        'mirabelle_rejects_total{code="not_an_image"} 1.0',
        'mirabelle_request_seconds_count{route="/v1/predict"} 4.0',
        "mirabelle_batch_pictures_count 3.0",
        "mirabelle_queue_pictures 0.0",
        "mirabelle_queue_limit_pictures 256.0",
        'mirabelle_part_seconds_count{part="decode"} 3.0',
        'mirabelle_part_seconds_count{part="network"} 3.0',
    ):
        assert line in text.splitlines(), line


def test_what_breaks_is_told_without_the_bytes_that_broke_it() -> None:
    try:
        raise ValueError(f"cannot read {b'secret' * 3!r} there")
    except ValueError as error:
        line = told(error, error.__traceback__)
    assert (line["error"], line["detail"]) == ("ValueError", "cannot read b...")
    assert line["where"][0].startswith("test_front.py:")


def test_what_nobody_foresaw_is_500_and_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    one = serve()

    def breaks(*_: object) -> None:
        raise KeyError("unforeseen")

    one.bundles[0].answer = breaks  # type: ignore[assignment,method-assign]
    answer = one.client.post("/v1/predict", content=picture(), headers={**PNG, "x-request-id": "that-one"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "unforeseen" not in answer.text
    (line,) = logged(caplog, "failed", 1)
    assert (line["request_id"], line["error"]) == ("that-one", "KeyError")
    assert one.client.get("/health/ready").status_code == 200
