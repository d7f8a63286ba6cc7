"""The README's first command, as a newcomer runs it."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import REPOSITORY, read_manifest
from documents import command
from submit.conftest import environment


def make_demo(folder: Path, target: str = "demo") -> str:
    done = subprocess.run(
        ["make", target, f"DEMO={folder}"],
        check=False,
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_make_demo_and_again(tmp_path: Path) -> None:
    output = tmp_path / "output"
    text = make_demo(tmp_path)
    manifest = read_manifest(output)
    assert manifest["counts"]["embedded"] == 648
    assert manifest["counts"]["rejected"] == 5
    assert not manifest["random_weights"]
    assert manifest["embedding"]["weights_digest"].startswith("b917f4fa484e2422")
    assert manifest["classifier"]["accuracy"] > 0.9
    page = Path(manifest["report"])
    assert f"report:     {page}" in text
    assert page.stat().st_size > 500_000

    text = make_demo(tmp_path)
    assert "653 listed = 0 embedded + 0 rejected + 653 unchanged" in text
    assert read_manifest(output)["counts"]["model_rows"] == 0
    assert len(pd.read_parquet(output / "features")) == 648
    label = picture_of(command("README.md", "curl --data-binary", "demo/pictures")).split("/")[3]
    assert ask_the_demo(tmp_path)["pictures"][0]["label"] == label


def picture_of(line: list[str]) -> str:
    """The file that a curl line sends."""
    return next(word[1:] for word in line if word.startswith("@"))


def ask_the_demo(folder: Path) -> Any:
    """What README's line says to `make demo-serve`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    make = ["make", "demo-serve", f"DEMO={folder}", f"PORT={port}"]
    with (folder / "serve.log").open("w+") as log:
        server = subprocess.Popen(
            make, cwd=REPOSITORY, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            end = time.monotonic() + 300
            while f"http://127.0.0.1:{port}" not in (folder / "serve.log").read_text():
                assert server.poll() is None and time.monotonic() < end, (folder / "serve.log").read_text()
                time.sleep(0.2)
            line = command("README.md", "curl --data-binary", "demo/pictures")
            places = {"localhost:8080": f"localhost:{port}", "@demo/": f"@{folder}/"}
            for before, after in places.items():
                line = [word.replace(before, after) for word in line]
            return json.loads(subprocess.run([*line, "--silent"], check=True, capture_output=True).stdout)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.mark.long
def test_make_demo_planes(tmp_path: Path) -> None:
    text = make_demo(tmp_path, "demo-planes")
    output = tmp_path / "planes" / "output"
    photos = pd.read_parquet(output / "crawl" / "drawn" / "photos.parquet")
    failures = pd.read_parquet(output / "crawl" / "drawn" / "failures.parquet")
    assert (len(photos), set(photos["constructor"].dropna())) == (174, {"Airbus", "Boeing"})
    assert sorted(failures["code"]) == ["empty", "not_an_image", "truncated"]
    (groups,) = output.glob("explore/*/tables/groups.parquet")
    assert pd.read_parquet(groups)["column_name"].tolist()[:2] == ["registration", "airline"]
    assert "photographs share a registration with another: split by registration" in text
    manifest = read_manifest(output)
    assert (manifest["counts"]["embedded"], manifest["counts"]["rejected"]) == (174, 0)
    assert manifest["classifier"]["accuracy"] > 0.9
    assert f"report:     {manifest['report']}" in text
