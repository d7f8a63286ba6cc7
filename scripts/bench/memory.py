"""What memory an extract takes by process, and for each core more: resident (RSS), and shared pages shared out (PSS).

One `mirabelle extract` with drawn weights on a folder of pictures, on so many cores; PSS is the kernel's own figure, of
/proc/PID/smaps_rollup, in which a page that N processes have counts for 1/N. Each process at its largest. Linux alone.

    python scripts/bench/memory.py --images FRUITS --cores 2 --precision bf16
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.2
FIGURES = ("Rss", "Pss", "Pss_Anon", "Pss_File", "Private_Dirty")


def descendants(root: int) -> Iterator[int]:
    """A process and all below it."""
    yield root
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
        # The JVM starts processes from threads of its own.
        for task in Path(f"/proc/{root}/task").iterdir():
            if task.name != str(root):
                children += (task / "children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from descendants(int(child))


def kind_of(process: int, root: int) -> str:
    """What a process of a run is."""
    words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
    if process == root:
        return "driver"
    if Path(words[0]).name == "java":
        return "JVM"
    return "worker" if any(word.endswith(("pyspark.daemon", "mirabelle.spark.daemon")) for word in words) else ""


def look(root: int) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Each process of a run: its id, its kind, and its figures in MiB."""
    for process in descendants(root):
        try:
            kind, rollup = kind_of(process, root), Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        if kind:
            sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.MULTILINE))
            yield process, kind, {name: int(sizes.get(name, 0)) / 1024 for name in FIGURES}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures, some hundred")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cache", type=Path, help="Mirabelle's, to spare converting the network")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirabelle-memory-") as output:
        settings = [f"images.root={options.images}", f"output={output}", f"spark.master=local[{options.cores}]"]
        settings += [f"backbone.name={options.backbone}", "backbone.weights=random:0"]
        settings += [f"engine.precision={options.precision}", *([f"cache={options.cache}"] if options.cache else [])]
        flags = [flag for setting in settings for flag in ("--set", setting)]
        run = subprocess.Popen([sys.executable, "-m", "mirabelle", "extract", "--quiet", *flags])
        peaks: dict[int, tuple[str, dict[str, float]]] = {}
        while run.poll() is None:
            for process, kind, sizes in look(run.pid):
                if process not in peaks or sizes["Pss"] > peaks[process][1]["Pss"]:
                    peaks[process] = (kind, sizes)
            time.sleep(POLL_SECONDS)
    print(
        f"\n| process, MiB | {' | '.join(name.replace('_', ' ') for name in FIGURES)} |\n|---|{'---|' * len(FIGURES)}"
    )
    for kind, sizes in sorted(peaks.values(), key=lambda peak: (peak[0], peak[1]["Rss"])):
        print(f"| {kind} | {' | '.join(f'{sizes[name]:,.0f}' for name in FIGURES)} |")
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
