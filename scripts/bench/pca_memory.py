"""What memory the PCA takes for wider features: peaks of driver, JVM and workers, each width in its own process.

python scripts/bench/pca_memory.py --json pca.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memory import descendants, kind_of
from pca_table import fit_ours, page, session, write_table

# Columns, and rows, more than a sketch has columns: pooled ResNet50; VGG16 at 128 px, and at 224 px, not pooled.
SIZES = ((2048, 20_000), (8192, 10_000), (25_088, 3_000))
DRIVER_LIMIT_GIB = 6.0


def main() -> int:
    """Measure and print; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--child", nargs=2, type=int, metavar=("COLUMNS", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return 0
    told = memory()
    print(page(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=2))
    return 0 if all(target["met"] for target in told["targets"]) else 1


def child(columns: int, rows: int) -> dict[str, Any]:
    """One whole fit in this process, and the most memory that it and any one worker took."""
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder:
        found = write_table(folder, rows, columns)
        # Made rows are gone by now; what they took at most must not count.
        Path("/proc/self/clear_refs").write_text("5")
        with session() as spark, watch() as peak:
            start = time.perf_counter()
            result = fit_ours(spark, found)
            seconds = time.perf_counter() - start
    passes = getattr(result, "passes", 1)
    projection = getattr(result, "projection", result)
    return {
        "method": "sketch" if passes > 1 else "moments",
        "passes": passes,
        "components": len(projection.components),
        "variance": float(projection.explained_variance_ratio[: len(projection.components)].sum()),
        "seconds": seconds,
        "driver_gib": peak["driver"] / 2**20,
        "worker_gib": peak["worker"] / 2**20,
        "jvm_gib": peak["JVM"] / 2**20,
    }


@contextmanager
def watch() -> Iterator[dict[str, int]]:
    """The highest resident size, in KiB, of this process, of its JVM and of any worker, as the kernel keeps it."""
    peak = {"driver": 0, "worker": 0, "JVM": 0}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for process in descendants(os.getpid()):
                # Whatever has just ended is no more to be asked.
                with suppress(OSError, LookupError):
                    kind = kind_of(process, os.getpid())
                    peak[kind] = max(peak[kind], highest(process))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def highest(process: int) -> int:
    """A process's peak, in KiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def memory() -> dict[str, Any]:
    """A fit for each width, each in a process and a session of its own."""
    sizes = []
    for columns, rows in SIZES:
        command = [sys.executable, __file__, "--child", str(columns), str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, start_new_session=True)
        sizes.append({"columns": columns, "rows": rows, **json.loads(done.stdout.splitlines()[-1])})
        print(sizes[-1], file=sys.stderr)
    return {
        "memory": sizes,
        "targets": [
            {
                "name": f"PCA: driver's peak GiB at {size['columns']:,} columns",
                "target": f"<= {DRIVER_LIMIT_GIB:g}",
                "figure": size["driver_gib"],
                "met": size["driver_gib"] <= DRIVER_LIMIT_GIB,
                "note": f"{size['method']}, a worker {size['worker_gib']:.2f} GiB",
            }
            for size in sizes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
