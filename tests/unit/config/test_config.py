from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mirabelle import config
from mirabelle.config import Config, load
from mirabelle.decode import DecodeOptions
from mirabelle.errors import ConfigError

NEEDED = ["images.root=pictures", "output=out"]


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("images: {root: a}\noutput: b\nreduce: {variance: 0.5, components: 3}\n")
    environment = {"MIRABELLE_REDUCE__VARIANCE": "0.6", "MIRABELLE_IMAGES__ROOT": "from-environment", "HOME": "/"}
    loaded = load(file, ["reduce.variance=0.7"], environment)
    assert (loaded.images.root, loaded.output) == ("from-environment", "b")
    assert (loaded.reduce.variance, loaded.reduce.components) == (0.7, 3)


def test_what_is_taken_for_granted_gives_way_to_all_that_is_told(tmp_path: Path) -> None:
    (file := tmp_path / "c.yaml").write_text("images: {root: a}\noutput: b\n")
    granted = {"images.root": "", "output": "."}
    for told, environment in ((file, {}), (None, {"MIRABELLE_IMAGES__ROOT": "a", "MIRABELLE_OUTPUT": "b"})):
        loaded = load(told, [], environment, defaults=granted)
        assert (loaded.images.root, loaded.output) == ("a", "b")
    loaded = load(None, ["images.manifest=photos.csv"], {}, defaults=granted)
    assert (loaded.images.root, loaded.output) == ("", ".")
    with pytest.raises(ConfigError, match=r"images"):
        load(None, ["images=3"], {}, defaults=granted)


def test_all_mistakes_are_told_at_once_and_the_nearest_key_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, ["reduce.varience=1", "reduce.variance=2", "backbone.pooling=mean", "lone"], {})
    text = str(raised.value)
    assert len(raised.value.problems) == 6
    for part in (
        "did you mean reduce.variance?",
        "reduce.variance: ",
        "backbone.pooling: ",
        "--set lone: write it as key=value",
        "images.root is not set",
        "output is not set",
    ):
        assert part in text


