"""How many messages of 1 KiB one connection pushes in a second.

    queued dev --any-port -q -- python3 tests/bench.py [SECONDS]

Prints pushes of 100 messages with 8 in flight, then of one message with 64 in flight, and how checksums are computed. With
PURE_CRC=1 google-crc32c is not used even if it is installed.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

if os.environ.get("PURE_CRC"):
    sys.modules["google_crc32c"] = None  # type: ignore[assignment]

import queued  # noqa: E402
from queued import _crc32c  # noqa: E402

BODY = os.urandom(1_024)


async def measure(client: queued.Client, batch: int, in_flight: int, seconds: float) -> float:
    """Messages a second."""
    queue = f"bench{batch}"
    await client.push(queue, b"", create=True)
    begin = time.perf_counter()
    pushed = 0

    async def push() -> None:
        nonlocal pushed
        while time.perf_counter() - begin < seconds:
            if batch == 1:
                await client.push(queue, BODY)
            else:
                await client.push_many(queue, [BODY] * batch)
            pushed += batch

    await asyncio.gather(*(push() for _ in range(in_flight)))
    rate = pushed / (time.perf_counter() - begin)
    await client.remove_queue(queue)
    return rate


async def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    checksums = "google-crc32c" if _crc32c.is_fast else "pure Python"
    async with queued.connect(os.environ["QUEUECTL_SERVERS"]) as client:
        for batch, in_flight in ((100, 8), (1, 64)):
            cpu = time.process_time()
            rate = await measure(client, batch, in_flight, seconds)
            cost = (time.process_time() - cpu) / (rate * seconds) * 1e6
            print(f"{checksums}: {batch} a push, {in_flight} in flight: {rate:,.0f} messages/s, {cost:.0f} us of CPU each")


asyncio.run(main())
