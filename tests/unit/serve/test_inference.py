"""``/v2``, by the protocol and by a published client of it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.serve.problems import Problem
from mirabelle.serve.tensors import parse
from stand_in_bundle import SIDE

from .conftest import Asked, picture, shares

RED, BLUE = (200, 100, 50), (10, 20, 240)
INFER = "/v2/models/colours/infer"


def encoded(*contents: bytes) -> dict[str, Any]:
    data = [base64.b64encode(content).decode() for content in contents]
    return {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}


def pixels(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours])


def test_what_the_server_says_of_itself(server: Asked) -> None:
    assert server.client.get("/v2").json()["name"] == "mirabelle"
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    told = server.client.get("/v2/models/colours").json()
    assert [one["name"] for one in told["inputs"]] == ["image", "pixels"]
    assert {one["name"]: one["shape"] for one in told["outputs"]} == {
        "probabilities": [-1, 3],
        "label": [-1],
        "given": [-1],
        "features": [-1, 3],
        "reduced": [-1, 3],
    }
    assert told["parameters"]["labels"] == ["red", "green", "blue"]
    assert server.client.get("/v2/models/colours/versions/1/ready").json() == {"name": "colours", "ready": True}
    for path in ("/v2/models/other", "/v2/models/colours/versions/2", "/v2/models/other/ready"):
        assert server.client.get(path).status_code == 404


def test_pictures_in_base64(server: Asked) -> None:
    body = {"id": "42", "inputs": [encoded(picture(RED), picture(BLUE))]}
    told = server.client.post(INFER, json=body).json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("colours", "1", "42")
    outputs = {one["name"]: one for one in told["outputs"]}
    assert outputs["label"] == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["red", "blue"]}
    assert outputs["probabilities"]["shape"] == [2, 3]
    found = np.array(outputs["probabilities"]["data"]).reshape(2, 3)
    assert found == pytest.approx(np.array([list(shares(RED).values()), list(shares(BLUE).values())]), abs=1e-6)


def test_pixels_in_json_and_outputs_that_are_asked_for(server: Asked) -> None:
    one = {"name": "pixels", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8", "data": pixels(RED).tolist()}
    body = {"inputs": [one], "outputs": [{"name": "features"}]}
    told = server.client.post(INFER, json=body).json()
    (output,) = told["outputs"]
    assert (output["name"], output["shape"]) == ("features", [1, 3])
    assert output["data"] == pytest.approx(list(RED), abs=1e-4)
    flat = {**one, "data": pixels(RED).reshape(-1).tolist()}
    assert server.client.post(INFER, json={**body, "inputs": [flat]}).json()["outputs"] == told["outputs"]


@pytest.mark.parametrize("binary", [True, False])
def test_a_published_client(server: Asked, binary: bool) -> None:
    triton = pytest.importorskip("tritonclient.http")
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("colours")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert client.get_model_metadata("colours")["platform"] == "mirabelle_openvino"
        values = pixels(RED, BLUE)
        given = triton.InferInput("pixels", list(values.shape), "UINT8")
        given.set_data_from_numpy(values, binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "label")]
        found = client.infer("colours", [given], outputs=wanted, request_id="7")
        assert found.get_response()["id"] == "7"
        assert found.as_numpy("probabilities")[1].tolist() == pytest.approx(list(shares(BLUE).values()), abs=1e-6)
        assert [bytes(one) if binary else one.encode() for one in found.as_numpy("label")] == [b"red", b"blue"]
        if binary:
            content = triton.InferInput("image", [1], "BYTES")
            content.set_data_from_numpy(np.array([picture(BLUE)], dtype=object))
            found = client.infer("colours", [content])
            assert found.as_numpy("features")[0].tolist() == pytest.approx(list(BLUE), abs=1e-4)
        with pytest.raises(
            triton.InferenceServerException if hasattr(triton, "InferenceServerException") else Exception
        ) as no:
            client.infer("colours", [given], outputs=[triton.InferRequestedOutput("depth")])
        assert "there is no such output" in str(no.value)


@pytest.mark.parametrize("binary", [True, False])
def test_the_client_of_kserve(server: Asked, binary: bool) -> None:
    # Of some seventy packages, which no lock of ours has: pip install kserve==0.21.0 beside ours, to run it.
    kserve = pytest.importorskip("kserve")
    from kserve.protocol.infer_type import RequestedOutput

    async def ask() -> None:
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        assert await client.is_server_live(server.url) and await client.is_server_ready(server.url)
        assert await client.is_model_ready(server.url, "colours")
        values = pixels(RED, BLUE)
        given = kserve.InferInput("pixels", list(values.shape), "UINT8")
        given.set_data_from_numpy(values, binary_data=binary)
        wanted = [RequestedOutput(name, {"binary_data": binary}) for name in ("probabilities", "label")]
        request = kserve.InferRequest("colours", [given], request_id="7", request_outputs=wanted)
        found = await client.infer(server.url, request, model_name="colours")
        outputs = {one.name: one.as_numpy().tolist() for one in found.outputs}
        assert (found.id, outputs["label"]) == ("7", ["red", "blue"])
        assert outputs["probabilities"][1] == pytest.approx(list(shares(BLUE).values()), abs=1e-6)
        await client.close()

    asyncio.run(ask())


def test_a_bad_picture_fails_the_request_and_is_named(server: Asked) -> None:
    answer = server.client.post(INFER, json={"inputs": [encoded(picture(), b"no picture")]})
    told = answer.json()
    assert (answer.status_code, told["code"], told["picture"]) == (415, "not_an_image", 1)
    assert "picture 1" in told["error"]


def wrong_bodies() -> list[Any]:
    good = encoded(picture())
    return [
        [],
        "x",
        {},
        {"inputs": []},
        {"inputs": [good, good]},
        {"inputs": [{**good, "name": "depth"}]},
        {"inputs": [{**good, "datatype": "FP32"}]},
        {"inputs": [{**good, "shape": [2]}]},
        {"inputs": [{**good, "shape": [0]}]},
        {"inputs": [{**good, "shape": [True]}]},
        {"inputs": [{**good, "shape": [1.0]}]},
        {"inputs": [{**good, "shape": [1] * 9}]},
        {"inputs": [{**good, "data": "x"}]},
        {"inputs": [{**good, "data": ["not base64!"]}]},
        {"inputs": [{**good, "data": [5]}]},
        {"inputs": [{**good, "parameters": []}]},
        {"inputs": [{**good, "parameters": {"binary_data_size": 3}}]},
        {"inputs": [good], "outputs": [{"name": "depth"}]},
        {"inputs": [good], "outputs": ["label"]},
        {"inputs": [good], "id": 5},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}]},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [256] * 192}]},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [-1] * 192}]},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0.5] * 192}]},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [[0], [0, 1]]}]},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [10**30] * 192}]},
    ]


@pytest.mark.parametrize("body", wrong_bodies(), ids=str)
def test_bodies_that_make_no_sense(server: Asked, body: Any) -> None:
    answer = server.client.post(INFER, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": NaN}', b"1e999"])
def test_bodies_that_are_no_json(server: Asked, body: bytes) -> None:
    answer = server.client.post(INFER, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] in ("bad_json", "bad_tensor")


def test_too_many_pictures(server: Asked) -> None:
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [10**12], "data": []}]}
    assert server.client.post(INFER, json=body).status_code == 413


def test_what_is_too_much_for_its_shape_is_not_looked_at() -> None:
    pixel = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 1]}
    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    # As an array of strings it would take 1.6 GB.
    for one in ({**pixel, "data": ["a" * 20_000, *[""] * 20_000]}, {**image, "data": [""] * 1_000_000}):
        with pytest.raises(Problem) as refused:
            parse(json.dumps({"inputs": [one]}).encode(), None, 4)
        assert refused.value.status == 400
    zeros = bytes(2**22)
    head = json.dumps({"inputs": [{**image, "parameters": {"binary_data_size": len(zeros)}}]}).encode()
    with pytest.raises(Problem, match="has 1 elements, and there are more"):
        parse(head + zeros, str(len(head)), 4)


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1.0", "", "\u0664"])
def test_a_length_of_the_head_that_is_none(length: str) -> None:
    with pytest.raises(Problem, match="is no length"):
        parse(b"{}", length, 4)


def test_pixels_deeper_than_their_shape() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    body = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1], "data": deep}]}
    with pytest.raises(Problem, match="whole numbers"):
        parse(json.dumps(body).encode(), None, 4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["image", "pixels"]) | JSON,
        "datatype": st.sampled_from(["BYTES", "UINT8"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=5) | JSON,
        "data": st.lists(st.integers(-1, 256) | st.text(max_size=4), max_size=6) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20) | JSON}) | JSON,
    },
)


@given(
    st.fixed_dictionaries({"inputs": st.lists(INPUT, max_size=2) | JSON}, optional={"outputs": JSON, "id": JSON}),
    st.binary(max_size=20),
    st.integers(-2, 400),
)
def test_nothing_but_a_problem_comes_of_any_body(told: Any, behind: bytes, length: int) -> None:
    content = json.dumps(told).encode()
    for header in (None, str(len(content)), str(length)):
        try:
            parse(content + behind, header, 4)
        except Problem as problem:
            assert problem.status in (400, 413)
