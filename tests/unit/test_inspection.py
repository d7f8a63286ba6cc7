"""What can be asked without a job: networks, the configuration, outputs that hold no features."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirabelle import inspection
from mirabelle.config import Config, load
from mirabelle.errors import BarNotMet, ConfigError, OutputError
from mirabelle.network import backbones
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.storage import DiskStore
from mirabelle.table.runlog import RunLog

NEEDED = ["images.root=pictures", "output=out"]


def configured(*settings: str) -> Config:
    return load(None, [*NEEDED, *settings], {})


def lines_of(text: str) -> list[list[str]]:
    """A table's lines as their cells: two spaces or more between them."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


# Backbones


def test_the_registry_is_listed_with_what_one_chooses_by() -> None:
    title, header, *rows = lines_of(inspection.list_backbones())
    assert title == ["Backbones"]
    assert header[:5] == ["name", "input px", "layer", "width", "normalisation"]
    assert [row[0] for row in rows] == list(backbones.REGISTRY)
    # As keras.applications documents them.
    told = {row[0]: row[1:] for row in rows}
    assert told["resnet50"][:4] == ["224", "conv5_block3_out", "2048", "caffe"]
    assert told["inceptionv3"][:4] == ["299", "mixed10", "2048", "tf"]
    assert told["mobilenetv2"][:3] == ["224", "out_relu", "1280"]
    assert all(row[4] in NORMALISATIONS and row[5] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "parameters", "features"),
    [
        # Keras's documentation and the papers: VGG16's convolutions; MobileNet 1.0 without its top.
        (["backbone.name=vgg16"], 14_714_688, "512 (block5_pool, avg)"),
        (["backbone.name=MobileNet"], 3_228_864, "1,024 (conv_pw_13_relu, avg)"),
        # 150 px halved five times is 4: 4 x 4 x 512.
        (
            ["backbone.name=vgg16", "backbone.input_px=150", "backbone.pooling=flatten"],
            14_714_688,
            "8,192 (block5_pool, flatten)",
        ),
        (["backbone.name=vgg16", "backbone.layer=block3_pool"], 14_714_688, "256 (block3_pool, avg)"),
    ],
)
def test_a_network_is_shown_layer_by_layer(settings: list[str], parameters: int, features: str) -> None:
    text = inspection.show_backbone(configured(*settings))
    assert f"\nparameters: {parameters:,}\n" in text
    assert f"\nfeatures: {features}\n" in text
    listed = [row for row in lines_of(text) if len(row) == 4 and row[3] != "parameters"]
    assert sum(int(row[3].replace(",", "")) for row in listed) == parameters


@pytest.mark.slow
def test_a_layer_is_told_with_its_kind_its_output_and_its_parameters() -> None:
    text = inspection.show_backbone(configured("backbone.name=vgg16"))
    rows = {row[0]: row[1:] for row in lines_of(text) if len(row) == 4}
    # 3 x 3 kernels over 3 channels into 64, and 64 biases.
    assert rows["block1_conv1"] == ["Conv2D", "224 x 224 x 64", f"{3 * 3 * 3 * 64 + 64:,}"]
    assert rows["block5_pool"] == ["MaxPooling2D", "7 x 7 x 512", "0"]
    assert text.splitlines()[0].rstrip() == "vgg16 without its top, at 224 px"
    assert "\nnormalisation: caffe\n" in text
    assert re.search(r"^licence.*: CC-BY-4\.0$", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("backbone.name=vgg15", "'vgg15' is not known; take one of resnet50, vgg16"),
        ("backbone.input_px=31", "31 is too small for resnet50; it needs 32"),
        ("backbone.layer=block9", "'block9' is not in this network"),
    ],
)
def test_a_network_that_cannot_be_is_one_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        inspection.show_backbone(configured(setting))


# The configuration


