"""How the JVM is started where we start it ourselves: quiet, and soon. [java, cache folder]

Driver only. Most of Spark's start goes into loading and verifying thousands of classes. HotSpot can keep them in an
archive (application class-data sharing, JEP 350): the first run leaves one in the cache as its JVM ends, later ones
start from it, and a JVM that finds it made for another class path or Java goes on without.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path

from mirabelle.errors import PreflightError

# A JVM goes on writing its archive for some seconds after its program has ended.
STILL_WRITTEN_SECONDS = 10.0
# As each Spark's documentation has them, less those on which our options or its Arrow fail: 3.5 runs on 8 and 11 too,
# which keep no archive of classes, and 4.1 starts on 25 and cannot read a batch there.
JAVAS_OF_SPARK = {"3.5": (17,), "4.0": (17, 21), "4.1": (17, 21)}
MIN_JAVA = 17
# What snappy-java and zstd-jni call the folder that they unpack themselves into.
NATIVE_CODECS = ("org.xerial.snappy.tempdir", "ZstdTempFolder")
ANSWERS_SECONDS = 30.0


def check_java() -> str:
    """The java that Spark will start.

    Raises:
        PreflightError: there is none, or it is one that this Spark does not run on.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        where = f"JAVA_HOME is {home} and holds no java" if home else "there is no java"
        raise PreflightError(f"{where}; {needed_java()}: install one, or set JAVA_HOME to it")
    check_java_version(_version_of(java), java)
    return java


def check_java_version(told: str, java: str) -> None:
    """Raise ``PreflightError`` if this Spark does not run on a Java.

    Args:
        told: its version as it tells it itself, ``17.0.15`` or ``1.8.0_392``; empty where it is not known.
        java: how it is named to the user.
    """
    number = re.match(r"(?:1\.)?(\d+)", told)
    if number is None:
        return
    known = _fitting_javas()
    major = int(number[1])
    if major not in known if known else major < MIN_JAVA:
        raise PreflightError(f"{java} is Java {major}; {needed_java()}: install one, or set JAVA_HOME to it")


def needed_java() -> str:
    """Which Java this Spark needs, as a clause."""
    known = _fitting_javas()
    return f"{f'Spark {_spark_version()}'.strip()} needs Java {' or '.join(map(str, known)) or f'{MIN_JAVA} or later'}"


def _fitting_javas() -> tuple[int, ...]:
    """The Javas that this Spark runs on; empty where the Spark is not known."""
    return JAVAS_OF_SPARK.get(".".join(_spark_version().split(".")[:2]), ())


def _spark_version() -> str:
    try:
        import pyspark
    except ImportError:
        return ""
    return str(pyspark.__version__)


def _version_of(java: str) -> str:
    """What a java tells of its version, or empty; read off the file beside it, if there is one, in no time."""
    release = _release(java)
    pattern = r'version "([^"]+)"'
    if release.is_file():
        told, pattern = release.read_text(encoding="utf-8", errors="replace"), r'JAVA_VERSION="([^"]+)"'
    else:
        try:
            asked = subprocess.run(
                [java, "-version"], check=False, capture_output=True, text=True, timeout=ANSWERS_SECONDS
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        told = asked.stderr
    found = re.search(pattern, told)
    return found[1] if found else ""


def _release(java: str) -> Path:
    return Path(os.path.realpath(java)).parents[1] / "release"


def java_options(java: str, cache: Path | None, coordinates: bool, theirs: str = "") -> str:
    """Options for the driver's JVM, as ``spark.driver.extraJavaOptions`` takes them.

    Args:
        java: what ``check_java`` gave.
        cache: where the archive of classes is kept; None: there is to be none.
        coordinates: whether the JVM only hands out work. Compiling its code well, and collecting garbage in parallel,
            then costs the workers' cores more than it brings.
        theirs: options of the user's own that will follow these, and win.
    """
    options = [] if user_name() else _nameless_options()
    log = Path(str(resources.files("mirabelle").joinpath("log4j2.properties")))
    if log.is_file():
        options.append(f"-Dlog4j2.configurationFile={log.as_uri()}")
    if coordinates:
        options.append("-XX:TieredStopAtLevel=1")
        # Two collectors are an error.
        options += [] if re.search(r"-XX:\+Use\w*GC\b", theirs) else ["-XX:+UseSerialGC"]
    if cache is not None and os.access(cache, os.W_OK) and not runs_programs(Path("/tmp")) and runs_programs(cache):
        # Java's temporary folder, whatever TMPDIR says: libraries unpack their native halves there and load them.
        options += [f"-D{name}={cache}" for name in NATIVE_CODECS]
    if cache is not None:
        options += _archive_options(java, cache / "jvm")
    return " ".join(shlex.quote(option) for option in options)


def user_name() -> str:
    """The name of the user that this process is, or empty: in containers an id may have none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _nameless_options() -> list[str]:
    """A name and a home for a user that has neither; the JVM would say ``?`` for both, which is no folder."""
    home = os.environ.get("HOME", "")
    home = home if os.path.isabs(home) and os.access(home, os.W_OK) else tempfile.gettempdir()
    return [f"-Duser.home={home}", f"-Duser.name={os.geteuid()}"]


def runs_programs(folder: Path) -> bool:
    """Whether what lies in a folder may be run or loaded as a library: it is not on a disk mounted noexec."""
    try:
        return not os.statvfs(folder).f_flag & os.ST_NOEXEC
    except OSError:
        return True


def _archive_options(java: str, folder: Path) -> list[str]:
    """Use the archive, or leave one; one that is there is used where the cache cannot be written to, too."""
    import pyspark

    release = _release(java)
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
