"""The pages on AWS: their commands, copied out of them, with the shipped configuration, to the fake of the services."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from conftest import REPOSITORY, SMALL, draw
from documents import commands
from fake_aws import Fake, mistakes, serving
from mirabelle.cli import main
from mirabelle.cluster.environment import Wanted, archive_path, write_archive
from mirabelle.cluster.packing import find_checkout
from mirabelle.storage import open_store
from object_store import Server

PAGES = [
    "README.md",
    "docs/notebook.md",
    "docs/cluster/emr.md",
    "docs/cluster/emr-serverless.md",
    "docs/cluster/eks.md",
    "docs/cluster/arm.md",
    "conf/aws/README.md",
    "conf/schedule/README.md",
]
# Of the command line itself; no service has an operation of that name.
OF_THE_TOOL = {("emr-containers", "update-role-trust-policy")}
STARTED = {"StartJobRun", "RunJobFlow", "AddJobFlowSteps"}
# In the place of names that a user fills in.
NAMES = {
    "ACCOUNT": "123456789012",
    "APPLICATION": "00app0",
    "VIRTUAL-CLUSTER": "abcdef0123456789",
    "SUBNET": "subnet-0123",
    "REGISTRY": "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
}


def lines(program: str) -> list[tuple[str, str]]:
    """(page, command) of all pages, each command once."""
    found = {
        line.partition(" > ")[0]: page for page in PAGES for line in commands(page) if line.startswith(f"{program} ")
    }
    return [(page, line) for line, page in found.items()]


@pytest.mark.parametrize(("page", "line"), lines("aws"))
def test_awss_own_tool_would_take_it(page: str, line: str) -> None:
    _, service, operation, *options = shlex.split(line)
    if (service, operation) in OF_THE_TOOL:
        return
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in names
    shape = model.operation_model(names[operation]).input_shape
    given = {option.removeprefix("--") for option in options if option.startswith("--")}
    members = {xform_name(name, "-"): name for name in shape.members} if shape else {}
    assert given <= {*members, "cli-input-json"}
    required = set(shape.required_members) if shape else set()
    assert "cli-input-json" in given or required <= {members[option] for option in given}
    for file in re.findall(r"file://(conf/\S+)", line):
        assert (REPOSITORY / file).is_file()


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With archives of packages that have none, as nothing here runs them: making one takes a minute."""
    folder = tmp_path_factory.mktemp("pack")
    nothing = tmp_path_factory.mktemp("nothing")
    for architecture in ("x86_64", "aarch64"):
        write_archive(archive_path(Wanted(architecture, "3.11", "cluster"), find_checkout(), folder), nothing)
    return folder


@pytest.fixture
def fake(server: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    for name in os.environ:
        if name.startswith("MIRABELLE_"):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    draw(tmp_path / "0.png", 0)
    open_store(f"s3://{bucket}").upload(str(tmp_path / "0.png"), f"s3://{bucket}/fruits-360/Training/kind/0.png")
    made = Fake(states=["SUCCESS"])
    with serving(made) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in lines("mirabelle") if "fruits-aws" in line])
def test_mirabelle_takes_it_and_asks_what_aws_knows(
    page: str,
    line: str,
    fake: Fake,
    bucket: str,
    pack_folder: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (REPOSITORY / "conf" / "fruits-aws.yaml").read_text()
    text = re.sub(r"(PICTURES|RESULTS|STAGING)-BUCKET", bucket, text)
    for name, own in NAMES.items():
        text, line = text.replace(name, own), line.replace(name, own)
    (tmp_path / "fruits-aws.yaml").write_text(text)
    words = shlex.split(line.replace("conf/fruits-aws.yaml", str(tmp_path / "fruits-aws.yaml")))
    words = [str(pack_folder) if word == "dist/cluster" else word for word in words]
    smaller = [*SMALL, "images.include=['*.png']", f"cache={cache}", f"submit.pack={pack_folder}"]
    words += [word for setting in smaller for word in ("--set", setting)]
    assert main(words[1:]) == 0, capsys.readouterr().err
    # The fake refuses, with exit code 2, what AWS's own models do not know.
    sent = words[1] == "submit" and "--dry-run" not in words
    assert bool(STARTED & set(fake.operations())) is sent
    if "--dry-run" in words:
        told = capsys.readouterr().out.replace("<applicationId>", "00app0")
        requests = json.loads(told)["requests"]
        assert STARTED & {request["operation"] for request in requests}
        for request in requests:
            model = botocore.session.get_session().get_service_model(request["service"])
            shape = model.operation_model(request["operation"]).input_shape
            assert list(mistakes(request["parameters"], shape)) == []
