"""The command: its exit codes, its sentences, and how little it does before it must.

What needs Spark is in tests/spark; nothing here starts a JVM.
"""

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import mirabelle
from conftest import REPOSITORY, break_some
from mirabelle.cli import main

VERBS = (
    *("extract", "reduce", "train", "report", "run", "compact"),
    *("crawl", "explore"),
    *("finetune", "compare", "certify"),
    *("bundle", "predict", "serve"),
    *("inspect", "verify", "check", "doctor", "weights", "config"),
    *("pack", "submit"),
)
COMMAND = Path(sys.executable).parent / "mirabelle"
HEAVY = ("pyspark", "py4j", "pydantic", "yaml", "keras", "tensorflow", "openvino", "pandas", "numpy", "pyarrow", "PIL")
SMALL = ["backbone.name=mobilenet", "backbone.weights=random:1", "backbone.input_px=32"]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last are what Typer and Rich read; CI services set some of them.
    outside = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "COLUMNS", "TERMINAL_WIDTH")
    for name in list(os.environ):
        if name.startswith("MIRABELLE_") or name in outside:
            monkeypatch.delenv(name)


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def plain(text: str) -> str:
    """Text without the frames and line breaks that help is laid out with."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def invoke(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process."""
    capsys.readouterr()
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command, as its own process."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


# Help


def test_help_lists_every_verb_and_the_exit_codes() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    listed = re.findall(r"^│ (\w+)  ", done.stdout, re.MULTILINE)
    assert tuple(listed) == VERBS
    assert "Exit codes: 0 done; 1 the run failed a bar of its own" in plain(done.stdout)


def test_help_takes_less_than_half_a_second_of_the_processor() -> None:
    # Coverage's own start in the child is not the command's time.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([COMMAND, "--help"], capture_output=True, check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], ""),
        (["--version"], ""),
        # Typer itself reads a verb's options with pydantic.
        (["run", "--help"], "pydantic"),
        (["run", "--no-such-option"], "pydantic"),
    ],
)
def test_nothing_heavy_is_imported_to_answer_at_once(arguments: list[str], allowed: str) -> None:
    code = f"""
import sys
from mirabelle.cli import main
main({arguments!r})
print("imported:", *set({HEAVY!r}) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    word, *imported = done.stdout.splitlines()[-1].split()
    assert word == "imported:"
    assert set(imported) <= {allowed}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke([verb, "--help"], capsys)
    assert (code, err) == (0, "")
    assert re.search(rf"Usage: .*{verb} \[OPTIONS\]", plain(out))
    # Who asks a bundle has its settings in it.
    for option in ("--top",) if verb == "predict" else ("--port",) if verb == "serve" else ("--config", "--set"):
        assert option in out


def test_without_arguments_help_is_shown_and_it_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke([], capsys)
    assert code == 2
    assert "Usage: " in out + err
    assert all(verb in out + err for verb in VERBS)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"], capsys) == (0, f"mirabelle {mirabelle.__version__}\n", "")
    assert command("--version").stdout == f"mirabelle {mirabelle.__version__}\n"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--no-such-option"], "No such option: --no-such-option"),
        (["run", "--dryrun"], "No such option: --dryrun"),
        (["rum"], "No such command 'rum'"),
        (["run", "--set"], "Option '--set' requires an argument"),
        (["inspect"], "name an output folder or a backbone, or give --backbones"),
    ],
)
def test_a_misspelt_command_line_is_2(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(arguments, capsys)
    assert (code, out) == (2, "")
    assert sentence in plain(err)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["reduce.varience=0.9"], "error: unknown key reduce.varience; did you mean reduce.variance?"),
        (["bakbone.name=vgg16"], "error: unknown key bakbone; did you mean backbone?"),
        (["reduce.variance=2"], "error: reduce.variance: input should be less than or equal to 1 (it is 2)"),
        (["output"], "error: --set output: write it as key=value, for instance --set reduce.components=19"),
    ],
)
def test_a_wrong_key_is_one_sentence(settings: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(["run", *sets("images.root=pictures", "output=out", *settings)], capsys)
    assert (code, out, err) == (2, "", f"{sentence}\n")


def test_the_process_ends_with_that_code_and_without_a_traceback() -> None:
    done = command("extract", *sets("images.root=pictures", "output=out", "engine.nam=keras"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: unknown key engine.nam; did you mean engine.name?\n"


def test_all_mistakes_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("images: {rot: a}\nbackbone: {pooling: mean}\n")
    code, _, err = invoke(["run", "--config", str(file)], capsys)
    assert code == 2
    first, *listed = err.splitlines()
    assert re.fullmatch(rf"error: {len(listed)} mistakes in the configuration:", first)
    for sentence in ("did you mean images.root?", "images.root is not set", "output is not set", "backbone.pooling: "):
        assert any(sentence in line for line in listed), sentence


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = invoke(["run", "-c", str(tmp_path / "none.yaml")], capsys)
    assert code == 2
    assert err.startswith(f"error: cannot read the configuration {tmp_path / 'none.yaml'}: ")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_missing_folder_of_pictures_is_told_before_spark_is_started(tmp_path: Path) -> None:
    code = f"""
