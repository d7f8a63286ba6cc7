"""Time the PCA against Spark ML's own fit and scikit-learn's, and measure what memory it takes for wider features.

All sides in one go, in alternating rounds, on one made-up feature table: float32, non-negative, variance that falls off
as a network's does, written and committed as a run writes it. Ours is the whole fit in a session that is warm: which
rows count, reading the files, moments, merging, eigenvectors, and the Spark ML model. Spark ML's PCA.fit gets vectors
that are cached and counted beforehand, so neither reading nor conversion is charged to it. scikit-learn gets a matrix
in memory, with all cores for its BLAS.

    PYSPARK_SUBMIT_ARGS="--driver-memory 6g pyspark-shell" python scripts/bench/pca.py --rounds 3 --json pca.json
    python scripts/bench/pca.py --memory
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mirabelle.features import FeatureTable

PACKAGES = ("pyspark", "numpy", "scipy", "scikit-learn", "pyarrow")
FILE_BYTES = 20 * 2**20
VARIANCE = 0.8
# Columns and rows: pooled ResNet50; VGG16 at 128 px, and at 224 px, both without pooling.
MEMORY_SIZES = ((2048, 20_000), (8192, 10_000), (25_088, 6_000))
DRIVER_LIMIT_GIB = 6.0
READ_ROWS = 90_000


def main() -> int:
    """Measure and print; exit code 1 if a target is missed."""
    options = parse()
    if options.child:
        print(json.dumps(child(options)))
        return 0
    facts: dict[str, Any] = {"machine": machine(), "rows": options.rows, "columns": options.columns}
    facts |= memory(options) if options.memory else compare(options)
    print(table(facts))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2))
    return 0 if all(target["met"] for target in facts["targets"]) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3, help="how often to run every side (default: 3)")
    parser.add_argument(
        "--read-rows", type=int, default=READ_ROWS, help="for reading against multiplying; 0: leave out"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory by columns, instead of the comparison")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def made_up(rows: int, columns: int, seed: int) -> npt.NDArray[np.float32]:
    """Features like a network's after its last activation: sparse, non-negative, variance falling off as a power."""
    random = np.random.default_rng(0)
    rank = min(600, columns)
    directions = random.standard_normal((rank, columns), dtype=np.float32)
    strengths = np.arange(1, rank + 1, dtype=np.float32) ** -0.6
    own = np.random.default_rng(seed + 1)
    latent = own.standard_normal((rows, rank), dtype=np.float32) * strengths
    noise = 0.1 * own.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(np.maximum(latent @ directions / 3 + noise + 0.2, 0.0), dtype=np.float32)


