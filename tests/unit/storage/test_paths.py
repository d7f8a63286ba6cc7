"""``file:`` URIs, percent-encoded or not."""

from pathlib import Path

import pytest

from mirabelle.storage import DiskStore, absolute, local_path, local_paths

SPACED, PERCENT = "a b é#?.jpg", "a%20b.jpg"


@pytest.mark.parametrize("start", ["file:", "file://", "file://localhost", "FILE:"])
def test_a_uri_is_the_file_it_names_encoded_or_plain(tmp_path: Path, start: str) -> None:
    (tmp_path / SPACED).write_bytes(b"x")
    encoded = (tmp_path / SPACED).as_uri().removeprefix("file://")
    assert encoded.endswith("a%20b%20%C3%A9%23%3F.jpg")
    for written in (f"{start}{encoded}", f"{start}{tmp_path}/{SPACED}"):
        assert local_path(written) == absolute(written) == str(tmp_path / SPACED)
        assert DiskStore().read(written, 9) == b"x"


def test_a_name_that_really_holds_percent_signs(tmp_path: Path) -> None:
    (tmp_path / PERCENT).write_bytes(b"x")
    (tmp_path / "50%.jpg").write_bytes(b"x")
    for written in (
        f"file:{tmp_path}/{PERCENT}",
        (tmp_path / PERCENT).as_uri(),
        f"file:{tmp_path}/50%.jpg",
        (tmp_path / "50%.jpg").as_uri(),
    ):
        assert DiskStore().read(written, 9) == b"x"
    # Without file: it is a path, and paths are not encoded.
    assert local_path(f"{tmp_path}/{PERCENT}") == f"{tmp_path}/{PERCENT}"


def test_where_both_names_are_there_their_column_tells_which_is_meant(tmp_path: Path) -> None:
    files = [tmp_path / "a b.jpg", tmp_path / PERCENT]
    for file in files:
        file.touch()
    expected = [str(file) for file in files]
    assert local_paths([file.as_uri() for file in files]) == expected
    assert local_paths([f"file:{file}" for file in files]) == expected


def test_one_that_its_column_tells_wrongly_is_still_found(tmp_path: Path) -> None:
    files = [tmp_path / "a b.jpg", tmp_path / "c d.jpg"]
    for file in files:
        file.touch()
    assert local_paths([f"file:{files[0]}", files[1].as_uri()]) == [str(file) for file in files]


def test_what_is_not_there_yet_is_decoded_and_other_schemes_are_left_alone(tmp_path: Path) -> None:
    assert absolute(f"file://{tmp_path}/my%20out") == f"{tmp_path}/my out"
    assert absolute("s3a://b/a%20b") == "s3://b/a%20b"
    assert local_paths(["s3://b/a%20b", "/a%20b", "file:/x"]) == ["s3://b/a%20b", "/a%20b", "/x"]
    assert local_path("file:/a%00b") == "/a%00b"
