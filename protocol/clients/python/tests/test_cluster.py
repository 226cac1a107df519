"""The client against a real cluster, started by the package's own fixture."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Coroutine, List

import pytest

import queued
from queued import pytest_plugin
from queued.pytest_plugin import Cluster, queued_cluster

__all__ = ["queued_cluster"]
SOURCES = str(Path(__file__).parents[1] / "src")


def run(coroutine: "Coroutine[Any, Any, None]") -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_push_lease_ack(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            first = await client.push("t1", b"one", headers={"type": "text"}, create=True)
            again = await client.push("t1", b"two", dedup_key="k")
            assert await client.push("t1", b"three", dedup_key="k") == queued.PushResult(again.id, True)
            messages = await client.lease("t1", max_messages=5)
            assert [(m.id, m.body, m.headers, m.attempt) for m in messages] == [
                (first.id, b"one", {"type": "text"}, 1),
                (again.id, b"two", {}, 1),
            ]
            async with messages[0]:
                pass
            with pytest.raises(RuntimeError):
                async with messages[1]:
                    raise RuntimeError("broken")
            view = await client.queue("t1")
            assert view is not None and (view.delayed, view.leased, view.ready) == (1, 0, 0)
            with pytest.raises(ValueError):
                await messages[0].ack()

    run(work())


def test_a_peek_shows_more_than_one_request_can(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            bodies = [b"%d" % number for number in range(600)]
            await client.push_many("peeked", bodies, create=True)
            assert [body for _, _, body in await client.peek("peeked", max_messages=1_000)] == bodies
            assert [body for _, _, body in await client.peek("peeked", max_messages=300)] == bodies[:300]

    run(work())


def test_groups_are_worked_on_one_at_a_time(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            await client.create_queue("t2", ordered=True)
            await client.push_many("t2", [queued.NewMessage(b"%d" % n, group="g") for n in range(3)])
            bodies = []
            for _ in range(3):
                (message,) = await client.lease("t2", max_messages=3)
                assert await client.lease("t2") == []
                bodies.append(message.body)
                await message.ack()
            assert bodies == [b"0", b"1", b"2"]

    run(work())


def test_a_transaction_does_all_or_nothing(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            await client.push("t3", b"in", create=True)
            await client.create_queue("t3out")
            (message,) = await client.lease("t3")
            with pytest.raises(queued.TransactionFailed) as failed:
                full = queued.wire.request.AtMost("t3", 0)
                await client.transaction().require(full).ack(message).push("t3out", b"out").commit()
            assert (failed.value.part, failed.value.position) == ("condition", 0)
            ((result,),) = await client.transaction().ack(message).push("t3out", b"out").commit()
            out = await client.pop("t3out")
            assert [(m.id, m.body) for m in out] == [(result.id, b"out")]
            with pytest.raises(queued.Refused) as refused:
                await client.pop("t3oot")
            assert refused.value.code == queued.Code.QUEUE_NOT_FOUND

    run(work())


def test_a_parked_lease_is_called_back(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            await client.create_queue("t4")
            hurry = asyncio.Event()
            parked = asyncio.ensure_future(client.lease("t4", wait=30, hurry=hurry))
            while (view := await client.queue("t4")) is not None and view.waiting == 0:
                await asyncio.sleep(0.01)
            hurry.set()
            assert await asyncio.wait_for(parked, 5) == []
            parked = asyncio.ensure_future(client.lease("t4", wait=30))
            await client.push("t4", b"now")
            assert [m.body for m in await asyncio.wait_for(parked, 5)] == [b"now"]

    run(work())


def test_large_messages_and_pieces(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            bodies = [os.urandom(size) for size in (0, 1, 31, 1 << 20, 70_000)]
            await client.push_many("t5", bodies, create=True)
            taken: List[bytes] = []
            while len(taken) < len(bodies):
                taken += [m.body for m in await client.pop("t5", max_messages=10)]
            assert taken == bodies

    run(work())


def test_leases_are_renewed_while_a_worker_works(queued_cluster: Cluster) -> None:
    async def work() -> None:
        async with queued.connect(queued_cluster.servers) as client:
            await client.push("t6", b"slow", create=True)
            tries = []

            async def handle(message: queued.Message) -> None:
                tries.append(message.attempt)
                await asyncio.sleep(2.5)
                worker.stop()

            worker = queued.Worker(client, "t6", handle, lease=1.0)
            await worker.run()
            view = await client.queue("t6")
            assert tries == [1] and view is not None and view.acked_total == 1

    run(work())


def test_blocking_client_and_threads(queued_cluster: Cluster) -> None:
    with queued.SyncClient(queued_cluster.servers) as client:
        client.push_many("t7", [b"a", b"b", b"c"], create=True)
        bodies = []
        for message in client.consume("t7", credit=2):
            with message:
                bodies.append(message.body)
            if len(bodies) == 3:
                break
        assert bodies == [b"a", b"b", b"c"]
        view = client.queue("t7")
        assert view is not None and view.acked_total == 3


# A line is one call of the system: two handlers print at a time.
WORKER = """
import os, sys, time
sys.path.insert(0, {sources!r})
import queued

@queued.worker("t8", parallel=2, prefetch=4)
def handle(message):
    os.write(1, b"begin %s\\n" % message.body)
    time.sleep(1.0)
    os.write(1, b"end %s\\n" % message.body)

handle.run({servers!r})
"""


def test_a_worker_that_is_terminated_ends_what_it_began(queued_cluster: Cluster) -> None:
    with queued.SyncClient(queued_cluster.servers) as client:
        client.push_many("t8", [b"%d" % n for n in range(6)], create=True)
        script = WORKER.format(sources=SOURCES, servers=queued_cluster.servers)
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begun = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        words = "".join(begun).split("\n")[:2] + rest.split("\n")[:-1]
        assert sorted(words) == ["begin 0", "begin 1", "end 0", "end 1"]
        view = client.queue("t8")
        # What was leased ahead is back without blame.
        assert view is not None and (view.acked_total, view.ready, view.leased) == (2, 4, 0)
        assert [m.failures for m in client.lease("t8", max_messages=4)] == [0] * 4


def test_the_client_is_quick_to_import() -> None:
    code = "import time; begin = time.perf_counter(); import queued; print(time.perf_counter() - begin)"
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    times = [float(subprocess.check_output([sys.executable, "-c", code], env=environment)) for _ in range(5)]
    assert min(times) <= 0.03


def test_a_cluster_ends_with_its_tests() -> None:
    cluster = pytest_plugin.Cluster()
    with queued.SyncClient(cluster.servers) as client:
        client.push("x", b"", create=True)
    cluster.stop()
    begin = time.monotonic()
    with pytest.raises(queued.Unavailable):
        queued.SyncClient(cluster.servers, timeout=0.5).push("x", b"")
    assert time.monotonic() - begin < 5
