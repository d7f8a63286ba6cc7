"""Parts that are programs of their own: decoders, PCA, the server. Starts processes, reads what they wrote."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import decode
from parts import DECODED, Save, Session
from rounds import Part
from sides import NOT_INSTALLED, PYTHONS, CannotRun, output_of

HERE = Path(__file__).parent
# A fit takes a second or two, and one round is luck.
PCA_ROUNDS = 3
# Each has the engine before and after every loop; no target is of more clients.
SERVE_ROUNDS = 2
SERVE_CLIENTS = "1,8"
SERVED = "resnet50"
# Enough to see that all of it runs.
SHORT_SERVE = ("--seconds", "0.2", "--sizes", "100 px", "--no-peer")


def run_decode(session: Session, save: Save) -> Part:
    """Every decoder on every input, in alternating rounds."""
    rows = {
        (letter, name): {"input": letter, "decoder": name, "core_ms": []}
        for letter in DECODED
        for name, (_, is_ours) in decode.DECODERS.items()
        if is_ours or not session.short
    }
    with tempfile.TemporaryDirectory(dir=session.bench.work) as scratch:
        for letter, count in DECODED.items():
            pictures = session.pictures(letter, session.most(letter))
            pictures.spread(2 if session.short else count).link(Path(scratch) / letter)
        for number in range(-(-session.bench.rounds // 3)):
            for letter in DECODED:
                for environment in ("main", "bench"):
                    here = [row for (of, name), row in rows.items() if of == letter and home_of(name) == environment]
                    time_decoders(session, Path(scratch) / letter, environment, here[:: -1 if number % 2 else 1])
            save({"rows": list(rows.values())})
    return {"rows": list(rows.values())}


def home_of(decoder: str) -> str:
    """The environment that a decoder's packages are in."""
    return "main" if decode.DECODERS[decoder][1] else "bench"


def time_decoders(session: Session, pictures: Path, environment: str, rows: list[dict[str, Any]]) -> None:
    """One figure more for each decoder of an environment, or why there is none."""
    rows = [row for row in rows if "not_run" not in row]
    if not rows:
        return
    python, told = PYTHONS[environment], dict[str, dict[str, Any]]()
    command = [str(python), str(HERE / "decode.py"), "--pictures", str(pictures)]
    command += [word for row in rows for word in ("--decoder", row["decoder"])]
    why = NOT_INSTALLED
    if python.is_file():
        try:
            told = json.loads(output_of([*command, "--seconds", "0.1" if session.short else "0.7"]))
        except CannotRun as error:
            why = str(error)
    for row in rows:
        found = told.get(row["decoder"], {"not_run": why})
        if "not_run" in found:
            row["not_run"] = found["not_run"]
            continue
        row["core_ms"].append(found["core_ms"])
        row["apart"] = found["apart"]


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
        "clients": SERVE_CLIENTS,
        "cores": bench.cores,
        "cache": bench.cache,
        "json": target,
    }
    flags = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    output_of([sys.executable, str(HERE / "serve.py"), *flags, *(SHORT_SERVE if session.short else ())])
    part: Part = json.loads(target.read_text())
    save(part)
    return part
