"""The public face: what ``import mirabelle`` gives, what it costs, and that all of it is told."""

import inspect
import re
import subprocess
import sys

import pytest

import mirabelle
from conftest import REPOSITORY
from mirabelle import errors

NAMES = [name for name in mirabelle.__all__ if name != "__version__"]


def test_the_face_is_what_was_agreed() -> None:
    functions = {"load_config", "prepare_network", "embed", "current_features", "run", "open_bundle", "Config"}
    tree = {name for name, found in vars(errors).items() if inspect.isclass(found) and issubclass(found, Exception)}
    assert set(NAMES) == functions | tree


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_tells_of_itself(name: str) -> None:
    found = getattr(mirabelle, name)
    assert found.__name__ == name
    assert len(inspect.getdoc(found) or "") > 20
    if inspect.isfunction(found):
        hints = inspect.signature(found)
        assert hints.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in hints.parameters.values())


def test_the_readme_tells_of_every_name_and_of_no_other() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    section = readme[readme.index("## From Python") : readme.index("## Configuration")]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    told = {name.removeprefix("mirabelle.") for name in re.findall(r"`([\w.]+)`", table)}
    assert told == set(NAMES)
    shown = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.DOTALL))
    assert set(re.findall(r"\bmirabelle\.(\w+)", shown)) <= set(NAMES)
    assert not re.findall(r"from mirabelle[\w.]* import", shown)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'embd'"):
        _ = mirabelle.embd
    assert set(NAMES) <= set(dir(mirabelle))


def in_a_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_it_loads_nothing() -> None:
    code = "import sys, mirabelle; print(*[m for m in sys.modules if m.startswith('mirabelle.')])"
    assert in_a_process(code) == ""
    heavy = {"pyspark", "pydantic", "yaml", "numpy", "pandas", "pyarrow", "openvino", "keras", "rich", "typer"}
    assert in_a_process(f"import sys, mirabelle; print(*({heavy!r} & set(sys.modules)))") == ""


def test_importing_it_takes_no_time() -> None:
    code = "import time; t = time.perf_counter(); import mirabelle; print(time.perf_counter() - t)"
    # The best of some: what else the machine does at the moment only makes it slower.
    assert min(float(in_a_process(code)) for _ in range(7)) < 0.05


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mirabelle", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == f"mirabelle {mirabelle.__version__}"
    wrong = subprocess.run([sys.executable, "-m", "mirabelle", "run"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "images.root is not set" in wrong.stderr
