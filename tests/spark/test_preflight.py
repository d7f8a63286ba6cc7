"""The session and what is asked of the executors before any image is read."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from mirabelle.config import Config, load
from mirabelle.errors import ConfigError, PreflightError
from mirabelle.network.engines import native_precisions
from mirabelle.spark.cluster import slots, task_cpus
from mirabelle.spark.preflight import Worker, _explain, check_gpus, run_preflight, settle
from mirabelle.spark.session import NEEDED, open_context
from mirabelle.worker.probe import probe

COMMAND = Path(sys.executable).parent / "mirabelle"


def configured(*settings: str) -> Config:
    return load(None, ["images.root=.", "output=out", *settings], {})


def in_a_process(code: str) -> str:
    """What a script prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# The session


def test_a_session_that_is_running_is_used_and_left(spark: SparkSession) -> None:
    name = spark.sparkContext.appName
    with open_context({"spark.app.name": "another", "spark.master": "local[1]"}) as context:
        assert context is spark.sparkContext
    with pytest.raises(KeyError), open_context({}):
        raise KeyError
    assert spark.sparkContext.appName == name
    assert spark.range(3).count() == 3


def test_the_session_has_what_was_asked_and_what_the_work_needs(spark: SparkSession) -> None:
    conf = spark.sparkContext.getConf()
    assert conf.get("spark.master") == "local[2]"
    assert conf.get("spark.sql.shuffle.partitions") == "2"
    assert conf.get("spark.ui.showConsoleProgress") == "false"
    assert {key: conf.get(key) for key in NEEDED} == NEEDED
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"


def test_libraries_on_workers_are_held_to_their_tasks_core(spark: SparkSession) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    told = spark.sparkContext.parallelize([0, 1], 2).mapPartitions(lambda _: [os.environ.get(name) for name in names])
    assert told.collect() == ["1"] * 6


SESSIONS = """
import json
from pyspark import SparkContext
from pyspark.sql import SparkSession
from mirabelle.errors import PreflightError
from mirabelle.spark.cluster import slots, task_cpus
from mirabelle.spark.session import open_context, session_on

def facts(context):
    session_on(context)
    conf = context.getConf()
    keys = ("spark.master", "spark.app.name", "spark.ui.enabled", "spark.ui.showConsoleProgress")
    counts = {"slots": slots(context), "cpus": task_cpus(context)}
    return {**{key: conf.get(key) for key in keys}, **counts, "threads": conf.get("spark.executorEnv.OMP_NUM_THREADS")}

def left():
    return [SparkSession.getActiveSession() is not None, SparkContext._active_spark_context is not None]

told = {}
common = {"spark.ui.enabled": False, "spark.sql.shuffle.partitions": 1}
with open_context({**common, "spark.master": "local[4]", "spark.app.name": "one", "spark.task.cpus": 2}) as context:
    told["one"] = facts(context)
told["after one"] = left()
try:
    with open_context({**common, "spark.master": "local[3]", "spark.app.name": "two"}) as context:
        told["two"] = facts(context)
        raise KeyError
except KeyError:
    told["after two"] = left()
settings = {"spark.master": "local[1]", "spark.task.cpus": 1, "spark.default.parallelism": 64}
with open_context({**common, **settings}) as context:
    told["three"] = facts(context)
with open_context(common) as context:
    told["none asked"] = facts(context)
try:
    with open_context({**common, "spark.master": "local[x]"}):
        told["no master"] = "opened"
except PreflightError as error:
    told["no master"] = str(error)
print(json.dumps(told))
"""


MASTERS = """
import json
from mirabelle.spark.session import open_context

told = []
for settings in ({}, {"spark.master": "local[3]"}, {}):
    with open_context({**settings, "spark.ui.enabled": False}) as context:
        told.append(context.master)
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("variable", "value", "masters"),
    [
        ("MASTER", "", ["local[*]", "local[3]", "local[*]"]),
        ("MASTER", "local[2]", ["local[2]", "local[3]", "local[2]"]),
        ("PYSPARK_SUBMIT_ARGS", "--master local[2] pyspark-shell", ["local[2]"] * 3),
    ],
)
def test_each_session_has_the_master_it_names_and_else_the_usual_one(
    variable: str, value: str, masters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever session the JVM was started for; what Spark itself was told holds for all."""
    monkeypatch.setenv(variable, value)
    assert json.loads(in_a_process(MASTERS)) == masters


@pytest.fixture(scope="module")
def sessions() -> dict[str, Any]:
    """What some sessions, one after another in a process of their own, told of themselves."""
    return json.loads(in_a_process(SESSIONS))


