"""Links to folders: followed wherever they stand, and never in circles."""

import os
from pathlib import Path

import pytest

from mirabelle.errors import ListingError
from mirabelle.storage import DiskStore


def walked(root: Path) -> list[str]:
    return sorted(os.path.relpath(entry.path, root) for entry in DiskStore().walk(str(root)))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_that_meet_are_listed_below_each_link(tmp_path: Path) -> None:
    touch(tmp_path, "store/Banana/1.jpg", "store/Lemon/2.jpg")
    for split in ("Test", "Training"):
        (tmp_path / "in" / split).mkdir(parents=True)
        for label in ("Banana", "Lemon"):
            (tmp_path / "in" / split / label).symlink_to(tmp_path / "store" / label)
    expected = [f"{split}/{name}" for split in ("Test", "Training") for name in ("Banana/1.jpg", "Lemon/2.jpg")]
    assert walked(tmp_path / "in") == expected


@pytest.mark.parametrize("target", ["Training", "../p/Training"])
def test_a_whole_split_that_is_a_link_to_the_other(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "p/Training/a/1.jpg")
    (tmp_path / "p" / "Test").symlink_to(target)
    assert walked(tmp_path / "p") == ["Test/a/1.jpg", "Training/a/1.jpg"]


def test_a_link_to_what_it_is_in_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "p/a/1.jpg", "p/b/2.jpg")
    for name, target in (("a/up", "p"), ("a/here", "p/a"), ("b/above", ".")):
        (tmp_path / "p" / name).symlink_to(tmp_path / target)
    # The folder above the root is in no circle until it comes to the root again.
    assert walked(tmp_path / "p") == ["a/1.jpg", "b/2.jpg"]


def test_two_folders_with_links_to_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert walked(tmp_path) == ["a/1.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg"]


@pytest.mark.slow
def test_links_that_multiply_are_one_sentence(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(12)]
    for name in names:
        (tmp_path / name).mkdir()
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.raises(ListingError, match=r"more than 1,000 ways through symbolic links lead to .*/f\d+; remove"):
        walked(tmp_path)
