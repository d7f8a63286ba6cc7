import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, compile_layout, join_labels, list_images
from mirabelle.storage import DiskStore


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(listing: Listing, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in listing.table["path"].to_pylist()]


def columns(listing: Listing, *wanted: str) -> list[tuple]:
    return list(zip(*(listing.table[c].to_pylist() for c in wanted), strict=True))


def listed(root: Path, include: tuple = ("*",), exclude: tuple = (), layout: str | None = None) -> Listing:
    return list_images(DiskStore(), str(root), include, exclude, layout, scratch=tempfile.mkdtemp())


def labelled(listing: Listing, *arguments: str | None) -> Listing:
    return join_labels(listing, DiskStore(), *arguments, scratch=tempfile.mkdtemp())


def test_a_folder_of_any_depth_sorted_by_path(tmp_path: Path) -> None:
    root = touch(tmp_path, "b.jpg", "a/z/y/deep.png", "a/b c é.jpg", ".hidden/x.jpg", "a/.DS_Store")
    found = listed(root)
    assert names(found, root) == ["a/b c é.jpg", "a/z/y/deep.png", "b.jpg"]
    status = (root / "b.jpg").stat()
    row = found.table.to_pylist()[-1]
    assert row["path"] == str(root / "b.jpg")
    assert row["size_bytes"] == 5
    assert abs(row["modified"] - datetime.fromtimestamp(status.st_mtime, UTC)).total_seconds() < 1e-5
    assert row["label"] is None


def test_etag_changes_with_time_and_with_size(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.jpg")
    etags = {listed(root).table["etag"][0].as_py()}
    os.utime(root / "a.jpg", (1, 1))
    etags.add(listed(root).table["etag"][0].as_py())
    (root / "a.jpg").write_bytes(b"longer than before")
    os.utime(root / "a.jpg", (1, 1))
    etags.add(listed(root).table["etag"][0].as_py())
    assert len(etags) == 3


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.jpg",), (".*",), ["a/1.jpg", "b/c/3.jpg"]),
        (("a/**",), (".*",), ["a/1.jpg", "a/2.png"]),
        (("*",), (".*", "b/"), ["a/1.jpg", "a/2.png"]),
        (("*.png", "b/"), (), ["a/2.png", "b/c/3.jpg"]),
    ],
)
def test_include_and_exclude(tmp_path: Path, include: tuple, exclude: tuple, expected: list[str]) -> None:
    root = touch(tmp_path, "a/1.jpg", "a/2.png", "b/c/3.jpg")
    assert names(listed(root, include, exclude), root) == expected


def test_links_are_followed_but_not_in_circles_and_dangling_ones_are_listed(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.jpg")
    (root / "a" / "loop").symlink_to(root)
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    assert names(listed(root), root) == ["a/1.jpg", "gone.jpg"]


def test_a_name_that_is_not_utf8_is_listed_and_stops_nothing(tmp_path: Path) -> None:
    root = touch(tmp_path, "fine.jpg")
    (tmp_path / os.fsdecode(b"b\xe9d.jpg")).write_bytes(b"x")
    assert [name.rpartition("/")[2] for name in names(listed(root), root)] == ["b\\udce9d.jpg", "fine.jpg"]


def test_layout_reads_labels_from_the_path(tmp_path: Path) -> None:
    root = touch(tmp_path, "Training/Apple Red/0_100.jpg", "Test/Kaki/r_7.jpg", "readme.txt")
    found = listed(root, layout="{split}/{label}/{name}")
    assert columns(found, "split", "label") == [("Test", "Kaki"), ("Training", "Apple Red"), (None, None)]
    assert found.unlabelled == 1
    found = listed(root, layout="**/{label}/{turn}_{name}")
    assert columns(found, "split", "label", "turn")[:2] == [(None, "Kaki", "r"), (None, "Apple Red", "0")]
    assert found.extra_labels == ("turn",)


@given(
    st.lists(
        st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1),
        min_size=3,
        max_size=3,
    )
)
def test_a_template_reads_back_what_a_path_was_made_of(parts: list[str]) -> None:
    pattern = compile_layout("{split}/{label}/{name}")
    match = pattern.fullmatch("/".join(parts))
    # A line break is some of a name like any other character.
    assert match is not None
    assert [match["split"], match["label"], match["name"]] == parts


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("{label}/{label}", "is there twice"),
        ("{a b}/x", "is no name"),
        ("*/{name}", "reads nothing"),
        ("{path}/{name}", "is no name"),
    ],
)
def test_a_bad_template_is_refused(layout: str, reason: str) -> None:
    with pytest.raises(ListingError, match=reason):
        compile_layout(layout)


def test_nothing_to_list_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match=r"there is no folder .*nowhere; set images\.root"):
        listed(tmp_path / "nowhere")
    with pytest.raises(ListingError, match="no picture in"):
        listed(tmp_path)
    touch(tmp_path, "a.jpg")
    with pytest.raises(ListingError, match="fits none of the paths"):
        listed(tmp_path, layout="{split}/{label}/{name}")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("form", ["below the root", "whole", "name"])