def test_an_unknown_section_and_an_unknown_variable_are_mistakes_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key imagse.*did you mean images"):
        load(None, [*NEEDED, "imagse.root=x"], {})
    with pytest.raises(ConfigError, match=r"unknown key outptu; did you mean output"):
        load(None, NEEDED, {"MIRABELLE_OUTPTU": "x"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[1, 2]", "should hold keys"), ("a: [", "is not YAML"), (None, "cannot read the configuration")],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as raised:
        load(file, NEEDED, {})
    assert str(file) in str(raised.value)


def test_values_given_on_the_command_line_are_yaml_unless_text_is_wanted() -> None:
    settings = [
        "images.layout={split}/{label}/{name}",
        "images.include=[a, b]",
        "reduce.components=19",
        "classify.params={maxIter: 5}",
        "decode.ground='#102030'",
        "decode.orient=false",
        "output=12",
        "backbone.layer=null",
    ]
    loaded = load(None, ["images.root=x", *settings], {})
    assert loaded.images.layout == "{split}/{label}/{name}"
    assert loaded.images.include == ("a", "b")
    assert loaded.reduce.components == 19
    assert loaded.classify.params == {"maxIter": 5}
    assert loaded.decode.ground == (16, 32, 48)
    assert loaded.decode.orient is False
    assert loaded.output == "12"
    assert loaded.backbone.layer is None


def test_spark_properties_keep_their_dots() -> None:
    loaded = load(None, [*NEEDED, "spark.driver.memory=4g", "spark.ui.enabled=false"], {})
    assert loaded.spark == {"spark.driver.memory": "4g", "spark.ui.enabled": "false"}
    assert load(None, [*NEEDED, "spark.spark.ui.enabled=false"], {}).spark == {"spark.ui.enabled": "false"}


def test_secrets_are_masked() -> None:
    loaded = load(None, [*NEEDED, "spark.hadoop.fs.s3a.secret.key=hunter2", "spark.hadoop.fs.s3a.access.key=abc"], {})
    shown = str(loaded.masked())
    assert "hunter2" not in shown
    assert "'abc'" not in shown
    assert shown.count("***") == 2


def test_every_key_is_explained_and_every_default_is_valid() -> None:
    rows = list(config.keys())
    assert {
        "images.root",
        "images.layout",
        "images.include",
        "labels.table",
        "backbone.name",
        "backbone.weights",
        "backbone.input_px",
        "backbone.pooling",
        "engine.name",
        "engine.precision",
        "reduce.variance",
        "reduce.components",
        "classify.estimator",
        "classify.params",
        "classify.group_by",
        "limits.max_reject_share",
        "output",
    } <= {name for name, *_ in rows}
    assert all(meaning for *_, meaning in rows)
    settings = [f"{name}={default}" for name, _, default, _ in rows if default not in ("required", "null", "''")]
    assert load(None, [*NEEDED, *settings], {}) == load(None, NEEDED, {})


def test_the_decoders_defaults_are_told_truly() -> None:
    told = dict(load(None, NEEDED, {}).decode)
    assert told.pop("exact") == "auto"
    assert DecodeOptions(**told) == DecodeOptions()


def test_formats_are_taken_as_people_write_them() -> None:
    assert load(None, [*NEEDED, "decode.formats=JPEG, heic,jp2"], {}).decode.formats == ("jpeg", "heif", "jpeg2000")
    assert load(None, [*NEEDED, "decode.formats=[tif, TGA]"], {}).decode.formats == ("tiff", "tga")
    for wrong in ("gemini", "[]"):
        with pytest.raises(ConfigError, match=r"decode\.formats"):
            load(None, [*NEEDED, f"decode.formats={wrong}"], {})


@pytest.mark.parametrize("name", ["fruits.yaml", "demo.yaml"])
def test_shipped_configurations_are_valid(name: str) -> None:
    load(Path(__file__).parents[3] / "conf" / name, [], {})


@given(st.fractions(min_value=0, max_value=2), st.integers(-3, 5000))
def test_bounds_hold(variance: float, components: int) -> None:
    settings = [*NEEDED, f"reduce.variance={float(variance)}", f"reduce.components={components}"]
    try:
        loaded = load(None, settings, {})
    except ConfigError:
        assert not (0 < variance <= 1) or components < 1
    else:
        assert 0 < loaded.reduce.variance <= 1
        assert loaded.reduce.components >= 1


def test_a_configuration_survives_the_manifest() -> None:
    loaded = load(None, [*NEEDED, "spark.master=local[2]"], {})
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(loaded.masked()))) == loaded


def test_values_are_taken_as_they_are_typed_where_that_is_plain() -> None:
    settings = [
        "images.include=*.jpg",
        "decode.ground=#102030",
        "spark.x.secret.key=0123",
        "spark.network.timeout=1:30",
    ]
    loaded = load(None, [*NEEDED, *settings], {})
    assert loaded.images.include == ("*.jpg",)
    assert load(None, [*NEEDED, "images.include='*.jpg'"], {}).images.include == ("*.jpg",)
    assert loaded.decode.ground == (16, 32, 48)
    assert loaded.spark == {"spark.x.secret.key": "0123", "spark.network.timeout": "1:30"}


def test_empty_sections_and_dotted_keys_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("images.root: a\noutput: b\nlabels:\nreduce.variance: 0.5\n")
    loaded = load(file, [], {})
    assert (loaded.images.root, loaded.labels.table, loaded.reduce.variance) == ("a", None, 0.5)


def test_a_mistake_does_not_print_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("images: {root: a}\noutput: b\nspark: {spark.hadoop.fs.s3a.secret.key: [hunter2]}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, ["spark.hadoop.fs.s3a.access.key=@hunter2", "reduce.variance=[hunter2"], {})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", "0.00001"])
def test_a_number_with_an_exponent_is_one(text: str) -> None:
    told = [f"classify.params={{regParam: {text}}}", f"classify.grid={{regParam: [{text}, 1]}}"]
    told += [f"finetune.optimizer_params={{learning_rate: {text}, name: 1e}}"]
    config = load(None, [*told, "images.root=.", "output=."], {})
    assert config.classify.params == {"regParam": 1e-5}
    assert config.classify.grid == {"regParam": [1e-5, 1]}
    assert config.finetune.optimizer_params == {"learning_rate": 1e-5, "name": "1e"}
