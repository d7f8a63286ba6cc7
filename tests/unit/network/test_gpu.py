"""What of the way to a GPU needs none: which one a process sees, and what a machine tells of those it has."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import REPOSITORY
from mirabelle.errors import PreflightError
from mirabelle.network import gpu


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been taken; and nothing that a test takes stays."""
    monkeypatch.setattr(gpu, "_taken", [])
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", *gpu.SHARING, *gpu.EXACT):
        # Set first, so that it is put back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_process_sees_the_gpu_that_its_first_task_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    gpu.take_gpu(["2"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    # Without it CUDA's 2 is another than that of nvidia-smi.
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    gpu.take_gpu(["2"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_a_process_that_has_a_gpu_refuses_a_task_on_another() -> None:
    gpu.take_gpu(["0"])
    with pytest.raises(PreflightError, match=r"has GPU 0 and was given a task on GPU 1; set .*\.gpu\.amount to 1"):
        gpu.take_gpu(["1"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_what_the_users_environment_says_of_a_gpu_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    gpu.set_up(exact=False)
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    gpu.set_up(exact=True)
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imports", "exact"),
    [
        ("from mirabelle.network.backbones import import_keras; import_keras()", False),
        ("from mirabelle.worker.probe import probe; probe('keras')", True),
    ],
    ids=["driver", "worker"],
)
def test_no_process_takes_all_of_a_gpu(imports: str, exact: bool) -> None:
    code = f"import json, os\n{imports}\nprint(json.dumps(dict(os.environ)))"
    own = {name: value for name, value in os.environ.items() if name not in (*gpu.SHARING, *gpu.EXACT)}
    told = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert (found["TF_FORCE_GPU_ALLOW_GROWTH"], found["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("true", "false")
    assert ("NVIDIA_TF32_OVERRIDE" in found) is exact


def keras_with(backend: str, *devices: str) -> SimpleNamespace:
    """As much of Keras as is asked."""
    distribution = SimpleNamespace(list_devices=lambda: list(devices))
    return SimpleNamespace(backend=SimpleNamespace(backend=lambda: backend), distribution=distribution)


@pytest.mark.parametrize(
    ("backend", "devices", "seen"),
    [("jax", ["gpu:0"], True), ("tensorflow", ["GPU:0"], True), ("jax", ["cpu:0"], False)],
)
def test_a_gpu_is_seen_if_it_is_among_keras_devices(backend: str, devices: list[str], seen: bool) -> None:
    keras = keras_with(backend, *devices)
    assert gpu.is_seen(keras) is seen
    assert (gpu.why_unseen(keras) is None) is seen


@pytest.mark.parametrize(("there", "seen"), [(True, True), (False, False)])
def test_of_torch_torch_itself_is_asked(there: bool, seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: there))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert gpu.is_seen(keras_with("torch", "gpu:0")) is seen


def test_a_gpu_that_is_not_seen_is_one_sentence() -> None:
    gpu.take_gpu(["3"])
    assert gpu.why_unseen(keras_with("jax", "cpu:0")) == (
        "Spark gave a task GPU 3, and Keras on jax sees none; NVIDIA's driver and jax[cuda12] must be there (the"
        " executor's log may say what is missing), or another backend named in spark.executorEnv.KERAS_BACKEND"
    )

    def fails() -> list[str]:
        raise RuntimeError("no CUDA-capable\n device")

    broken = keras_with("tensorflow")
    broken.distribution.list_devices = fails
    assert "Keras on tensorflow sees none (RuntimeError: no CUDA-capable device); NVIDIA's" in gpu.why_unseen(broken)


def discovered(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """What ``conf/gpus.sh`` says where ``nvidia-smi`` is a script."""
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    found = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([REPOSITORY / "conf/gpus.sh"], env=found, capture_output=True, text=True, check=False)


def test_a_machine_tells_spark_of_its_gpus(tmp_path: Path) -> None:
    for there in (["0"], ["0", "1", "10"]):
        told = discovered(tmp_path, f'[ "$1" = --query-gpu=index ] && printf "%s\\n" {" ".join(there)}')
        assert json.loads(told.stdout) == {"name": "gpu", "addresses": there}


def test_a_machine_without_a_gpu_tells_of_none(tmp_path: Path) -> None:
    told = discovered(tmp_path, "echo NVIDIA-SMI has failed >&2; exit 9")
    assert (told.returncode, told.stdout) == (9, "")
