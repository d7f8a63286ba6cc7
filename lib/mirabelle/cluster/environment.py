"""The archive of Python packages that a cluster's driver and workers import from. [package registry, disk]

Runs where people type. Wheels are unpacked for the cluster's platform, which need not be this machine's: nothing is
compiled and nothing of the target is run. Paths inside the archive are relative, so it can be unpacked anywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, get_args

from mirabelle.errors import ConfigError, OutputError, PreflightError

Architecture = Literal["x86_64", "aarch64"]
Part = Literal["cluster", "worker"]

# glibc 2.28 is RHEL 8's and Debian 10's, 2.34 Amazon Linux 2023's: OpenVINO for Arm begins there.
PLATFORMS: dict[Architecture, str] = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_34"}
LOCKS: dict[Architecture, str] = {"x86_64": "requirements-{}.lock", "aarch64": "requirements-{}-arm.lock"}
PYTHONS = ("3.11", "3.12", "3.13")
# Stands for the rules below in an archive's name: one that was made by others is not taken for this.
RULES_VERSION = 1
# What is in the wheels and no job of ours opens; half of their size.
NOT_NEEDED = (
    "*/__pycache__/*",
    "*.pyi",
    "*.pxd",
    "*.pyx",
    "*.pxi",
    "*.a",
    "*.hpp",
    "*.h",
    "bin/*",
    # Tests of others; NumPy's own testing module imports from the one folder that stays.
    "pandas/tests/*",
    "pyarrow/tests/*",
    "scipy/*/tests/*",
    "sklearn/*/tests/*",
    "sklearn/tests/*",
    "sklearn/datasets/data/*",
    "sklearn/datasets/images/*",
    "narwhals/*/tests/*",
    "numpy/distutils/*",
    # Pictures go through OpenVINO's plugin for CPUs, out of OpenVINO's own format.
    "openvino/libs/libopenvino_intel_gpu_plugin*",
    "openvino/libs/libopenvino_intel_npu_plugin*",
    "openvino/libs/libopenvino_*tensorflow*_frontend*",
    "openvino/libs/libopenvino_onnx_frontend*",
    "openvino/libs/libopenvino_pytorch_frontend*",
    "openvino/libs/libopenvino_paddle_frontend*",
    "openvino/libs/libopenvino_jax_frontend*",
    "openvino/libs/libopenvino_gguf_frontend*",
    "openvino/libs/cache.json",
    "openvino/include/*",
    "openvino/cmake/*",
    # Arrow's servers, and what is there to compile against; and the same library by two more names.
    "pyarrow/include/*",
    "pyarrow/src/*",
    "pyarrow/*flight*",
    "pyarrow/*gandiva*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/libarrow*.so",
    "pyarrow/libparquet*.so",
    "pyarrow/lib*.so.*.*.*",
)
# Of AWS's four hundred services, a job knows these.
SERVICES = ("s3", "sts", "sso", "sso-oidc", "signin")

PYTHON = """\
#!/bin/sh
# Python {python} with the packages beside this file: its own where one was packed, else this machine's.
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
for python in "$here/python/bin/python{python}" "${{MIRABELLE_PYTHON:-}}" python{python} /usr/bin/python{python} \\
        /usr/local/bin/python{python}; do
    if command -v "$python" >/dev/null 2>&1; then
        export PYTHONPATH="$here/packages${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONNOUSERSITE=1
        exec "$python" "$@"
    fi
done
echo "error: {name} is for Python {python}, and there is none on $(hostname); install it there, set" \\
    "MIRABELLE_PYTHON to one, or pack again with --python or --include-python" >&2
