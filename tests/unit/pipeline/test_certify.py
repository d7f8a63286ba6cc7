"""A certificate on drawn pictures: its figures, what auto makes of it, and what it does where it cannot."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, break_some, draw_kinds, read_manifest
from mirabelle.cli import main
from mirabelle.config import Config, load
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.errors import OutputError, TrainingError
from mirabelle.network.engines import native_precisions
from mirabelle.network.preparing import precision_on
from mirabelle.pipeline.certificates import certified_precisions, newest, table
from mirabelle.pipeline.certify import certify

NATIVE = native_precisions()
# Its values survive with drawn weights, and it is quick.
NETWORK = ["backbone.name=small", "backbone.input_px=32", "engine.calibration_images=12"]


def configured(folder: Path, cache: Path, *settings: str) -> Config:
    places = [f"images.root={folder / 'pictures'}", f"output={folder / 'output'}", f"cache={cache}"]
    return load(None, [*places, *SMALL, *NETWORK, *settings], {})


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, dict[str, Any]]:
    """A folder of pictures and output, and the certificate; made once for the tests that only look at it."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("certified")
    break_some(draw_kinds(folder / "pictures"))
    certificate, path = certify(configured(folder, cache, "engine.certify.images=45"), Console(quiet=True))
    assert json.loads(Path(path).read_text()) == certificate
    return folder, certificate


@pytest.mark.slow
def test_every_precision_and_decoding_is_held_against_keras(certified: tuple[Path, dict[str, Any]]) -> None:
    folder, certificate = certified
    rows = {(row["precision"], row["decoding"]): row for row in certificate["rows"]}
    assert set(rows) == {(precision, way) for precision in (*NATIVE, "int8") for way in ("exact", "fast")}
    exact = rows["float32", "exact"]
    assert exact["cosine"]["worst"] > 1 - 1e-6
    assert exact["neighbours"] == 1
    assert exact["classifier"]["loss"] == 0
    assert 0.9 < rows["int8", "exact"]["cosine"]["worst"] < exact["cosine"]["worst"]
    assert rows["int8", "exact"]["angle_largest"] > exact["angle_largest"]
    assert all(row["images_per_second"] > 0 for row in (*rows.values(), certificate["reference"]))
    assert len({row["embedding"]["fingerprint"] for row in rows.values()}) == len(rows)
    # Bad pictures are left out, and of 57 the 45 are drawn that int8 was not quantised on.
    manifest = read_manifest(folder / "output")
    assert (manifest["command"], manifest["status"]) == ("certify", "done")
    assert manifest["counts"]["listed"] == 57
    assert manifest["counts"]["measured"] + manifest["counts"]["left_out"] == 45
    assert certificate["labels"]["classes"] == 3
    assert certificate["labels"]["accuracy"] > 0.6


@pytest.mark.slow
def test_the_table_has_a_line_for_each(certified: tuple[Path, dict[str, Any]]) -> None:
    lines = table(certified[1]).splitlines()
    assert lines[2].startswith("Keras, float32, exact")
    rows = certified[1]["rows"]
    for row, line in zip(rows, lines[3:], strict=False):
        assert line.startswith(f"{row['precision']}, {row['decoding']} ")
        assert f"{row['cosine']['worst']:.4f}" in line
    assert "logistic regression" in lines[3 + len(rows)]


@pytest.mark.slow
def test_auto_takes_the_fastest_that_passes(certified: tuple[Path, dict[str, Any]], cache: Path) -> None:
    folder, certificate = certified
    with_fast_int8(folder, certificate)
    loose = configured(folder, cache, "engine.certify.min_cosine=0.9")
    found = certified_precisions(loose, store_of(loose, loose.output), loose.output)
    assert found[0] == "int8"
    assert set(found) == {*NATIVE, "int8"}
    assert precision_on(loose, NATIVE, found) == "int8"
    # One that is asked for is taken whatever a certificate says.
    told = configured(folder, cache, "engine.certify.min_cosine=0.9", "engine.precision=float32")
    assert certified_precisions(told, store_of(told, told.output), told.output) == ()
    int8 = next(row for row in certificate["rows"] if row["precision"] == "int8" and row["decoding"] == "fast")
    strict = configured(folder, cache, f"engine.certify.min_cosine={(1 + int8['cosine']['worst']) / 2}")
    assert "int8" not in certified_precisions(strict, store_of(strict, strict.output), strict.output)
    # Where nothing passes it is float32, and not bf16, which did not pass either.
    none = configured(folder, cache, "engine.certify.min_cosine=1.0")
    assert certified_precisions(none, store_of(none, none.output), none.output) == ("float32",)


