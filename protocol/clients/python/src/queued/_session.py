"""A session: its id, the index it opens under, its numbers, its connections. It makes a repeated request count once."""

import asyncio
import os
import time
from typing import Dict, List, Optional, Set

from ._connection import Connection, TimedOut, time_out
from ._request import Stamp

NUMBERS_MAX = 1_024
#: Nothing is sent first under an index that was learned longer ago.
INDEX_SECONDS_MAX = 60.0


class Session:
    """Lives until it is closed or the cluster has forgotten it; then the client takes another one."""

    def __init__(self, cluster: Optional[int]) -> None:
        self.id = int.from_bytes(os.urandom(16), "little")
        self.cluster = cluster
        self.connections: Dict[str, Connection] = {}
        self.leader: Optional[Connection] = None
        self.leader_address = ""
        self.search = asyncio.Lock()
        self.recorded = False
        self._index: Optional[int] = None
        self._learned = 0.0
        self._sent = False
        self._next = 1
        self._lowest = 1
        self._open: Set[int] = set()
        self._refused: Set[int] = set()
        self._moved: "List[asyncio.Future[None]]" = []

    def learn_index(self, index: int, asked: float) -> None:
        """A leader named its index; only the first one counts, for ever."""
        if self._index is None:
            self._index, self._learned = index, asked

    @property
    def has_index(self) -> bool:
        """A leader has named an index, and it may still be used."""
        return self._index is not None

    @property
    def is_stale(self) -> bool:
        """Nothing was sent under the index, and now it is too late to begin."""
        return self._index is not None and not self._sent and time.monotonic() - self._learned > INDEX_SECONDS_MAX

    async def take_number(self, deadline: float) -> int:
        """The next number; waits while the window of open ones is full."""
        while self._next - self._done_below() >= NUMBERS_MAX:
            await self._move(deadline)
        number = self._next
        self._next += 1
        self._open.add(number)
        return number

    def stamp(self, number: int) -> Stamp:
        """What a request of this number carries, whenever it is sent."""
        assert self._index is not None
        self._sent = True
        return Stamp(number, self._done_below(), self._index)

    def refuse(self, number: int) -> None:
        """A node had no room for the number: no later one may be sent before it is sent again."""
        self._refused.add(number)

    async def turn(self, number: int, deadline: float) -> bool:
        """Waits until no lower number is to be sent again; false if that takes too long."""
        try:
            while self._refused and min(self._refused) < number:
                await self._move(deadline)
        except TimedOut:
            return False
        if number in self._refused:
            self._refused.discard(number)
            self._wake()
        return True

    def done(self, number: int) -> None:
        """Nobody waits for the number any more."""
        lowest = self._done_below()
        self._open.discard(number)
        refused = number in self._refused
        self._refused.discard(number)
        if self._moved and (refused or self._done_below() != lowest):
            self._wake()

    def _done_below(self) -> int:
        while self._lowest < self._next and self._lowest not in self._open:
            self._lowest += 1
        return self._lowest

    async def _move(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        moved: "asyncio.Future[None]" = loop.create_future()
        self._moved.append(moved)
        timer = loop.call_at(deadline, time_out, moved)
        try:
            await moved
        finally:
            timer.cancel()

    def _wake(self) -> None:
        moved, self._moved = self._moved, []
        for future in moved:
            if not future.done():
                future.set_result(None)

    def drop(self, connection: Connection, address: str) -> None:
        """``connection`` is of no use for finding the leader: the next hello brings news."""
        if self.leader is connection:
            self.leader = None
        if self.connections.get(address) is connection:
            del self.connections[address]
        connection.leave()

    def close(self) -> None:
        """Closes all connections."""
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()
        self.leader = None
