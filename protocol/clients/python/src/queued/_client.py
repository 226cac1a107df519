"""The asyncio client."""

import asyncio
import os
from typing import Any, AsyncIterator, List, Mapping, Optional, Sequence, Tuple, Type, Union

from . import _answer, _common, _crc32c, _request
from ._common import Missed, Once, State, When
from ._consumer import Consumer
from ._core import Answered, Core, decode_content
from ._errors import Refused
from ._message import Message, NewMessage, PushResult, content_of, milliseconds, push_results, spec_of
from ._request import Consistency, Held, QueueSettings
from ._tls import Tls
from ._transaction import Transaction

SERVERS = "127.0.0.1:7410,127.0.0.1:7420,127.0.0.1:7430"
PUSH_MESSAGES_MAX = 1_000
PUSH_BYTES_MAX = 8_388_608
#: Of what describes the messages of a push; the header has 262,144 bytes.
PUSH_OPTIONS_MAX = 200_000
LEASE_BYTES_MAX = 8_388_608
#: Messages that one request shows at most.
PEEK_COUNT_MAX = 256

Queues = Union[str, Sequence[str]]


class Client:
    """Follows the leader. One client serves a whole program; it is used in the event loop that made it."""

    def __init__(
        self,
        servers: Union[str, Sequence[str]] = SERVERS,
        *,
        timeout: float = 5.0,
        name: Optional[str] = None,
        tls: Optional[Tls] = None,
        token: "Optional[Union[str, os.PathLike[str]]]" = None,
    ) -> None:
        """``name`` is what the program calls itself, as ``billing/2.3``: ``queuectl cluster clients`` shows it.

        With ``tls`` it speaks TLS, to those that are trusted and to nobody else. With ``token`` it logs in, over TLS or
        loopback only: the text of a token, or the path of a file that holds one, which is read anew for each connection.
        """
        addresses = servers.split(",") if isinstance(servers, str) else list(servers)
        self._core = Core([address.strip() for address in addresses if address.strip()], timeout, name, tls, token)
        if not self._core.servers:
            raise ValueError("no server is named")

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: object, trace: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the session, if the leader is at hand, and the connections."""
        await self._core.close()

    async def call(self, request: Any, contents: Sequence[bytes] = ()) -> Answered:
        """Any request of the protocol, as ``queued.wire`` has it."""
        return await self._core.call(request, contents, [_crc32c.crc32c(content) for content in contents])

    async def call_node(self, address: str, request: Any) -> Answered:
        """The same, of exactly the node at ``address``."""
        return await self._core.call_node(address, request)

    # Pushing

    async def push(
        self,
        queue: str,
        body: bytes,
        *,
        headers: Optional[Mapping[str, str]] = None,
        priority: int = 0,
        delay: Optional[float] = None,
        at: Optional[float] = None,
        ttl: Optional[float] = None,
        dedup_key: Optional[str] = None,
        unique: Optional[str] = None,
        on_held: Held = Held.REJECT,
        group: Optional[str] = None,
        create: bool = False,
    ) -> PushResult:
        """Stores a message; on disks of a majority when this returns. Raises ``Refused`` if it was not stored."""
        message = NewMessage(body, headers, priority, delay, at, ttl, dedup_key, unique, on_held, group)
        result = (await self._push(queue, [message], create, False))[0]
        if result.refused is not None:
            raise Refused(result.refused, f"a message for {queue} was not stored")
        return result

    async def push_many(
        self, queue: str, messages: Sequence[Union[bytes, NewMessage]], *, atomic: bool = False, create: bool = False
    ) -> List[PushResult]:
        """Stores messages in their order, each by itself or, with ``atomic``, all or none."""
        results: List[PushResult] = []
        batch: List[Union[bytes, NewMessage]] = []
        size = options = 0
        for message in messages:
            if isinstance(message, NewMessage):
                keys = (message.dedup_key, message.unique, message.group)
                needs, describes = len(message.body) + 4_096, 64 + 4 * sum(len(key or "") for key in keys)
            else:
                needs, describes = len(message) + 1, 64
            full = len(batch) == PUSH_MESSAGES_MAX or size + needs > PUSH_BYTES_MAX
            if batch and (full or options + describes > PUSH_OPTIONS_MAX):
                if atomic:
                    raise ValueError("too many or too large messages for one atomic push: 1,000, 8 MiB together")
                results += await self._push(queue, batch, create, False)
                batch, size, options = [], 0, 0
            batch.append(message)
            size += needs
            options += describes
        if batch:
            results += await self._push(queue, batch, create, atomic)
        return results

    async def _push(
        self, queue: str, messages: Sequence[Union[bytes, NewMessage]], create: bool, atomic: bool
    ) -> List[PushResult]:
        request, contents, checksums = push_request(queue, messages, create, atomic)
        return push_results((await self._core.call(request, contents, checksums)).answer.value)

    def transaction(self) -> "Transaction":
        """Several things or nothing, in one entry of the log."""
        return Transaction(self._core)

    # Taking

    async def lease(
        self,
        queues: Queues,
        *,
        max_messages: int = 1,
        wait: float = 0,
        lease: Optional[float] = None,
        max_bytes: int = LEASE_BYTES_MAX,
        linger: float = 0,
        hurry: "Optional[asyncio.Event]" = None,
    ) -> List[Message]:
        """Leases messages of the first queue that has any; waits up to ``wait`` for one, until ``hurry`` is set."""
        request = _lease(queues, max_messages, wait, lease, max_bytes, linger)
        asked = asyncio.get_running_loop().time()
        answered = await self._core.call(request, hurry=hurry)
        clock = answered.lease_clock_ms
        messages = []
        for delivery, content in zip(answered.answer.value, answered.contents):
            message = Message(self._core, delivery, content, asked)
            if answered.repeated or wait:
                # It was leased later than asked for: what is left of it counts from the answer, less a margin.
                left = max(delivery.deadline_ms - clock, 0) / 1000
                message.expires = min(asyncio.get_running_loop().time() + left * 0.9, message.expires + wait)
            messages.append(message)
        return messages

    def consume(
        self, queues: Queues, *, credit: int = 1, lease: Optional[float] = None, linger: float = 0
    ) -> Consumer:
        """Messages as they come, at most ``credit`` at a time that are not settled; their leases are renewed."""
        return Consumer(self, queues, credit, lease, linger)

    async def pop(
        self, queues: Queues, *, max_messages: int = 1, wait: float = 0, max_bytes: int = LEASE_BYTES_MAX
    ) -> List[Message]:
        """Takes messages for good: they are settled when they arrive."""
        request = _request.Pop(_lease(queues, max_messages, wait, None, max_bytes, 0))
        answered = await self._core.call(request)
        messages = [Message(self._core, *pair, 0.0) for pair in zip(answered.answer.value, answered.contents)]
        for message in messages:
            message.is_settled = True
        return messages

    async def peek(
        self, queue: str, *, state: Optional[State] = None, id: Optional[int] = None, max_messages: int = 10
    ) -> "List[Tuple[_answer.MessageView, Mapping[str, str], bytes]]":
        """Looks at messages without changing anything: what it is, its headers, its body. Many come in several requests."""
        shown: "List[Tuple[_answer.MessageView, Mapping[str, str], bytes]]" = []
        after = None
        while True:
            size = min(max_messages - len(shown), PEEK_COUNT_MAX)
            request = _request.Peek(queue, state, id, size, LEASE_BYTES_MAX, after, Consistency.LINEARIZABLE)
            answered = await self._core.call(request)
            page = answered.answer
            shown += [(view, *decode_content(content)) for view, content in zip(page.messages, answered.contents)]
            after = page.next
            if after is None or len(shown) >= max_messages:
                return shown

    # Queues

    async def create_queue(self, queue: str, *, if_not_exists: bool = True, **settings: Any) -> bool:
        """Makes a queue; false if it was there. Settings are those of ``QueueSettings``."""
        request = _request.CreateQueue(queue, QueueSettings(**settings), if_not_exists)
        return bool((await self._core.call(request)).answer.value)

    async def alter_queue(self, queue: str, *, if_version: Optional[int] = None, **settings: Any) -> int:
        """Changes the settings that are given; the new version of the settings."""
        request = _request.AlterQueue(queue, QueueSettings(**settings), if_version)
        return int((await self._core.call(request)).answer.value)

    async def remove_queue(self, queue: str, *, if_exists: bool = False, if_empty: bool = False) -> int:
        """Removes a queue; how many messages went with it."""
        return int((await self._core.call(_request.RemoveQueue(queue, if_exists, if_empty))).answer.value)

    async def queues(self) -> AsyncIterator[_answer.QueueView]:
        """All queues, by name."""
        after: Optional[str] = None
        while True:
            request = _request.Queues(None, after, Consistency.LINEARIZABLE)
            views: List[_answer.QueueView] = (await self._core.call(request)).answer.value
            for view in views:
                yield view
            if not views:
                return
            after = views[-1].name

    async def queue(self, queue: str) -> Optional[_answer.QueueView]:
        """A queue and its counts; none if there is no such queue."""
        request = _request.Queues(queue, None, Consistency.LINEARIZABLE)
        views: List[_answer.QueueView] = (await self._core.call(request)).answer.value
        return views[0] if views else None

    async def sweep(
        self,
        queue: str,
        action: Union[_request.Delete, _request.Redrive, _request.MoveTo],
        select: _request.Select = _request.Select(),
        *,
        limit: int = 2**64 - 1,
        dry_run: bool = False,
    ) -> int:
        """Deletes, redrives or moves all messages for which ``select`` holds; how many."""
        count, after = 0, None
        while True:
            request = _request.Sweep(queue, select, action, limit - count, dry_run, after)
            swept: _answer.Swept = (await self._core.call(request)).answer
            count, after = count + swept.count, swept.next
            if after is None or count >= limit:
                return count

    async def edit(self, queue: str, ids: Sequence[int], change: _request.Change) -> List[_answer.Edited]:
        """Changes messages by id, each by itself."""
        answer: _answer.EditedAnswer = (await self._core.call(_request.Edit(queue, list(ids), change))).answer
        return answer.value

    async def weigh_group(self, queue: str, group: str, weight: Optional[int]) -> Optional[int]:
        """Gives a group of a fair queue a weight of its own; the one it had."""
        answer: _answer.Weighed = (await self._core.call(_request.WeighGroup(queue, group, weight))).answer
        return answer.value

    async def groups(self, queue: str) -> AsyncIterator[_answer.GroupView]:
        """All groups of a queue, by name."""
        after: Optional[str] = None
        while True:
            request = _request.Groups(queue, after, Consistency.LINEARIZABLE)
            views: List[_answer.GroupView] = (await self._core.call(request)).answer.value
            for view in views:
                yield view
            if not views:
                return
            after = views[-1].group

    async def explain(self, queue: str, id: Optional[int] = None) -> _answer.Explained:
        """What keeps a queue, or one message, from being delivered."""
        answer: _answer.Explained = (
            await self._core.call(_request.Explain(queue, id, Consistency.LINEARIZABLE))
        ).answer
        return answer

    async def history(self, queue: str, id: int) -> _answer.HistoryView:
        """What happened to a message, also when it went lately."""
        answer: _answer.HistoryView = (await self._core.call(_request.History(queue, id, Consistency.LINEARIZABLE))).answer
        return answer

    # Schedules, presence, the cluster

    async def set_schedule(
        self,
        name: str,
        queue: str,
        message: Union[bytes, NewMessage],
        when: When,
        *,
        missed: Missed = Once(),
        replace: bool = True,
    ) -> bool:
        """Pushes a message each time that ``when`` says; false if it replaced a schedule of that name."""
        new = message if isinstance(message, NewMessage) else NewMessage(message)
        content = new.content()
        checksum = _crc32c.crc32c(content)
        described = _request.PushMessage(spec_of(content, checksum), new.options())
        request = _request.SetSchedule(name, replace, queue, when, missed, described)
        return bool((await self._core.call(request, [content], [checksum])).answer.value)

    async def remove_schedule(self, name: str) -> None:
        """Removes a schedule."""
        await self._core.call(_request.RemoveSchedule(name))

    async def schedules(self) -> AsyncIterator[_answer.ScheduleView]:
        """All schedules, by name."""
        after: Optional[str] = None
        while True:
            views: List[_answer.ScheduleView] = (
                await self._core.call(_request.Schedules(after, Consistency.LINEARIZABLE))
            ).answer.value
            for view in views:
                yield view
            if not views:
                return
            after = views[-1].name

    async def bind(self, grace: Optional[float]) -> None:
        """Binds the leases of this client to its presence, which is what ``attend`` shows; none unbinds them."""
        await self._core.call(_request.BindSession(None if grace is None else milliseconds(grace)))

    async def attend(self) -> None:
        """Shows that this client is there until it is cancelled. Raises ``Refused`` if the session is not bound."""
        await self._core.call(_request.Attend())

    async def status(self, address: Optional[str] = None) -> _answer.StatusView:
        """The node at ``address`` about itself, or the leader."""
        request = _request.Status()
        answered = await (self._core.call_node(address, request) if address else self._core.call(request))
        view: _answer.StatusView = answered.answer.value
        return view

    async def stats(self) -> _answer.StatsView:
        """Totals of the cluster."""
        view: _answer.StatsView = (await self._core.call(_request.Stats())).answer.value
        return view


#: Reads well: ``async with queued.connect(servers) as client``.
connect = Client


def push_request(
    queue: str, messages: Sequence[Union[bytes, NewMessage]], create: bool, atomic: bool
) -> Tuple[_request.Push, List[bytes], List[int]]:
    """The request, its contents and their checksums."""
    described, contents, checksums = [], [], []
    for message in messages:
        content, options = content_of(message)
        checksum = _crc32c.crc32c(content)
        contents.append(content)
        checksums.append(checksum)
        described.append(_request.PushMessage(_common.ContentSpec(len(content), checksum), options))
    return _request.Push(queue, create, atomic, described), contents, checksums


def _lease(
    queues: Queues, max_messages: int, wait: float, lease: Optional[float], max_bytes: int, linger: float
) -> _request.Lease:
    names = [queues] if isinstance(queues, str) else list(queues)
    lease_ms = None if lease is None else milliseconds(lease)
    return _request.Lease(names, max_messages, max_bytes, lease_ms, milliseconds(wait), milliseconds(linger))