import sys
from mirabelle.cli import main
code = main({["run", *sets(f"images.root={tmp_path}/none", f"output={tmp_path}/out", f"cache={tmp_path}", *SMALL)]!r})
gateway = sys.modules["pyspark"].SparkContext._gateway if "pyspark" in sys.modules else None
print(code, gateway)
"""
    # Were Spark to be started, this would be the sentence.
    environment = {**os.environ, "JAVA_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "2 None\n"
    sentence = f"error: there is no folder {tmp_path}/none; set images.root to one that holds the pictures"
    assert done.stderr.splitlines() == [sentence]
    # What was tried is on record.
    (manifest,) = (tmp_path / "out" / "runs").iterdir()
    assert json.loads(manifest.read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("verb", "setting", "sentence"),
    [
        ("run", "backbone.name=resnet51", "'resnet51' is not known; take one of resnet50"),
        ("run", "classify.estimator=LogisticRegresion", "'LogisticRegresion' is not in Spark ML; take one of"),
        ("train", "classify.params={maxItr: 3}", "LogisticRegression has no parameter 'maxItr' to set"),
        ("extract", "images.layout={label", "images.layout '{label'"),
        ("extract", "images.include='*.gif'", "images.include ['*.gif']"),
        ("report", "output=gs://bucket/x", "gs:// is not served; give a path on a disk, or s3://bucket/prefix"),
    ],
)
def test_what_can_be_judged_early_is_2_and_one_sentence(
    verb: str, setting: str, sentence: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"images.root={pictures}", f"output={tmp_path / 'out'}", f"cache={tmp_path}", *SMALL, setting]
    code, out, err = invoke([verb, *sets(*settings)], capsys)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


# The configuration


def test_config_explain_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no configuration; what it says of each is tested in test_inspection.py."""
    code, out, err = invoke(["config", "--explain"], capsys)
    assert (code, err) == (0, "")
    for section in ("images", "labels", "decode", "backbone", "engine", "extract", "reduce", "classify", "limits"):
        assert re.search(rf"^{section}\.\w+  \(", out, re.MULTILINE), section
    for key in ("output", "cache", "spark"):
        assert re.search(rf"^{key}  \(", out, re.MULTILINE), key


def test_config_prints_what_would_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("images: {root: pictures}\noutput: a\nreduce: {variance: 0.5, components: 3}\n")
    monkeypatch.setenv("MIRABELLE_REDUCE__VARIANCE", "0.6")
    monkeypatch.setenv("MIRABELLE_OUTPUT", "b")
    arguments = ["config", "-c", str(file), *sets("output=c", "spark.hadoop.fs.s3a.secret.key=hunter2")]
    code, out, err = invoke(arguments, capsys)
    assert (code, err) == (0, "")
    shown = yaml.safe_load(out)
    assert shown["images"]["root"] == "pictures"
    assert shown["reduce"] == {"variance": 0.6, "components": 3, "fit_split": None}
    assert shown["output"] == "c"
    assert shown["spark"] == {"spark.hadoop.fs.s3a.secret.key": "***"}
    assert "hunter2" not in out


# Dry runs


def dry_run(
    verb: str, pictures: Path, capsys: pytest.CaptureFixture[str], *settings: str, options: Sequence[str] = ()
) -> tuple[int, list[str]]:
    folder = pictures.parent
    given = [f"images.root={pictures}", f"output={folder / 'out'}", f"cache={folder / 'cache'}", *SMALL, *settings]
    code, out, err = invoke([verb, "--dry-run", *options, *sets(*given)], capsys)
    assert not (folder / "out").exists()
    return code, (out + err).splitlines()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = sum(path.stat().st_size for path in pictures.rglob("*.png")) / 1024**2
    code, lines = dry_run("run", pictures, capsys, "images.layout={split}/{label}/{name}", "extract.chunk_images=20")
    assert code == 0
    assert lines == [
        f"54 images, {size:.1f} MiB, in {pictures}",
        "split: Test 18, Training 36",
        "label: amber 18, beryl 18, coral 18",
        "mobilenet (random:1) would be built and converted first; all images count as new",
        f"would embed 54 images into chunks below {pictures.parent / 'out'}",
        "reduce: PCA to the fewest components that hold 80% of the variance",
        "train: LogisticRegression on reduced features",
        "report: one HTML page",
    ]


