"""How the JVM is started where we start it ourselves: quiet, and soon. [java, cache folder]

Driver only. Most of Spark's start goes into loading and verifying thousands of classes. HotSpot can keep them in an
archive (application class-data sharing, JEP 350): the first run leaves one in the cache as its JVM ends, later ones
start from it, and a JVM that finds it made for another class path or Java goes on without.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path

from mirabelle.errors import PreflightError

# A JVM goes on writing its archive for some seconds after its program has ended.
STILL_WRITTEN_SECONDS = 10.0


def check_java() -> str:
    """The java that Spark will start.

    Raises:
        PreflightError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        where = f"JAVA_HOME is {home} and holds no java" if home else "there is no java"
        raise PreflightError(f"{where}; Spark needs Java 17 or later: install one, or set JAVA_HOME to it")
    return java


def java_options(java: str, cache: Path | None, coordinates: bool) -> str:
    """Options for the driver's JVM, as ``spark.driver.extraJavaOptions`` takes them.

    Args:
        java: what ``check_java`` gave.
        cache: where the archive of classes is kept; None: there is to be none.
        coordinates: whether the JVM only hands out work. Compiling its code well, and collecting garbage in parallel,
            then costs the workers' cores more than it brings.
    """
    options = []
    log = Path(str(resources.files("mirabelle").joinpath("log4j2.properties")))
    if log.is_file():
        options.append(f"-Dlog4j2.configurationFile={log.as_uri()}")
    if coordinates:
        options += ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    if cache is not None:
        options += _archive_options(java, cache / "jvm")
    return " ".join(shlex.quote(option) for option in options)


def _archive_options(java: str, folder: Path) -> list[str]:
    """Use the archive, or leave one; one that is there is used where the cache cannot be written to, too."""
    import pyspark

    release = Path(os.path.realpath(java)).parents[1] / "release"
    told = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else java
    recipe = "\n".join([told, pyspark.__version__, pyspark.__file__, os.environ.get("SPARK_HOME", "")])
    archive = folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.jsa"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return []
    writable = os.access(folder, os.W_OK | os.X_OK)
    partials = list(folder.glob(f"{archive.stem}-*.partial")) if writable else []
    for partial in partials:
        # Another run may have been quicker.
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > STILL_WRITTEN_SECONDS:
                partial.replace(archive)
    # Without the log: what HotSpot has to say of classes that cannot be archived is pages long.
    if os.access(archive, os.R_OK):
        return [f"-XX:SharedArchiveFile={archive}", "-Xlog:disable"]
    if partials or not writable:
        return []
    return [f"-XX:ArchiveClassesAtExit={archive.with_suffix('')}-{os.getpid()}.partial", "-Xlog:disable"]