def keys_by_schema(node: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Every key of the configuration, out of pydantic's own JSON schema."""
    found = {}
    for name, entry in node["properties"].items():
        if "$ref" in entry:
            section = definitions[entry["$ref"].rpartition("/")[2]]
            found |= keys_by_schema(section, definitions, f"{prefix}{name}.")
        else:
            found[prefix + name] = entry
    return found


def test_every_key_is_explained_with_its_meaning() -> None:
    schema = Config.model_json_schema()
    known = keys_by_schema(schema, schema["$defs"])
    entries = inspection.explain_config().split("\n\n")
    told = {entry.split(None, 1)[0]: entry for entry in entries}
    assert list(told) == list(known)
    assert len(known) > 30
    for key, entry in told.items():
        head, meaning = entry.split("\n")
        assert re.fullmatch(rf"{re.escape(key)}  \(.+; (required|default .+)\)", head)
        assert meaning == f"    {known[key]['description']}"


@pytest.mark.parametrize(
    "head",
    [
        "images.root  (str; default '')",
        "output  (str; required)",
        "backbone.name  (str; default resnet50)",
        "backbone.pooling  (avg | max | flatten; default avg)",
        "reduce.variance  (float; default 0.8)",
        "reduce.components  (int; default null)",
        "decode.orient  (bool; default true)",
    ],
)
def test_types_and_defaults_are_told_as_one_writes_them(head: str) -> None:
    assert head in inspection.explain_config().splitlines()


def test_the_configuration_is_shown_as_yaml_that_can_be_used_again() -> None:
    config = configured(
        "reduce.components=7", "images.include=[a, b]", "spark.driver.memory=3g", "decode.ground='#102030'"
    )
    shown = inspection.show_config(config)
    again = yaml.safe_load(shown)
    assert list(again)[:3] == ["images", "labels", "decode"], "in the order of the documentation"
    assert again["reduce"] == {"variance": 0.8, "components": 7, "fit_split": None}
    assert again["spark"] == {"spark.driver.memory": "3g"}
    assert Config.model_validate(again) == config


def test_secrets_are_not_shown() -> None:
    settings = ["spark.hadoop.fs.s3a.secret.key=hunter2", "spark.ssl.keyStorePassword=hunter3", "spark.app.name=x"]
    again = yaml.safe_load(inspection.show_config(configured(*settings)))
    assert again["spark"] == {
        "spark.hadoop.fs.s3a.secret.key": "***", "spark.ssl.keyStorePassword": "***", "spark.app.name": "x",
    }  # fmt: skip


def test_a_secret_inside_a_value_is_not_shown_either() -> None:
    """Spark's own redaction looks at values too (``spark.redaction.regex``): Java's options can hold a password."""
    options = "spark.driver.extraJavaOptions=-Xss4m -Djavax.net.ssl.trustStorePassword=hunter2"
    assert "hunter2" not in inspection.show_config(configured(options))


# Outputs


def test_what_is_neither_an_output_nor_a_backbone_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "runs").mkdir(parents=True)
    for target in ("nothing-here", "empty", "bare", "file"):
        with pytest.raises(OutputError) as raised:
            inspection.show_output(str(tmp_path / target))
        sentence = str(raised.value)
        assert sentence.startswith(f"{tmp_path / target} is neither an output of Mirabelle nor a backbone")
        assert "`mirabelle inspect --backbones`" in sentence
        assert "\n" not in sentence


@pytest.mark.parametrize("content", ['{"learning_rate": 0.1}', "[1, 2]", "not JSON"])
def test_somebody_elses_folder_of_runs_is_no_output(content: str, tmp_path: Path) -> None:
    """Other tools keep ``runs/`` with JSON in it too."""
    (tmp_path / "runs" / "experiment").mkdir(parents=True)
    (tmp_path / "runs" / "experiment" / "arguments.json").write_text(content)
    with pytest.raises(OutputError, match="is neither an output of Mirabelle nor a backbone"):
        inspection.show_output(str(tmp_path))


def test_a_store_that_is_not_served_is_said() -> None:
    with pytest.raises(OutputError, match="gs:// is not served"):
        inspection.show_output("gs://bucket/output")