exit 2
"""


@dataclass(frozen=True)
class Wanted:
    """Which packages, for what machine.

    Attributes:
        architecture: of the cluster's CPUs.
        python: version of the cluster's Python, such as ``3.11``.
        part: ``cluster``: for a driver there, and workers; ``worker``: for workers alone, where the driver is here.
        included: folder of a relocatable Python that goes in, too; None: the cluster has one.
    """

    architecture: Architecture
    python: str
    part: Part
    included: Path | None = None

    def check(self) -> None:
        """Raise ``ConfigError`` for what there is not."""
        for option, given, known in (
            ("--arch", self.architecture, get_args(Architecture)),
            ("--python", self.python, PYTHONS),
            ("--for", self.part, get_args(Part)),
        ):
            if given not in known:
                raise ConfigError(f"{option} {given}: there are {', '.join(known)}")
        if self.included and not (self.included / "bin" / f"python{self.python}").is_file():
            raise ConfigError(
                f"--include-python {self.included}: there is no bin/python{self.python} in it; `uv python install"
                f" {self.python}` makes one that can be moved"
            )


def pack_environment(wanted: Wanted, checkout: Path, folder: Path) -> Path:
    """The archive ``environment-<what>-<hash>.tar.gz`` in ``folder``; at once if it is there already.

    Args:
        wanted: what goes in.
        checkout: where the locks are.
        folder: that is there.

    Raises:
        ConfigError: there is no such Python or architecture.
        PreflightError: the packages cannot be had.
        OutputError: it cannot be written.
    """
    wanted.check()
    archive = archive_path(wanted, checkout, folder)
    if archive.is_file():
        return archive
    lock = _lock(wanted, checkout)
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as made:
        root = Path(made) / "environment"
        _install(wanted, lock, root / "packages")
        _shrink(root / "packages")
        if wanted.included:
            shutil.copytree(wanted.included, root / "python", symlinks=True, ignore=shutil.ignore_patterns("test"))
        program = root / "bin" / "python"
        program.parent.mkdir()
        program.write_text(PYTHON.format(python=wanted.python, name=archive.name), encoding="utf-8")
        program.chmod(0o755)
        write_archive(archive, root)
    return archive


def archive_path(wanted: Wanted, checkout: Path, folder: Path) -> Path:
    """What its archive is called, by what goes in and by what rules."""
    python = str(wanted.included.resolve()) if wanted.included else ""
    lock = _lock(wanted, checkout).read_text(encoding="utf-8")
    parts = (str(RULES_VERSION), PYTHON, python, "\n".join(NOT_NEEDED), lock)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return folder / f"environment-{wanted.part}-{wanted.architecture}-py{wanted.python}-{digest}.tar.gz"


def write_archive(archive: Path, root: Path) -> None:
    """A .tar.gz of what is below ``root``, whole or not at all; the same files make the same bytes.

    Raises:
        OutputError: it cannot be written.
    """
    beside = archive.with_name(f".{archive.name}.partial")
    try:
        with (
            open(beside, "wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for path in sorted(root.rglob("*")):
                tar.add(path, str(path.relative_to(root)), recursive=False, filter=_anonymous)
        beside.replace(archive)
    except OSError as error:
        raise OutputError(f"cannot write {archive}: {error.strerror}; set --to to another folder") from error
    finally:
        beside.unlink(missing_ok=True)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of who packed it and when; and anyone may read it, whatever the umask was."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _lock(wanted: Wanted, checkout: Path) -> Path:
    return checkout / LOCKS[wanted.architecture].format(wanted.part)


def _install(wanted: Wanted, lock: Path, target: Path) -> None:
    # pip asks the markers of the machine that it runs on; uv those of the one that it is told of.
    command = [_uv(), "pip", "install", "--quiet", "--target", str(target), "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", wanted.python, "--link-mode", "copy"]
    command += ["--python", sys.executable, "--python-platform", PLATFORMS[wanted.architecture], "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise PreflightError(
            f"the packages of {lock.name} cannot be had for {wanted.architecture} and Python {wanted.python}: {said}"
        )


def _uv() -> str:
    try:
        from uv import find_uv_bin
    except ImportError as error:
        raise PreflightError("packing needs uv; install mirabelle[driver]") from error
    return str(find_uv_bin())


def _shrink(packages: Path) -> None:
    services = packages / "botocore" / "data"
    for path in list(_files(packages)):
        inside = path.relative_to(packages).as_posix()
        service = path.relative_to(services).parts if path.is_relative_to(services) else ()
        if any(fnmatch(inside, pattern) for pattern in NOT_NEEDED) or (len(service) > 1 and service[0] not in SERVICES):
            path.unlink()
    for folder, _, _ in os.walk(packages, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
