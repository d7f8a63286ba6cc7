"""A process's GPU, as Keras's backends find it: by variables, which they read but once. [the environment]

Executors, and the driver where it builds a network; imports no backend.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mirabelle.errors import PreflightError

SHARING = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Several workers share a GPU, and on one machine the driver: none takes all of its memory at once.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
EXACT = {
    # Or float32 would be multiplied with ten bits of its 23.
    "NVIDIA_TF32_OVERRIDE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
}
PACKAGES = {"jax": "jax[cuda12]", "tensorflow": "tensorflow[and-cuda] in place of tensorflow-cpu"}

_taken: list[str] = []


def take_gpu(addresses: Sequence[str]) -> None:
    """Have this process see these GPUs alone; before Keras is imported.

    Args:
        addresses: numbers as ``nvidia-smi`` has them, or UUIDs.

    Raises:
        PreflightError: the process took others before, and what it has imported keeps to them.
    """
    if not _taken:
        _taken.extend(addresses)
        # CUDA's own numbers are by speed.
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(addresses)
    elif _taken != list(addresses):
        raise PreflightError(
            f"a worker process has GPU {','.join(_taken)} and was given a task on GPU {','.join(addresses)}; set"
            " spark.executor.resource.gpu.amount to 1, and have an executor for each GPU"
        )


def set_up(exact: bool) -> None:
    """Say how GPUs are to be used; before Keras is imported. What the user's environment says already stays.

    Args:
        exact: float32 is computed as such, which features are held to; teaching a network is not.
    """
    for name, value in {**SHARING, **(EXACT if exact else {})}.items():
        os.environ.setdefault(name, value)


def is_seen(keras: Any) -> bool:
    """Whether Keras's backend sees a GPU; the backend is started by that."""
    if keras.backend.backend() == "torch":  # whose devices Keras does not list
        import torch

        return bool(torch.cuda.is_available())
    return any("gpu" in str(device).lower() for device in keras.distribution.list_devices())


def why_unseen(keras: Any) -> str | None:
    """A sentence for a GPU that Spark gave a task and Keras does not see; None where it does."""
    backend = keras.backend.backend()
    try:
        if is_seen(keras):
            return None
        said = ""
    except Exception as error:  # a driver that does not fit, say; backends raise what they like
        said = f" ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return (
        f"Spark gave a task GPU {','.join(_taken)}, and Keras on {backend} sees none{said}; NVIDIA's driver and"
        f" {PACKAGES.get(backend, f'a {backend} for GPUs')} must be there (the executor's log may say what is missing),"
        " or another backend named in spark.executorEnv.KERAS_BACKEND"
    )