def test_a_dry_run_of_one_verb_speaks_of_that_alone(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run("reduce", pictures, capsys, "reduce.components=19") == (0, ["reduce: PCA to 19"])
    settings = ["classify.estimator=RandomForestClassifier", "classify.features=full"]
    assert dry_run("train", pictures, capsys, *settings) == (0, ["train: RandomForestClassifier on full features"])
    assert dry_run("report", pictures, capsys) == (0, ["report: one HTML page"])


def test_a_dry_run_counts_pictures_without_a_label(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_some(pictures)
    (pictures / "stray.png").write_bytes(b"")
    code, lines = dry_run("extract", pictures, capsys, "images.layout={split}/{label}/{name}")
    assert code == 0
    # 36 + 2 and 18 + 1 in their folders, one outside.
    assert "split: Test 19, Training 38, none 1" in lines
    assert "label: amber 19, beryl 19, coral 19, none 1" in lines
    assert f"would embed 58 images into chunks below {pictures.parent / 'out'}" in lines


def test_a_dry_run_refuses_what_the_run_would(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (sentence,) = dry_run("run", pictures, capsys, "images.layout={label}/{name}.gif")
    assert code == 2
    assert sentence.startswith("error: images.layout '{label}/{name}.gif' fits none of the paths in ")


def test_a_quiet_dry_run_still_says_what_it_was_asked(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--quiet` is `no progress; errors and the summary alone`; of a dry run, this is the summary."""
    assert dry_run("report", pictures, capsys, options=["--quiet"]) == (0, ["report: one HTML page"])


# Inspection


def test_inspect_lists_the_backbones(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(["inspect", "--backbones"], capsys)
    assert (code, err) == (0, "")
    for name in ("resnet50", "vgg16", "mobilenet", "efficientnetb0", "xception"):
        assert re.search(rf"^{name}\s", out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "VGG16"])
def test_inspect_shows_a_network(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(["inspect", name], capsys)
    assert (code, err) == (0, "")
    assert "parameters: 14,714,688" in out
    assert "block5_conv3" in out


@pytest.mark.slow
def test_inspect_takes_settings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(["inspect", "mobilenet", *sets("backbone.input_px=64")], capsys)
    assert code == 0
    assert "mobilenet without its top, at 64 px" in out


def test_inspect_of_what_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(["inspect", "nothing-here"], capsys)
    assert (code, out) == (2, "")
    assert err == (
        "error: nothing-here is neither an output of Mirabelle nor a backbone; `mirabelle inspect --backbones` lists"
        " those\n"
    )


def test_a_folder_with_a_networks_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg16").mkdir()
    code, _, err = invoke(["inspect", "vgg16"], capsys)
    assert code == 2
    assert "vgg16 is neither an output" in err


# Java


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["doctor", "reduce"])
def test_a_java_home_without_java_is_named(verb: str, tmp_path: Path) -> None:
    settings = [] if verb == "doctor" else [f"images.root={tmp_path}", f"output={tmp_path / 'out'}"]
    done = command(verb, *sets(*settings), JAVA_HOME=str(tmp_path / "empty"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: JAVA_HOME is {tmp_path / 'empty'} and holds no java; Spark 4.1.2 needs Java 17 or 21: install one, or"
        " set JAVA_HOME to it\n"
    )


# The scripts for spark-submit

JOBS = {
    "extract_features": "extract",
    "fit_pca": "reduce",
    "train_classifier": "train",
    "build_report": "report",
    "run_pipeline": "run",
    "compact_features": "compact",
    "explore_images": "explore",
}


def test_there_is_a_script_for_each_stage_and_they_are_thin() -> None:
    scripts = sorted((REPOSITORY / "jobs").glob("*.py"))
    assert [script.stem for script in scripts] == sorted(JOBS)
    for script in scripts:
        assert len(script.read_text().splitlines()) < 60


@pytest.mark.parametrize(("script", "verb"), JOBS.items())
def test_a_script_is_its_verb(script: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location(f"jobs_{script}", REPOSITORY / "jobs" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    capsys.readouterr()
    assert module.main(["--help"]) == 0
    own = capsys.readouterr().out
    assert own == invoke([verb, "--help"], capsys)[1]
    for option in ("--config", "--set", "--dry-run", "--quiet"):
        assert option in own
    assert module.main(["--no-such-option"]) == 2


def test_a_scripts_help_shows_a_command_that_can_be_typed() -> None:
    """`run_pipeline.py run` would be the verb twice."""
    script = REPOSITORY / "jobs" / "run_pipeline.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "run_pipeline.py run" not in plain(done.stdout)


def test_a_script_ends_with_the_commands_code() -> None:
    script = REPOSITORY / "jobs" / "run_pipeline.py"
    done = subprocess.run([sys.executable, script, "--set", "a=b"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown key a" in done.stderr
    assert "Traceback" not in done.stderr
