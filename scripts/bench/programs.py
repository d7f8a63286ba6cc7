"""Parts that are programs of their own: PCA's benchmarks, and the server's. Starts processes, reads what they wrote."""

from __future__ import annotations

import json
import sys

from parts import HERE, Save, Session
from rounds import Part
from sides import CannotRun, output_of

# A fit takes a second or two, and one round is luck.
PCA_ROUNDS = 3
# Each has the engine before and after every loop.
SERVE_ROUNDS = 2
SERVED = "resnet50"
# Enough to see that all of it runs.
SHORT_SERVE = ("--seconds", "0.2", "--clients", "1,8", "--sizes", "100 px", "--no-peer")


def run_pca(session: Session, save: Save) -> Part:
    """PCA's own benchmarks, its comparison and its memory; raises CannotRun where one fails."""
    if session.short:
        raise CannotRun("the short form leaves it out")
    part: Part = {"targets": []}
    for name, flags in (("pca.py", ["--rounds", str(PCA_ROUNDS)]), ("pca_memory.py", [])):
        target = session.bench.work / "pca.json"
        target.unlink(missing_ok=True)
        memory = {"PYSPARK_SUBMIT_ARGS": "--driver-memory 6g pyspark-shell"}
        # It exits with 1 where a target is missed.
        output_of([sys.executable, str(HERE / name), "--json", str(target), *flags], memory, allowed=(0, 1))
        if not target.is_file():
            raise CannotRun(f"the PCA benchmark failed; run scripts/bench/{name} to see why")
        told = json.loads(target.read_text())
        part |= {**told, "targets": part["targets"] + told["targets"]}
        save(part)
    return part


def run_serve(session: Session, save: Save) -> Part:
    """The server beside the engine alone and a peer; raises CannotRun where its network was left out, or it fails."""
    bench = session.bench
    if SERVED not in bench.weights:
        raise CannotRun(f"{SERVED} was left out")
    target = bench.work / "serve.json"
    target.unlink(missing_ok=True)
    given = {
        "weights": bench.weights[SERVED],
        "precisions": ",".join(bench.native),
        "rounds": min(SERVE_ROUNDS, bench.rounds),
        "cores": bench.cores,
        "cache": bench.cache,
        "json": target,
    }
    flags = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    output_of([sys.executable, str(HERE / "serve.py"), *flags, *(SHORT_SERVE if session.short else ())])
    part: Part = json.loads(target.read_text())
    save(part)
    return part
