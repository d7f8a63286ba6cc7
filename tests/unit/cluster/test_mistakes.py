"""docs/cluster.md's ten mistakes: what the page quotes is what Mirabelle prints."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY
from mirabelle.cluster import aws, submitting
from mirabelle.cluster.environment import PYTHON
from mirabelle.cluster.job import Files, Job
from mirabelle.cluster.sizing import Size, prefix_warning
from mirabelle.config import Config, load
from mirabelle.errors import MirabelleError
from mirabelle.spark.cluster import killed_for_memory
from mirabelle.spark.preflight import _explain
from mirabelle.table.lease import _refuse_if_alive

PATHS = Files(*("s3://staging/" + "x" * 2 for _ in range(5)))


def size(executors: int) -> Size:
    return Size(10**7, 0, 54.0, "measured", executors, 4, 2, 6, 600.0, 1.0)


def configured(*settings: str) -> Config:
    places = ("images.root=s3://pictures/p", "output=s3://results/out", "submit.staging=s3://staging")
    return load(None, [*places, *settings], {})


def nobody(service: str) -> object:
    raise AssertionError(f"{service} is not asked")


def sentence(act: Callable[[], object]) -> str:
    with pytest.raises(MirabelleError) as error:
        act()
    return f"error: {error.value}"


def no_python(tmp_path: Path) -> str:
    name = "environment-cluster-x86_64-py3.11-0123456789ab.tar.gz"
    program = tmp_path / "python"
    # Of a version that no machine has; the page's is named afterwards.
    program.write_text(PYTHON.format(python="3.99", name=name))
    told = subprocess.run(["/bin/sh", program], capture_output=True, text=True, check=False).stderr
    return re.sub(r"none on [^;]+;", "none on ip-10-0-0-1;", told.replace("3.99", "3.11")).strip()


def old_python() -> str:
    code = (REPOSITORY / "lib" / "mirabelle" / "__init__.py").read_text()
    text = "".join(re.findall(r'^        "(.*)"', code[: code.index("raise SystemExit")], re.MULTILINE))
    return text.replace("\\n", "").format("/usr/bin/python3", 3, 9)


def long_step() -> str:
    config = configured("submit.to=emr", "submit.role=nodes", "submit.service_role=emr", "submit.cluster=j-1")
    files = Files(*("s3://staging/" + "x" * 2100 for _ in range(5)))
    told = sentence(lambda: aws.open_target(config.submit, nobody).requests(Job("n", "t", files, size(1))))
    return re.sub(r"have [\d,]+ characters", "have 11,000 characters", told)


def default_roles() -> str:
    config = configured("submit.to=emr", "submit.role=nodes")
    return sentence(lambda: aws.open_target(config.submit, nobody).requests(Job("n", "t", PATHS, size(1))))


def local_files() -> str:
    config = configured("submit.to=emr-serverless", "images.root=data/fruits-360")
    return sentence(lambda: submitting._check(config, "run"))


def lease() -> str:
    held = (
        b'{"run": "20261127T031500.000000Z-0123", "command": "run", "user": "hadoop", "host": "ip-10-0-0-1",'
        b' "pid": 4711, "started": "2026-11-27T03:15:00+00:00"}'
    )
    return sentence(lambda: _refuse_if_alive("out/_lease.json", held, 12.0)).partition("out/_lease.json ")[2]


def does_not_start(program: str, why: str) -> str:
    said = f'java.io.IOException: Cannot run program "{program}": {why}'
    return f"error: {_explain(said)}"


def memory() -> str:
    said = "Container killed by YARN for exceeding memory limits. 4.1 GB of 4 GB physical memory used."
    return f"error: {killed_for_memory(said)}"


def test_the_page_quotes_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = " ".join((REPOSITORY / "docs" / "cluster.md").read_text().split()).replace("`", "")
    warning = prefix_warning(configured(), size(64))
    printed = {
        1: no_python(tmp_path),
        2: does_not_start("./environment/bin/python", "error=13, Permission denied"),
        3: old_python(),
        4: memory(),
        5: local_files(),
        5.5: sentence(lambda: load("conf/fruits.yaml", [], {})),
        6: lease(),
        7: long_step(),
        8: default_roles(),
        9: str(warning),
        10: does_not_start("/opt/venv/bin/python", "error=2, No such file or directory"),
    }
    missing = {n: text for n, text in printed.items() if " ".join(text.split()).replace("`", "") not in page}
    assert missing == {}
    assert len(re.findall(r"^\d+\. \*\*", (REPOSITORY / "docs" / "cluster.md").read_text(), re.MULTILINE)) == 10
