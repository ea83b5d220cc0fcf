"""A web service under load: its throughput when requests follow each other, and its latency when they come as they come.

The service (workloads/gc_service.py) is a process of its own; this one sends the requests, with its own collector off. All
services get the same requests in the same order, so the same garbage waits for each collector.

Latency counts from when a request was due, not from when it could be sent: who makes the queue wait pays for the queue.
"""

import asyncio
import gc
import json
import random
import statistics
import subprocess
import time
from dataclasses import dataclass

import rivals
import timing

SERVICE = rivals.BENCHES / "workloads" / "gc_service.py"
CONNECTIONS = 16
PATIENCE_S = 120


@dataclass(frozen=True)
class Load:
    """How large the service is, and what it has to bear."""

    objects: int = 1_000_000
    warm_up: int = 500
    # Requests one after the other on each connection, for throughput.
    requests: int = 20_000
    # Then so many a second for so long, for latency. A quarter of a million objects must be renewed before CPython looks at
    # all of a million: with thirty a request, that is one full collection, sometimes two.
    rate: int = 1_000
    seconds: float = 9.0


QUICK = Load(objects=100_000, warm_up=50, requests=500, rate=300, seconds=3.0)


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path):
        """The body of the answer."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        return await self.reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))


async def in_turn(clients, paths):
    """Every path once, on whichever connection is free. Returns seconds."""
    waiting = iter(paths)

    async def send(client):
        for path in waiting:
            await client.get(path)

    began = time.perf_counter()
    await asyncio.gather(*map(send, clients))
    return time.perf_counter() - began


async def as_due(clients, paths, rate):
    """Every path when it is due, `rate` a second. Returns the seconds from then to the answer."""
    waiting, latencies = iter(enumerate(paths)), []
    began = time.perf_counter()

    async def send(client):
        for number, path in waiting:
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            await client.get(path)
            latencies.append(time.perf_counter() - due)

    await asyncio.gather(*map(send, clients))
    return latencies


async def loaded(port, load):
    """The service's figures under the whole load."""
    draw = random.Random(1)
    paths = [f"/user/{draw.randrange(1 << 30)}" for _ in range(load.warm_up + load.requests)]
    clients = [await Client.connect(port) for _ in range(CONNECTIONS)]
    await in_turn(clients, paths[: load.warm_up])
    seconds = await in_turn(clients, paths[load.warm_up :])
    before = json.loads(await clients[0].get("/figures"))
    paths = [f"/user/{draw.randrange(1 << 30)}" for _ in range(int(load.rate * load.seconds))]
    latencies = await as_due(clients, paths, load.rate)
    after = json.loads(await clients[0].get("/figures"))
    for client in clients:
        client.writer.close()
    return {
        "requests_per_s": round(load.requests / seconds, 1),
        "latency_ms": in_percentiles(latencies),
        # Of the second phase alone.
        "full_collections": after["collections"][2] - before["collections"][2] if after["collections"] else None,
        **{name: after[name] for name in ("peak_rss_mib", "collected_by", "served_by")},
    }


def in_percentiles(latencies):
    """Milliseconds by percentile."""
    cuts = statistics.quantiles(latencies, n=1000, method="inclusive")
    shown = {"p50": cuts[499], "p99": cuts[989], "p999": cuts[998], "max": max(latencies)}
    return {name: round(seconds * 1000, 3) for name, seconds in shown.items()}


def run(rival, python, load, *options):
    """One service under load, as plain data. Raises `timing.RunFailed`."""
    command = rival.command(python, SERVICE, load.objects, *options)
    with subprocess.Popen(
        command,
        env=rival.variables(PYTHONHASHSEED="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        gc.disable()
        try:
            started = process.stdout.readline()
            if not started:
                raise timing.RunFailed(f"did not start: {process.stderr.read().strip().splitlines()[-1:]}")
            return asyncio.run(asyncio.wait_for(loaded(json.loads(started)["port"], load), PATIENCE_S))
        except (OSError, EOFError, asyncio.TimeoutError) as failure:
            raise timing.RunFailed(f"the service did not answer: {failure!r}") from None
        finally:
            gc.enable()
            process.kill()
