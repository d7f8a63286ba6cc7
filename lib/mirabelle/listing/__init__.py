"""What images there are, and what their paths or a table tell of them.

Runs on the driver alone. May touch a ``Store``, and a scratch folder that DuckDB works in.

``walking`` lists a folder or a prefix, ``manifest`` reads what somebody else listed, ``layout`` reads labels out of
paths, ``labels`` takes them from a table. All of them go row by row or batch by batch: a listing is a file, and none of
them holds all of it in memory.
"""

from mirabelle.listing.chosen import told
from mirabelle.listing.labels import join_labels
from mirabelle.listing.layout import compile_layout, compile_patterns
from mirabelle.listing.manifest import read_manifest
from mirabelle.listing.rows import Listing
from mirabelle.listing.walking import list_images

__all__ = ["Listing", "compile_layout", "compile_patterns", "join_labels", "list_images", "read_manifest", "told"]
