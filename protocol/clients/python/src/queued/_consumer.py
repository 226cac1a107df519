"""Messages as they come: leased ahead, renewed while they are worked on, given back at the end."""

import asyncio
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple, Union

from . import _answer, _request
from ._errors import OutcomeUnknown, QueuedError, Refused, Unavailable
from ._message import Message, milliseconds

if TYPE_CHECKING:
    from ._client import Client

WAIT_SECONDS = 20.0
#: A lease is renewed when less than this part of it is left.
RENEW_BELOW = 2 / 3
LOOK_SECONDS = 0.25
LEASE_MAX = 256
RECEIPTS_MAX = 1_000
RETRY_SECONDS = 0.5


class Consumer:
    """``async with client.consume(queue) as messages: async for message in messages: async with message: ...``"""

    def __init__(
        self, client: "Client", queues: Union[str, Sequence[str]], credit: int, lease: Optional[float], linger: float
    ) -> None:
        if credit < 1:
            raise ValueError("a consumer needs a credit of 1 or more")
        self._client = client
        self._queues = queues
        self._credit = credit
        self._lease = lease
        self._linger = linger
        self._held: Dict[Tuple[int, int], Message] = {}
        self._ready: "asyncio.Queue[Union[Message, QueuedError, None]]" = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: "List[asyncio.Task[None]]" = []
        #: Called when a message is lost to another consumer while it is worked on.
        self.on_lost: Optional[Callable[[Message], None]] = None

    async def __aenter__(self) -> "Consumer":
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._fetch()), loop.create_task(self._renew())]
        return self

    def __aiter__(self) -> "Consumer":
        return self

    async def __anext__(self) -> Message:
        while True:
            item = await self._ready.get()
            if item is None:
                self._ready.put_nowait(None)
                raise StopAsyncIteration
            if isinstance(item, QueuedError):
                raise item
            if not item.is_lost:
                return item

    def stop(self) -> None:
        """No further message is taken; what waits at the cluster is called back, so that nothing is leased in vain."""
        self._stopping.set()
        self._room.set()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        fetch, renew = self._tasks
        try:
            await fetch
            unused = [item for item in self._drain() if isinstance(item, Message) and not item.is_lost]
            for message in unused:
                try:
                    await message.release()
                except QueuedError:
                    # Its lease ends by itself.
                    pass
        finally:
            fetch.cancel()
            renew.cancel()

    def _drain(self) -> "List[Union[Message, QueuedError, None]]":
        items = []
        while not self._ready.empty():
            items.append(self._ready.get_nowait())
        return items

    async def _fetch(self) -> None:
        while not self._stopping.is_set():
            free = self._credit - len(self._held)
            if free <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                messages = await self._client.lease(
                    self._queues, max_messages=min(free, LEASE_MAX), wait=WAIT_SECONDS, lease=self._lease,
                    linger=self._linger, hurry=self._stopping,
                )  # fmt: skip
            except (Unavailable, OutcomeUnknown):
                # An outage ends; what was leased in vain comes back when its lease has ended.
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except QueuedError as error:
                if isinstance(error, Refused) and self._stopping.is_set():
                    break
                self._ready.put_nowait(error)
                return
            for message in messages:
                self._held[message.receipt] = message
                message.on_end = self._ended
                self._ready.put_nowait(message)
        self._ready.put_nowait(None)

    def _ended(self, message: Message) -> None:
        self._held.pop(message.receipt, None)
        self._room.set()

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            due: Dict[Tuple[str, float], List[Message]] = {}
            for message in self._held.values():
                if message.expires - loop.time() < message.lease_seconds * RENEW_BELOW:
                    due.setdefault((message.queue, message.lease_seconds), []).append(message)
            for (queue, seconds), messages in due.items():
                for at in range(0, len(messages), RECEIPTS_MAX):
                    await self._extend(queue, seconds, messages[at : at + RECEIPTS_MAX])

    async def _extend(self, queue: str, seconds: float, messages: List[Message]) -> None:
        receipts = _request.Receipts(queue, [message.receipt for message in messages])
        asked = asyncio.get_running_loop().time()
        try:
            answered = await self._client.call(_request.Extend(_request.OfReceipts(receipts), milliseconds(seconds)))
        except QueuedError:
            # Asked again at the next look.
            return
        for message, settled in zip(messages, answered.answer.results):
            if settled == _answer.Settled.OK:
                message.expires = asked + seconds
            elif not message.is_settled:
                message.is_lost = True
                self._ended(message)
                if self.on_lost is not None:
                    self.on_lost(message)
