"""Which columns become label columns: the same rule for templates, tables and manifests."""

import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import ListingError
from mirabelle.listing import Listing, compile_layout, join_labels, list_images, read_manifest
from mirabelle.storage import DiskStore
from mirabelle.table.chunks import Chunk, label_columns

STORE = DiskStore()
KINDS = ["table.csv", "table.parquet", "manifest.csv", "manifest.parquet"]


@pytest.fixture(params=KINDS)
def tell(request: pytest.FixtureRequest, tmp_path: Path):
    """Puts columns of one row away as a table or a manifest, and reads it."""

    def put(
        columns: list[tuple[str, str]], label: str = "label", split: str = "split", layout: str | None = None
    ) -> Listing:
        file, root = tmp_path / request.param, tmp_path / "p"
        picture = root / "path told" / "1.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(b"x")
        names, values = ["path", *(name for name, _ in columns)], [str(picture), *(value for _, value in columns)]
        if file.suffix == ".csv":
            file.write_text(f"{','.join(names)}\n{','.join(values)}\n")
        else:
            pq.write_table(pa.Table.from_arrays([pa.array([value]) for value in values], names), file)
        scratch = tempfile.mkdtemp()
        if file.stem == "manifest":
            return read_manifest(
                STORE, str(file), str(root), ["*"], [], layout, label=label, split=split, scratch=scratch
            )
        found = list_images(STORE, str(root), ["*"], [".*"], layout, scratch=scratch)
        return join_labels(found, STORE, str(file), str(root), None, label, split, scratch=scratch)

    return put


def row(listing: Listing, *names: str) -> tuple:
    assert listing.rows == 1
    return tuple(listing.table[name].to_pylist()[0] for name in names)


@pytest.mark.parametrize(
    ("columns", "options", "layout", "reason"),
    [
        (["Label"], {}, None, "the column Label differs from label in case alone; .* set labels.label=Label"),
        (["label", "SPLIT"], {}, None, "the column SPLIT differs from split in case alone"),
        (["Label"], {}, "{label}/{name}", "the column Label differs from label in case alone"),
        (["label", "Label"], {}, None, "the columns label and Label would both be Label"),
        (["kind", "Kind"], {}, None, "the columns kind and Kind would both be Kind"),
        (["kind", "Kind"], {}, "{KIND}/{name}", "the columns kind and Kind would both be"),
        (["Kind"], {}, "{kind}/{name}", "the column Kind differs in case alone from kind, which is told already"),
        (["label", "label"], {}, None, "more than one column label"),
        (["label", "maker", "maker"], {}, None, "more than one column maker"),
        (["label", "path"], {}, None, "more than one column path"),
        (["label", "Path"], {}, None, "the column Path has a name that Mirabelle keeps for itself"),
        (["kind"], {"label": "kind", "split": "kind"}, None, "labels.label and labels.split both name the column kind"),
    ],
)
def test_names_that_no_one_could_tell_apart_are_one_sentence(
    tell, columns: list[str], options: dict[str, str], layout: str | None, reason: str
) -> None:
    with pytest.raises(ListingError, match=reason) as raised:
        tell([(name, f"{name} {i}") for i, name in enumerate(columns)], layout=layout, **options)
    assert "\n" not in str(raised.value)


def test_the_option_says_which_column_is_meant(tell) -> None:
    told = [("label", "3"), ("species", "kiwi"), ("Split", "x"), ("fold", "train")]
    found = tell(told, label="species", split="fold")
    assert (row(found, "label", "split"), found.extra_labels) == (("kiwi", "train"), ())
    found = tell([("Label", "kiwi"), ("label", "3")], label="Label")
    assert (row(found, "label"), found.extra_labels) == (("kiwi",), ())
    # One option takes the other's default.
    assert row(tell([("split", "kiwi")], label="split"), "label", "split") == ("kiwi", None)
    assert row(tell([("label", "train")], split="label"), "label", "split") == (None, "train")
    found = tell([("label", "train"), ("split", "kiwi")], label="split", split="label")
    assert row(found, "label", "split") == ("kiwi", "train")


def test_what_path_and_columns_tell_alike_the_columns_tell(tell) -> None:
    found = tell([("kind", "kiwi")], layout="{kind}/{name}")
    assert (row(found, "kind"), found.extra_labels) == (("kiwi",), ("kind",))


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("{Label}/{name}", r"\{Label\} differs from \{label\} in case alone; write \{label\}"),
        ("{label}/{Name}", r"\{Name\} differs from \{name\} in case alone"),
        ("{kind}/{Kind}/{name}", r"\{Kind\} is there twice, as case does not tell columns apart"),
        ("{label}/{Path}/{name}", r"\{Path\} is no name that a label column can have"),
    ],
)
def test_a_template_keeps_the_same_rule(layout: str, reason: str) -> None:
    with pytest.raises(ListingError, match=reason):
        compile_layout(layout)


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "Unnamed: 0.1", "__index_level_0__"])
def test_an_index_that_pandas_wrote_is_passed_over(tell, index: str) -> None:
    found = tell([(index, "0"), ("label", "kiwi")])
    assert (row(found, "label"), found.extra_labels) == (("kiwi",), ())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("times", [1, 2])
