"""The notebook: carried out as Jupyter does, on the sample set; and kept with what came out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "fruits.ipynb"


def test_it_is_kept_with_its_outputs_and_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "execute_result", "stream"}
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) == 6
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|/(home|root|tmp|work|Users)/", text)


@pytest.mark.long
def test_it_runs_from_the_first_cell_to_the_last(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("DEMO", str(tmp_path))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    # A small network, as VGG16's weights cannot be had everywhere.
    for key, value in (
        ("CACHE", str(cache)),
        ("BACKBONE__NAME", "mobilenet"),
        ("BACKBONE__WEIGHTS", "random:1"),
        ("BACKBONE__INPUT_PX", "64"),
    ):
        monkeypatch.setenv(f"MIRABELLE_{key}", value)
    notebook = nbformat.read(NOTEBOOK, 4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    (told,) = notebook["cells"][6]["outputs"]
    assert "'embedded': 648" in told["data"]["text/plain"]
    (page,) = (tmp_path / "notebook" / "report").glob("*/index.html")
    assert page.stat().st_size > 100_000
