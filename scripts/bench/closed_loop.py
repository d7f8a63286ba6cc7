"""Clients of a server in a closed loop: each asks again as soon as it is answered. Starts processes, uses loopback.

The clients are one process of this machine, which takes its share of the cores; all servers are asked by the same one,
in the same way: a raw request that was made before, over a connection that is kept.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Measured:
    """One closed loop: pictures a second, and latencies in seconds, sorted."""

    clients: int
    speed: float
    latencies: list[float]

    def at(self, share: float) -> float:
        """A quantile of the latencies."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


@dataclass(frozen=True)
class Address:
    """Where a server takes a picture: as a request's body, or as the file of a form's ``field``."""

    port: int
    path: str
    field: str | None = None

    def request(self, picture: bytes) -> bytes:
        """A whole request, head and body."""
        kind, body = "image/jpeg", picture
        if self.field is not None:
            kind = "multipart/form-data; boundary=part"
            disposition = f'Content-Disposition: form-data; name="{self.field}"; filename="a.jpg"'
            body = f"--part\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode() + picture
            body += b"\r\n--part--\r\n"
        head = f"POST {self.path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        return f"{head}\r\n\r\n".encode() + body


def photographs(size: tuple[int, int], count: int = 16) -> list[bytes]:
    """JPEGs with about as much in them as photographs of their size have; 1024 by 768 is about 300 KB."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 14, smooth.shape).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
        found.append(file.getvalue())
    return found


def closed_loop(address: Address, pictures: list[bytes], clients: int, seconds: float) -> Measured:
    """As many clients as asked for, each with a request under way all the time.

    A first request and a tenth of the time are not counted. Where fewer requests than there are clients were answered
    in time, as many are waited for.

    Raises:
        RuntimeError: a request was not answered with 200.
    """
    requests = [address.request(one) for one in pictures]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spent, latencies = pool.apply(_loop, (address.port, requests, clients, seconds))
    return Measured(clients, len(latencies) / spent, sorted(latencies))


def _loop(port: int, requests: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    # What is measured is the server: where a core is short, clients wait for it.
    os.nice(5)
    return asyncio.run(_ask_for(port, requests, clients, seconds))


async def _ask_for(port: int, requests: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    # A server's first request of all costs more, and is not what is measured.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _ask(reader, writer, requests[0])
    writer.close()
    latencies: list[float] = []
    starts = time.perf_counter() + seconds / 10
    ends = last = starts + seconds

    def is_open() -> bool:
        return time.perf_counter() < ends or len(latencies) < clients

    async def client(number: int) -> None:
        nonlocal last
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while is_open():
            began = time.perf_counter()
            await _ask(reader, writer, requests[number % len(requests)])
            number += 1
            if starts <= (now := time.perf_counter()) and is_open():
                latencies.append(now - began)
                last = max(ends, now)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return last - starts, latencies


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    try:
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        body = await reader.readexactly(length)
    except (EOFError, OSError) as error:
        raise RuntimeError(f"the connection ended without an answer: {error}") from None
    if not answer.startswith(b"HTTP/1.1 200"):
        status = answer.partition(b"\r\n")[0].decode(errors="replace")
        raise RuntimeError(f"{status.partition(' ')[2]}: {_reason(body)}")


def _reason(body: bytes) -> str:
    """A problem's sentence; else how the body begins."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
