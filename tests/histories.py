"""Outputs with a history, made without Spark: what extracts leave, by the parts that executors run."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from mirabelle.decode import DecodeOptions
from mirabelle.listing import list_images
from mirabelle.network.preparing import Network
from mirabelle.spark.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.table.current_view import listing_of
from mirabelle.table.difference import STATUS, compare
from mirabelle.table.features import FeatureTable
from mirabelle.worker.embed import run_task
from mirabelle.worker.embedder import Embedder

STORE = DiskStore()
LAYOUT = "{split}/{label}/{name}"


class History:
    """Pictures and an output that grows run by run.

    Args:
        root: of the pictures.
        output: its root.
        network: whose features are made.
        chunk_images: pictures in a chunk; a chunk has two files.
    """

    def __init__(self, root: Path, output: Path, network: Network, chunk_images: int = 20) -> None:
        self.root, self.output, self.network, self.chunk_images = root, output, network, chunk_images
        self.table = FeatureTable(STORE, str(output), network.embedding)
        self.runs: Iterator[str] = (f"20200101T0000{i:02d}.000000Z-00ff" for i in count())

    def extract(
        self, *, layout: str = LAYOUT, most_chunks: int | None = None, full: bool = False, **decode: Any
    ) -> dict[str, Any]:
        """What an extract does; returns its manifest.

        Args:
            layout: of the paths.
            most_chunks: the run is killed once it has committed so many.
            full: embed every picture again.
            decode: choices of the decoder.
        """
        run, options = next(self.runs), replace(self.network.decode, **decode)
        embedder = Embedder(spec_of(replace(self.network, decode=options)), self.network.files)
        self.table.clean()
        scratch = tempfile.mkdtemp()
        listing = list_images(STORE, str(self.root), ["*"], [".*"], layout, scratch=scratch)
        difference = compare(self.table, listing, options, scratch, full)
        manifest: dict[str, Any] = {"run_id": run, "command": "extract", "status": "running"}
        manifest |= {"embedding": self.network.embedding.to_json(), "fingerprint": self.network.embedding.fingerprint}
        manifest["listing"] = listing_of(str(self.output), run)
        STORE.upload(listing.file, manifest["listing"])
        self.write(manifest)
        work, chunks = difference.take(), []
        while (rows := work.next(self.chunk_images)) is not None:
            if len(chunks) == most_chunks:
                return manifest
            number, half = len(chunks), -(-len(rows) // 2)
            staging = self.table.staging_folder(run, number)
            images = rows.drop_columns([STATUS])
            parts = [part for part in (images.slice(0, half), images.slice(half)) if len(part)]
            reports = [run_task(embedder, part, STORE, staging, i, "try") for i, part in enumerate(parts)]
            changed = pc.sum(pc.equal(rows[STATUS], "changed")).as_py()
            chunks.append(self.table.commit(run, number, len(rows), changed, listing.extra_labels, options, reports))
        counts = {name: sum(getattr(c, name) for c in chunks) for name in ("embedded", "rejected", "model_rows")}
        counts |= {"listed": listing.rows, "unchanged": difference.unchanged, "gone": difference.gone}
        counts["still_rejected"] = difference.still_rejected
        self.write(manifest := {**manifest, "status": "done", "counts": counts})
        return manifest

    def compare(self, layout: str = LAYOUT, **decode: Any) -> tuple[int, int, int, int, int]:
        """New, changed, unchanged, still rejected, gone."""
        scratch = tempfile.mkdtemp()
        listing = list_images(STORE, str(self.root), ["*"], [".*"], layout, scratch=scratch)
        options: DecodeOptions = replace(self.network.decode, **decode)
        d = compare(self.table, listing, options, scratch)
        return d.new, d.changed, d.unchanged, d.still_rejected, d.gone

    def write(self, manifest: dict[str, Any]) -> None:
        """Put a manifest where it belongs."""
        STORE.write(f"{self.output}/runs/{manifest['run_id']}.json", json.dumps(manifest).encode())