def test_a_session_is_stopped_after_its_block(sessions: dict[str, Any]) -> None:
    assert sessions["after one"] == sessions["after two"] == [False, False]


def test_settings_reach_spark_as_spark_writes_them(sessions: dict[str, Any]) -> None:
    assert sessions["one"] == {
        "spark.master": "local[4]",
        "spark.app.name": "one",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Four cores, two for each task and its libraries.
        "threads": "2",
        "slots": 2,
        "cpus": 2,
    }


def test_the_next_session_in_the_process_has_its_own_settings(sessions: dict[str, Any]) -> None:
    """Spark's JVM outlives the session, and the properties it was started with are not what spark-submit was told."""
    two = sessions["two"]
    assert (two["spark.master"], two["spark.app.name"]) == ("local[3]", "two")
    # The first one's spark.task.cpus went with it.
    assert (two["slots"], two["cpus"], two["threads"]) == (3, 1, "1")


def test_a_session_that_names_no_master_after_one_that_did_is_on_this_machine(sessions: dict[str, Any]) -> None:
    assert sessions["none asked"]["spark.master"] == "local[*]"


def test_slots_are_of_the_cores_whatever_the_default_parallelism_is(sessions: dict[str, Any]) -> None:
    """``spark.default.parallelism`` says into how many parts Spark cuts data, and not how many tasks run at once."""
    assert sessions["three"]["slots"] == 1


def test_a_session_that_does_not_start_says_why(sessions: dict[str, Any]) -> None:
    sentence = sessions["no master"]
    assert sentence.startswith("Spark does not start: ")
    assert "local[x]" in sentence
    assert sentence.endswith("; check spark.master and the spark part of the configuration")
    assert "\n" not in sentence


# What the executors tell


def test_every_executor_is_asked_and_this_machines_answer_is_true(spark: SparkSession) -> None:
    found = run_preflight(spark.sparkContext, configured())
    (worker,) = found.workers
    assert worker.host == socket.gethostname()
    assert worker.python == platform.python_version()
    assert worker.cores == len(os.sched_getaffinity(0))
    assert worker.precisions == tuple(native_precisions())
    assert worker.problems == ()
    import numpy
    import PIL

    assert worker.versions["numpy"] == numpy.__version__
    assert worker.versions["PIL"] == PIL.__version__
    assert set(worker.versions) == {"numpy", "pandas", "pyarrow", "PIL", "mirabelle", "openvino"}
    assert (found.slots, found.threads) == (2, 1)
    assert found.precision == ("bf16" if "bf16" in native_precisions() else "float32")
    assert (slots(spark.sparkContext), task_cpus(spark.sparkContext)) == (2, 1)


def test_a_precision_asked_for_is_taken(spark: SparkSession) -> None:
    assert run_preflight(spark.sparkContext, configured("engine.precision=float32")).precision == "float32"


# What follows from it

WORKER = Worker("one", "3.11.7", 8, "a CPU", ("float32", "bf16"), {}, ())
OLD = replace(WORKER, host="two", cpu="an older CPU", precisions=("float32",))


@pytest.mark.parametrize(
    ("workers", "asked", "engine", "settled"),
    [
        ([WORKER], "auto", "openvino", "bf16"),
        ([WORKER, replace(WORKER, host="two")], "auto", "openvino", "bf16"),
        # One machine without it, and all compute alike.
        ([WORKER, OLD], "auto", "openvino", "float32"),
        ([OLD], "auto", "openvino", "float32"),
        ([WORKER], "float32", "openvino", "float32"),
        ([WORKER], "bf16", "openvino", "bf16"),
        ([OLD], "int8", "openvino", "int8"),
        ([WORKER], "auto", "keras", "float32"),
        ([WORKER], "bf16", "keras", "bf16"),
        ([WORKER], "float32", "keras", "float32"),
    ],
)
def test_the_precision_is_settled_once_for_all(workers: list[Worker], asked: str, engine: str, settled: str) -> None:
    config = configured(f"engine.precision={asked}", f"engine.name={engine}")
    found = settle(tuple(workers), 4, 1, config)
    assert found.precision == settled
    assert found.workers == tuple(workers)


@pytest.mark.parametrize("workers", [[OLD], [WORKER, OLD]])
def test_bf16_that_a_machine_lacks_is_refused(workers: list[Worker]) -> None:
    with pytest.raises(ConfigError, match=r"engine\.precision is bf16, which these CPUs .*; use auto or float32"):
        settle(tuple(workers), 4, 1, configured("engine.precision=bf16"))


