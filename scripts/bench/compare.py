"""Time Mirabelle against the notebook-style job, both in one go, on the same pictures with the same network.

Each round runs the two one after the other, whole processes from start to end, so that a machine whose speed drifts
does it to both. Mirabelle's network is converted anew in the first round and comes from the cache in later ones.

    python scripts/bench/compare.py --images PICTURES --backbone resnet50 --weights random:0 --limit 1000
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
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = ("pyspark", "openvino", "keras", "numpy", "pyarrow", "pillow")


def main() -> int:
    """Run the comparison and print it as Markdown."""
    options = parse()
    if not options.images.is_dir():
        print(
            f"error: there is no folder {options.images}; give --images one that holds JPEG pictures", file=sys.stderr
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder:
        work = Path(folder)
        count = link_pictures(options.images, work / "pictures", options.limit)
        if not count:
            print(f"error: there is no *.jpg below {options.images}", file=sys.stderr)
            return 2
        rounds = [run_round(options, work, number) for number in range(options.rounds)]
    facts = {
        "machine": machine(),
        "images": count,
        "backbone": options.backbone,
        "weights": options.weights.name if isinstance(options.weights, Path) else options.weights,
        "rounds": rounds,
    }
    print(table(facts))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG pictures, of any depth")
    parser.add_argument("--backbone", default="resnet50", choices=("resnet50", "vgg16"))
    parser.add_argument(
        "--weights", default="random:0", help="random:<seed>, or a .weights.h5 file (default: random:0)"
    )
    parser.add_argument("--limit", type=int, default=0, help="take only so many pictures, by path (default: all)")
    parser.add_argument("--rounds", type=int, default=1, help="how often to run both (default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def link_pictures(source: Path, target: Path, limit: int) -> int:
    """Make a folder of links to the first pictures, so that both sides see the very same ones; returns how many."""
    pictures = sorted(source.resolve().rglob("*.jpg"))[: limit or None]
    for picture in pictures:
        link = target / picture.relative_to(source.resolve())
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(picture)
    return len(pictures)


def run_round(options: argparse.Namespace, work: Path, number: int) -> dict[str, Any]:
    """Both sides once, in float32 too, since the notebook knows nothing else; seconds and images a second."""
    common = [
        f"images.root={work / 'pictures'}",
        f"cache={work / 'cache'}",
        f"backbone.name={options.backbone}",
        f"backbone.weights={options.weights}",
    ]
    results: dict[str, Any] = {}
    for precision in ("auto", "float32"):
        output = work / f"output-{number}-{precision}"
        settings = [*common, f"output={output}", f"engine.precision={precision}"]
        flags = [flag for setting in settings for flag in ("--set", setting)]
        seconds = timed([str(Path(sys.executable).parent / "mirabelle"), "extract", *flags])
        (manifest,) = (json.loads(path.read_text()) for path in (output / "runs").glob("*.json"))
        results[f"Mirabelle, {precision}"] = {
            "seconds": seconds,
            "images_per_second": manifest["images_per_second"],
            "precision": manifest["embedding"]["precision"],
            "seconds_by_stage": manifest["seconds"],
        }
    target = work / f"notebook-{number}.json"
    command = [
        sys.executable,
        str(HERE / "notebook_job.py"),
        "--images",
        str(work / "pictures"),
        "--output",
        str(work / f"notebook-{number}"),
        "--backbone",
        options.backbone,
        "--weights",
        str(options.weights),
        "--json",
        str(target),
    ]
    seconds = timed(command)
    told = json.loads(target.read_text())
    results["notebook-style job"] = {
        "seconds": seconds,
        "images_per_second": told["images"] / told["seconds_job"],
        "precision": "float32",
    }
    return results


def timed(command: list[str]) -> float:
    """Wall seconds of a whole process; what it prints is shown only if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "PYSPARK_PYTHON": sys.executable}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def table(facts: dict[str, Any]) -> str:
    """The figures as Markdown: medians over the rounds, and ratios to the notebook-style job."""
    lines = [f"- {key}: {value}" for key, value in facts["machine"].items()]
    lines += [
        f"- {facts['images']:,} images, {facts['backbone']}, weights {facts['weights']}, {len(facts['rounds'])} rounds",
        "",
    ]
    lines += [
        "| job | precision | whole, s | while embedding, images/s | times faster, whole | times faster, embedding |",
        "|---|---|---|---|---|---|",
    ]
    medians = {
        side: {
            key: statistics.median(r[side][key] for r in facts["rounds"]) for key in ("seconds", "images_per_second")
        }
        for side in facts["rounds"][0]
    }
    base = medians["notebook-style job"]
    for side, figures in medians.items():
        whole = base["seconds"] / figures["seconds"]
        embedding = figures["images_per_second"] / base["images_per_second"]
        precision = facts["rounds"][0][side]["precision"]
        lines.append(
            f"| {side} | {precision} | {figures['seconds']:.1f} | {figures['images_per_second']:.1f} |"
            f" {whole:.2f} | {embedding:.2f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu, flags = platform.processor(), set()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        rows = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in rows.items()}
        cpu, flags = facts.get("model name", cpu), set(facts.get("flags", "").split())
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=False, cwd=HERE, capture_output=True, text=True
    )
    return {
        "CPU": f"{cpu}, {os.cpu_count()} cores, {' '.join(features) or 'no listed features'}",
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES) + f", Python {platform.python_version()}",
        "git revision": git.stdout.strip() or "none",
    }


if __name__ == "__main__":
    sys.exit(main())
