"""The only place that starts Spark and builds a SparkSession. [Spark; driver only]

Masters, memory and endpoints come from the configuration's ``spark`` part or from spark-submit, never from here. What
spark-submit was told always wins.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle import signals
from mirabelle.errors import PreflightError
from mirabelle.network.home import ensure_home
from mirabelle.spark.cluster import await_executor, is_local
from mirabelle.spark.jvm import check_java, check_java_version, java_options, user_name
from mirabelle.spark.launch import STOPPED, explain, launch, spark_defaults

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

# What the work itself needs, wherever it runs; none of it is about a place.
NEEDED = {
    "spark.app.name": "Mirabelle",
    # Spark's bars would draw over ours.
    "spark.ui.showConsoleProgress": "false",
    # A worker process keeps its compiled network from task to task.
    "spark.python.worker.reuse": "true",
    "spark.sql.session.timeZone": "UTC",
    # What is broadcast is weights, and floats do not compress.
    "spark.broadcast.compress": "false",
    # TensorFlow's remarks about the machine, where the engine is Keras.
    "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "3",
}
EXECUTOR_WAIT_SECONDS = 300.0
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
# Libraries that would each start a thread a core are held to the cores that their task has.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def session_on(context: SparkContext) -> SparkSession:
    """The session for DataFrames, which extract and compact do without: it takes a second or two to make."""
    from pyspark.sql import SparkSession

    # Asked of the context: which session is active is known to each JVM thread by itself, and may be forgotten.
    return SparkSession.getActiveSession() or SparkSession.builder.config(conf=context.getConf()).getOrCreate()


def works_here(settings: Mapping[str, object]) -> bool:
    """Whether Spark's tasks will run on this machine, in this very Python, as far as that is known before it starts."""
    from pyspark import SparkContext

    told = {"PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "MASTER"} & os.environ.keys()
    if SparkContext._active_spark_context is not None or told:
        return False
    wanted = {**spark_defaults(), **settings}
    pythons = {wanted.get("spark.pyspark.python"), os.environ.get("PYSPARK_PYTHON")} - {None, sys.executable}
    return is_local(str(wanted.get("spark.master", "local[*]"))) and not pythons


def is_installed() -> bool:
    """Whether a Python like this one finds Mirabelle by itself, and not by what was put on this one's path."""
    with suppress(PackageNotFoundError):
        return bool(distribution("mirabelle").read_text("RECORD"))
    return False


@contextmanager
def open_context(
    settings: Mapping[str, object],
    cache: Path | None = None,
    coordinates: bool = False,
    wait_seconds: float = EXECUTOR_WAIT_SECONDS,
    timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Iterator[SparkContext]:
    """Spark for the block, stopped after it; what is there already, as in a notebook, is used and left.

    Args:
        settings: Spark properties; those that spark-submit set are left as they are.
        cache, coordinates: as ``jvm.java_options`` takes them, where the JVM is ours to start.
        wait_seconds: for the cluster's first executor.
        timed: around ``jvm``, ``context`` and ``stop``, for whoever counts their seconds.

    Raises:
        PreflightError: there is no pyspark, or no Java, or Spark does not start, or no executor comes.
    """
    try:
        from pyspark import SparkConf, SparkContext

        from mirabelle.config import is_secret
    except ImportError as error:
        raise PreflightError(
            f"pyspark cannot be imported ({error}); install mirabelle[spark], or use spark-submit"
        ) from error
    if SparkContext._active_spark_context is not None:
        yield SparkContext._active_spark_context
        return
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    usual = {} if submitted else {"spark.master": os.environ.get("MASTER") or "local[*]", **spark_defaults()}
    wanted = {**NEEDED, **usual, **{key: _text(v) for key, v in settings.items()}}
    try:
        if works_here(wanted) and is_installed():
            wanted.setdefault("spark.python.daemon.module", "mirabelle.spark.daemon")
        if SparkContext._gateway is None and not submitted:
            ensure_home()
            java = check_java()
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            theirs = wanted.get(JAVA_OPTIONS, "")
            wanted[JAVA_OPTIONS] = f"{java_options(java, cache, coordinates, theirs)} {theirs}".strip()
            # Properties that the JVM is started with stand on its command line, for anyone's `ps`; the others follow.
            quiet = SparkConf(loadDefaults=False)
            quiet.setAll([(key, value) for key, value in wanted.items() if not is_secret(key)])
            with timed("jvm"):
                SparkContext._ensure_initialized(gateway=launch(quiet), conf=quiet)
            _name_user(SparkContext._jvm)
        SparkContext._ensure_initialized()
        # Only now does it have what spark-submit was told: the JVM knows.
        conf = SparkConf()
        _complete(conf, wanted)
        with timed("context"):
            context = _make_context(conf)
        # It has a handler of SIGINT, which asks the JVM over the very connection that it may have interrupted.
        signals.take(_part_from_jvm)
    except PreflightError:
        raise
    except Exception as error:  # py4j and pyspark raise many kinds here; all mean that Spark is not to be had
        said = str(error).partition("\n: ")[2] or str(error)
        master = SparkConf().get("spark.master") or wanted.get("spark.master", "")
        raise PreflightError(explain(said, master)) from error
    if submitted and not conf.contains("spark.log.level"):
        context.setLogLevel("ERROR")
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        try:
            with timed("context"):
                _prepare(context, folder, submitted, wait_seconds)
            yield context
            # Only now that no task runs any more, which would have nobody to tell what it counted.
            _stop_accumulators(context)
        finally:
            with _speechless_if_interrupted(), timed("stop"):
                _stop(context, () if submitted else [key for key, value in wanted.items() if conf.get(key) == value])


def _prepare(context: SparkContext, folder: str, submitted: bool, wait_seconds: float) -> None:
    try:
        if submitted:
            check_java_version(_property(context, "java.specification.version"), _property(context, "java.home"))
        _send_wheels(context, folder)
        await_executor(context, wait_seconds)
    except Exception as error:
        # A cluster may be given up by Spark this late, too.
        if STOPPED not in str(error):
            raise
        raise PreflightError(explain(str(error), str(context.master))) from error


def _complete(conf: Any, wanted: Mapping[str, str]) -> None:
    """Set what spark-submit has not set."""
    cores = conf.get("spark.task.cpus") or wanted.get("spark.task.cpus", "1")
    for key, value in {**{f"spark.executorEnv.{name}": cores for name in THREADS}, **wanted}.items():
        conf.setIfMissing(key, value)


def _make_context(conf: Any) -> SparkContext:
    from pyspark import SparkContext

    with warnings.catch_warnings():
        # In YARN's cluster mode wheels are on the path already, and not where it looks for them.
        warnings.filterwarnings("ignore", "Failed to add file")
        return SparkContext.getOrCreate(conf)


def _stop(context: SparkContext, properties: Iterable[str]) -> None:
    from pyspark.sql import SparkSession

    jvm = context._jvm
    # A session that was made on it must not be taken for one that lives.
    (SparkSession._instantiatedSession or context).stop()
    if jvm is not None:
        # The JVM lives on and keeps what it was started with as system properties, which would win over the settings of
        # the next session in this process; those that PYSPARK_SUBMIT_ARGS told are to.
        for key in properties:
            jvm.java.lang.System.clearProperty(key)


@contextmanager
def _speechless_if_interrupted() -> Iterator[None]:
    """Nothing that fails in the block is told after a signal: the JVM may have got one too, and be gone."""
    if signals.interruption(sys.exc_info()[1]) is None:
        yield
        return
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _part_from_jvm() -> None:
    """Before an interruption: have this thread talk to the JVM over a new connection, and the JVM say no more.

    On the old connection an answer may still be on its way; and Spark logs what it meets while its tasks are killed.
    """
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    context = SparkContext._active_spark_context
    with suppress(AttributeError):  # with PYSPARK_PIN_THREAD=false, connections are no thread's own
        gateway._gateway_client.get_thread_connection().close()
    if context is not None:
        context.setLogLevel("OFF")


def check_names(context: SparkContext, path: str) -> None:
    """Raise ``PreflightError`` if the JVM would write another name than ``path``, a file or folder of this machine."""
    encoding = _property(context, "sun.jnu.encoding")
    try:
        same = path.encode(encoding) == os.fsencode(path)
    except (UnicodeError, LookupError):
        same = False
    if not same:
        raise PreflightError(
            f"Spark's JVM writes names in {encoding}, in which there is no {path!r}; set LC_ALL to C.UTF-8 where"
            " spark-submit is started"
        )


def _property(context: SparkContext, name: str) -> str:
    """One of the JVM's system properties, or empty."""
    jvm = context._jvm
    assert jvm is not None
    return str(jvm.java.lang.System.getProperty(name) or "")


def _name_user(jvm: Any) -> None:
    """Tell Hadoop who this is, where the system does not know: it would find that the user id is invalid."""
    if not user_name():
        users = jvm.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(os.environ.get("HADOOP_USER_NAME") or str(os.geteuid())))


def _stop_accumulators(context: SparkContext) -> None:
    """End PySpark's server of accumulators at once; left to itself it looks once a second whether it should end.

    It waits for an update, so it is told to end and given an empty one.
    """
    # All of this is PySpark's own affair: where it is otherwise one day, or the JVM is gone, it takes that second.
    with suppress(Exception):
        server = context._accumulatorServer
        threading.Thread(target=server.shutdown, daemon=True).start()
        context._javaAccumulator.merge(context._javaAccumulator.copyAndReset())


def _send_wheels(context: SparkContext, folder: str) -> None:
    """Let workers import from wheels given to ``--py-files``, which Spark sends and leaves off their path.

    A wheel is a zip file, and those do get there (``SparkContext.PACKAGE_EXTENSIONS``), so a copy goes too. Spark reads
    it again whenever an executor joins, so ``folder`` must live as long as the session. In YARN's cluster mode wheels
    are on the path of driver and workers alike, and nowhere else.
    """
    from pyspark import SparkFiles

    for given in context.getConf().get("spark.submit.pyFiles", "").split(","):
        name = os.path.basename(given)
        if name.endswith(".whl") and os.path.isfile(sent := SparkFiles.get(name)):
            renamed = os.path.join(folder, name.removesuffix(".whl") + ".zip")
            shutil.copyfile(sent, renamed)
            context.addPyFile(renamed)


def _text(value: object) -> str:
    """Spark writes booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)
