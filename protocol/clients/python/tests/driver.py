"""What the conformance kit drives: reads requests as lines of JSON, does them with this client, writes the results."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import queued  # noqa: E402

ERRORS = {
    queued.OutcomeUnknown: "unknown",
    queued.Unavailable: "unavailable",
    queued.Incompatible: "incompatible",
    queued.Untrusted: "untrusted",
    queued.LeaseLost: "lost",
}


class Driver:
    """One client, and the messages that it has leased."""

    client: queued.Client

    def __init__(self) -> None:
        self.leased: Dict[Any, queued.Message] = {}

    async def do(self, step: Dict[str, Any]) -> Any:
        await asyncio.sleep(step.get("after_ms", 0) / 1000)
        try:
            return await getattr(self, step["op"])(step)
        except queued.Refused as refused:
            return {"error": "refused", "code": refused.code.name.lower()}
        except queued.QueuedError as error:
            print(f"{step['op']}: {error}", file=sys.stderr)
            return {"error": ERRORS[type(error)]}

    async def connect(self, step: Dict[str, Any]) -> Any:
        tls = queued.Tls(**step["tls"]) if "tls" in step else None
        token: "Optional[Union[str, Path]]" = Path(step["token_file"]) if "token_file" in step else step.get("token")
        self.client = queued.connect(step["servers"], timeout=step["timeout_ms"] / 1000, tls=tls, token=token)
        return {}

    async def push(self, step: Dict[str, Any]) -> Any:
        bodies = [body.encode() for body in step["bodies"]]
        results = await self.client.push_many(step["queue"], bodies, create=step.get("create", False))
        return {"ids": [result.id for result in results]}

    async def lease(self, step: Dict[str, Any]) -> Any:
        hurry: Optional[asyncio.Event] = None
        if "stop_after_ms" in step:
            hurry = asyncio.Event()
            asyncio.get_running_loop().call_later(step["stop_after_ms"] / 1000, hurry.set)
        lease = step["lease_ms"] / 1000 if "lease_ms" in step else None
        messages = await self.client.lease(
            step["queue"], max_messages=step.get("max_messages", 1), wait=step.get("wait_ms", 0) / 1000, lease=lease,
            hurry=hurry,
        )  # fmt: skip
        for position, message in enumerate(messages):
            self.leased[message.id] = message
            if position < len(step.get("names", [])):
                self.leased[step["names"][position]] = message
        return {"messages": [{"id": m.id, "token": m.token, "body": m.body.decode(), "attempt": m.attempt} for m in messages]}

    async def ack(self, step: Dict[str, Any]) -> Any:
        settled: List[str] = []
        for name in step.get("ids") or step["names"]:
            try:
                await self.leased[name].ack()
                settled.append("ok")
            except queued.LeaseLost:
                settled.append("lost")
        return {"settled": settled}

    async def work(self, step: Dict[str, Any]) -> Any:
        worked: List[Any] = []

        async def handle(message: queued.Message) -> None:
            worked.append([message.body.decode(), message.attempt])
            await asyncio.sleep(step["hold_ms"] / 1000)
            worker.stop()

        worker = queued.Worker(self.client, step["queue"], handle, lease=step["lease_ms"] / 1000)
        await worker.run()
        return {"worked": worked}

    async def produce(self, step: Dict[str, Any]) -> Any:
        """Pushes numbered bodies in batches; how many were acknowledged, and the ids."""
        end = step["first"] + step["count"]
        batches = list(range(step["first"], end, step["batch"]))
        ids: List[Any] = []

        async def producer() -> None:
            while batches:
                first = batches.pop(0)
                bodies = [str(number).encode() for number in range(first, min(first + step["batch"], end))]
                ids.extend(result.id for result in await self.client.push_many(step["queue"], bodies))

        await asyncio.gather(*(producer() for _ in range(step["parallel"])))
        return {"ids": ids}

    async def consume(self, step: Dict[str, Any]) -> Any:
        """Works on messages until as many were acked; their bodies."""
        done: List[int] = []

        async def handle(message: queued.Message) -> None:
            await message.ack()
            done.append(int(message.body))
            if len(done) >= step["count"]:
                worker.stop()

        worker = queued.Worker(self.client, step["queue"], handle, parallel=step["parallel"], prefetch=64)
        running = asyncio.ensure_future(worker.run())
        try:
            await asyncio.wait_for(asyncio.shield(running), step["timeout_ms"] / 1000)
        except asyncio.TimeoutError:
            worker.stop()
            await running
        return {"done": done}

    async def counts(self, step: Dict[str, Any]) -> Any:
        view = await self.client.queue(step["queue"])
        assert view is not None
        return {name: getattr(view, name) for name in ("ready", "leased", "delayed", "dead", "pushed_total", "acked_total")}

    async def close(self, step: Dict[str, Any]) -> Any:
        await self.client.close()
        return {}


async def main() -> None:
    driver = Driver()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()

    async def answer(step: Dict[str, Any]) -> None:
        result = await driver.do(step)
        print(json.dumps({"id": step["id"], "result": result}), flush=True)

    while line := await reader.readline():
        task = loop.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
