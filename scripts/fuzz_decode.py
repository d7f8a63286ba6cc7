"""Throws damaged pictures at the decoder: does any crash it, hang it for 2 s, or take more than 1 GiB?

    python scripts/fuzz_decode.py --executions 100000 --seeds PICTURES --keep findings

Small files of every format, made here, and those of ``--seeds`` are damaged at random and decoded in child processes,
with all formats switched on. Every execution is told by ``--seed`` and its number alone, so that a finding can be made
again: ``--only NUMBER``. Exit code 1 where something was found.
"""

from __future__ import annotations

import argparse
import io
import json
import mmap
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mirabelle.decode import DecodedImage, DecodeOptions, decode, thumbnail
from mirabelle.decode.formats import FORMATS, format_of
from mirabelle.errors import DecodeError

# By the clock, after which a child is taken to hang; wide, for machines that are at work on something else.
PATIENCE_SECONDS = 30.0
ADDRESS_SPACE = 8 * 2**30
IN_A_CHILD = 2000
MOST_SEED_BYTES = 150_000

# Values at which sizes and counts overflow.
BOUNDARIES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def made_seeds() -> Iterator[tuple[str, bytes]]:
    """A small file of each format and of each way to write it that has a decoder of its own."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels).resize((61, 47), Image.Resampling.BICUBIC)
    modes: dict[str, tuple[str, ...]] = {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "RGBA", "P", "LA", "I;16", "1"),
        "GIF": ("P", "L"),
        "WEBP": ("RGB", "RGBA"),
        "TIFF": ("RGB", "LAB", "F", "CMYK", "I;16", "1", "P"),
        "BMP": ("RGB", "RGBA", "P", "1"),
        "AVIF": ("RGB", "RGBA"),
        "JPEG2000": ("RGB", "RGBA", "L", "LA", "I;16"),
        "PPM": ("RGB", "L", "1", "I;16", "F"),
        "TGA": ("RGB", "RGBA", "L", "LA", "P"),
        "ICO": ("RGBA", "P"),
    }
    ways: dict[str, tuple[dict[str, Any], ...]] = {
        "JPEG": ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 2}, {"exif": exif()}),
        "PNG": ({}, {"exif": exif()}),
        "WEBP": ({}, {"lossless": True}, {"exif": exif()}),
        "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}),
        "JPEG2000": ({}, {"no_jp2": True}, {"tile_size": (32, 32), "irreversible": True}, {"num_resolutions": 1}),
        "TGA": ({}, {"compression": "tga_rle"}),
        "ICO": ({"sizes": [(32, 32)]}, {"sizes": [(32, 32)], "bitmap_format": "bmp"}),
    }
    for kind, names in modes.items():
        for mode in names:
            for way in ways.get(kind, ({},)):
                yield (
                    kind,
                    saved(photo.convert("L").convert(mode) if mode == "I;16" else photo.convert(mode), kind, **way),
                )
    yield "TIFF", saved(photo, "TIFF", compression="jpeg")
    yield "TIFF", saved(photo.convert("1"), "TIFF", compression="group4")
    yield "GIF", saved(photo, "GIF", save_all=True, append_images=[photo.rotate(90)])
    yield "PPM", b"P3\n4 2\n255\n" + b"1 2 3\n" * 8
    yield "PPM", b"P5\n4 2\n1023\n" + bytes(range(16))
    yield from heif_seeds(photo)


def heif_seeds(photo: Image.Image) -> Iterator[tuple[str, bytes]]:
    try:
        from pillow_heif import from_pillow
    except ImportError:
        return
    for mode in ("RGB", "RGBA", "L"):
        for way in ({}, {"quality": -1, "chroma": 444}, {"tile_size": 32}):
            if "tile_size" in way and mode != "RGB":
                continue
            file = io.BytesIO()
            from_pillow(photo.convert(mode)).save(file, **way)
            yield "HEIF", file.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[274] = 6
    found[0x10F] = "Maker"
    return found


def seeds_of(folders: list[Path], formats: list[str]) -> list[bytes]:
    """The made ones, and all small files of the folders, of the formats that are wanted."""
    found = [content for kind, content in made_seeds() if kind.lower() in formats]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and 0 < path.stat().st_size <= MOST_SEED_BYTES:
                content = path.read_bytes()
                try:
                    format_of(content, formats)
                except DecodeError:
                    continue
                found.append(content)
    return found


def damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Some bits, bytes, numbers and pieces changed, more of them near the beginning, where headers are."""
    result = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8, 20))):
        if not result:
            break
        near = min(len(result), rng.choice((32, 128, 1024, len(result))))
        at, way = rng.randrange(near), rng.randrange(9)
        size = min(rng.choice((1, 2, 4, 8, 64, 512)), len(result) - at)
        if way == 0:
            result[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            result[at] = rng.randrange(256)
        elif way in (2, 3):
            width, order = rng.choice((1, 2, 4)), rng.choice(("big", "little"))
            value = rng.choice((*BOUNDARIES, rng.getrandbits(32))) & (256**width - 1)
            result[at : at + width] = value.to_bytes(width, order)
        elif way == 4:
            del result[at : at + size]
        elif way == 5:
            result[at:at] = result[at : at + size] * rng.choice((1, 2, 30))
        elif way == 6:
            result[at : at + size] = rng.randbytes(size)
        elif way == 7:
            start = rng.randrange(max(1, len(other)))
            result[at : at + size] = other[start : start + size]
        elif rng.random() < 0.3:
            del result[at + rng.randrange(len(result) - at) :]
    return bytes(result)


def execution(number: int, seed: int, seeds: list[bytes]) -> tuple[bytes, DecodeOptions]:
    """The file of one execution, and how it is decoded."""
    rng = random.Random(seed * 1_000_003 + number)
    content = damaged(rng.choice(seeds), rng.choice(seeds), rng)
    return content, DecodeOptions(exact=rng.random() < 0.5, accept_truncated=rng.random() < 0.2, formats=FORMATS)


def carry_out(number: int, content: bytes, options: DecodeOptions) -> DecodedImage | bytes:
    """Decode it; every eighth as reports and bundles show it."""
    return decode(content, 32, options) if number % 8 else thumbnail(content, 32, options)


def peak_kib() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def child(start: int, end: int, progress: Path, seeds: list[bytes], arguments: argparse.Namespace) -> None:
    """Carry out some executions; the number under way is in ``progress``, what became of all goes to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    counts: Counter[str] = Counter()
    with progress.open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(start, end):
            at[:] = struct.pack("<q", number)
            content, options = execution(number, arguments.seed, seeds)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            begun = time.process_time()
            try:
                carry_out(number, content, options)
                outcome = "picture"
            except DecodeError as error:
                outcome = error.code.value
            except Exception as error:
                outcome = "raised"
                print(
                    json.dumps({"number": number, "what": f"raised {type(error).__name__}: {error}"[:300]}), flush=True
                )
            seconds, peak_mib = time.process_time() - begun, peak_kib() // 1024
            counts[outcome] += 1
            if seconds > arguments.most_seconds or peak_mib > arguments.most_mib:
                what = f"took {seconds:.1f} s and {peak_mib} MiB, {outcome}"
                print(json.dumps({"number": number, "what": what}), flush=True)
    print(json.dumps({"counts": counts}), flush=True)


@dataclass
class Found:
    """What became of all executions."""

    done: int
    counts: Counter[str]
    findings: list[tuple[int, str]]


def watched(command: list[str], progress: Path, patience_seconds: float) -> tuple[str, str | None]:
    """A child's output, and how it ended if it did not end well."""
    with tempfile.TemporaryFile() as output:
        # libtiff tells of every damage that it meets.
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        last, since, ended = b"", time.monotonic(), None
        while process.poll() is None:
            time.sleep(0.05)
            now = progress.read_bytes()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > patience_seconds:
                process.kill()
                process.wait()
                ended = f"hung for {patience_seconds:.0f} s"
        if ended is None and process.returncode:
            ended = f"ended with {process.returncode}"
        output.seek(0)
        return output.read().decode(), ended


def fuzz(first: int, executions: int, arguments: argparse.Namespace) -> Found:
    """Executions from number ``first`` on, in one child after another."""
    found = Found(0, Counter(), [])
    number, end = first, first + executions
    with tempfile.TemporaryDirectory() as scratch:
        progress = Path(scratch) / "number"
        while number < end:
            until = min(number + IN_A_CHILD, end)
            progress.write_bytes(struct.pack("<q", number))
            words = [word for folder in arguments.seeds for word in ("--seeds", str(folder))]
            words += ["--most-seconds", str(arguments.most_seconds), "--most-mib", str(arguments.most_mib)]
            words += ["--child", str(number), str(until), str(progress), "--formats", *arguments.formats]
            command = [sys.executable, __file__, "--seed", str(arguments.seed), *words]
            output, ended = watched(command, progress, PATIENCE_SECONDS)
            for line in map(json.loads, output.splitlines()):
                found.counts.update(line.get("counts", {}))
                if "what" in line:
                    found.findings.append((line["number"], line["what"]))
            if ended:
                (until,) = struct.unpack("<q", progress.read_bytes())
                found.findings.append((until, ended))
                until += 1
            found.done += until - number
            number = until
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first execution")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=Path, action="append", default=[], help="folder of pictures to damage, too")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS, help="that are damaged")
    # Of a core, which other work on the machine does not lengthen.
    parser.add_argument("--most-seconds", type=float, default=2.0, help="that an execution may take")
    parser.add_argument("--most-mib", type=int, default=1024, help="of memory, the interpreter's included")
    parser.add_argument("--keep", type=Path, help="folder for the files that something was found with")
    parser.add_argument("--only", type=int, help="carry out this execution alone, here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        start, end, progress = arguments.child
        child(int(start), int(end), Path(progress), seeds_of(arguments.seeds, arguments.formats), arguments)
        return 0
    seeds = seeds_of(arguments.seeds, arguments.formats)
    if arguments.only is not None:
        content, options = execution(arguments.only, arguments.seed, seeds)
        print(carry_out(arguments.only, content, options))
        return 0
    begun = time.monotonic()
    found = fuzz(arguments.first, arguments.executions, arguments)
    print(f"{found.done:,} executions over {len(seeds)} files in {time.monotonic() - begun:,.0f} s")
    print(", ".join(f"{name} {count:,}" for name, count in found.counts.most_common()))
    for number, what in found.findings:
        print(f"execution {number}: {what}")
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{arguments.seed}-{number}").write_bytes(execution(number, arguments.seed, seeds)[0])
    print(f"{len(found.findings)} findings")
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
