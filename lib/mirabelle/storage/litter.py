"""What lies among pictures and is none, by its path alone: what systems leave there, and what Mirabelle wrote. Pure."""

from __future__ import annotations

import re

# Files and folders that systems make unasked, in lower case. Those whose names begin with a dot need no line here.
LEFT_BY_SYSTEMS = frozenset(
    {
        # Windows
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        # macOS, also in its archives and on what it mounts
        "__macosx",
        "icon\r",
        "desktop db",
        "desktop df",
        "network trash folder",
        "temporary items",
        # Linux, Python, and disks on a network (Synology, QNAP)
        "lost+found",
        "__pycache__",
        "@eadir",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        # Programs that show pictures
        "picasa.ini",
        "zbthumbnail.info",
        "pspbrwse.jbf",
    }
)
_RUN = r"\d{8}T\d{6}(?:\.\d+)?Z-[0-9a-f]+"
# Every file of an output has its run's id in its path, which no folder of pictures has by chance; but for the lease.
_OUTPUT = re.compile(
    rf"(?:^|/)(?:runs/{_RUN}\.|_staging/run={_RUN}/|(?:features|rejects)/embedding=[^/]+/run={_RUN}/"
    rf"|(?:pca|classifier|predictions|report|bundle|finetuned|comparison|certificate|explore)/{_RUN}(?:/|\.tar$)"
    r"|finetuned/unfinished-[0-9a-f]+/|networks/int8-[^/]+/|_lease\.json$)"
)


def is_litter(below: str) -> bool:
    """Whether a path below the pictures' root is hidden, left by a system, or of an output of Mirabelle."""
    if below[:1] == "." or "/." in below:
        return True
    return not LEFT_BY_SYSTEMS.isdisjoint(below.lower().split("/")) or _OUTPUT.search(below) is not None
