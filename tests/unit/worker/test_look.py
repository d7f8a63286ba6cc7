"""What one picture's bytes say: alike pictures have like hashes, others have not; broken ones a code."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from mirabelle.decode import DecodeOptions
from mirabelle.errors import FetchError, RejectCode
from mirabelle.storage import S3Options
from mirabelle.worker.fetching import ImageSource
from mirabelle.worker.look import LookSpec, look_at, run_task


def picture(seed: int) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(rough).resize((320, 240), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **more: int) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **more)
    return content.getvalue()


def test_alike_and_not_alike() -> None:
    first = look_at(encoded(picture(1), "PNG"), DecodeOptions())
    assert (first["format"], first["width_px"], first["height_px"]) == ("PNG", 320, 240)
    assert first["sha256"] == hashlib.sha256(encoded(picture(1), "PNG")).hexdigest()
    for like in (encoded(picture(1), quality=40), encoded(picture(1).resize((640, 480)))):
        facts = look_at(like, DecodeOptions())
        assert facts["sha256"] != first["sha256"]
        assert (facts["phash"] ^ first["phash"]).bit_count() <= 3
    other = look_at(encoded(picture(2)), DecodeOptions())
    assert (other["phash"] ^ first["phash"]).bit_count() > 12


def test_what_is_no_picture_has_a_code() -> None:
    assert look_at(b"<html>", DecodeOptions())["code"] == "not_an_image"
    assert look_at(FetchError(RejectCode.MISSING, "gone"), DecodeOptions()) == {"code": "missing"}


def test_a_task_writes_a_row_for_each(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    paths[0].write_bytes(encoded(picture(1)))
    paths[1].write_bytes(b"")
    spec = LookSpec(str(tmp_path / "seen"), DecodeOptions(), S3Options())
    assert run_task(7, [ImageSource(str(path)) for path in paths], spec) == 3
    seen = pq.read_table(tmp_path / "seen" / "000007.parquet").to_pylist()
    assert [row["path"] for row in seen] == [str(path) for path in paths]
    assert [row["code"] for row in seen] == [None, "empty", "missing"]
    assert seen[0]["width_px"] == 320 and seen[0]["phash"] >= 0
