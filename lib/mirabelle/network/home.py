"""A home for a user that has none, as in a container that was given a bare user id. [temporary folder]

Driver only. Our cache, Keras and OpenVINO each look for the home folder, and OpenVINO does not even import without one.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from mirabelle.errors import OutputError

log = logging.getLogger(__name__)


def ensure_home() -> None:
    """Set HOME to a temporary folder of this user's own, the same in each run, where there is no home; said once.

    Raises:
        OutputError: there is no such folder to be had.
    """
    try:
        Path.home()
    except RuntimeError:
        folder = _own_folder()
        log.warning("the user id %d has no home folder; %s is its home until HOME is set", os.getuid(), folder)
        # For all that this process starts, too.
        os.environ["HOME"] = str(folder)


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"mirabelle-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise OutputError(f"cannot make the home folder {folder}: {error.strerror}; set HOME to another") from error
    # Whoever may write there could put a network of their own into the cache.
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OutputError(f"{folder} is open to other users and no place for a home; set HOME to another folder")
    return folder
