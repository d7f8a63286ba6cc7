"""What images there are, as the configuration says: listed or read from a manifest, with their labels. [Store]

Driver only.
"""

from __future__ import annotations

import os
from dataclasses import replace

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.listing.labels import join_labels
from mirabelle.listing.manifest import read_manifest
from mirabelle.listing.rows import Listing
from mirabelle.listing.walking import list_images
from mirabelle.storage import absolute, is_s3, join


def read_listing(config: Config, scratch: str) -> Listing:
    """List ``images.root`` or read ``images.manifest``, and join ``labels.table``."""
    wanted, labels = config.images, config.labels
    root = absolute(wanted.root) if wanted.root else ""
    if wanted.manifest:
        manifest = absolute(wanted.manifest)
        images = read_manifest(
            store_of(config, manifest),
            manifest,
            root,
            wanted.include,
            wanted.exclude,
            wanted.layout,
            label=labels.label,
            split=labels.split,
            scratch=scratch,
        )
    else:
        images = list_images(
            store_of(config, root),
            root,
            wanted.include,
            wanted.exclude,
            wanted.layout,
            _ours(config, root),
            scratch=scratch,
        )
    if labels.table:
        table = absolute(labels.table)
        listed = images
        images = join_labels(
            listed, store_of(config, table), table, root, labels.key, labels.label, labels.split, scratch=scratch
        )
        images = replace(images, repeated=listed.repeated, left_out=listed.left_out)
    return images


def _ours(config: Config, root: str) -> list[str]:
    """What may lie below the root and is no picture, named as the walk will name it."""
    own = [absolute(path) for path in (config.output, config.cache, config.labels.table) if path]
    if is_s3(root):
        return [path for path in own if is_s3(path)]
    # Told apart by where they really are.
    real = os.path.realpath(root)
    return [join(root, os.path.relpath(os.path.realpath(path), real)) for path in own if not is_s3(path)]
