"""What a worker process tells of itself and its machine before it is given any work. Executors only."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
from collections.abc import Sequence
from typing import Any

from mirabelle.errors import UserError
from mirabelle.network import gpu
from mirabelle.storage import S3Options, open_store
from mirabelle.storage.opening import AS_AWS_SAYS

# Module to import, and the package that has it.
IMPORTS = {"numpy": "numpy", "pandas": "pandas", "pyarrow": "pyarrow", "PIL": "pillow", "mirabelle": "mirabelle"}
ENGINE_IMPORTS = {"openvino": {"openvino": "mirabelle[openvino]"}, "keras": {"keras": "mirabelle[keras]"}}
MIN_PILLOW = (11, 3)


def probe(engine: str, places: Sequence[str] = (), s3: S3Options = AS_AWS_SAYS, on_gpu: bool = False) -> dict[str, Any]:
    """Facts about this process and its machine, and sentences for what is wrong.

    Args:
        engine: that is to run.
        places: in buckets, which this process must reach.
        s3: how.
        on_gpu: whether Spark gave the task a GPU, which Keras is to use.
    """
    versions, problems = {}, []
    if engine == "keras":
        gpu.set_up(exact=True)
    for module, package in {**IMPORTS, **ENGINE_IMPORTS[engine]}.items():
        try:
            versions[module] = str(getattr(importlib.import_module(module), "__version__", "?"))
        except Exception as error:  # a broken library raises anything on import
            # Some libraries write a page.
            reason = " ".join(str(error).split())[:200]
            problems.append(f"{module} cannot be imported ({type(error).__name__}: {reason}); install {package} there")
    if "PIL" in versions and tuple(int(n) for n in versions["PIL"].split(".")[:2]) < MIN_PILLOW:
        problems.append(f"Pillow {versions['PIL']} is too old; AVIF needs {'.'.join(map(str, MIN_PILLOW))}")
    if "keras" in versions:
        keras: Any = sys.modules["keras"]
        backend = keras.backend.backend()
        versions[backend] = sys.modules[backend].__version__
        if on_gpu and (problem := gpu.why_unseen(keras)):
            problems.append(problem)
    cpu, precisions, fast_int8 = platform.processor(), ["float32"], False
    if "openvino" in versions:
        from mirabelle.network.engines import cpu_name, has_fast_int8, native_precisions

        cpu, precisions, fast_int8 = cpu_name(), list(native_precisions()), has_fast_int8()
    for place in places:
        try:
            open_store(place, s3).check(place)
        except UserError as error:
            problems.append(str(error))
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": cpu,
        "precisions": precisions,
        "fast_int8": fast_int8,
        "versions": versions,
        "problems": problems,
    }
