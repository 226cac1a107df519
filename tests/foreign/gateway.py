"""What the gateway and `/metrics` can do: `tests/interop gateway`. Prints figures beside what is promised; exit 1 if one is missed.

Needs $QUEUED, $QUEUECTL, wrk and curl, on a machine that does nothing else.
"""

import asyncio
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Tuple

sys.path.insert(0, str(Path(__file__).parents[2] / "protocol/clients/python/src"))

import queued  # noqa: E402
from nodes import Cluster, Node, http  # noqa: E402

POST = """
wrk.method = "POST"
wrk.body = string.rep("x", 1024)
wrk.headers["Queue-Create"] = "true"
"""
LINES = 800_000
missed: List[str] = []


def figure(what: str, value: float, unit: str, least: float = 0.0, most: float = float("inf")) -> None:
    good = least <= value <= most
    promised = f"at least {least:,.0f}" if least else f"at most {most:,.0f}"
    print(f"{'ok    ' if good else 'MISSED'} {what}: {value:,.1f} {unit} ({promised})", flush=True)
    if not good:
        missed.append(what)


def pushes(cluster: Cluster, node: Node) -> None:
    script = cluster.directory / "post.lua"
    script.write_text(POST)
    command = ["wrk", "-t2", "-c64", "-d10s", "-s", str(script), f"http://{node.http}/v1/queues/pushed/messages"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    done = re.search(r"(\d+) requests in", said)
    assert rate and done, said
    stored = cluster.counts("pushed")["pushed_total"]
    assert stored >= int(done[1]), f"{done[1]} were answered, {stored} are stored"
    figure(f"pushes of 1 KiB at {'the leader' if node.leads() else 'a follower'}, 64 connections", float(rate[1]), "a second", 10_000)
    cluster.ctl("queue", "rm", "pushed", "--yes", "-q")


def lines(cluster: Cluster, node: Node) -> None:
    file = cluster.directory / "lines"
    file.write_bytes(b"".join(b"%0100d\n" % number for number in range(LINES)))
    url = f"http://{node.http}/v1/queues/lines/messages"
    words = ["-H", "Content-Type: application/x-ndjson", "-H", "Queue-Create: true", "--data-binary", f"@{file}"]
    begin = time.monotonic()
    answer = subprocess.run(["curl", "-sS", *words, url], check=True, stdout=subprocess.PIPE).stdout
    seconds = time.monotonic() - begin
    assert answer.count(b'{"id"') == LINES and cluster.counts("lines")["pushed_total"] == LINES
    figure("lines of 100 bytes", LINES / seconds, "a second", 80_000)
    cluster.ctl("queue", "rm", "lines", "--yes", "-q")


async def made(servers: str, first: int, end: int) -> None:
    async with queued.connect(servers) as client:
        for start in range(first, end, 100):
            await asyncio.gather(*(client.push(f"q{n}", b"x", create=True) for n in range(start, min(start + 100, end))))


async def turns(servers: str, node: Node, scraping: bool) -> Tuple[List[float], List[float], int]:
    """Milliseconds of scrapes, and of questions to the thread of Raft meanwhile; bytes of a scrape."""
    asked: List[float] = []
    scrapes: List[float] = []
    size = 0

    async def ask(client: queued.Client) -> None:
        while True:
            begin = time.monotonic()
            await client.status(node.address)
            asked.append((time.monotonic() - begin) * 1_000)
            await asyncio.sleep(0.002)

    async with queued.connect(servers) as client:
        asking = asyncio.ensure_future(ask(client))
        for _ in range(20):
            if scraping:
                begin = time.monotonic()
                status, body = await asyncio.to_thread(http, f"http://{node.http}/metrics", Accept_Encoding="gzip")
                assert status == 200
                scrapes.append((time.monotonic() - begin) * 1_000)
                size = len(body)
            await asyncio.sleep(0.1)
        asking.cancel()
    return scrapes, sorted(asked), size


def scrapes(cluster: Cluster) -> None:
    leader = cluster.leader()
    there = 0
    for count, ms_max, kib_max in ((500, 10, 300), (10_000, 60, 0)):
        asyncio.run(made(cluster.servers, there, count))
        there = count
        _, before, _ = asyncio.run(turns(cluster.servers, leader, False))
        took, during, size = asyncio.run(turns(cluster.servers, leader, True))
        figure(f"a scrape with {count:,} queues", statistics.median(took), "ms", most=ms_max)
        if kib_max:
            figure(f"its size with {count:,} queues, packed as Prometheus asks for it", size / 1024, "KiB", most=kib_max)
        later = during[len(during) * 99 // 100] - before[len(before) * 99 // 100]
        figure("the thread of Raft answers later by, p99", max(later, 0.0), "ms", most=5)


def main() -> None:
    with Cluster(3) as cluster:
        leader = cluster.leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        pushes(cluster, leader)
        pushes(cluster, follower)
        lines(cluster, leader)
        scrapes(cluster)
    sys.exit(1 if missed else 0)


main()
