"""Three nodes of one build become nodes of another, one after the other, while 2,000 messages a second are pushed, leased and
acked: `tests/upgrade`.

Needs $OLD_QUEUED; $QUEUED and $QUEUECTL, of a build for tests that speaks a level more if it is told to. $RATE lives a second
[default: 2000].
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Set, Tuple

sys.path.insert(0, str(Path(__file__).parents[2] / "protocol/clients/python/src"))

import queued  # noqa: E402
from nodes import Cluster, Node, QUEUED  # noqa: E402

OLD = os.environ["OLD_QUEUED"]
RATE = int(os.environ.get("RATE", "2000"))
LEVEL = 2
# Messages of one push.
BATCH = 20
PUSH_P99_MS = 1_000
HAND_OVER_MS = 100


class Lives:
    """Pushes at a steady rate, and works on what was pushed; counts."""

    def __init__(self, client: queued.Client) -> None:
        self.client = client
        self.pushed: Set[int] = set()
        self.acked: Dict[int, int] = {}
        # When each push was due, and how many milliseconds later it was answered.
        self.times: List[Tuple[float, float]] = []
        self.stop, self.produced = asyncio.Event(), asyncio.Event()
        self.failures: List[str] = []

    async def push(self, first: int, due: float) -> None:
        numbers = range(first, first + BATCH)
        await self.client.push_many("lives", [b"%d" % number for number in numbers])
        self.pushed.update(numbers)
        self.times.append((due, (time.monotonic() - due) * 1_000))

    async def produce(self) -> None:
        begin, first, running = time.monotonic(), 0, set()
        while not self.stop.is_set():
            due = begin + first / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.ensure_future(self.push(first, due))
            running.add(task)
            task.add_done_callback(running.discard)
            first += BATCH
        await asyncio.gather(*running)
        self.produced.set()

    async def consume(self) -> None:
        async def handle(message: queued.Message) -> None:
            number = int(message.body)
            await message.ack()
            self.acked[number] = self.acked.get(number, 0) + 1

        worker = queued.Worker(self.client, "lives", handle, parallel=256, prefetch=256)
        working = asyncio.ensure_future(worker.run())
        await self.produced.wait()
        end = time.monotonic() + 30
        while not self.pushed <= self.acked.keys() and time.monotonic() < end and not working.done():
            await asyncio.sleep(0.1)
        worker.stop()
        await working

    def longest(self, begin: float, end: float) -> float:
        """Milliseconds that the slowest of the pushes waited that were due in this time."""
        return max((ms for due, ms in self.times if begin <= due <= end), default=0.0)


class Upgrade:
    """What an operator does."""

    def __init__(self, cluster: Cluster, lives: Lives) -> None:
        self.cluster, self.lives = cluster, lives
        self.hand_overs: List[Tuple[str, float, float]] = []

    async def ctl(self, *words: str) -> str:
        return await asyncio.to_thread(self.cluster.ctl, *words)

    async def settled(self) -> None:
        await self.ctl("cluster", "wait", "--for", f"voters={len(self.cluster.nodes)}", "-q")
        await self.ctl("cluster", "wait", "--for", "quorum", "-q")

    async def safe(self, node: Node) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                await self.ctl("cluster", "safe-to-stop", node.name, "-q")
                return
            except subprocess.CalledProcessError:
                assert time.monotonic() < end, f"it is never safe to stop {node.name}"
                await asyncio.sleep(0.2)

    async def install(self, node: Node, program: str, level: int) -> None:
        """Drain, stop, start the other build, wait."""
        await self.safe(node)
        leads = await asyncio.to_thread(node.leads)
        begin = time.monotonic()
        await self.ctl("cluster", "drain", node.name, "-q")
        await asyncio.sleep(1.0)
        if leads:
            self.hand_overs.append((node.name, begin, begin + 1.0))
        await asyncio.to_thread(node.end, signal.SIGTERM)
        assert node.process is not None and node.process.returncode == 0, f"{node.name} ended with {node.process}"
        node.program, node.env = program, {**os.environ, "QUEUED_LEVEL_MAX": str(level)}
        node.start()
        await self.settled()
        await asyncio.sleep(1.0)


async def story(cluster: Cluster, lives: Lives) -> None:
    upgrade = Upgrade(cluster, lives)
    await asyncio.sleep(3.0)
    first, second, third = cluster.nodes
    for node in (first, second):
        await upgrade.install(node, QUEUED, LEVEL)
    print("ok  two of three nodes run the new build", flush=True)
    for node in (second, first):
        await upgrade.install(node, OLD, 1)
    print("ok  and the old one again: the level was not raised", flush=True)
    for node in (third, first, second):
        await upgrade.install(node, QUEUED, LEVEL)
    assert f"all nodes speak {LEVEL}" in await upgrade.ctl("cluster", "status")
    await upgrade.ctl("cluster", "upgrade", str(LEVEL))
    print("ok  all run the new one, and the level is raised", flush=True)
    # There is no way back, and the node says so.
    await upgrade.safe(third)
    await asyncio.to_thread(third.end, signal.SIGTERM)
    third.program, third.env = OLD, dict(os.environ)
    third.start()
    assert third.process is not None and await asyncio.to_thread(third.process.wait, 30) == 76
    log = (cluster.directory / f"{third.name}.log").read_text()
    assert f"the cluster is at feature level {LEVEL}, and queued" in log, log[-500:]
    third.program, third.env = QUEUED, {**os.environ, "QUEUED_LEVEL_MAX": str(LEVEL)}
    third.start()
    await upgrade.settled()
    print("ok  the old build does not start on it", flush=True)
    await asyncio.sleep(2.0)
    lives.stop.set()
    handed = upgrade.hand_overs
    assert len(handed) >= 2, "no leader was drained: the run proves nothing"
    waits = [lives.longest(begin, end) for _, begin, end in handed]
    print(f"    hand-overs of {[name for name, _, _ in handed]}: the slowest push waited {[f'{ms:.0f} ms' for ms in waits]}")
    slow = [ms for ms in waits if ms > HAND_OVER_MS]
    if slow:
        lives.failures.append(f"a planned hand-over took {max(slow):.0f} ms, at most {HAND_OVER_MS} are allowed")


async def main() -> int:
    with Cluster(3) as cluster:
        for node in cluster.nodes:
            await asyncio.to_thread(node.end, signal.SIGTERM)
            node.program = OLD
            node.start()
        await asyncio.to_thread(cluster.ctl, "cluster", "wait", "--for", "voters=3", "-q")
        async with queued.connect(cluster.servers, timeout=30.0) as client:
            await client.push("lives", b"-1", create=True)
            lives = Lives(client)
            begin = time.monotonic()
            done = await asyncio.gather(lives.produce(), lives.consume(), story(cluster, lives), return_exceptions=True)
            for failed in done:
                if isinstance(failed, BaseException):
                    raise failed
            seconds = time.monotonic() - begin
        lost = (lives.pushed | {-1}) - set(lives.acked)
        twice = [number for number, count in lives.acked.items() if count > 1]
        times = sorted(ms for _, ms in lives.times)
        p99 = times[len(times) * 99 // 100]
        rate = len(lives.acked) / seconds
        print(f"ok  {len(lives.pushed)} lives in {seconds:.0f} s, {rate:.0f}/s; push p50 {statistics.median(times):.1f} ms, p99 {p99:.0f} ms")
        failures = lives.failures
        if lost or twice:
            failures.append(f"{len(lost)} lost, {len(twice)} acked twice")
        if p99 > PUSH_P99_MS:
            failures.append(f"p99 of a push is {p99:.0f} ms")
        if rate < RATE * 0.9:
            failures.append(f"{rate:.0f} lives a second are not {RATE}")
        print("\n".join(f"FAILED  {failure}" for failure in failures) or "ok  0 lost, 0 twice")
        return 1 if failures else 0


sys.exit(asyncio.run(main()))
