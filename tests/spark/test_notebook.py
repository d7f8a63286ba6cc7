"""The notebook: carried out as Jupyter does, on the sample set; and kept with what came out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY

NOTEBOOKS = REPOSITORY / "docs" / "notebooks"


@pytest.mark.parametrize(("name", "pictures"), [("fruits", 6), ("planes", 3)])
def test_it_is_kept_with_its_outputs_and_nothing_of_a_machine(name: str, pictures: int) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "execute_result", "stream"}
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) == pictures
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|/(home|root|tmp|work|Users)/", text)


def carry_out(name: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook after its last cell, with a small network, as VGG16's weights cannot be had everywhere."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("DEMO", str(folder))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    for key, value in (
        ("CACHE", str(cache)),
        ("BACKBONE__NAME", "mobilenet"),
        ("BACKBONE__WEIGHTS", "random:1"),
        ("BACKBONE__INPUT_PX", "64"),
    ):
        monkeypatch.setenv(f"MIRABELLE_{key}", value)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    there = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=there).execute()
    return notebook


@pytest.mark.long
def test_fruits_from_the_first_cell_to_the_last(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = carry_out("fruits", tmp_path, cache, monkeypatch)
    (told,) = notebook["cells"][6]["outputs"]
    assert "'embedded': 648" in told["data"]["text/plain"]
    (page,) = (tmp_path / "notebook" / "report").glob("*/index.html")
    assert page.stat().st_size > 100_000


@pytest.mark.long
def test_planes_from_the_first_cell_to_the_last(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out("planes", tmp_path, cache, monkeypatch)
    output = tmp_path / "planes" / "notebook"
    assert len(list(output.glob("comparison/*/comparison.json"))) == 1
    page = max(output.glob("report/*/index.html")).read_text()
    assert "model_type, given constructor" in page
