"""What figures were measured on: processor, memory, versions, revision. Reads the system, asks git, changes nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = (
    "pyspark",
    "openvino",
    "keras",
    "tensorflow-cpu",
    "tensorflow",
    "jax",
    "numpy",
    "pyarrow",
    "pillow",
    "cykooz-resizer",
    "simplejpeg",
    "opencv-python-headless",
    "scipy",
    "scikit-learn",
)
# What decides how fast a network runs: the wider arithmetic, and whether bf16 and int8 are native.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


def facts() -> dict[str, str]:
    """One line a fact, in the order to print them."""
    name, features = processor()
    return {
        "CPU": f"{name}, {cores()} cores, {' '.join(features) or 'none of the features looked for'}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(),
        "versions": f"Python {platform.python_version()}, " + ", ".join(installed()),
        "BLAS": blas(),
        "git revision": revision(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> tuple[str, list[str]]:
    """Its name, and which of ``CPU_FEATURES`` it has."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine(), []
    rows = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    told = {key.strip(): value.strip() for key, value in rows.items()}
    flags = set(told.get("flags", "").split())
    return told.get("model name", platform.processor()), [name for name in CPU_FEATURES if name in flags]


def blas() -> str:
    """NumPy's, and the kernels it chose for this CPU or was told to use (OPENBLAS_CORETYPE)."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.dot(np.ones(1), np.ones(1))
    found = [about for about in threadpool_info() if about["user_api"] == "blas"]
    return ", ".join(
        sorted({f"{about['internal_api']} {about['version']}, kernels {about.get('architecture')}" for about in found})
    )


def has_amx() -> bool:
    """Whether bf16 runs on tiles here, where it gains most."""
    return "amx_bf16" in processor()[1]


def installed() -> list[str]:
    """Those of ``PACKAGES`` that are here, with their versions."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def revision() -> str:
    """Of the checkout that this file lies in."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, check=False, cwd=HERE, capture_output=True, text=True)
    except OSError:
        return "none"
    return done.stdout.strip() or "none"