def test_what_pandas_writes_by_default_is_read(tmp_path: Path, kind: str, times: int) -> None:
    """An index as it is left by a choice of rows, through a second round of reading and writing too."""
    (tmp_path / "1.jpg").write_bytes(b"x")
    frame = pd.DataFrame({"file_name": ["0.jpg", "1.jpg", "2.jpg"], "label": list("abc")})
    frame = frame[frame["label"] == "b"]
    file = tmp_path / f"labels.{kind}"
    for _ in range(times):
        if kind == "csv":
            frame.to_csv(file)
            frame = pd.read_csv(file)
        else:
            frame.to_parquet(file)
            frame = pd.read_parquet(file)
    found = list_images(STORE, str(tmp_path), ["*.jpg"], [], scratch=tempfile.mkdtemp())
    found = join_labels(found, STORE, str(file), str(tmp_path), None, "label", "split", scratch=tempfile.mkdtemp())
    assert (row(found, "label"), found.extra_labels) == (("b",), ())


def test_an_index_may_be_named_by_the_options(tell) -> None:
    assert row(tell([("Unnamed: 1", "kiwi")], label="Unnamed: 1"), "label") == ("kiwi",)


def test_of_columns_of_older_runs_that_differ_in_case_alone_the_newest_counts() -> None:
    def chunk(*labels: str) -> Chunk:
        return Chunk("run", 0, 0, 0, 0, 0, 0, labels, "e", "f", {}, (), ())

    assert label_columns([chunk("maker", "Year"), chunk("Maker")]) == ("Maker", "Year")


def labelled(root: Path, table: Path, text: str) -> Listing:
    table.write_text(text)
    found = list_images(STORE, str(root), ["*"], [], scratch=tempfile.mkdtemp())
    return join_labels(found, STORE, str(table), str(root), None, "label", "split", scratch=tempfile.mkdtemp())


def test_the_form_of_keys_is_the_one_that_most_rows_fit(tmp_path: Path) -> None:
    root = tmp_path / "p"
    for name in ("top.jpg", "a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    names = "file_name,label\ntop.jpg,t\n1.jpg,a\n2.jpg,a\n3.jpg,b\ngone.jpg,z\n,z\n"
    found = labelled(root, tmp_path / "t.csv", names)
    assert found.table.sort_by("path")["label"].to_pylist() == ["a", "a", "b", "t"]
    assert (found.unlabelled, found.unmatched) == (0, 2)
    # Paths for the most part, and one bare name that would fit another picture.
    found = labelled(root, tmp_path / "t.csv", "file_name,label\na/1.jpg,a\nb/3.jpg,b\n2.jpg,z\n")
    assert found.table.sort_by("path")["label"].to_pylist() == ["a", None, "b", None]
    assert (found.unlabelled, found.unmatched) == (2, 1)
    # A name that two pictures share, which the table does not tell of, is no reason to refuse it.
    (root / "b/1.jpg").write_bytes(b"x")
    assert labelled(root, tmp_path / "t.csv", "file_name,label\n2.jpg,a\n3.jpg,b\n").unlabelled == 3
    with pytest.raises(ListingError, match=r"several images below .* share a name"):
        labelled(root, tmp_path / "t.csv", "file_name,label\n2.jpg,a\n1.jpg,b\n")


@pytest.mark.slow
@pytest.mark.parametrize("around", [0, 120_000])
@pytest.mark.parametrize("column", ["label", "split", "maker"])
def test_a_manifest_that_tells_two_labels_of_one_path_is_refused(tmp_path: Path, around: int, column: str) -> None:
    filling = "".join(f"/x/{n}.jpg,z,2026-01-02T00:00:00Z\n" for n in range(around))
    manifest = tmp_path / "m.csv"

    def read(first: str, second: str) -> Listing:
        rows = f"/a.jpg,{first},2026-01-01T00:00:00Z\n{filling}/a.jpg,{second},2026-01-03T00:00:00Z\n"
        manifest.write_text(f"path,{column},modified\n{rows}")
        return read_manifest(STORE, str(manifest), "", ["*"], [], scratch=tempfile.mkdtemp())

    with pytest.raises(ListingError, match=rf"names /a\.jpg more than once, with the {column} 'one' and 'two'"):
        read("two", "one")
    found = read("one", "one")
    assert (found.rows, found.repeated) == (around + 1, 1)
    # A row that tells nothing contradicts no other; the newest counts.
    found = read("", "one")
    rows = found.table.sort_by("path").to_pylist()
    assert (rows[0]["path"], rows[0][column]) == ("/a.jpg", "one")
