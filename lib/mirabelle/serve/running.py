"""Starts the server, and ends it so that no request that was taken in is lost. [sockets, signals, threads]"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from mirabelle.errors import UserError
from mirabelle.serve.app import build_app
from mirabelle.serve.asking import Rates, Tokens
from mirabelle.serve.body import Held
from mirabelle.serve.connection import Connection
from mirabelle.serve.cores import Cores
from mirabelle.serve.current import Current, Opener
from mirabelle.serve.logs import logging_to_stdout, note
from mirabelle.serve.metrics import Metrics
from mirabelle.serve.settings import ServeSettings
from mirabelle.serve.state import Shared
from mirabelle.serve.work import Work
from mirabelle.signals import Interrupted

# After the last connection was taken: how long one may be silent before it is closed.
LAST_CALL_SECONDS = 1.0
ENDING = (signal.SIGTERM, signal.SIGINT)
# Of glibc's mallopt(3): how many freed bytes each thread keeps, and from what size on pieces are never kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGE_BYTES = 64 * 2**20, 32 * 2**20
# Of Linux's socket(7) and filter.txt: how many bytes of each packet are let through, here none.
_SO_ATTACH_FILTER, _BPF_RETURN = 26, 0x06


def serve(address: str, opener: Opener, settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve a bundle until SIGTERM or Ctrl-C, after which every request taken in is answered; SIGHUP opens it anew.

    Args:
        address: of a bundle, or of a ``.json`` that names one and is watched.
        opener: opens a bundle for a number of threads.
        settings: of the server.
        say: tells a person where it listens.

    Raises:
        UserError: the bundle cannot be opened or does not answer, or the port cannot be listened on.
        Interrupted: a signal came before it listened.
    """
    keep_freed_memory()
    with logging_to_stdout(), bound(settings.host, settings.port) as listener:
        asyncio.run(run(address, opener, settings, listener, say))


async def run(
    address: str,
    opener: Opener,
    settings: ServeSettings,
    listener: socket.socket,
    say: Callable[[str], None],
    started: Callable[[Server], None] = lambda _: None,
) -> None:
    """As ``serve``, on a bound socket and the running loop.

    Args:
        started: told of the server once its bundle is there, so that another thread can stop it: off the main thread
            no signal does.
    """
    threads = settings.threads or cores()
    with closing(Cores(threads)) as network, ThreadPoolExecutor(threads, "mirabelle-decode") as decoders:
        shared = share(address, opener, settings, network, decoders, threads)
        with _ended_at_once():
            await shared.current.open()
        server = Server(shared, say)
        started(server)
        watching = asyncio.create_task(shared.current.watch()) if shared.current.is_pointer else None
        await server.serve([listener])
        if watching is not None:
            watching.cancel()
        await shared.current.served.batcher.close()


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """In the block a signal ends what the current task does, as nothing has been taken in yet."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        task.cancel()

    with _heeding({number: functools.partial(end, number) for number in ENDING}, loop):
        try:
            yield
        except asyncio.CancelledError:
            if not came:
                raise
            raise Interrupted(came[0]) from None


@contextmanager
def _heeding(answers: Mapping[signal.Signals, Callable[[], None]], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """In the block signals are answered by the loop; afterwards as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in answers}
    for number, answer in answers.items():
        loop.add_signal_handler(number, answer)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def share(address: str, opener: Opener, settings: ServeSettings, network: Cores, decoders: Any, threads: int) -> Shared:
    """The parts of a server, put together."""
    metrics = Metrics()
    held = Held(settings.max_held_bytes)
    metrics.held.set_function(lambda: held.bytes)
    return Shared(
        settings,
        Current(address, opener, threads, network, settings, metrics),
        Work(decoders, network, settings.queue, settings.deadline_seconds, metrics),
        metrics,
        held,
        Tokens([token.get_secret_value() for token in settings.tokens]),
        Rates(settings.rate, settings.burst),
    )


def keep_freed_memory() -> None:
    """Have what a decoded picture took serve for the next one.

    glibc gives it back and takes it anew page by page, which for a photograph of 300 KB was 3 of 9 ms.
    """
    with suppress(AttributeError, OSError, TypeError):  # another system's library
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def cores() -> int:
    """How many cores this process may use: by its affinity, and by its container's share, rounded down."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        there = min(there, max(1, int(quota) // int(period)))
    return there


def bound(host: str, port: int) -> socket.socket:
    """A bound socket, on which nobody listens until a bundle is there; raises ``UserError`` where it cannot be had."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot listen on {host}:{port}: {reason}; choose others with --host and --port") from error
    return listener


class Server(uvicorn.Server):
    """uvicorn's, which ends in steps: answer on, stop accepting, wait for what comes on open connections, close.

    Attributes:
        shared: its parts.
    """

    def __init__(self, shared: Shared, say: Callable[[str], None]) -> None:
        settings = shared.settings
        config = uvicorn.Config(
            build_app(shared),
            http=functools.partial(Connection, settings),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies or None,
            server_header=False,
            timeout_keep_alive=settings.idle_seconds,
            timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
            h11_max_incomplete_event_size=settings.max_header_bytes,
            backlog=settings.max_connections,
        )
        super().__init__(config)
        self.shared, self._say = shared, say
        self._tasks: set[asyncio.Task[bool]] = set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Our own handlers instead of uvicorn's, which end the process a second time when they are done."""
        ends = {number: functools.partial(self.stop, number) for number in ENDING}
        with _heeding({**ends, signal.SIGHUP: self._reload}, asyncio.get_running_loop()):
            yield

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Begin to end: answer what is asked for a moment more, then take no more and finish; on the loop's thread."""
        if self.shared.is_stopping:
            # Someone insists: on being done with waiting for more, and by Ctrl-C on being done.
            self.should_exit = True
            self.force_exit = number == signal.SIGINT
            return
        self.shared.is_stopping = True
        note("stopping", signal=signal.Signals(number).name, pictures=self.shared.work.taken_in)
        asyncio.get_running_loop().call_later(self.shared.settings.linger_seconds, setattr, self, "should_exit", True)

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(list(sockets or ()))
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            self._say(f"serving {self.shared.current.served.bundle.info.id} on {address}")

    def _reload(self) -> None:
        task = asyncio.ensure_future(self.shared.current.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Take what the system has accepted, let it ask, and then close."""
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            _deafen(listener)
        accepted = [one for listener in sockets or () for one in _accepted(listener)]
        for server in self.servers:
            server.close()
        for one in accepted:
            await loop.connect_accepted_socket(self._protocol, one)
        ends = loop.time() + LAST_CALL_SECONDS
        while loop.time() < ends and any(not one.is_answering for one in self._connections()):
            await asyncio.sleep(0.01)
        await super().shutdown(list(sockets or ()))
        note("stopped", requests=self.server_state.total_requests)

    def _protocol(self) -> asyncio.Protocol:
        return Connection(
            self.shared.settings, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _connections(self) -> list[Connection]:
        return [one for one in self.server_state.connections if isinstance(one, Connection)]


def _deafen(listener: socket.socket) -> None:
    """Have Linux complete no further connection; without it one that comes between the last ``accept`` and the close
    would be reset. Whoever asks now is not heard, asks again within a second, and is refused.
    """
    if sys.platform != "linux":
        return
    drop = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that the system has accepted and that nobody has taken yet."""
    listener.setblocking(False)
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection
