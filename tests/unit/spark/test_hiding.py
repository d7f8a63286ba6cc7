"""Files in the working directory that hide modules from the workers; the errors are as Spark hands them on."""

from pathlib import Path

import pytest

from mirabelle.spark.preflight import _explain

SPEECHLESS = "SparkException: EOFException occurred while reading the port number from pyspark.daemon's stdout."


@pytest.mark.parametrize("name", ["random.py", "mirabelle.py", "numpy/__init__.py", "socket.py"])
def test_a_daemon_that_ends_without_a_word_has_met_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    told = _explain(SPEECHLESS)
    assert told.startswith(f"{tmp_path / name} is found by the workers' Python before the module of that name; rename")


@pytest.mark.parametrize(
    "error",
    [
        "ModuleNotFoundError: No module named 'mirabelle.storage'; 'mirabelle' is not a package",
        '  File "{folder}/mirabelle.py", line 1, in <module>\nValueError: mine',
        "AttributeError: module 'mirabelle' has no attribute 'worker'",
    ],
)
def test_an_error_that_speaks_of_the_file_names_it(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mirabelle.py", "random.py"):
        (tmp_path / name).touch()
    assert _explain(error.format(folder=tmp_path)).startswith(f"{tmp_path}/mirabelle.py is found")


def test_files_that_have_nothing_to_do_with_it_are_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("test.py", "code.py", "fruits.py"):
        (tmp_path / name).touch()
    told = _explain("ModuleNotFoundError: No module named 'mirabelle'")
    assert told.startswith("the workers' Python has no module mirabelle;")
    assert "fruits" not in _explain(SPEECHLESS)
