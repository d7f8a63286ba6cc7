"""The OpenAPI document: what it says holds, its examples work, and what is made up by it breaks nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from conftest import REPOSITORY
from mirabelle.errors import RejectCode
from mirabelle.serve.documenting import CODES
from mirabelle.serve.problems import STATUS_OF_REJECT, Code

from .conftest import Asked, picture

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def document(server: Asked) -> Any:
    return server.client.get("/openapi.json").json()


def test_every_address_of_the_api_is_in_it(document: Any) -> None:
    assert set(document["paths"]) == {
        *("/v1/predict", "/v1/embed", "/v1/neighbours", "/v2", "/v2/health/live", "/v2/health/ready"),
        *("/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer"),
    }


@pytest.mark.parametrize("path", ["/v1/predict?features=true&explain=true", "/v1/embed", "/v1/neighbours"])
def test_answers_have_the_shape_that_it_says(server: Asked, document: Any, path: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    answers = document["paths"][path.partition("?")[0]]["post"]["responses"]
    files = [("a", ("a.png", picture(), "image/png")), ("b", ("b.png", b"none", "image/png"))]
    for sent in ({"content": picture(), "headers": PNG}, {"files": files}, {"content": b"none", "headers": PNG}):
        answer = server.client.post(path, **sent)  # type: ignore[arg-type]
        content = answers[str(answer.status_code)]["content"][answer.headers["content-type"]]
        jsonschema.validate(answer.json(), {**content["schema"], "components": document["components"]})


def test_its_examples_work_as_they_stand(server: Asked, document: Any) -> None:
    for path, methods in document["paths"].items():
        for told in methods.values():
            (sample,) = told["x-codeSamples"]
            line = sample["source"].replace("HOST", server.url).replace("MODEL", "colours")
            said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
            assert json.loads(said).keys() & {"model", "model_name", "name", "live", "ready"}, (path, said)
    example = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert server.client.post("/v2/models/colours/infer", json=example["example"]).status_code == 200


def test_every_code_is_explained_where_a_problem_says_it_is(server: Asked) -> None:
    page = server.client.get("/docs").text
    explained = set(re.findall(r'<tr id="([a-z_]+)"', page))
    assert explained >= {str(code) for code in Code} | {str(code) for code in STATUS_OF_REJECT}
    assert all(CODES[code][0] == status for code, status in STATUS_OF_REJECT.items())
    assert RejectCode.ENGINE_FAILED in explained
    problem = server.client.get("/nowhere").json()
    assert problem["type"].partition("#")[2] in explained


def test_the_documentation_repeats_nothing_as_markup(server: Asked) -> None:
    page = server.client.get("/docs", headers={"host": 'a"><script>alert(1)</script>'})
    assert page.status_code in (200, 400)
    assert "<script" not in page.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_made_up_by_it_breaks_nothing(server: Asked, document: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

    # Made-up bytes are no picture, whatever the document says of them; and of methods test_front knows.
    excluded = [positive_data_acceptance, unsupported_method]
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    seen: set[int] = set()

    def ask(made_up: Any) -> None:
        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=made_up)
        def each(case: Any) -> None:
            answer = case.call()
            seen.add(answer.status_code)
            case.validate_response(answer, excluded_checks=excluded)

        each()

    for result in schema.get_all_operations():
        operation = result.ok()
        ask(operation.as_strategy())
        with suppress(Unsatisfiable):  # where nothing can be wrong
            ask(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    assert 200 in seen
    assert server.client.post("/v1/predict", content=picture(), headers=PNG).status_code == 200


@pytest.mark.slow
def test_a_fuzzer_finds_nothing(server: Asked) -> None:
    """Some hundred requests of the ten thousand that scripts/fuzz_server.py asks by itself."""
    script = str(REPOSITORY / "scripts" / "fuzz_server.py")
    command = [sys.executable, script, "--port", str(server.port), "--requests", "400", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good requests are answered at the end" in done.stdout
    assert server.metric("queue_pictures") == 0
    assert server.metric("held_bytes") == 0