def leave_runs(output: Path) -> tuple[RunLog, RunLog]:
    """A run that failed before its first image, and one that never ended."""
    store = DiskStore()
    failed, killed = (RunLog(store, str(output), command, {}) for command in ("run", "extract"))
    failed.finish("failed", "there is no folder x")
    killed.write()
    return failed, killed


def test_runs_that_came_to_nothing_are_shown(tmp_path: Path) -> None:
    failed, killed = leave_runs(tmp_path)
    title, header, *rows = lines_of(inspection.show_output(str(tmp_path)))
    assert title[0].startswith("Runs in ")
    assert header == ["run", "command", "status", "embedded", "rejected", "unchanged", "images/s", "seconds"]
    seconds = json.loads((tmp_path / "runs" / f"{failed.run_id}.json").read_text())["seconds_total"]
    assert sorted(rows) == sorted(
        [[failed.run_id, "run", "failed", str(seconds)], [killed.run_id, "extract", "running"]]
    )


@pytest.mark.parametrize("name", ["pictures [old]", "a :apple: a day", "[bold]x"])
def test_a_folders_name_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    output = tmp_path / name
    leave_runs(output)
    # A long title may be broken over several lines.
    shown = inspection.show_output(str(output)).replace("\n", "").replace(" ", "")
    assert f"Runsin{output}".replace(" ", "") in shown


def test_a_folder_may_be_named_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, _ = leave_runs(tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    assert failed.run_id in inspection.show_output("output")
    assert failed.run_id in inspection.show_output(f"file://{tmp_path}/output")


# The alarm on absence


def runs(output: Path, *ended: tuple[str, str, timedelta]) -> None:
    """Manifests of runs: command, status and how long ago each ended, oldest first."""
    for command, status, ago in ended:
        log = RunLog(DiskStore(), str(output), command, {})
        log.finish(status)
        log.update(finished=(datetime.now(UTC) - ago).isoformat(timespec="seconds"))
        log.write()


HOUR = timedelta(hours=1)


def test_a_run_that_ended_well_lately_is_told(tmp_path: Path) -> None:
    runs(tmp_path, ("run", "done", 30 * HOUR), ("run", "done", 25.5 * HOUR), ("run", "failed", HOUR))
    told = inspection.check_newest(str(tmp_path), 26 * HOUR)
    assert re.fullmatch(r"\S+ \(run\) ended well at \S+ \S+ UTC, 25 h 30 min ago", told)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ((), "no run of OUT has ended well"),
        ((("run", "failed", HOUR),), r"no run of OUT has ended well; since then: \S+ failed"),
        (
            (("run", "done", 27 * HOUR), ("run", "interrupted", 3 * HOUR), ("run", "running", HOUR)),
            r"no run of OUT has ended well in the last 26 h 0 min; \S+ \(run\) ended well at \S+ \S+ UTC,"
            r" 27 h 0 min ago; since then: \S+ interrupted, \S+ running",
        ),
    ],
)
def test_where_none_has_the_bar_is_not_met(
    ended: tuple[tuple[str, str, timedelta], ...], told: str, tmp_path: Path
) -> None:
    runs(tmp_path, *ended)
    with pytest.raises(BarNotMet, match=f"^{told.replace('OUT', str(tmp_path))}$"):
        inspection.check_newest(str(tmp_path), 26 * HOUR)


def test_runs_of_another_command_do_not_count(tmp_path: Path) -> None:
    runs(tmp_path, ("run", "done", HOUR), ("reduce", "done", timedelta()))
    assert "(run)" in inspection.check_newest(str(tmp_path), 26 * HOUR, "run")
    with pytest.raises(BarNotMet, match="no extract of "):
        inspection.check_newest(str(tmp_path), 26 * HOUR, "extract")


def test_durations() -> None:
    assert inspection.parse_duration("26h") == 26 * HOUR
    assert inspection.parse_duration("1d12h") == 36 * HOUR
    assert inspection.parse_duration("90m") == 1.5 * HOUR
    for bad in ("26", "h", "", "-1h", "1.5h"):
        with pytest.raises(ConfigError, match="write 90m, 26h"):
            inspection.parse_duration(bad)
