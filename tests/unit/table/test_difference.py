"""What a run need not embed: content that it has already, or that comes several times."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle import schema
from mirabelle.errors import DecodeError, RejectCode
from mirabelle.listing import Listing
from mirabelle.network.preparing import Network
from mirabelle.spark.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.table.chunks import Chunk
from mirabelle.table.difference import MOST_TWINS, STATUS, Difference, Work, compare
from mirabelle.table.features import FeatureTable
from mirabelle.worker.embed import TaskReport, run_task
from mirabelle.worker.embedder import Outcome, Tally
from mirabelle.worker.fetching import ImageSource

STORE = DiskStore()


@dataclass(frozen=True)
class Picture:
    path: str
    content: str
    label: str = "x"

    @property
    def etag(self) -> str:
        return hashlib.md5(self.content.encode(), usedforsecurity=False).hexdigest()


def of(**contents: str) -> list[Picture]:
    return [Picture(f"s3://b/{name}", content) for name, content in contents.items()]


def features_of(etag: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(etag.encode()).digest()[:3], np.uint8).astype(np.float32)


def listed(pictures: Iterable[Picture], etags_tell_content: bool = True) -> Listing:
    rows = [
        {
            "path": p.path,
            "size_bytes": len(p.content),
            "etag": p.etag,
            "label": p.label,
            "modified": None,
            "split": None,
        }
        for p in pictures
    ]
    file = os.path.join(tempfile.mkdtemp(), "listing.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema.listing_schema()), file)
    return Listing(file, (), len(rows), 0, 0, 1, 0, etags_tell_content)


class Embedder:
    """In the place of the real one: says of a picture what its etag says, and remembers what it was asked for."""

    def __init__(self, network: Network) -> None:
        self.spec = spec_of(network)
        self.asked: list[str] = []
        self.spoilt: set[str] = set()
        self.why = RejectCode.CORRUPT

    def embed(self, sources: Iterable[ImageSource], tally: Tally) -> Iterator[Outcome]:
        for source in sources:
            self.asked.append(source.path.removeprefix("s3://b/"))
            if source.path in self.spoilt:
                yield Outcome(error=DecodeError(self.why, "spoilt"))
            else:
                tally.model_rows += 1
                yield Outcome(features_of(str(source.etag)), 5, 4)


class Output:
    """A feature table with what fills it."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.table = FeatureTable(STORE, str(folder), network.embedding)
        self.embedder, self.decode, self.runs = Embedder(network), network.decode, 0

    def compare(self, listing: Listing, full: bool = False) -> Difference:
        return compare(self.table, listing, self.decode, tempfile.mkdtemp(), full)

    def embed(self, difference: Difference) -> tuple[Chunk, TaskReport]:
        """All that is to do, as one task and one chunk."""
        self.runs += 1
        self.embedder.asked.clear()
        rows = difference.take().next(10**6)
        assert rows is not None
        run, staging = f"run-{self.runs}", self.table.staging_folder(f"run-{self.runs}", 0)
        report = run_task(self.embedder, rows.drop_columns([STATUS]), STORE, staging, 0, "try")  # type: ignore[arg-type]
        return self.table.commit(run, 0, len(rows), difference.changed, [], self.decode, [report]), report

    def run(self, pictures: Iterable[Picture], full: bool = False, etags_tell_content: bool = True) -> TaskReport:
        return self.embed(self.compare(listed(pictures, etags_tell_content), full))[1]

    def rows(self) -> dict[str, dict]:
        """The newest row of each path, by the path's end."""
        found: dict[str, dict] = {}
        for chunk in self.table.chunks():
            for file in filter(os.path.exists, self.table.files("features", chunk)):
                found |= {row["path"].removeprefix("s3://b/"): row for row in pq.read_table(file).to_pylist()}
        return found


@pytest.fixture
def output(tmp_path: Path, network: Network) -> Output:
    return Output(tmp_path / "output", network)


def todo(difference: Difference) -> list[dict]:
    rows = difference.take().next(10**6)
    return rows.to_pylist() if rows is not None else []


