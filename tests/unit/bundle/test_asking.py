"""``mirabelle predict``: lines, JSON, Parquet, and codes."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from bundles import made, put_tar
from conftest import draw
from mirabelle.bundle.asking import pictures_at
from mirabelle.cli import main
from mirabelle.errors import ListingError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A bundle beside a folder of two pictures, a bad one, and what systems leave."""
    put_tar(tmp_path / "b.tar", made())
    folder = tmp_path / "pictures"
    draw(folder / "a" / "green.png", 1, tint=(0, 100, 0))
    draw(folder / "blue.png", 2, size=(30, 20), tint=(0, 0, 100))
    (folder / "none.jpg").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".hidden.png").write_bytes(b"x")
    return tmp_path


def said(place: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = main(["predict", str(place / "b.tar"), *arguments])
    told = capsys.readouterr()
    return code, told.out.splitlines(), told.err


def test_a_folder_is_a_line_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = said(place, capsys, str(place / "pictures"))
    assert code == 0
    assert lines[0].split() == ["picture", "answer", "probability", "then"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["a/green.png", "green"],
        ["blue.png", "blue"],
        ["none.jpg", "-"],
    ]
    assert lines[3].split()[2:] == ["rejected", "empty"]
    assert len({line.rindex(word) for line, word in zip(lines, ("answer", "green", "blue", "-"), strict=True)}) == 1
    assert lines[1].count(",") == 1  # three labels in all


def test_top_says_how_many(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = said(place, capsys, str(place / "pictures" / "blue.png"), "--top", "1")
    assert len(lines) == 2 and len(lines[1].split()) == 3


def test_json_is_a_line_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = said(place, capsys, str(place / "pictures"), str(place / "pictures" / "blue.png"), "--json")
    found = [json.loads(line) for line in lines]
    assert code == 0 and [Path(one["path"]).name for one in found] == ["green.png", "blue.png", "none.jpg", "blue.png"]
    assert found[1] == found[3]
    assert (found[1]["width_px"], found[1]["height_px"], found[1]["predicted"]) == (30, 20, "blue")
    assert sum(found[1]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert next(iter(found[1]["probabilities"])) == "blue" and found[1]["sure"] is True
    assert found[2] == {"path": str(place / "pictures" / "none.jpg"), "stage": "decode", "code": "empty", "detail": ""}


def test_parquet_has_answers_and_rejects(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = said(place, capsys, str(place / "pictures"), "--parquet", str(place / "out" / "p.parquet"))
    assert code == 0 and lines[0].split(maxsplit=1) == ["pictures:", "2 answered, 1 rejected"]
    with pq.ParquetFile(place / "out" / "p.parquet") as file:
        table = file.read()
    about = json.loads(table.schema.metadata[b"mirabelle.bundle"])
    assert about["labels"] == ["red", "green", "blue"] and len(about["sha256"]) == 64
    rows = table.to_pylist()
    assert [row["predicted"] for row in rows] == ["green", "blue", None]
    assert rows[2]["code"] == "empty" and rows[2]["probabilities"] is None
    for row in rows[:2]:
        best = max(range(3), key=row["probabilities"].__getitem__)
        assert about["labels"][best] == row["predicted"] and row["probability"] == row["probabilities"][best]


def test_where_none_is_answered_the_code_is_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, told = said(place, capsys, str(place / "pictures" / "none.jpg"))
    assert code == 1 and "rejected" in lines[1] and "none of 1 pictures got an answer" in told


@pytest.mark.parametrize("name", ["nowhere", "nowhere.jpg", "empty"])
def test_a_place_without_pictures_is_the_users_mistake(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (place / "empty").mkdir()
    code, _, told = said(place, capsys, str(place / name))
    assert code == 2 and told.startswith("error: ") and str(place / name) in told


def test_a_name_that_is_not_utf8_is_a_reject_as_in_the_batch_job(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(bytes(place / "pictures") + b"/\xe9.png", format="PNG")
    code, lines, _ = said(place, capsys, str(place / "pictures"), "--json")
    found = {Path(one["path"]).name: one.get("code") for one in map(json.loads, lines)}
    assert code == 0 and found["\\udce9.png"] == "unreadable"


def test_several_places_are_taken_in_turn(place: Path) -> None:
    found = pictures_at([str(place / "pictures" / "blue.png"), str(place / "pictures" / "a")])
    assert [Path(path).name for path in found] == ["blue.png", "green.png"]
    with pytest.raises(ListingError):
        pictures_at([str(place / "gone")])
