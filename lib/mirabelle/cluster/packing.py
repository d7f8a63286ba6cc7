"""All that a cluster needs to run a job, made here: wheel, packages, converted network, image. [disk, package registry]

Runs where people type; the cluster then needs no Keras, no TensorFlow, no weights and no internet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mirabelle
from mirabelle import __version__
from mirabelle.cluster.environment import Wanted, pack_environment, write_archive
from mirabelle.config import Config
from mirabelle.config.stores import with_local_weights
from mirabelle.console import Console
from mirabelle.errors import ConfigError, OutputError, PreflightError
from mirabelle.listing.calibration import prepare_network
from mirabelle.network.cached import cache_folder, put_into_cache
from mirabelle.network.preparing import cached_folder

# What driver and workers find the archives' content under, in their working directory.
ENVIRONMENT = "environment"
CACHE = "mirabelle-cache"
FACTS = "pack.json"
# What the wheel is made of.
BESIDE_LIB = ("pyproject.toml", "README.md", "LICENSE")

DOCKERFILE = """\
# An image for EMR on which Mirabelle runs, from what is in this folder:
#     docker build --build-arg BASE=<the image of your EMR release, from AWS's page of them> -t mirabelle .
ARG BASE
FROM ${{BASE}}
USER root
RUN command -v python{python} || dnf install -y python{python}
# ADD unpacks them.
ADD {environment} /opt/mirabelle/environment/
ADD {network} /opt/mirabelle/{cache}/
COPY {wheel} /opt/mirabelle/
ENV PYSPARK_PYTHON=/opt/mirabelle/environment/bin/python \\
    PYSPARK_DRIVER_PYTHON=/opt/mirabelle/environment/bin/python \\
    PYTHONPATH=/opt/mirabelle/{wheel} \\
    MIRABELLE_CACHE=/opt/mirabelle/{cache}
RUN $PYSPARK_PYTHON -c 'import mirabelle.cli, openvino, pyarrow, duckdb; print(mirabelle.__version__)'
USER hadoop:hadoop
"""


@dataclass(frozen=True)
class Pack:
    """What was packed.

    Attributes:
        wheel: Mirabelle, as ``--py-files`` takes it.
        zipped: the same by the name of a zip file.
        environment: archive of packages, ``bin/python`` in it.
        network: archive of a cache with the one network in it.
        dockerfile: for an image with all of these.
    """

    wheel: Path
    zipped: Path
    environment: Path
    network: Path
    dockerfile: Path

    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.wheel, self.zipped, self.environment, self.network, self.dockerfile)


def pack(config: Config, wanted: Wanted, folder: Path, console: Console) -> Pack:
    """Make it all in ``folder``, and ``pack.json`` which says what there is; what is there already is not made again.

    Raises:
        ConfigError: the configuration, or what is wanted, makes no sense on a cluster.
        PreflightError: this is no checkout of Mirabelle, or packages cannot be had.
        WeightsError: as of a run.
        OutputError: the folder cannot be written.
    """
    wanted.check()
    if config.engine.name != "openvino":
        raise ConfigError(f"engine.name {config.engine.name} needs Keras on every worker; packs are for openvino")
    checkout = find_checkout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}; set --to to another folder") from error
    console.say("packing Mirabelle")
    sources = _sources(checkout)
    wheel, zipped = _pack_wheel(checkout, folder, sources)
    console.say(f"packing packages for {wanted.architecture} and Python {wanted.python}")
    environment = pack_environment(wanted, checkout, folder)
    console.say(f"packing {config.backbone.name} ({config.backbone.weights})")
    network = pack_network(with_local_weights(config, cache_folder(config)), folder)
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(
        DOCKERFILE.format(
            python=wanted.python, environment=environment.name, network=network.name, wheel=wheel.name, cache=CACHE
        ),
        encoding="utf-8",
    )
    packed = Pack(wheel, zipped, environment, network, dockerfile)
    _write_facts(packed, wanted, config, sources)
    return packed


def summary(packed: Pack) -> list[tuple[str, str]]:
    """What there is and how large, for people."""
    return [
        (name, f"{path}  ({path.stat().st_size / 1e6:,.1f} MB)")
        for name, path in zip(
            ("wheel", "zip", "packages", "network", "image"),
            packed.files(),
            strict=True,
        )
    ]


def find_checkout() -> Path:
    """The checkout that this Mirabelle runs from: packs are made of its sources and its locks.

    Raises:
        PreflightError: it runs from somewhere else.
    """
    found = Path(mirabelle.__file__).resolve().parents[2]
    if not (found / "requirements-worker.lock").is_file():
        raise PreflightError(
            "packs are made from a checkout of Mirabelle, which has the locked packages, and this one is installed"
            f" in {found}; run it there"
        )
    return found


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack_wheel(checkout: Path, folder: Path, sources: str) -> tuple[Path, Path]:
    wheel = folder / f"mirabelle-{__version__}-py3-none-any.whl"
    zipped = folder / f"mirabelle-{__version__}.zip"
    if wheel.is_file() and zipped.is_file() and _facts(folder).get("sources") == sources:
        return wheel, zipped
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as made:
        # Built from a copy: setuptools leaves a folder behind, and takes what lies there for its own.
        copied = Path(made) / "sources"
        shutil.copytree(checkout / "lib", copied / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in BESIDE_LIB:
            shutil.copy(checkout / name, copied)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*command, "--wheel-dir", made, str(copied)], capture_output=True, text=True, check=False)
        built = Path(made) / wheel.name
        if done.returncode or not built.is_file():
            raise PreflightError(f"the wheel cannot be built: {' '.join(done.stderr.split())[-300:]}")
        for path in (wheel, zipped):
            shutil.copyfile(built, path)
    return wheel, zipped


def _sources(checkout: Path) -> str:
    """A digest of all that the wheel is made of."""
    paths = [checkout / name for name in BESIDE_LIB]
    paths += [p for p in (checkout / "lib").rglob("*") if p.is_file() and not {"__pycache__"} & set(p.parts)]
    digest = hashlib.sha256()
    for path in sorted(p for p in paths if ".egg-info" not in str(p)):
        digest.update(f"{path.relative_to(checkout)}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def _facts(folder: Path) -> dict[str, Any]:
    """What the folder was packed with last."""
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def pack_network(config: Config, folder: Path) -> Path:
    """An archive in ``folder`` of a cache with the configured network alone."""
    if config.engine.precision == "int8":
        network = prepare_network(config, "int8")
        name = hashlib.sha256(network.embedding.calibration.encode()).hexdigest()[:16]
    else:
        prepare_network(config, "float32")  # OpenVINO settles the precision when it loads it, so this is any
        cached = cached_folder(config, "float32")
        name = cached.name
    archive = folder / f"network-{config.backbone.name}-{name}.tar.gz"
    if archive.is_file():
        return archive
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as made:
        if config.engine.precision == "int8":
            put_into_cache(Path(made) / "int8" / name, dict(network.facts), network.files)
        else:
            shutil.copytree(cached, Path(made) / "networks" / cached.name)
        write_archive(archive, Path(made))
    return archive


def _write_facts(packed: Pack, wanted: Wanted, config: Config, sources: str) -> None:
    facts = {
        "mirabelle": __version__,
        "architecture": wanted.architecture,
        "python": wanted.python,
        "for": wanted.part,
        "backbone": config.backbone.name,
        "weights": config.backbone.weights,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in packed.files()},
        "sources": sources,
        "wheel": packed.wheel.name,
        "zip": packed.zipped.name,
        "environment": packed.environment.name,
        "network": packed.network.name,
    }
    (packed.wheel.parent / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