def test_the_same_content_under_several_keys_is_embedded_once(output: Output) -> None:
    pictures = of(a="one", b="two", c="one", d="three", e="one", f="two")
    difference = output.compare(listed(pictures))
    assert [(row["path"][-1], row[schema.TWIN]) for row in todo(difference)] == [
        ("a", False),
        ("c", True),
        ("e", True),
        ("b", False),
        ("f", True),
        ("d", False),
    ]
    chunk, report = output.embed(difference)
    assert output.embedder.asked == ["a", "b", "d"]
    assert (report.embedded, report.reused, report.model_rows) == (6, 3, 3)
    assert (chunk.embedded, chunk.reused, chunk.model_rows) == (6, 3, 3)
    rows = output.rows()
    for picture in pictures:
        assert rows[picture.path[-1]]["features"] == features_of(picture.etag).tolist()
        assert rows[picture.path[-1]]["etag"] == picture.etag
    assert output.compare(listed(pictures)).unchanged == 6


def test_a_twin_of_a_reject_is_one_too(output: Output) -> None:
    output.embedder.spoilt.add("s3://b/a")
    pictures = of(a="one", b="one", c="two")
    report = output.run(pictures)
    assert (report.embedded, report.rejected, report.reused, report.model_rows) == (1, 2, 1, 1)
    assert report.codes == {"corrupt": 2}
    again = output.compare(listed(pictures))
    assert (again.unchanged, again.still_rejected, again.to_do) == (3, 2, 0)


def test_what_a_worker_had_no_decoder_for_is_tried_again(output: Output) -> None:
    output.embedder.spoilt.add("s3://b/a")
    output.embedder.why = RejectCode.NO_DECODER
    pictures = of(a="one", b="two")
    assert output.run(pictures).codes == {"no_decoder": 1}
    again = output.compare(listed(pictures))
    assert (again.unchanged, again.still_rejected, again.new) == (1, 0, 1)
    output.embedder.spoilt.clear()
    assert output.run(pictures).embedded == 1


def test_a_new_key_takes_the_features_of_its_content(output: Output) -> None:
    output.run(of(a="one", b="two"))
    moved = of(b="two", moved="one", twin="one", new="three")
    difference = output.compare(listed(moved))
    assert (difference.new, difference.unchanged, difference.gone) == (3, 1, 1)
    carried = {row["path"][7:]: (row[schema.CARRY_FILE], row[schema.CARRY_PATH]) for row in todo(difference)}
    assert carried["new"] == (None, None)
    assert carried["moved"] == carried["twin"] == (carried["moved"][0], "s3://b/a")
    report = output.embed(difference)[1]
    assert output.embedder.asked == ["new"]
    assert (report.embedded, report.reused, report.model_rows) == (3, 2, 1)
    assert output.rows()["moved"]["features"] == features_of(moved[1].etag).tolist()
    assert (output.rows()["moved"]["width_px"], output.rows()["moved"]["height_px"]) == (5, 4)


@pytest.mark.parametrize("etags_tell_content", [True, False])
def test_a_picture_of_another_label_is_not_embedded_again(output: Output, etags_tell_content: bool) -> None:
    output.run(of(a="one", b="two"), etags_tell_content=etags_tell_content)
    relabelled = [Picture("s3://b/a", "one", "other"), Picture("s3://b/b", "two")]
    difference = output.compare(listed(relabelled, etags_tell_content))
    assert (difference.new, difference.changed, difference.unchanged) == (0, 1, 1)
    chunk, report = output.embed(difference)
    assert (report.model_rows, report.reused, chunk.changed, output.embedder.asked) == (0, 1, 1, [])
    row = output.rows()["a"]
    assert (row["label"], row["features"]) == ("other", features_of(relabelled[0].etag).tolist())


def test_another_content_at_the_same_key_is_embedded(output: Output) -> None:
    output.run(of(a="one", b="two"))
    # And one that takes another's content: changed, and known.
    difference = output.compare(listed(of(a="three", b="one")))
    assert (difference.changed, difference.unchanged) == (2, 0)
    assert output.embed(difference)[1].model_rows == 1
    assert output.embedder.asked == ["a"]


