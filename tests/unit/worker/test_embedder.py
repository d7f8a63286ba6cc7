import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import break_some, draw, mean_colour
from mirabelle import schema
from mirabelle.listing import list_images
from mirabelle.network.preparing import Network
from mirabelle.spark.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.worker import embedder as module
from mirabelle.worker.embed import TaskReport, run_task
from mirabelle.worker.embedder import Embedder, EmbedderSpec, Tally, as_matrix, embedder_for


def small_batches(network: Network, images: int) -> EmbedderSpec:
    return spec_of(network, batch_bytes=images * 3 * network.embedding.input_px**2)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_one_outcome_a_source_in_order_whatever_the_batch(tmp_path: Path, network: Network, batch: int) -> None:
    for number in range(7):
        draw(tmp_path / f"{number}.png", number)
    sources: list = [str(tmp_path / f"{number}.png") for number in range(7)]
    sources[2] = str(tmp_path / "missing.png")
    sources[4] = (tmp_path / "4.png").read_bytes()
    sources[5] = b""
    sources.append(None)
    tally = Tally()
    outcomes = list(Embedder(small_batches(network, batch), network.files).embed(sources, tally))
    assert [str(o.error.code) if o.error else "" for o in outcomes] == [
        "",
        "",
        "missing",
        "",
        "",
        "empty",
        "",
        "missing",
    ]
    for number in (0, 1, 3, 4, 6):
        np.testing.assert_allclose(outcomes[number].features, mean_colour(tmp_path / f"{number}.png"), rtol=1e-5)
        assert (outcomes[number].width_px, outcomes[number].height_px) == (24, 24)
    assert tally.model_rows == 5
    assert tally.seconds[schema.INFERENCE] > 0
    assert tally.decode_core_seconds > 0


def test_pictures_are_decoded_while_the_network_runs_and_no_more_than_a_batch_ahead(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "0.png", 0)
    taken = []

    def sources() -> Iterator[str]:
        for number in range(100):
            taken.append(number)
            yield str(tmp_path / "0.png")

    seen: list[tuple[int, int]] = []

    class Waits:
        """Runs until the pictures of the next batch were asked for, and longer."""

        on_gpu = False

        def embed(self, pixels: np.ndarray) -> np.ndarray:
            asked = len(taken)
            time.sleep(0.05)
            seen.append((asked, len(taken)))
            return np.ones((len(pixels), 3), np.float32)

    embedder = Embedder(small_batches(network, 10), network.files)
    embedder._engine = Waits()
    tally = Tally()
    assert len(list(embedder.embed(sources(), tally))) == 100
    # Asked for before the engine starts: this batch, the next, and the one that is being read.
    assert [before for before, _ in seen] == [min(10 * batch + 21, 100) for batch in range(10)]
    # What was asked for is decoded by the time the engine ends, so that it is not waited for.
    assert tally.seconds[schema.DECODING] + tally.seconds[schema.STORE] < tally.seconds[schema.INFERENCE]


def test_waiting_counts_for_what_was_waited_for(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "0.png", 0)
    embedder = Embedder(small_batches(network, 1), network.files)

    def slow(part: str) -> Tally:
        with monkeypatch.context() as patched:
            original = getattr(module, part)

            def slowly(*arguments: object, **named: object) -> object:
                time.sleep(0.2)
                return original(*arguments, **named)

            patched.setattr(module, part, slowly)
            tally = Tally()
            list(embedder.embed([str(tmp_path / "0.png")], tally))
            return tally

    by_store, by_decoding = slow("fetch").seconds, slow("decode").seconds
    assert by_store[schema.STORE] > 0.19 > by_store[schema.DECODING]
    assert by_decoding[schema.DECODING] > 0.19 > by_decoding[schema.STORE]


def test_features_are_not_overwritten_by_the_next_batch(tmp_path: Path, network: Network) -> None:
    for number in range(4):
        draw(tmp_path / f"{number}.png", number)
    outcomes = list(
        Embedder(small_batches(network, 1), network.files).embed(
            [str(tmp_path / f"{n}.png") for n in range(4)], Tally()
        )
    )
    assert len({o.features.tobytes() for o in outcomes}) == 4


class Breaks:
    """An engine that cannot run a picture whose first value is 1, and answers NaN where it is 2."""

    on_gpu = False

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        first = pixels[:, 0, 0, 0]
        if (first == 1).any():
            raise RuntimeError("kernel\n  panic")
        return np.where(first == 2, np.nan, 1.0)[:, None].astype(np.float32)


def flat(value: int) -> bytes:
    """A PNG of one grey."""
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(sink, "PNG")
    return sink.getvalue()


def test_one_picture_that_breaks_the_engine_costs_no_other(network: Network) -> None:
    embedder = Embedder(small_batches(network, 4), network.files)
    embedder._engine = Breaks()
    tally = Tally()
    outcomes = list(embedder.embed([flat(0), flat(1), flat(2), flat(3), flat(4)], tally))
    assert [str(o.error.code) if o.error else "" for o in outcomes] == ["", "engine_failed", "not_finite", "", ""]
    assert outcomes[1].error.detail == "kernel panic"
    assert tally.model_rows == 5


class OnGpu:
    """An engine as on a GPU, which has memory for so many pictures at once; it remembers how many it was given."""

    on_gpu = True

    def __init__(self, most: int) -> None:
        self.most = most
        self.given: list[int] = []

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        self.given.append(len(pixels))
        if len(pixels) > self.most:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return pixels[:, 0, 0].astype(np.float32)


def test_on_a_gpu_every_batch_is_of_one_shape(network: Network) -> None:
    embedder = Embedder(small_batches(network, 4), network.files)
    embedder._engine = engine = OnGpu(most=4)
    tally = Tally()
    outcomes = list(embedder.embed([flat(value) for value in range(10)], tally))
    assert engine.given == [4, 4, 4]
    assert [outcome.features[0] for outcome in outcomes] == list(range(10))
    assert tally.model_rows == 10


def test_pictures_that_a_gpu_has_no_room_for_at_once_are_given_one_by_one(network: Network) -> None:
    embedder = Embedder(small_batches(network, 4), network.files)
    embedder._engine = engine = OnGpu(most=1)
    outcomes = list(embedder.embed([flat(7)], Tally()))
    assert engine.given == [4, 1], "what only fills the batch is not tried again"
    assert outcomes[0].features[0] == 7


def test_a_batch_suits_the_engine_unless_it_is_told(network: Network) -> None:
    large = replace(network.embedding, input_px=224)
    open_batch = replace(spec_of(network), embedding=large)
    assert (open_batch.batch_images(on_gpu=False), open_batch.batch_images(on_gpu=True)) == (27, 222)
    told = replace(open_batch, batch_bytes=3 * 224**2 * 9)
    assert told.batch_images(on_gpu=False) == told.batch_images(on_gpu=True) == 9


def test_a_process_builds_its_embedder_once(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EMBEDDERS", {})
    asked = []

    def files() -> dict:
        asked.append(1)
        return network.files

    first = embedder_for(spec_of(network), files)
    assert embedder_for(spec_of(network), files) is first
    assert len(asked) == 1
    other = replace(spec_of(network), embedding=replace(network.embedding, weights_digest="1" * 64))
    assert embedder_for(other, files) is not first
    assert len(asked) == 2


def test_a_task_stages_contract_rows(pictures: Path, tmp_path: Path, network: Network) -> None:
    codes = break_some(pictures)
    scratch = tempfile.mkdtemp()
    listing = list_images(DiskStore(), str(pictures), ["*"], [".*"], "{split}/{label}/{name}", scratch=scratch).table
    staging = str(tmp_path / "staging")
    report = run_task(Embedder(spec_of(network), network.files), listing, DiskStore(), staging, 3, "abc")
    assert (report.embedded, report.rejected, report.model_rows) == (54, 3, 54)
    assert report.codes == {"truncated": 1, "empty": 1, "not_an_image": 1}
    assert TaskReport.from_json(report.to_json()) == report
    features = pq.read_table(f"{staging}/features/{report.features_file}")
    assert features.schema.names == [
        "path",
        "label",
        "split",
        "width_px",
        "height_px",
        "size_bytes",
        "etag",
        "modified",
        "features",
    ]
    assert features.schema.field("features").type == pa.list_(pa.field("element", pa.float32(), nullable=False))
    assert (
        json.loads(features.schema.metadata[schema.EMBEDDING_METADATA_KEY.encode()])["fingerprint"]
        == network.embedding.fingerprint
    )
    for row in features.to_pylist()[::10]:
        np.testing.assert_allclose(row["features"], mean_colour(Path(row["path"])), rtol=1e-5)
        assert row["label"] == Path(row["path"]).parent.name
    rejects = pq.read_table(f"{staging}/rejects/{report.rejects_file}")
    assert rejects.schema.names == ["path", "stage", "code", "detail", "size_bytes", "etag"]
    assert {row["path"]: row["code"] for row in rejects.to_pylist()} == codes
    assert as_matrix(features["features"]).shape == (54, 3)


MEMORY = """
import io, sys
import numpy as np
from PIL import Image
from conftest import mean_colour_network
from mirabelle.spark.embed import spec_of
from mirabelle.worker.embedder import Embedder, Tally
from mirabelle.network.engines import open_engine

def peak_kib():
    # Of this program alone: getrusage's figure begins with that of the process it was forked from.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0])

images, huge_px = int(sys.argv[1]), int(sys.argv[2])
network = mean_colour_network(64)
def jpeg(side):
    sink = io.BytesIO(); Image.new("RGB", (side, side), (9, 9, 9)).save(sink, "JPEG"); return sink.getvalue()
small, huge = jpeg(500), jpeg(huge_px) if huge_px else None
def sources():
    for number in range(images):
        yield small
    if huge: yield huge
embedder = Embedder(spec_of(network), network.files)
list(embedder.embed([small] * 600, Tally()))
before = peak_kib()
for outcome in embedder.embed(sources(), Tally()):
    last = outcome
after = peak_kib()
print(after - before, last.error.code if last.error else "")
"""


def grown_kib(images: int, huge_px: int) -> tuple[int, str]:
    here = Path(__file__).parents[2]
    command = [sys.executable, "-c", MEMORY, str(images), str(huge_px)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    grown, _, code = done.stdout.strip().partition(" ")
    return int(grown), code


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc")


@pytest.mark.slow
@needs_proc
def test_memory_does_not_grow_with_the_number_of_images() -> None:
    # 3,000 pictures of 500 px are 2.2 GiB decoded, and 36 MiB even at the network's 64 px.
    grown, _ = grown_kib(3000, 0)
    assert grown < 24 * 1024


@pytest.mark.slow
@needs_proc
def test_one_huge_picture_is_refused_before_it_costs_memory() -> None:
    # 9,000 px square: 243 MB decoded, over the pixel limit.
    grown, code = grown_kib(1, 9000)
    assert code == "too_many_pixels"
    assert grown < 24 * 1024
