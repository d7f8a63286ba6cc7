"""PySpark's daemon, which forks the workers, with what they import imported before. [Spark's own; one a machine]

Where tasks run on this machine (``session.works_here``), ``spark.python.daemon.module`` names it. Each worker would
import NumPy, pandas, Arrow and the engine by itself, a core-second and 60 MB; forked, they share both.
"""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import suppress

# None of them starts a thread that work would wait for; the engine starts its own when a network is opened.
SHARED = ("pandas", "pyarrow.parquet", "mirabelle.worker.embed", "openvino")


def main() -> None:
    """Import, and be PySpark's daemon."""
    # It would call out; see ``network.engines``.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for name in SHARED:
        # What is missing or broken is told by the preflight.
        with suppress(Exception):
            importlib.import_module(name)
    from pyspark.daemon import manager

    # The collector would write into every page that is shared.
    gc.freeze()
    manager()


if __name__ == "__main__":
    main()
