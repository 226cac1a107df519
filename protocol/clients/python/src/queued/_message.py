"""Messages: to be pushed, and delivered."""

import asyncio
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _answer, _common, _request
from ._common import Code
from ._core import decode_content, encode_content
from ._errors import LeaseLost, Reject, Release

if TYPE_CHECKING:
    from ._core import Core


class NewMessage(NamedTuple):
    """A message to push. Times are in seconds; ``at`` is Unix time."""

    body: bytes
    headers: Optional[Mapping[str, str]] = None
    #: Higher ones are delivered first, 0 to 31.
    priority: int = 0
    delay: Optional[float] = None
    at: Optional[float] = None
    ttl: Optional[float] = None
    #: Remembered for the dedup window of the queue: a second push with it stores nothing.
    dedup_key: Optional[str] = None
    #: Held as long as the message is alive.
    unique: Optional[str] = None
    on_held: _request.Held = _request.Held.REJECT
    group: Optional[str] = None

    def options(self) -> _request.PushOptions:
        """What goes over the wire beside the content."""
        if self.delay is not None and self.at is not None:
            raise ValueError("a message has a delay or a time, not both")
        due: Union[_request.Now, _request.AfterMs, _request.AtMs] = _request.Now()
        if self.delay is not None:
            due = _request.AfterMs(milliseconds(self.delay))
        elif self.at is not None:
            due = _request.AtMs(milliseconds(self.at))
        unique = None if self.unique is None else _request.Unique(self.unique, self.on_held)
        ttl_ms = None if self.ttl is None else milliseconds(self.ttl)
        return _request.PushOptions(self.priority, due, ttl_ms, self.dedup_key, unique, self.group)

    def content(self) -> bytes:
        """Headers and body in one."""
        if not isinstance(self.body, bytes):
            raise TypeError(f"a body is bytes, not {type(self.body).__name__}")
        return encode_content(list(self.headers.items()) if self.headers else [], self.body)


class PushResult(NamedTuple):
    """What came of one message of a push."""

    #: Of the message, or of the one that its key stands for; none if it was refused.
    id: Optional[int]
    duplicate: bool = False
    refused: Optional[Code] = None


def content_of(message: Union[bytes, NewMessage]) -> Tuple[bytes, _request.PushOptions]:
    """What of a message is stored, and what is said of it."""
    if isinstance(message, bytes):
        return b"\0" + message, _request.DEFAULT_OPTIONS
    return message.content(), message.options()


def push_results(outcomes: List[_answer.PushOutcome]) -> List[PushResult]:
    """One result a message."""
    results: List[PushResult] = []
    for outcome in outcomes:
        if isinstance(outcome, _answer.Stored):
            results += [PushResult(outcome.first_id + offset) for offset in range(outcome.count)]
        elif isinstance(outcome, _answer.Refused):
            results += [PushResult(None, False, outcome.code)] * outcome.count
        else:
            results.append(PushResult(outcome.id, True))
    return results


class MessageData:
    """What a delivered message is."""

    __slots__ = (
        "queue", "id", "token", "attempt", "failures", "priority", "group", "pushed_at", "lease_seconds", "expires",
        "epoch", "checkpoint", "headers", "body",
    )  # fmt: skip

    def __init__(self, delivery: _answer.Delivery, content: bytes, asked: float) -> None:
        self.queue: str = delivery.queue
        self.id: int = delivery.id
        #: Rises with every lease in the cluster: store it with what the work writes, and refuse lower ones there.
        self.token: int = delivery.token
        #: 1 for the first lease.
        self.attempt: int = delivery.attempt
        self.failures: int = delivery.failures
        self.priority: int = delivery.priority
        self.group: Optional[str] = delivery.group
        #: Unix time.
        self.pushed_at: float = delivery.pushed_at_ms / 1000
        self.lease_seconds: float = delivery.lease_ms / 1000
        #: On the clock of the event loop: until then at least the lease holds.
        self.expires: float = asked + delivery.lease_ms / 1000
        self.epoch: int = delivery.epoch
        #: How far the work of an earlier attempt came.
        self.checkpoint: Optional[bytes] = delivery.checkpoint
        self.headers: Dict[str, str]
        self.headers, self.body = decode_content(content)

    @property
    def receipt(self) -> Tuple[int, int]:
        """Names the lease."""
        return self.id, self.token

    def copy(self) -> "MessageData":
        """What it is without the lease: for another thread or process."""
        copy = MessageData.__new__(MessageData)
        for name in MessageData.__slots__:
            setattr(copy, name, getattr(self, name))
        return copy

    def __repr__(self) -> str:
        return f"<message {self.id} of {self.queue}, attempt {self.attempt}, {len(self.body)} bytes>"


