import os
from pathlib import Path

import pytest

from mirabelle.errors import FetchError, ListingError, OutputError
from mirabelle.listing.rows import text_of
from mirabelle.storage import DiskStore, absolute, join, open_store

STORE = DiskStore()


def code_of(path: Path, max_bytes: int = 100) -> str:
    with pytest.raises(FetchError) as raised:
        STORE.read(str(path), max_bytes)
    return str(raised.value.code)


def test_read_tells_why_not(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert code_of(tmp_path / "none") == "missing"
    assert code_of(tmp_path / "link") == "missing"
    assert code_of(tmp_path / "large") == "too_many_bytes"
    # A pipe that nobody writes to would hang a worker for ever.
    assert code_of(tmp_path / "pipe") == "unreadable"
    assert code_of(tmp_path) == "unreadable"
    assert STORE.read(str(tmp_path / "large"), 101) == b"x" * 101


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_denied(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    assert code_of(tmp_path / "secret") == "denied"


def test_write_is_whole_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    STORE.write(str(target), b"one")
    STORE.write(str(target), b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in target.parent.iterdir()] == ["b"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write .*file/below"):
        STORE.write(str(tmp_path / "file" / "below"), b"x")


def test_publish_moves_a_whole_folder(tmp_path: Path) -> None:
    STORE.write(str(tmp_path / "staged" / "x"), b"1")
    STORE.publish(str(tmp_path / "staged"), str(tmp_path / "deep" / "final"), ["x"])
    assert (tmp_path / "deep" / "final" / "x").read_bytes() == b"1"
    assert not STORE.exists(str(tmp_path / "staged" / "x"))
    # Again is no mistake: a run that was killed may not know that it was done.
    STORE.publish(str(tmp_path / "staged"), str(tmp_path / "deep" / "final"), ["x"])
    with pytest.raises(OutputError, match="cannot move"):
        STORE.publish(str(tmp_path / "staged"), str(tmp_path / "other"), ["x"])


def test_remove(tmp_path: Path) -> None:
    STORE.write(str(tmp_path / "d" / "x"), b"1")
    for _ in range(2):
        STORE.remove(str(tmp_path / "d"))
        STORE.remove(str(tmp_path / "none"))
    assert not (tmp_path / "d").exists()


def test_walk_wants_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match="there is no folder"):
        list(STORE.walk(str(tmp_path / "none")))


def test_paths() -> None:
    assert join("a/", "b", "c/") == "a/b/c/"
    assert absolute("file:///x/../y") == "/y"
    assert absolute("~/x") == str(Path.home() / "x")
    with pytest.raises(OutputError, match="gs:// is not served; give a path on a disk"):
        open_store("gs://bucket/key")


def test_what_is_not_there_is_told_from_names_that_are_not_utf8(tmp_path: Path) -> None:
    def detail_of(path: str) -> str:
        with pytest.raises(FetchError) as raised:
            STORE.read(path, 100)
        return str(raised.value)

    # Nobody can know whether it ever was.
    for name in ("never", "never/was.jpg", "b\\udce9d.jpg"):
        assert detail_of(f"{tmp_path}/{name}") == "missing: it is not there"
    odd = tmp_path / os.fsdecode(b"gr\xfcn") / os.fsdecode(b"caf\xe9 \xc3\xa9.jpg")
    odd.parent.mkdir()
    odd.write_bytes(b"x")
    # As it stands in a listing, which is text.
    assert detail_of(text_of(str(odd))) == "unreadable: its name is not UTF-8; rename it"
    (tmp_path / "b\\udce9d.jpg").write_bytes(b"a name like any other")
    assert STORE.read(f"{tmp_path}/b\\udce9d.jpg", 100) == b"a name like any other"
