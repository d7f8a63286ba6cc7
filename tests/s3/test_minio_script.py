"""scripts/minio as a shell uses it: start, status, stop, run, and where its binary comes from."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from object_store import MINIO_SCRIPT, Server, connect

Script = Callable[..., subprocess.CompletedProcess[str]]
SETTINGS = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"}


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MINIO_SCRIPT), *arguments],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def script(aws: Server, tmp_path: Path) -> Iterator[Script]:
    """The script, with folders of its own for its state and all else; what still runs in the end is stopped."""
    if not aws.is_minio:
        pytest.skip("there is no MinIO to start")
    own = {"XDG_RUNTIME_DIR": str(tmp_path / "state"), "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return call(*arguments, **own, **environment)

    yield run
    run("stop")


def exports(text: str) -> dict[str, str]:
    """What a shell's ``eval`` would set."""
    words = [shlex.split(line) for line in text.splitlines()]
    assert all(word[0] == "export" and len(word) == 2 for word in words)
    return dict(word[1].split("=", 1) for word in words)


def server_of(settings: dict[str, str]) -> Server:
    return Server(
        settings["AWS_ENDPOINT_URL"], settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"], is_minio=True
    )


def buckets(settings: dict[str, str], create: str = "") -> list[str]:
    client = connect(server_of(settings))
    if create:
        client.create_bucket(Bucket=create)
    names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    client.close()
    return names


def command_lines() -> str:
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return "\n".join(lines)


def test_start_again_status_and_stop(script: Script, tmp_path: Path) -> None:
    assert (script("status").returncode, script("stop").returncode) == (1, 1)

    first = script("start")
    assert first.returncode == 0, first.stderr
    settings = exports(first.stdout)
    assert set(settings) == SETTINGS
    assert settings["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert buckets(settings, create="mine") == ["mine"]

    again = script("start")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "running already" in again.stderr

    status = script("status")
    assert status.returncode == 0
    assert settings["AWS_ENDPOINT_URL"] in status.stdout
    secret, user = settings["AWS_SECRET_ACCESS_KEY"], settings["AWS_ACCESS_KEY_ID"]
    assert secret not in status.stdout and user not in status.stdout
    if Path("/proc/self/cmdline").exists():
        shown = command_lines()
        assert str(tmp_path) in shown  # the server's is among them
        assert secret not in shown and user not in shown
    state = tmp_path / "state" / "mirabelle"
    assert (state.stat().st_mode & 0o777, (state / "minio.json").stat().st_mode & 0o777) == (0o700, 0o600)

    assert script("stop").returncode == 0
    assert script("status").returncode == 1
    assert not list((tmp_path / "temporary").iterdir())
    assert str(tmp_path / "temporary") not in command_lines()


def test_a_folder_of_ones_own_outlives_the_server(script: Script, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    first = exports(script("start", "--folder", folder).stdout)
    buckets(first, create="mine")
    script("stop")
    second = exports(script("start", "--folder", folder).stdout)
    assert second["AWS_SECRET_ACCESS_KEY"] != first["AWS_SECRET_ACCESS_KEY"]
    assert buckets(second) == ["mine"]


def test_a_taken_port_is_refused(script: Script, aws: Server) -> None:
    refused = script("start", "--port", aws.endpoint.rpartition(":")[2])
    assert refused.returncode == 2
    assert "is taken" in refused.stderr
    assert not refused.stdout


def test_stop_spares_a_process_that_got_the_number_since(script: Script, tmp_path: Path) -> None:
    exports(script("start").stdout)
    state = tmp_path / "state" / "mirabelle" / "minio.json"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        ours = state.read_text()
        pid = ours.split('"pid": ')[1].split(",")[0]
        state.write_text(ours.replace(f'"pid": {pid}', f'"pid": {other.pid}'))
        assert script("status").returncode == 1
        assert script("stop").returncode == 1
        assert other.poll() is None
        other.communicate(b"\n")
    os.kill(int(pid), signal.SIGTERM)


def test_run_gives_the_command_a_server_and_its_exit_code(script: Script, tmp_path: Path) -> None:
    done = script("run", "sh", "-c", "export -p; exit 7")
    assert done.returncode == 7
    seen = [line for line in done.stdout.splitlines() if line.split("=")[0].split()[-1] in SETTINGS]
    assert len(seen) == len(SETTINGS)
    assert script("run", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    missing = script("run", "no-such-command")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert not list((tmp_path / "temporary").iterdir())


def test_run_cleans_up_when_told_to_end(script: Script, tmp_path: Path) -> None:
    command = [sys.executable, str(MINIO_SCRIPT), "run", "sh", "-c", "echo up; exec sleep 60"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    assert not list((tmp_path / "temporary").iterdir())


def fake(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.long
def test_the_binary_comes_from_path_then_the_cache_then_go(tmp_path: Path) -> None:
    commands, home = tmp_path / "bin", tmp_path / "home"
    here = {"PATH": str(commands), "HOME": str(home)}
    nothing = call("binary", **here)
    assert (nothing.returncode, nothing.stdout, nothing.stderr.count("\n")) == (2, "", 1)
    assert all(way in nothing.stderr for way in ("PATH", "Go", "docker compose up"))

    cached = home / ".cache" / "mirabelle" / "bin" / "minio"
    fake(commands, "go", 'echo "go $*"; echo "#!/bin/sh" > "$GOBIN/minio"; /bin/chmod +x "$GOBIN/minio"')
    built = call("binary", **here)
    assert (built.returncode, built.stdout) == (0, f"{cached}\n")
    assert "go install github.com/minio/minio@v0.0.0-20250907161309-07c3a429bfed" in built.stderr

    fake(commands, "go", "exit 1")
    assert call("binary", **here).stdout == f"{cached}\n"  # without Go
    cached.unlink()
    failed = call("binary", **here)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "could not build" in failed.stderr

    own = fake(commands, "minio", "exit 3")
    assert call("binary", **here).stdout == f"{own}\n"
    broken = call("start", **here, XDG_RUNTIME_DIR=str(tmp_path / "state"))
    assert broken.returncode == 2
    assert "ended at once" in broken.stderr