class Message(MessageData):
    """A leased message. As a context manager it is acked at the end, and fails if there was an exception."""

    __slots__ = ("_core", "is_settled", "is_lost", "on_end")

    def __init__(self, core: "Core", delivery: _answer.Delivery, content: bytes, asked: float) -> None:
        super().__init__(delivery, content, asked)
        self._core = core
        self.is_settled = False
        #: A renewal was told that the lease has ended.
        self.is_lost = False
        #: Called once it is settled, before the cluster has heard of it.
        self.on_end: Optional[Callable[[Message], None]] = None

    async def ack(self) -> None:
        """Done for good. Raises ``LeaseLost`` if the lease had ended."""
        self.end()
        self._check(await self._core.ack(self.queue, self.receipt))

    async def fail(self, error: str = "", delay: Optional[float] = None) -> None:
        """Counts a failure; delivered again after ``delay``, or after the back-off of the queue."""
        delay_ms = None if delay is None else milliseconds(delay)
        await self._nack(_request.Fail(delay_ms, cut(error)))

    async def release(self, delay: float = 0) -> None:
        """Gives it back without blame."""
        await self._nack(_request.Release(milliseconds(delay)))

    async def reject(self, reason: str = "") -> None:
        """Dead at once."""
        await self._nack(_request.Reject(cut(reason)))

    async def extend(self, seconds: Optional[float] = None) -> None:
        """Lets the lease end ``seconds`` from now, or as long as it was leased for."""
        seconds = self.lease_seconds if seconds is None else seconds
        asked = asyncio.get_running_loop().time()
        receipts = _request.Receipts(self.queue, [self.receipt])
        answered = await self._core.call(_request.Extend(_request.OfReceipts(receipts), milliseconds(seconds)))
        self._check(answered.answer.results[0])
        self.expires = asked + seconds

    async def save(self, checkpoint: bytes) -> None:
        """Keeps up to 4,096 bytes for the next attempt, and renews the lease."""
        asked = asyncio.get_running_loop().time()
        lease_ms = milliseconds(self.lease_seconds)
        request = _request.SaveCheckpoint(self.queue, self.id, self.token, lease_ms, checkpoint)
        answered = await self._core.call(request)
        self._check(answered.answer.results[0])
        self.expires = asked + self.lease_seconds

    async def _nack(self, kind: Union[_request.Release, _request.Fail, _request.Reject]) -> None:
        self.end()
        receipts = _request.Receipts(self.queue, [self.receipt])
        answered = await self._core.call(_request.Nack(receipts, kind))
        self._check(answered.answer.value[0])

    def end(self) -> None:
        """It is settled: nobody renews its lease any more."""
        if self.is_settled:
            raise ValueError(f"message {self.id} was settled before")
        self.is_settled = True
        if self.on_end is not None:
            self.on_end(self)

    def _check(self, settled: _answer.Settled) -> None:
        if settled != _answer.Settled.OK:
            raise LeaseLost(f"the lease of message {self.id} of {self.queue} has ended ({settled.name.lower()})")

    async def settle(self, error: Optional[BaseException]) -> None:
        """What a handler that ended so means: ack, fail, reject or release."""
        if self.is_settled:
            return
        if error is None:
            await self.ack()
        elif isinstance(error, Reject):
            await self.reject(str(error))
        elif isinstance(error, Release):
            await self.release(error.delay)
        elif isinstance(error, Exception):
            await self.fail(f"{type(error).__name__}: {error}")
        else:
            # Cancelled or interrupted: nobody's fault.
            await self.release()

    async def __aenter__(self) -> "Message":
        return self

    async def __aexit__(self, kind: object, error: Optional[BaseException], trace: object) -> bool:
        await self.settle(error)
        return isinstance(error, (Reject, Release))


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up."""
    return -int(-seconds * 1000 // 1)


def cut(text: str) -> str:
    """At most 1,024 bytes of it."""
    return text.encode("utf-8", "replace")[:1024].decode("utf-8", "ignore")


def spec_of(content: bytes, checksum: int) -> _common.ContentSpec:
    """What a request says of a content."""
    return _common.ContentSpec(len(content), checksum)