def with_fast_int8(folder: Path, certificate: dict[str, Any]) -> None:
    """The certificate as of a machine on which int8 is much the fastest."""
    (path,) = (folder / "output").rglob("certificate.json")
    rows = [{**row, "images_per_second": 1e6} if row["precision"] == "int8" else row for row in certificate["rows"]]
    path.write_text(json.dumps({**certificate, "rows": rows}))


@pytest.mark.slow
def test_a_loss_of_accuracy_is_judged_by_the_worse_end(certified: tuple[Path, dict[str, Any]], cache: Path) -> None:
    folder, certificate = certified
    (path,) = (folder / "output").rglob("certificate.json")
    rows = [dict(row) for row in certificate["rows"]]
    for row in rows:
        high = {"float32": 0.0, "bf16": 0.02, "int8": 0.04}[row["precision"]]
        row["classifier"] = {**row["classifier"], "loss": 0.0, "loss_interval": [-0.04, high]}
    path.write_text(json.dumps({**certificate, "rows": rows}))
    for bar, allowed in ((0.03, {"float32", "bf16"}), (0.05, {"float32", "bf16", "int8"})):
        config = configured(folder, cache, f"engine.certify.max_accuracy_loss={bar}")
        found = certified_precisions(config, store_of(config, config.output), config.output)
        assert set(found) == allowed & {*NATIVE, "int8"}


@pytest.mark.slow
def test_a_certificate_of_another_network_or_decoding_is_none(
    certified: tuple[Path, dict[str, Any]], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = certified
    asked = "engine.certify.min_cosine=0.9"
    other = configured(folder, cache, asked, "backbone.pooling=max")
    assert certified_precisions(other, store_of(other, other.output), other.output) == ()
    assert "has none of this network; run `mirabelle certify`" in caplog.text
    turned = configured(folder, cache, asked, "decode.orient=false")
    assert certified_precisions(turned, store_of(turned, turned.output), turned.output) == ("float32",)
    # Another calibration was not certified.
    seeded = configured(folder, cache, asked, "engine.calibration_seed=9")
    assert "int8" not in certified_precisions(seeded, store_of(seeded, seeded.output), seeded.output)


def test_without_a_bar_no_certificate_is_looked_for(tmp_path: Path, cache: Path) -> None:
    config = configured(tmp_path, cache)
    assert certified_precisions(config, store_of(config, config.output), config.output) == ()


def test_a_damaged_certificate_is_one_sentence(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "output/certificate/1/certificate.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    config = configured(tmp_path, cache)
    with pytest.raises(OutputError, match=r"certificate\.json is damaged .*; remove its folder"):
        newest(store_of(config, config.output), config.output, {"backbone": "small"})


@pytest.mark.slow
def test_too_few_pictures_are_one_sentence(tmp_path: Path, cache: Path) -> None:
    draw_kinds(tmp_path / "pictures")
    for path in list((tmp_path / "pictures").rglob("*.png"))[15:]:
        path.unlink()
    with pytest.raises(TrainingError, match="needs 20 pictures that can be embedded, and there are 15"):
        certify(configured(tmp_path, cache), Console(quiet=True))


@pytest.mark.slow
def test_without_nncf_the_others_are_certified_by_the_command(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_kinds(tmp_path / "pictures")
    monkeypatch.setitem(sys.modules, "nncf", None)
    places = [f"images.root={tmp_path / 'pictures'}", f"output={tmp_path / 'output'}", f"cache={cache}"]
    seed = "engine.calibration_seed=77"
    asked = [word for setting in (*places, *SMALL[:-1], *NETWORK, seed) for word in ("--set", setting)]
    assert main(["certify", *asked, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "int8 is left out: int8 is quantised by NNCF" in said
    assert "float32, fast" in said
    # And no labels, as nothing tells them.
    assert "there is no classifier, as fewer than two labels" in said