def test_features_that_cannot_be_carried_are_computed(output: Output) -> None:
    chunk = output.embed(output.compare(listed(of(a="one", b="two"))))[0]
    difference = output.compare(listed([Picture("s3://b/a", "one", "other"), *of(c="one", d="one", e="two")]))
    os.unlink(output.table.files("features", chunk)[0])
    report = output.embed(difference)[1]
    assert output.embedder.asked == ["a", "e"]
    assert (report.embedded, report.reused, report.model_rows) == (4, 2, 2)
    assert output.rows()["d"]["features"] == features_of(of(d="one")[0].etag).tolist()


def test_a_row_that_is_not_where_it_was_is_computed(output: Output) -> None:
    chunk = output.embed(output.compare(listed(of(a="one", b="two"))))[0]
    difference = output.compare(listed(of(a="one", b="two", c="one", d="two")))
    file = output.table.files("features", chunk)[0]
    pq.write_table(pq.read_table(file).slice(1), file)
    assert output.embed(difference)[1].model_rows == 1
    assert output.embedder.asked == ["c"]


def test_full_does_all_of_it_again_and_each_content_once(output: Output) -> None:
    pictures = of(a="one", b="one", c="two")
    output.run(pictures)
    difference = output.compare(listed([*pictures, *of(d="one")]), full=True)
    assert (difference.new, difference.changed, difference.unchanged) == (1, 3, 0)
    assert output.embed(difference)[1].model_rows == 2
    assert output.embedder.asked == ["a", "c"]


def test_etags_of_disks_tell_nothing_of_content(output: Output) -> None:
    """Files of one time and size, as an archive with whole seconds unpacks them."""

    def never_reused(pictures: list[Picture], etags_tell_content: bool) -> None:
        output.run(pictures[:1], etags_tell_content=etags_tell_content)
        report = output.run(pictures, etags_tell_content=etags_tell_content)
        assert (report.model_rows, report.reused) == (2, 0)

    never_reused(of(a="one", b="one", c="one"), False)
    # A manifest of files on a disk may have a column of such etags.
    never_reused([Picture(f"/disk/{name}", "one") for name in "abc"], True)

    class Unknown(Picture):
        @property
        def etag(self) -> str:
            return "~--"

    never_reused([Unknown(f"s3://other/{name}", "one") for name in "abc"], True)


def test_one_etag_and_two_sizes_are_two_contents(output: Output) -> None:
    class Odd(Picture):
        @property
        def etag(self) -> str:
            return "0" * 32

    report = output.run([Odd("s3://b/a", "1"), Odd("s3://b/b", "22"), Odd("s3://b/c", "1")])
    assert (report.model_rows, output.embedder.asked) == (2, ["a", "b"])


def drained(work: Work, ask: int) -> list[pa.Table]:
    parts = []
    while (part := work.next(ask)) is not None:
        parts.append(part)
    return parts


def test_very_many_twins_are_several_families(output: Output, tmp_path: Path) -> None:
    many = [Picture(f"s3://b/{number:05d}", "one") for number in range(2 * MOST_TWINS + 10)]
    parts = drained(output.compare(listed(many)).take(), 1)
    assert [len(part) for part in parts] == [MOST_TWINS, MOST_TWINS, 10]
    assert [sum(not twin for twin in part[schema.TWIN].to_pylist()) for part in parts] == [1, 1, 1]


@pytest.mark.slow
@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from("abcdefghijkl"), st.sampled_from("123"), min_size=1), st.integers(1, 9))
def test_whatever_is_listed_is_to_do_once(network: Network, contents: dict[str, str], ask: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Output(Path(folder), network)
        parts = drained(output.compare(listed(of(**contents))).take(), ask)
        assert sorted(path for part in parts for path in part["path"].to_pylist()) == sorted(
            f"s3://b/{name}" for name in contents
        )
        report = output.run(of(**contents))
        assert report.model_rows == len(set(contents.values()))
        assert set(output.rows()) == set(contents)
