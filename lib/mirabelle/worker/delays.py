"""Delays of PySpark's own, a tenth of a second and more at each task, and how a worker process is spared them.

Executors only, though nothing here knows of Spark: it can be run and tested in any process.
"""

from __future__ import annotations

import functools
import gc
import os
import socket
import sys
import zipimport
from contextlib import suppress


def spare_this_task() -> None:
    """Answer the JVM at once; called by a task before it asks for its first row.

    The JVM sends the task's function and then its rows, two small writes. TCP keeps back the second until the first is
    acknowledged (Nagle's algorithm), and Linux does not acknowledge it for 40 ms, hoping for an answer to send along.
    Asking for quick acknowledgement sends what is due. It lasts for the moment, and so may be asked of all connections
    of the process. Seen with Spark 4.1 to 4.3 on Linux; with 3.5 it gains nothing. Spark 4.1's Unix domain sockets are
    as quick, but the folder of a container on YARN can be too long for their names.
    """
    if not sys.platform.startswith("linux"):
        return
    for descriptor in os.listdir("/proc/self/fd"):
        # Not a socket, not TCP, or closed by another thread in the meantime.
        with suppress(OSError):
            connection = socket.socket(fileno=int(descriptor))
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            finally:
                connection.detach()


def spare_next_task() -> None:
    """Keep PySpark from looking through all there is before the next task; called at the end of one.

    After each task PySpark has the garbage collector look at all objects; those that are here after the first one stay,
    and need not be looked at. And it begins each task with ``importlib.invalidate_caches()``, at which Python before
    3.13 reads the directory of every zip file on the path anew: 0.15 s for ``pyspark.zip``. An importer that is not in
    the cache is not asked to; the next import makes one from the directory that ``zipimport`` remembers.
    """
    _freeze_once()
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


@functools.cache
def _freeze_once() -> None:
    # Not asked of the collector, which counts what it has frozen one by one: 8 ms.
    gc.freeze()
