import gc
import importlib
import os
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirabelle.worker import delays


@pytest.fixture
def unfrozen() -> Iterator[None]:
    delays._freeze_once.cache_clear()
    yield
    gc.unfreeze()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such delay, or no such switch")
def test_a_connection_that_waits_before_it_acknowledges_does_so_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as jvm:
        worker, _ = server.accept()
        with worker:
            for _ in range(20):  # question and answer, by which Linux tells whom it may keep waiting
                jvm.sendall(b"task")
                assert worker.recv(4) == b"task"
                worker.sendall(b"done")
                assert jvm.recv(4) == b"done"
            assert not worker.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            before = sorted(os.listdir("/proc/self/fd"))
            delays.spare_this_task()
            assert worker.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            assert sorted(os.listdir("/proc/self/fd")) == before
            jvm.sendall(b"more")
            assert worker.recv(4) == b"more"


@pytest.mark.usefixtures("unfrozen")
def test_no_zip_file_is_read_again_between_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("zipped_one.py", "value = 1")
        made.writestr("zipped_two.py", "value = 2")
    monkeypatch.syspath_prepend(str(archive))
    for name in ("zipped_one", "zipped_two"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert importlib.import_module("zipped_one").value == 1
    assert str(archive) in sys.path_importer_cache
    delays.spare_next_task()
    assert str(archive) not in sys.path_importer_cache
    # What is imported later is found all the same.
    assert importlib.import_module("zipped_two").value == 2


@pytest.mark.usefixtures("unfrozen")
def test_the_collector_leaves_out_what_the_first_task_left_and_nothing_later() -> None:
    delays.spare_next_task()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    kept = [[] for _ in range(1000)]
    delays.spare_next_task()
    assert gc.get_freeze_count() < frozen + len(kept)