def test_a_cpu_that_is_slow_in_int8_is_warned_of() -> None:
    slow = replace(WORKER, host="two", fast_int8=False)
    (warning,) = settle((slow,), 4, 1, configured("engine.precision=int8")).warnings
    assert "neither VNNI nor AMX: it runs, more slowly" in warning
    assert settle((WORKER,), 4, 1, configured("engine.precision=int8")).warnings == ()
    assert settle((WORKER, slow), 4, 1, configured()).warnings == ()
    # Their features are not quite the same, and would be mixed.
    with pytest.raises(ConfigError, match=r"int8, and some of these CPUs .*; take machines of one kind"):
        settle((WORKER, slow), 4, 1, configured("engine.precision=int8"))


def test_auto_is_what_a_certificate_allows_and_every_machine_has() -> None:
    certified = ("bf16", "int8", "float32")
    assert settle((WORKER,), 4, 1, configured(), certified).precision == "bf16"
    assert settle((WORKER, OLD), 4, 1, configured(), certified).precision == "int8"
    assert settle((WORKER,), 4, 1, configured(), ("float32",)).precision == "float32"
    assert settle((WORKER,), 4, 1, configured("engine.precision=bf16"), certified).precision == "bf16"


@pytest.mark.parametrize(
    ("machines", "cores", "at_once", "task_cpus", "threads"),
    [
        (1, 2, 2, 1, 1),
        (1, 8, 2, 4, 4),
        # Two tasks of one core on eight cores: the other six are not ours.
        (1, 8, 2, 1, 1),
        (2, 8, 4, 4, 4),
        # Five slots on two machines are three on one of them.
        (2, 8, 5, 4, 2),
    ],
)
def test_threads_follow_from_cores_and_tasks(
    machines: int, cores: int, at_once: int, task_cpus: int, threads: int
) -> None:
    workers = tuple(replace(WORKER, host=str(i), cores=cores) for i in range(machines))
    found = settle(workers, at_once, task_cpus, configured())
    assert (found.threads, found.slots, found.warnings) == (threads, at_once, ())


def test_more_tasks_than_cores_are_warned_of() -> None:
    found = settle((replace(WORKER, cores=2),), 8, 1, configured())
    (warning,) = found.warnings
    assert warning.startswith("Spark runs 8 tasks at once on machines of 2 cores; give local[2]")
    assert found.threads == 1


ONE_GPU, QUARTER = "spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        (
            {ONE_GPU: "4", QUARTER: "1"},
            r"gpu\.amount is 4, and a worker process keeps the GPU of its first task; set it",
        ),
        ({ONE_GPU: "1"}, r"tasks ask for none; set spark\.task\.resource\.gpu\.amount, to 0\.25"),
    ],
)
def test_gpus_that_keras_would_miss_are_refused(conf: dict[str, str], told: str) -> None:
    with pytest.raises(PreflightError, match=told):
        check_gpus(conf, "keras")  # type: ignore[arg-type]


def test_gpus_that_nothing_would_use_are_warned_of() -> None:
    (warning,) = check_gpus({ONE_GPU: "2"}, "openvino")  # type: ignore[arg-type]
    assert "engine.name openvino uses none; set it to keras" in warning
    assert check_gpus({ONE_GPU: "1", QUARTER: "0.25"}, "keras") == ()  # type: ignore[arg-type]
    assert check_gpus({}, "keras") == ()  # type: ignore[arg-type]


def test_the_probe_tells_what_keras_runs_on_and_a_gpu_that_it_does_not_see() -> None:
    facts = probed("from mirabelle.network import gpu; gpu.take_gpu(['5'])", "keras", on_gpu=True)
    import keras
    import tensorflow

    assert (facts["versions"]["keras"], facts["versions"]["tensorflow"]) == (keras.__version__, tensorflow.__version__)
    (problem,) = facts["problems"]
    assert problem.startswith("Spark gave a task GPU 5, and Keras on tensorflow sees none")


def test_the_smallest_machine_decides() -> None:
    workers = (replace(WORKER, cores=16), replace(WORKER, host="two", cores=2))
    found = settle(workers, 8, 4, configured())
    assert found.threads == 1
    assert "4 tasks at once on machines of 2 cores" in found.warnings[0]


def test_different_pythons_are_warned_of() -> None:
    found = settle((WORKER, replace(WORKER, host="two", python="3.12.1")), 2, 1, configured())
    assert found.warnings == ("the workers have different Pythons: 3.11.7, 3.12.1",)


# What is missing