def test_labels_from_a_table(tmp_path: Path, kind: str, form: str) -> None:
    root = touch(tmp_path / "p", "a/1.jpg", "b/2.jpg", "b/3.jpg")
    key = {
        "below the root": ["a/1.jpg", "b/2.jpg"],
        "whole": [f"{root}/a/1.jpg", f"{root}/b/2.jpg"],
        "name": ["1.jpg", "2.jpg"],
    }
    frame = pd.DataFrame(
        {"file_name": key[form], "maker": ["007", "NA"], "fold": ["train", "test"], "angle": ["3", None]}
    )
    table = tmp_path / f"labels.{kind}"
    if kind == "csv":
        frame.to_csv(table, index=False)
    else:
        frame.to_parquet(table)
    found = labelled(listed(root), str(table), str(root), None, "maker", "fold")
    # Labels that look like numbers or like nothing stay as they are written.
    expected = [("007", "train", "3"), ("NA", "test", None), (None, None, None)]
    assert columns(found, "label", "split", "angle") == expected
    assert found.unlabelled == 1
    assert found.extra_labels == ("angle",)


def test_a_table_adds_to_what_the_path_tells(tmp_path: Path) -> None:
    root = touch(tmp_path / "p", "Test/x/1.jpg", "Test/y/2.jpg")
    (tmp_path / "t.csv").write_text("name,label\n1.jpg,one\n2.jpg,two\n")
    found = labelled(
        listed(root, layout="{split}/{folder}/{name}"), str(tmp_path / "t.csv"), str(root), None, "label", "split"
    )
    assert columns(found, "split", "label", "folder") == [("Test", "one", "x"), ("Test", "two", "y")]


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("who,label\n1.jpg,a\n", None, r"has no column path or .*set labels.key to one of \['who', 'label'\]"),
        ("name\n1.jpg\n", None, "has no column beside name"),
        ("name,label\nzz.jpg,a\n", None, "no row of .* names an image"),
        ("name,label\n1.jpg,a\n1.jpg,b\n", None, "more than once"),
        ("name,label,size_bytes\n1.jpg,a,3\n", None, "a name that Mirabelle keeps"),
        ("name,label\n", None, "has no rows"),
        ("", None, "neither CSV nor Parquet"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path: Path, text: str, key: str | None, reason: str) -> None:
    root = touch(tmp_path / "p", "1.jpg", "2.jpg")
    table = tmp_path / "t.csv"
    table.write_text(text)
    with pytest.raises(ListingError, match=reason) as raised:
        labelled(listed(root), str(table), str(root), key, "label", "split")
    assert str(table) in str(raised.value)


def test_file_names_that_several_images_share_cannot_tell_labels(tmp_path: Path) -> None:
    root = touch(tmp_path / "p", "a/1.jpg", "b/1.jpg")
    (tmp_path / "t.csv").write_text("name,label\n1.jpg,a\n")
    with pytest.raises(ListingError, match="use paths"):
        labelled(listed(root), str(tmp_path / "t.csv"), str(root), None, "label", "split")
    with pytest.raises(ListingError, match=r"cannot read labels\.table"):
        labelled(listed(root), str(tmp_path / "none.csv"), str(root), None, "label", "split")


def test_what_we_wrote_below_the_root_is_not_listed(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.jpg", "out/features/x.parquet", "outside.jpg", "labels.csv")
    found = list_images(
        DiskStore(), str(root), ["*"], [], None, [f"{root}/out", f"{root}/labels.csv"], scratch=tempfile.mkdtemp()
    )
    assert names(found, root) == ["a.jpg", "outside.jpg"]


def test_odd_names_and_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "Test" / os.fsdecode(b"caf\xe9")
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"x")
    (tmp_path / "Test" / "loop").symlink_to(tmp_path / "Test" / "loop")
    found = listed(tmp_path, layout="{split}/{label}/{name}")
    assert columns(found, "label") == [("caf\\udce9",), (None,)]


@pytest.mark.parametrize(
    ("header", "label", "reason"),
    [
        ("name,kind", "kindd", r"has no column 'kindd'; set labels.label to one of \['name', 'kind'\]"),
        ("name,label,Label", "label", "the columns label and Label would both be Label"),
        ("name,a.b", "label", "has a name that Spark cannot take"),
        ("name,PATH", "label", "keeps for itself"),
    ],
)
def test_columns_that_would_go_wrong_later_are_refused_now(
    tmp_path: Path, header: str, label: str, reason: str
) -> None:
    root = touch(tmp_path / "p", "1.jpg")
    table = tmp_path / "t.csv"
    table.write_text(f"{header}\n{','.join(['1.jpg', 'a', 'b'][: header.count(',') + 1])}\n")
    with pytest.raises(ListingError, match=reason):
        labelled(listed(root), str(table), str(root), None, label, "split")


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    with pytest.raises(ListingError, match=r"images\.include .*write patterns as in \.gitignore"):
        listed(tmp_path, include=("!",))
