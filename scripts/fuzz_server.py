"""Asks a running server what nobody would: broken forms, JSON, pictures and heads, ten thousand times.

    mirabelle serve OUT/bundle/ID --port 8080 &
    python scripts/fuzz_server.py --port 8080 --pid $! --requests 10000

Each request is a good one with some of its bytes changed, cut, repeated or mixed with another's. It fails where the
server answers with 500, answers no HTTP, takes longer than ten seconds, or answers a good request no more at the end;
and it says how much memory the server (``--pid``) has taken meanwhile. The same seed asks the same.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image

SECONDS = 10.0
PIECES = (b"\r\n", b"--b", b"--b--", b"\r\n--b\r\n", b"\0", b"%00", b"[" * 500, b"{" * 500, b'"', b"\\u", b"9" * 400)
WORDS = (b"filename", b"Content-Disposition", b"boundary", b"shape", b"datatype", b"data", b"inputs", b"Content-Length")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pid", type=int, help="the server's, for its memory")
    parser.add_argument("--model", default="colours", help="the bundle's name, for /v2")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    good = good_requests(given.model)
    statuses: Counter[str] = Counter()
    slowest, memory = 0.0, []
    for number in range(given.requests):
        if number % max(1, given.requests // 10) == 0 and given.pid:
            memory.append(resident(given.pid))
        content = mutated(rng, good)
        began = time.perf_counter()
        status = ask(given.host, given.port, content)
        slowest = max(slowest, time.perf_counter() - began)
        statuses[status] += 1
        if status in ("500", "nonsense", "hang"):
            print(f"request {number} of seed {given.seed}: {status}\n{content[:2000]!r}", file=sys.stderr)
            return 1
    print(f"{given.requests} requests, slowest {slowest:.2f} s: {dict(statuses.most_common())}")
    if given.pid:
        print("resident MiB: " + ", ".join(str(one) for one in [*memory, resident(given.pid)]))
    left = {status for status in (ask(given.host, given.port, one) for one in good) if status != "200"}
    print("good requests are answered at the end" if not left else f"good requests are answered with {left} at the end")
    return 1 if left else 0


def good_requests(model: str) -> list[bytes]:
    """One of each kind, as bytes on the wire."""
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 100, 50)).save(file, "PNG")
    png = file.getvalue()
    part = b'--b\r\nContent-Disposition: form-data; name="p"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form = part + png + b"\r\n" + part + png + b"\r\n--b--\r\n"
    encoded = base64.b64encode(png).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]}
    infer = json.dumps({"id": "1", "inputs": [tensor], "outputs": [{"name": "label"}]}).encode()
    behind = len(png).to_bytes(4, "little") + png
    size = {"binary_data_size": len(behind)}
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": size}]}).encode()
    return [
        request("/v1/predict?top=3&features=true", "image/png", png),
        request("/v1/embed", "multipart/form-data; boundary=b", form),
        request("/v1/predict?explain=true", "multipart/form-data; boundary=b", form),
        request(f"/v2/models/{model}/infer", "application/json", infer),
        request(
            f"/v2/models/{model}/infer",
            "application/octet-stream",
            head + behind,
            f"Inference-Header-Content-Length: {len(head)}\r\n",
        ),
    ]


def request(path: str, kind: str, body: bytes, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def mutated(rng: random.Random, good: list[bytes]) -> bytes:
    """A good request, spoilt: mostly in its body, whose length its head then tells rightly."""
    head, _, body = rng.choice(good).partition(b"\r\n\r\n")
    spoilt = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(spoilt) + 1)
        end = min(len(spoilt), at + rng.choice((0, 1, 4, 50)))
        match rng.randrange(5):
            case 0:
                spoilt[at:end] = rng.randbytes(end - at)
            case 1:
                del spoilt[at:end]
            case 2:
                spoilt[at:at] = rng.choice(PIECES + WORDS)
            case 3:
                spoilt[at:at] = spoilt[at:end] * rng.choice((1, 3, 100))
            case _:
                other = rng.choice(good).partition(b"\r\n\r\n")[2]
                spoilt[at:end] = other[rng.randrange(len(other)) :][:200]
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    if rng.random() < 0.25:
        place = rng.randrange(len(lines))
        line = bytearray(lines[place])
        line[rng.randrange(len(line)) :] = rng.choice((rng.randbytes(9), b"", rng.choice(PIECES), b"x" * 3000))
        lines[place] = bytes(line)
    length = len(spoilt) if rng.random() < 0.95 else rng.choice((0, 5, len(spoilt) // 2, len(spoilt) + 10, 10**12))
    return b"\r\n".join([*lines, b"Content-Length: %d" % length]) + b"\r\n\r\n" + bytes(spoilt)


def ask(host: str, port: int, content: bytes) -> str:
    """The answer's status; ``closed`` where the server just closed, ``hang`` where it did nothing."""
    head, _, body = content.partition(b"\r\n\r\n")
    declared = head.rpartition(b"Content-Length: ")[2]
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection, connection.makefile("rb") as reader:
            connection.sendall(content)
            if declared.isdigit() and int(declared) > len(body):
                # The server would wait for the rest as long as it lets anyone.
                connection.shutdown(socket.SHUT_WR)
            first = reader.readline()
            if not first:
                return "closed"
            words = first.split()
            if not first.startswith(b"HTTP/1.1 ") or len(words) < 2 or not words[1].isdigit():
                return "nonsense"
            length = 0
            while (line := reader.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            return words[1].decode() if len(reader.read(length)) == length else "nonsense"
    except TimeoutError:
        return "hang"
    except OSError:
        # It was told enough, and closed with bytes of ours unread.
        return "closed"


def resident(pid: int) -> int:
    """MiB that a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    sys.exit(main())
