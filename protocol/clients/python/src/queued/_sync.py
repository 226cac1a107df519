"""The client for programs without an event loop: one runs in a thread of its own."""

import asyncio
import os
import threading
from typing import Any, AsyncIterator, Coroutine, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

from . import _answer, _request
from ._client import SERVERS, Client, Queues
from ._common import Missed, Once, State, When
from ._errors import Reject, Release
from ._message import Message, MessageData, NewMessage, PushResult
from ._tls import Tls

T = TypeVar("T")


class SyncMessage(MessageData):
    """A leased message. As a context manager it is acked at the end, and fails if there was an exception."""

    __slots__ = ("_client", "_message")

    def __init__(self, client: "SyncClient", message: Message) -> None:
        for name in MessageData.__slots__:
            setattr(self, name, getattr(message, name))
        self._client = client
        self._message = message

    def ack(self) -> None:
        """Done for good. Raises ``LeaseLost`` if the lease had ended."""
        self._client.run(self._message.ack())

    def fail(self, error: str = "", delay: Optional[float] = None) -> None:
        """Counts a failure; delivered again after ``delay``, or after the back-off of the queue."""
        self._client.run(self._message.fail(error, delay))

    def release(self, delay: float = 0) -> None:
        """Gives it back without blame."""
        self._client.run(self._message.release(delay))

    def reject(self, reason: str = "") -> None:
        """Dead at once."""
        self._client.run(self._message.reject(reason))

    def extend(self, seconds: Optional[float] = None) -> None:
        """Lets the lease end ``seconds`` from now, or as long as it was leased for."""
        self._client.run(self._message.extend(seconds))

    def save(self, checkpoint: bytes) -> None:
        """Keeps up to 4,096 bytes for the next attempt, and renews the lease."""
        self._client.run(self._message.save(checkpoint))

    def __enter__(self) -> "SyncMessage":
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> bool:
        self._client.run(self._message.settle(error))
        return isinstance(error, (Reject, Release))


class SyncClient:
    """The same as ``Client``, blocking; safe to use from several threads."""

    def __init__(
        self,
        servers: Union[str, Sequence[str]] = SERVERS,
        *,
        timeout: float = 5.0,
        name: Optional[str] = None,
        tls: Optional[Tls] = None,
        token: "Optional[Union[str, os.PathLike[str]]]" = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="queued-client", daemon=True)
        self._thread.start()

        async def make() -> Client:
            return Client(servers, timeout=timeout, name=name, tls=tls, token=token)

        self._client = self.run(make())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine of the asyncio client, and waits for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def client(self) -> Client:
        """The asyncio client, for ``run``."""
        return self._client

    def close(self) -> None:
        """Ends the session and the thread."""
        if not self._loop.is_closed():
            self.run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def push(self, queue: str, body: bytes, *, create: bool = False, **options: Any) -> PushResult:
        """Stores a message; options are those of ``NewMessage``."""
        return self.run(self._client.push(queue, body, create=create, **options))

    def push_many(
        self, queue: str, messages: Sequence[Union[bytes, NewMessage]], *, atomic: bool = False, create: bool = False
    ) -> List[PushResult]:
        """Stores messages in their order, each by itself or, with ``atomic``, all or none."""
        return self.run(self._client.push_many(queue, messages, atomic=atomic, create=create))

    def lease(
        self, queues: Queues, *, max_messages: int = 1, wait: float = 0, lease: Optional[float] = None
    ) -> List[SyncMessage]:
        """Leases messages of the first queue that has any."""
        messages = self.run(self._client.lease(queues, max_messages=max_messages, wait=wait, lease=lease))
        return [SyncMessage(self, message) for message in messages]

    def consume(self, queues: Queues, *, credit: int = 1, lease: Optional[float] = None) -> Iterator[SyncMessage]:
        """Messages as they come; their leases are renewed until they are settled."""

        async def make() -> Any:
            return await self._client.consume(queues, credit=credit, lease=lease).__aenter__()

        consumer = self.run(make())
        try:
            while True:
                yield SyncMessage(self, self.run(consumer.__anext__()))
        finally:
            self.run(consumer.__aexit__(None, None, None))

    def pop(self, queues: Queues, *, max_messages: int = 1, wait: float = 0) -> List[MessageData]:
        """Takes messages for good."""
        return [message.copy() for message in self.run(self._client.pop(queues, max_messages=max_messages, wait=wait))]

    def peek(
        self, queue: str, *, state: Optional[State] = None, id: Optional[int] = None, max_messages: int = 10
    ) -> "List[Tuple[_answer.MessageView, Mapping[str, str], bytes]]":
        """Looks at messages without changing anything."""
        return self.run(self._client.peek(queue, state=state, id=id, max_messages=max_messages))

    def transact(
        self,
        *,
        require: Sequence[_request.Condition] = (),
        ack: Sequence[SyncMessage] = (),
        push: Sequence[Tuple[str, Union[bytes, NewMessage]]] = (),
    ) -> List[List[PushResult]]:
        """Acks and pushes all of it, or nothing."""

        async def commit() -> List[List[PushResult]]:
            transaction = self._client.transaction()
            for condition in require:
                transaction.require(condition)
            for message in ack:
                transaction.ack(message._message)
            for queue, new in push:
                transaction.push(queue, new)
            return await transaction.commit()

        return self.run(commit())

    def create_queue(self, queue: str, *, if_not_exists: bool = True, **settings: Any) -> bool:
        """Makes a queue; false if it was there."""
        return self.run(self._client.create_queue(queue, if_not_exists=if_not_exists, **settings))

    def alter_queue(self, queue: str, *, if_version: Optional[int] = None, **settings: Any) -> int:
        """Changes the settings that are given."""
        return self.run(self._client.alter_queue(queue, if_version=if_version, **settings))

    def remove_queue(self, queue: str, *, if_exists: bool = False, if_empty: bool = False) -> int:
        """Removes a queue; how many messages went with it."""
        return self.run(self._client.remove_queue(queue, if_exists=if_exists, if_empty=if_empty))

    def queue(self, queue: str) -> Optional[_answer.QueueView]:
        """A queue and its counts; none if there is no such queue."""
        return self.run(self._client.queue(queue))

    def queues(self) -> List[_answer.QueueView]:
        """All queues, by name."""
        return self.run(_all(self._client.queues()))

    def set_schedule(
        self, name: str, queue: str, message: Union[bytes, NewMessage], when: When, *, missed: Missed = Once()
    ) -> bool:
        """Pushes a message each time that ``when`` says."""
        return self.run(self._client.set_schedule(name, queue, message, when, missed=missed))

    def remove_schedule(self, name: str) -> None:
        """Removes a schedule."""
        self.run(self._client.remove_schedule(name))

    def stats(self) -> _answer.StatsView:
        """Totals of the cluster."""
        return self.run(self._client.stats())


async def _all(items: AsyncIterator[T]) -> List[T]:
    return [item async for item in items]