def write_table(output: str, rows: int, columns: int) -> FeatureTable:
    """Commit a feature table of made-up rows, in files such as a task of an extract leaves."""
    import pyarrow as pa

    from mirabelle import schema
    from mirabelle.chunks import Chunk
    from mirabelle.embedding import Embedding
    from mirabelle.features import FeatureTable
    from mirabelle.storage import DiskStore
    from mirabelle.tasks import parquet_bytes

    store = DiskStore()
    about = Embedding("resnet50", "random:0", "0" * 64, 224, "made-up", "avg", "v1", "float32", columns)
    found = FeatureTable(store, output, about)
    target = schema.features_schema([], about.to_json())
    names: list[str] = []
    a_file = max(1, FILE_BYTES // (4 * columns))
    for start in range(0, rows, a_file):
        values = made_up(min(a_file, rows - start), columns, start)
        offsets = np.arange(len(values) + 1, dtype=np.int32) * columns
        made = {
            schema.PATH: pa.array([f"{start + i:08d}.jpg" for i in range(len(values))]),
            schema.ETAG: pa.array(["e"] * len(values)),
            schema.FEATURES: pa.ListArray.from_arrays(
                offsets, values.reshape(-1), type=target.field(schema.FEATURES).type
            ),
        }
        arrays = [made[f.name] if f.name in made else pa.nulls(len(values), f.type) for f in target]
        names.append(f"part-{len(names):05d}.parquet")
        store.write(
            f"{found.staging_folder('r', 0)}/features/{names[-1]}",
            parquet_bytes(pa.Table.from_arrays(arrays, schema=target)),
        )
    marker = Chunk("r", 0, rows, 0, 0, rows, 0, (), about.folder, about.fingerprint, {}, tuple(names), ())
    found.commit_staged(marker)
    return found


@contextmanager
def session() -> Iterator[SparkSession]:
    """A warm session, set up as a job's is: its workers have been started and have imported what they need."""
    from mirabelle.session import open_session

    settings = {"spark.master": f"local[{os.cpu_count()}]", "spark.ui.enabled": "false"}
    with open_session(settings) as spark, tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder:
        found = write_table(folder, 64, 16)
        fit_ours(spark, found)
        yield spark


def fit_ours(spark: SparkSession, found: FeatureTable) -> Any:
    """The whole fit, from a committed table to a Spark ML model; returns our projection, or an approximation."""
    from mirabelle.pipeline.reduce import WIDEST_EXACT
    from mirabelle.reducing import Reading
    from mirabelle.reduction import fit
    from mirabelle.selection import select_rows
    from mirabelle.session import slots
    from mirabelle.stages.gather import approximate, gather_moments
    from mirabelle.stages.pca import to_pipeline
    from mirabelle.storage import DiskStore

    width = found.embedding.width
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as scratch:
        chosen = select_rows(DiskStore(), found, None, scratch)
        reading = Reading(width, f"{scratch}/staging", chosen.stale, None)
        tasks = chosen.tasks(chosen.files, slots(spark))
        if width > WIDEST_EXACT:
            rows = sum(file.kept for file in chosen.files)
            return approximate(spark, tasks, reading, rows, VARIANCE, None)
        moments = gather_moments(spark, tasks, reading)
        assert moments is not None
        projection = fit(moments, VARIANCE)
        to_pipeline(projection)
        return projection


@dataclass
class Side:
    """One of the sides: its seconds by round, and how far its result is from ours."""

    seconds: list[float] = field(default_factory=list)
    angle: float = 0.0
    variance: float = 0.0

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All sides, round by round."""
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder, session() as spark:
        found = write_table(folder, options.rows, options.columns)
        matrix = read_matrix(found)
        ours = fit_ours(spark, found)
        kept = len(ours.components)
        sides = {name: Side() for name in ("Mirabelle", "Spark ML")}
        runs: dict[str, Callable[[], Any]] = {"Mirabelle": lambda: fit_ours(spark, found)}
        runs["Spark ML"] = spark_fit(spark, found, kept)
        for solver, dtype in (("covariance_eigh", "float64"), ("covariance_eigh", "float32"), ("auto", "float32")):
            sides[f"scikit-learn {solver} {dtype}"] = Side()
            runs[f"scikit-learn {solver} {dtype}"] = scikit_fit(matrix.astype(dtype), solver, kept)
        for number in range(options.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                result = run()
                sides[name].seconds.append(time.perf_counter() - start)
                sides[name].angle, sides[name].variance = distance(result, ours, kept)
                print(f"round {number + 1}: {name} {sides[name].seconds[-1]:.2f} s", file=sys.stderr)
        reading = read_and_multiply(options) if options.read_rows else {}
    return {
        "components": kept,
        "sides": {
            name: {"seconds": side.seconds, "median": side.median, "angle": side.angle, "variance": side.variance}
            for name, side in sides.items()
        },
        "reading": reading,
        "targets": targets(sides, reading),
    }


def targets(sides: dict[str, Side], reading: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target, what was measured, and whether that meets it; ratios are of medians, with those of each round."""
    ours, spark = sides["Mirabelle"], sides["Spark ML"]
    # What does not find the same subspace is no like for like.
    exact = {name: side for name, side in sides.items() if name.startswith("scikit") and side.angle < 1e-3}
    name, theirs = min(exact.items(), key=lambda item: item[1].median)

    def spread(one: Side, other: Side) -> str:
        ratios = sorted(a / b for a, b in zip(one.seconds, other.seconds, strict=True))
        return f"rounds from {ratios[0]:.2f} to {ratios[-1]:.2f}"

    faster, slower = spark.median / ours.median, ours.median / theirs.median
    others = ", ".join(
        f"{n} {s.median:.2f} s (angle {s.angle:.0e})" for n, s in sides.items() if n.startswith("scikit")
    )
    slow_note = f"{name}; {spread(ours, theirs)}; {others}"
    found = [
        ("PCA: times as fast as Spark ML's fit", ">= 25", faster, faster >= 25, spread(spark, ours)),
        ("PCA: largest principal angle to Spark ML's", "< 1e-3", spark.angle, spark.angle < 1e-3, ""),
        ("PCA: explained variance against Spark ML's", "< 1e-6", spark.variance, spark.variance < 1e-6, "as a share"),
        ("PCA: time over scikit-learn's in memory", "<= 1.5", slower, slower <= 1.5, slow_note),
    ]
    if reading:
        share = reading["read_seconds"] / reading["multiply_seconds"]
        note = f"{reading['rows']:,} rows in one process, one thread"
        found.append(("PCA: reading over multiplying", "< 1", share, share < 1, note))
    return [dict(zip(("name", "target", "figure", "met", "note"), row, strict=True)) for row in found]


def spark_fit(spark: SparkSession, found: FeatureTable, kept: int) -> Callable[[], Any]:
    """Spark ML's fit, on vectors that are in memory already."""
    from pyspark.ml.feature import PCA
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions as F

    rows = spark.read.parquet(found.folder("features")).select(array_to_vector(F.col("features")).alias("v"))
    cached = rows.repartition(os.cpu_count() or 1).cache()
    cached.count()
    return lambda: PCA(k=kept, inputCol="v", outputCol="o").fit(cached)


def scikit_fit(matrix: npt.NDArray[np.floating], solver: str, kept: int) -> Callable[[], Any]:
    """scikit-learn's fit of a matrix in memory."""
    from sklearn.decomposition import PCA

    return lambda: PCA(kept, svd_solver=solver, random_state=0).fit(matrix)


def distance(result: Any, ours: Any, kept: int) -> tuple[float, float]:
    """The largest principal angle to our components, and the largest difference of a component's share of variance."""
    if hasattr(result, "pc"):
        axes, shares = result.pc.toArray().T, result.explainedVariance.toArray()
    elif hasattr(result, "components_"):
        axes, shares = result.components_, result.explained_variance_ratio_
    else:
        axes, shares = result.components, result.explained_variance_ratio[:kept]
    theirs = np.linalg.qr(axes.astype(np.float64).T)[0]
    # By the sine, which small angles don't vanish in as they do in the cosine.
    rest = theirs - ours.components.T @ (ours.components @ theirs)
    sine = min(1.0, float(np.linalg.norm(rest, 2)))
    return float(np.arcsin(sine)), float(np.abs(shares - ours.explained_variance_ratio[:kept]).max())


def read_matrix(found: FeatureTable) -> npt.NDArray[np.float32]:
    """The table's features in one piece."""
    return np.concatenate([features for _, features in batches(found)])


def batches(found: FeatureTable) -> Iterator[Any]:
    """The table as one task reads it."""
    from mirabelle.reducing import FilePart, Reading, read_parts
    from mirabelle.storage import DiskStore

    (chunk,) = found.chunks()
    parts = [FilePart(path, 0, 1, False) for path in found.files("features", chunk)]
    return read_parts(DiskStore(), Reading(found.embedding.width, "", "", None), parts)


def read_and_multiply(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to read a larger table, and to sum its moments, apart; both in one thread, as in one task."""
    from threadpoolctl import threadpool_limits

    from mirabelle.reduction import MomentsSum

    read = multiply = 0.0
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder, threadpool_limits(1):
        found = write_table(folder, options.read_rows, options.columns)
        total = MomentsSum(options.columns)
        start = time.perf_counter()
        for _, features in batches(found):
            middle = time.perf_counter()
            total.add(features)
            end = time.perf_counter()
            read, multiply, start = read + middle - start, multiply + end - middle, end
    return {"rows": total.count, "read_seconds": read, "multiply_seconds": multiply}


def child(options: argparse.Namespace) -> dict[str, Any]:
    """One whole fit in this process, and the most memory that it and any one worker took."""
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder:
        found = write_table(folder, options.rows, options.columns)
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
        "jvm_gib": peak["jvm"] / 2**20,
    }


@contextmanager
def watch() -> Iterator[dict[str, int]]:
    """The highest resident size, in KiB, of this process, of its JVM and of any worker, as the kernel keeps it."""
    peak = {"driver": 0, "worker": 0, "jvm": 0}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                kind, size = resident(process)
                if kind:
                    peak[kind] = max(peak[kind], size)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def resident(process: Path) -> tuple[str, int]:
    """Which of ours a process is, and its peak; an empty name if it is none of ours, or has just ended."""
    try:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
        if int(process.name) == os.getpid():
            return "driver", int(status["VmHWM"].split()[0])
        if os.getsid(int(process.name)) != os.getsid(0):
            return "", 0
        if status["Name"].strip() == "java":
            return "jvm", int(status["VmHWM"].split()[0])
        is_worker = b"pyspark" in (process / "cmdline").read_bytes()
        return ("worker", int(status["VmHWM"].split()[0])) if is_worker else ("", 0)
    except (OSError, KeyError, ValueError):
        return "", 0


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """A fit for each width, each in a process and a session of its own."""
    sizes = []
    for columns, rows in MEMORY_SIZES:
        command = [sys.executable, __file__, "--child", f"--columns={columns}", f"--rows={rows}"]
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


def machine() -> dict[str, str]:
    """What the figures were measured on, and with."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    cpus = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "machine": f"{os.cpu_count()} x {cpus[0] if cpus else platform.processor()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "revision": revision.stdout.strip() or "unknown",
    }


def table(facts: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [f"- {key}: {value}" for key, value in facts["machine"].items()]
    if "sides" in facts:
        lines += ["", f"{facts['rows']:,} x {facts['columns']:,}, {facts['components']} components", ""]
        lines += ["| side | median s | rounds | angle to ours | variance from ours |", "|---|---|---|---|---|"]
        for name, side in facts["sides"].items():
            rounds = ", ".join(f"{s:.2f}" for s in side["seconds"])
            lines.append(f"| {name} | {side['median']:.2f} | {rounds} | {side['angle']:.1e} | {side['variance']:.1e} |")
    if "memory" in facts:
        lines += ["", "| columns | rows | method | passes | components | s | driver GiB | worker GiB | JVM GiB |"]
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for size in facts["memory"]:
            sizes = " | ".join(f"{size[name]:.2f}" for name in ("driver_gib", "worker_gib", "jvm_gib"))
            lines.append(
                f"| {size['columns']:,} | {size['rows']:,} | {size['method']} | {size['passes']} | {size['components']}"
                f" | {size['seconds']:.1f} | {sizes} |"
            )
    lines += ["", "| target | wanted | found | met | |", "|---|---|---|---|---|"]
    for target in facts["targets"]:
        met = "yes" if target["met"] else "no"
        lines.append(f"| {target['name']} | {target['target']} | {target['figure']:.3g} | {met} | {target['note']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
