"""Looks for pictures that take the decoder where none has been, by coverage: does any crash it, hang it, or take 1 GiB?

    pip install atheris==3.0.0
    python scripts/fuzz_guided.py CORPUS -atheris_runs=500000

Follows Pillow's parsers and our own checks line by line, which `fuzz_decode.py` does not; the codecs behind them are
not built to be followed. CORPUS is a folder to begin with and to add to; an empty one gets the small files of every
format that `fuzz_decode.py` makes. All else are libFuzzer's own flags (`-help=1` lists them). A finding ends it, and
its file is kept under the name that is printed.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path

from mirabelle.errors import DecodeError

# Of a file by the clock, of the whole process, and of files.
LIMITS = ("-timeout=2", "-rss_limit_mb=1024", "-max_len=150000")
FOLLOWED = ["PIL", "pillow_heif", "mirabelle.decode"]


def main() -> int:
    """Fuzz; libFuzzer ends the process."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    try:
        import atheris
    except ImportError:
        print("error: atheris is missing, which follows the code: pip install atheris==3.0.0", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=FOLLOWED):
        from fuzz_decode import carry_out, damaged, seeds_of
        from mirabelle.decode import DecodeOptions
        from mirabelle.decode.formats import FORMATS
    seeds = seeds_of([], list(FORMATS))
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number, content in enumerate(seeds):
            (corpus / f"seed-{number:03}").write_bytes(content)

    def decode_one(content: bytes) -> None:
        """Decode a file; its last byte, which hardly any format reads, says how."""
        way = content[-1] if content else 0
        options = DecodeOptions(exact=bool(way & 1), accept_truncated=way & 6 == 0, formats=FORMATS)
        with suppress(DecodeError):
            carry_out(way >> 3, content, options)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        """By turns as libFuzzer does, and as `fuzz_decode.py` does, which knows where headers are."""
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(content, most))
        return damaged(content, rng.choice(seeds), rng)[:most]

    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], decode_one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
