"""conf/serve by what judges such files: Kubernetes's published schemas, and AWS's own model of ECS."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from conftest import REPOSITORY

SERVE = REPOSITORY / "conf" / "serve"
# The oldest and the newest that clouds have.
VERSIONS = ("1.31", "1.35")


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SERVE / "kubernetes.yaml").read_text()))


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="it is in the environment of make test-schedule")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(version: str) -> None:
    import kubernetes_validate

    found = [kubernetes_validate.validate(one, version, strict=True) for one in manifests()]
    assert len(found) == 5
    broken = manifests()[1]
    broken["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_the_pods_end_is_longer_than_the_servers() -> None:
    pod = manifests()[1]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    grace = 30  # the server's default
    assert float(told["MIRABELLE_SERVE_LINGER_SECONDS"]) + grace < pod["terminationGracePeriodSeconds"]
    task = json.loads((SERVE / "ecs-task.json").read_text())["containerDefinitions"][0]
    told = {one["name"]: one["value"] for one in task["environment"]}
    assert float(told["MIRABELLE_SERVE_LINGER_SECONDS"]) + grace < task["stopTimeout"]


def test_ecs_takes_the_task() -> None:
    told = json.loads((SERVE / "ecs-task.json").read_text())
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    report = ParamValidator().validate(told, shape)
    assert not report.has_errors(), report.generate_report()
    assert ParamValidator().validate({**told, "cpus": "1"}, shape).has_errors()
