"""What a whole extract costs by the number of its pictures, and by the number of its workers.

Each size is one `mirabelle extract` on a manifest of so many rows, distinct paths to the same few pictures through
links: seconds, and the peak memory of the driver's Python, of its JVM and of the largest worker. Up to --real pictures
go through ResNet50; beyond, through a small network (MobileNet at 32 px), which stands for it where only what surrounds
the network is to be seen. With --workers, the sizes give way to one run on a standalone cluster of one worker of one
core, and one on two.

    python scripts/bench/growth.py --images FRUITS 1000 5000 20000 90000
    python scripts/bench/growth.py --images FRUITS --workers 2000
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
from scale import link_manifest, memory

RESNET = ("backbone.name=resnet50", "backbone.weights=random:0")
SMALL = ("backbone.name=mobilenet", "backbone.weights=random:1", "backbone.input_px=32")
POLL_SECONDS = 0.5
START_SECONDS = 60
LOOPBACK = "127.0.0.1"


def extract(settings: list[str], output: Path) -> dict[str, float]:
    """Run it to its end: seconds, images a second, files, and peaks of memory in MiB."""
    options = [option for setting in (*settings, f"output={output}") for option in ("--set", setting)]
    command = [str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet", *options]
    peaks = {"driver": 0.0, "jvm": 0.0, "worker": 0.0}
    start = time.monotonic()
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        for kind, mib in memory(process.pid):
            peaks[kind] = max(peaks[kind], mib)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    (path,) = output.glob("runs/*Z-*[0-9a-f].json")
    manifest = json.loads(path.read_text())
    files = len(list(output.glob("features/**/*.parquet")))
    figures = {"whole": time.monotonic() - start, "rate": manifest["images_per_second"], "files": files}
    return {**figures, "embed": manifest["seconds"]["embed"], **peaks}


@contextmanager
def cluster(workers: int, logs: Path) -> Iterator[str]:
    """A standalone master and so many workers of one core each, on loopback; gives its URL."""
    import pyspark

    home = Path(pyspark.__file__).parent
    own = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    environment = {**own, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": LOOPBACK, "PYSPARK_PYTHON": sys.executable}
    started: list[subprocess.Popen[bytes]] = []

    def start(role: str, *arguments: str) -> Path:
        log = logs / f"{role}-{len(started)}.log"
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role.lower()}.{role}"]
        ports = ["--host", LOOPBACK, "--port", "0", "--webui-port", "0"]
        with log.open("wb") as file:
            started.append(
                subprocess.Popen(
                    [*command, *ports, *arguments],
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return log

    def told(log: Path, pattern: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, log.read_text(errors="replace")):
                return found[0]
            time.sleep(POLL_SECONDS)
        raise SystemExit(f"the cluster does not start; see {log}")

    try:
        url = told(start("Master"), r"spark://[\d.]+:\d+")
        for log in [start("Worker", "--cores", "1", "--memory", "2g", url) for _ in range(workers)]:
            told(log, "Successfully registered")
        yield url
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def by_size(sizes: list[int], real: int, common: list[str], scratch: Path, images: Path) -> None:
    """The table of sizes."""
    print(
        "\n| pictures | network | whole, s | embedding, s | images/s | files | driver, MiB | JVM, MiB | worker, MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for size in sizes:
        network = RESNET if size <= real else SMALL
        manifest = scratch / f"{size}.parquet"
        link_manifest(images, size, manifest)
        got = extract([*common, *network, f"images.manifest={manifest}"], scratch / f"output-{size}")
        print(
            f"| {size:,} | {'ResNet50' if network is RESNET else 'small'} | {got['whole']:.1f} | {got['embed']:.1f} |"
            f" {got['rate']:.1f} | {got['files']} | {got['driver']:,.0f} | {got['jvm']:,.0f} | {got['worker']:,.0f} |",
            flush=True,
        )


def by_workers(size: int, common: list[str], scratch: Path, images: Path) -> None:
    """The table of one worker and two."""
    manifest = scratch / f"{size}.parquet"
    link_manifest(images, size, manifest)
    print(f"\n{size:,} pictures, ResNet50, standalone cluster:\n\n| workers of one core | whole, s | images/s |")
    print("|---|---|---|", flush=True)
    for workers in (1, 2):
        logs = scratch / f"logs-{workers}"
        logs.mkdir()
        with cluster(workers, logs) as url:
            spark = [f"spark.master={url}", "spark.executor.cores=1", "spark.executor.memory=1g"]
            spark += [f"spark.driver.host={LOOPBACK}", f"images.manifest={manifest}"]
            got = extract([*common, *spark, *RESNET], scratch / f"output-workers-{workers}")
        print(f"| {workers} | {got['whole']:.1f} | {got['rate']:.1f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[1_000, 5_000, 20_000, 90_000])
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG pictures, of any depth")
    parser.add_argument("--real", type=int, default=20_000, help="up to so many through ResNet50 (default: 20000)")
    parser.add_argument("--workers", type=int, metavar="PICTURES", help="so many, on one worker and on two")
    parser.add_argument("--scratch", help="folder to work in (default: a temporary one)")
    options = parser.parse_args()
    if not options.images.is_dir():
        parser.exit(2, f"error: there is no folder {options.images}\n")
    scratch = Path(tempfile.mkdtemp(prefix="mirabelle-growth-", dir=options.scratch))
    try:
        # The networks are converted first, which no size should be charged for.
        common = [f"cache={scratch / 'cache'}", "spark.ui.enabled=false"]
        few = scratch / "few.parquet"
        link_manifest(options.images, 8, few)
        for name, network in (("resnet", RESNET), ("small", SMALL)):
            extract([*common, *network, f"images.manifest={few}"], scratch / f"output-{name}")
        print("\n".join(f"- {key}: {value}" for key, value in machine.facts().items()))
        if options.workers:
            by_workers(options.workers, common, scratch, options.images)
        else:
            by_size(options.sizes, options.real, common, scratch, options.images)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