def sentence_of(spark: SparkSession, *settings: str) -> str:
    """The sentence that preflight refuses with."""
    with pytest.raises(PreflightError) as raised:
        run_preflight(spark.sparkContext, configured(*settings))
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert len(sentence) < 600
    return sentence


@pytest.fixture
def workers_run(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Give the session's workers another Python from now on, as PYSPARK_PYTHON would."""
    return lambda python: monkeypatch.setattr(spark.sparkContext, "pythonExec", str(python))


def python_with(folder: Path, module: str, content: str) -> Path:
    """This Python, with a module of ours in front of all others."""
    (folder / f"{module}.py").write_text(content)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def test_a_module_that_workers_cannot_import_is_named_with_its_package(
    spark: SparkSession, workers_run: Callable[[Path], None], tmp_path: Path
) -> None:
    workers_run(python_with(tmp_path, "openvino", "raise ImportError('libtbb.so.12: cannot open shared object file')"))
    assert sentence_of(spark) == (
        f"the workers on {socket.gethostname()} cannot do the work: openvino cannot be imported (ImportError:"
        " libtbb.so.12: cannot open shared object file); install mirabelle[openvino] there"
    )


def test_the_engine_that_is_not_used_may_be_missing(
    spark: SparkSession, workers_run: Callable[[Path], None], tmp_path: Path
) -> None:
    workers_run(python_with(tmp_path, "keras", "raise ImportError('not here')"))
    assert run_preflight(spark.sparkContext, configured()).workers[0].problems == ()
    assert "keras cannot be imported (ImportError: not here); install mirabelle[keras]" in sentence_of(
        spark, "engine.name=keras"
    )


def test_workers_of_a_python_without_our_package_are_one_sentence(
    spark: SparkSession, workers_run: Callable[[Path], None], tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    workers_run(tmp_path / "bare" / "bin" / "python")
    # Which of them is missed first is Spark's affair.
    assert re.match(
        r"the workers' Python has no module (mirabelle|pyarrow|pandas|numpy); install it there, point PYSPARK_PYTHON",
        sentence_of(spark),
    )


def test_a_python_that_is_not_there_is_named(
    spark: SparkSession, workers_run: Callable[[Path], None], tmp_path: Path
) -> None:
    workers_run(tmp_path / "no-python")
    sentence = sentence_of(spark)
    assert str(tmp_path / "no-python") in sentence
    assert "PYSPARK_PYTHON" in sentence


def probed(prelude: str, engine: str = "openvino", on_gpu: bool = False) -> dict[str, Any]:
    """What ``probe`` tells in a process of its own."""
    ask = f"from mirabelle.worker.probe import probe\nprint(json.dumps(probe({engine!r}, on_gpu={on_gpu})))"
    return json.loads(in_a_process(f"import json, sys\n{prelude}\n{ask}"))


@pytest.mark.parametrize(("engine", "extra"), [("openvino", "mirabelle[openvino]"), ("keras", "mirabelle[keras]")])
def test_the_probe_tells_an_engine_that_is_missing(engine: str, extra: str) -> None:
    facts = probed(f"sys.modules[{engine!r}] = None", engine)
    (problem,) = facts["problems"]
    assert problem.startswith(f"{engine} cannot be imported (ModuleNotFoundError: ")
    assert problem.endswith(f"; install {extra} there")
    assert facts["precisions"] == ["float32"]


def test_the_probe_tells_everything_that_is_missing() -> None:
    facts = probed("sys.modules['PIL'] = sys.modules['pandas'] = None")
    assert [problem.split()[0] for problem in facts["problems"]] == ["pandas", "PIL"]
    assert facts["problems"][1].endswith("; install pillow there")


def test_the_probe_tells_an_old_pillow(tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("__version__ = '11.2.1'")
    assert probed(f"sys.path.insert(0, {str(tmp_path)!r})")["problems"] == ["Pillow 11.2.1 is too old; AVIF needs 11.3"]


def test_the_probe_tells_a_library_that_breaks_at_length_in_one_line(tmp_path: Path) -> None:
    """NumPy and OpenVINO explain themselves over a page when their own libraries cannot be loaded."""
    page = "\n\nIMPORTANT: PLEASE READ THIS FOR ADVICE\n\n" + "advice " * 500 + "\n"
    (tmp_path / "openvino.py").write_text(f"raise ImportError({page!r})")
    (problem,) = probed(f"sys.path.insert(0, {str(tmp_path)!r})")["problems"]
    assert problem.startswith("openvino cannot be imported (ImportError: ")
    assert problem.endswith("; install mirabelle[openvino] there")
    assert "\n" not in problem
    assert len(problem) < 500


def test_the_probe_of_this_process_finds_nothing_wrong() -> None:
    assert probe("openvino")["problems"] == []


# Texts as Spark 4.3 gave them, shortened where "[...]" stands.
MISSING_MODULE = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/opt/spark/python/lib/pyspark.zip/pyspark/worker.py", line 1883, in read_udfs
    udfs = [
           ^
  File "/opt/spark/python/lib/pyspark.zip/pyspark/serializers.py", line 483, in loads
    return cloudpickle.loads(obj, encoding=encoding)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ModuleNotFoundError: No module named {}
"""
MISMATCH = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/opt/spark/python/lib/pyspark.zip/pyspark/worker.py", line 4174, in invoke_udf
    check_python_version(init_info.python_version)
    ~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/spark/python/lib/pyspark.zip/pyspark/worker_util.py", line 93, in check_python_version
    raise PySparkRuntimeError(
    ...<5 lines>...
    )
pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker has different version: \
3.13 than that in driver: 3.11, PySpark cannot run with different minor versions.
Please check environment variables PYSPARK_PYTHON and PYSPARK_DRIVER_PYTHON are correctly set."""
NO_DAEMON = """An error occurred while calling o131.collectToPython.
: org.apache.spark.SparkException: EOFException occurred while reading the port number from pyspark.daemon's stdout.
\tat org.apache.spark.errors.SparkCoreErrors$.eofExceptionWhileReadPortNumberError(SparkCoreErrors.scala:55)
\tat org.apache.spark.api.python.PythonWorkerFactory.startDaemon(PythonWorkerFactory.scala:382)
\tat java.base/java.lang.Thread.run(Thread.java:840)
\t... 28 more
"""


@pytest.mark.parametrize(
    ("named", "module"),
    [
        ("'mirabelle'", "mirabelle"),
        ("'numpy.core'", "numpy.core"),
        # As Python says it where a module stands in a package's place.
        ("'pyarrow.lib'; 'pyarrow' is not a package", "pyarrow.lib"),
    ],
)
def test_a_missing_module_is_explained(named: str, module: str) -> None:
    assert _explain(MISSING_MODULE.format(named)) == (
        f"the workers' Python has no module {module}; install it there, point PYSPARK_PYTHON at a Python that has it,"
        " or send it with --py-files"
    )


def test_another_python_is_explained() -> None:
    sentence = _explain(MISMATCH)
    assert "Python in worker has different version: 3.13 than that in driver: 3.11" in sentence
    assert sentence.endswith("; set PYSPARK_PYTHON to the same version on driver and workers")
    assert "\n" not in sentence
    assert ".;" not in sentence, "one sentence"
    assert "pyspark.errors.exceptions" not in sentence, "in the user's words"


def test_a_python_that_does_not_start_is_explained() -> None:
    sentence = _explain(NO_DAEMON)
    assert sentence.startswith("the workers' Python does not start: ")
    assert "reading the port number from pyspark.daemon's stdout" in sentence
    assert "\n" not in sentence
    assert "more" not in sentence


@pytest.mark.parametrize("text", ["", "\n \n", "at least something", "\tat java.lang.Thread.run(Thread.java:840)\n"])
def test_whatever_spark_says_becomes_one_sentence(text: str) -> None:
    sentence = _explain(text)
    assert sentence.startswith("the workers' Python does not start: ")
    assert "\n" not in sentence


# The doctor


def test_the_doctor_says_what_is_there_and_that_all_is_well(tmp_path: Path) -> None:
    settings = ["spark.master=local[1]", "spark.ui.enabled=false", f"cache={tmp_path}", "backbone.weights=random:0"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run([COMMAND, "doctor", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert facts["java"].endswith("/java")
    assert Path(facts["java"]).exists()
    import numpy
    import pyspark

    assert (facts["pyspark"], facts["numpy"]) == (pyspark.__version__, numpy.__version__)
    assert {"openvino", "keras", "pandas", "pyarrow", "pillow", "scikit-learn"} <= set(facts)
    assert f"Spark {pyspark.__version__} at local[1]" in done.stdout
    host = facts[f"workers on {socket.gethostname()}"]
    assert host.startswith(f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, ")
    assert re.search(r"^1 tasks? at once, 1 engine thread each, precision (float32|bf16)$", done.stdout, re.MULTILINE)
    assert facts["resnet50 (random:0)"] == "to be built at the first run"
    assert done.stdout.splitlines()[-1] == "all that a run needs is there"
    assert "warning" not in done.stdout
    # Nothing was made but the cache; not even the output that the command stands in for.
    assert [path.name for path in tmp_path.iterdir()] in ([], ["networks"])
