"""One request on its way to its answer: whom to ask, what to make of what comes back, when to stop."""

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from . import _answer, _common, _request
from ._common import Applied, Code
from ._connection import Connection, Gone, HelloRefused, NotSent, Reply, TimedOut
from ._errors import Incompatible, OutcomeUnknown, QueuedError, Refused, Unavailable, Untrusted
from ._session import Session
from ._tls import NoTls

if TYPE_CHECKING:
    from ._core import Core

FIRST_WAIT = 0.01
LAST_WAIT = 0.16
STATUS_SECONDS = 1.0
LEADS_NO_MORE = frozenset({Code.NOT_LEADER, Code.NO_LEADER, Code.SHUTTING_DOWN, Code.NOT_CONFIRMED})
FORGOTTEN = frozenset({Code.TOO_OLD, Code.SESSION_EXPIRED})
#: Said before anything recorded is looked at: a request that was sent before may have been done.
DENIALS = frozenset({Code.DENIED, Code.KEY_ENDED, Code.AUTH_REQUIRED})


class SessionOver(Exception):
    """The session was forgotten, or never opened in time; nothing of this request was done."""


class Pursuit:
    """Asks until there is an answer, a refusal, or no time left."""

    def __init__(
        self,
        core: "Core",
        request: Any,
        contents: Sequence[bytes],
        checksums: Sequence[int],
        hurry: "Optional[asyncio.Event]" = None,
    ) -> None:
        self.core = core
        self.request = request
        self.contents = contents
        self.checksums = checksums
        self.hurry = hurry
        self.numbered = type(request) in _request.NUMBERED
        self.once = type(request) in _request.ONCE
        lease = request.value if isinstance(request, _request.Pop) else request
        self.wait = (lease.wait_ms + lease.linger_ms) / 1000 if isinstance(lease, _request.Lease) else 0.0
        if isinstance(request, _request.Attend):
            self.wait = 2_000_000.0
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.deadline = self.begin + core.timeout + self.wait
        self.tries = 0
        self.failures = 0
        self.sent_at: Optional[float] = None
        self.doubt: Optional[str] = None
        self.refusal: Optional[_common.Error] = None
        self.hint: Optional[_common.LeaderView] = None
        self.tried: Dict[str, str] = {}
        self.reached = False
        #: A node that no further try would make fit to talk to.
        self.unfit: Optional[QueuedError] = None

    async def run(self, session: Session) -> Reply:
        """The answer; its result is never a refusal."""
        if not self.numbered:
            return await self._run(session, 0)
        try:
            number = await session.take_number(self.deadline)
        except TimedOut:
            raise self.out_of_time() from None
        try:
            return await self._run(session, number)
        finally:
            session.done(number)

    async def _run(self, session: Session, number: int) -> Reply:
        while True:
            leader = session.leader
            if leader is None or leader.gone is not None or (number and not session.has_index):
                leader = await self._find(session)
            address = session.leader_address
            try:
                if number and not await session.turn(number, self.deadline):
                    raise self.out_of_time()
                if number and session.is_stale:
                    raise SessionOver
                reply = await self._ask(session, leader, number)
            except _Hurried:
                self._hurried(address)
                continue
            except TimedOut:
                self._note(address, "no answer in time", sent=True)
                raise self.out_of_time() from None
            except NotSent as gone:
                await self._on_gone(session, leader, address, gone, sent=False)
                continue
            except Gone as gone:
                await self._on_gone(session, leader, address, gone, sent=True)
                continue
            result = reply.response.result
            if isinstance(result, _answer.Ok):
                if number and not (isinstance(result.value, _answer.Delivered) and not result.value.value):
                    session.recorded = True
                return reply
            if number and result.value.code == Code.OVERLOADED:
                session.refuse(number)
            await self._on_refusal(session, leader, address, result.value)

    async def _ask(self, session: Session, connection: Connection, number: int) -> Reply:
        now = self.loop.time()
        left = max(self.deadline - now, 0.0)
        request = self.request
        if self.wait and not isinstance(request, _request.Attend):
            request = _with_wait(request, max(self.wait - (now - self.begin), 0.0))
        stamp = session.stamp(number) if number else None
        call = _request.Call.of(stamp, min(int(left * 1000), 0xFFFFFFFF), request)
        self.sent_at = now if self.sent_at is None else self.sent_at
        asking = connection.call(call, self.contents, self.checksums, self.deadline)
        if self.hurry is None:
            return await asking
        task = self.loop.create_task(asking)
        hurried = self.loop.create_task(self.hurry.wait())
        try:
            await asyncio.wait({task, hurried}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _Hurried
        finally:
            hurried.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _hurried(self, address: str) -> None:
        """From now on it does not wait. What was sent may have been done; its number tells."""
        self.hurry = None
        self.doubt = f"sent to {address} and hurried"
        self.wait = 0.0
        self.request = _with_wait(self.request, 0.0)
        self.deadline = min(self.deadline, self.loop.time() + self.core.timeout)

    async def _on_refusal(
        self, session: Session, connection: Connection, address: str, error: _common.Error
    ) -> None:
        self.reached = True
        text = f"{error.code.name.lower()}: {error.message}"
        if error.code == Code.KEY_ENDED and self.core.has_another_token(connection.token):
            # Its key was rotated: there is a new one.
            session.drop(connection, address)
            self.refusal = error
            return
        if error.code in DENIALS and self.doubt is not None:
            raise OutcomeUnknown(f"{self.doubt}; then the repeat was denied: {text}")
        if error.code in FORGOTTEN and self.doubt is not None:
            raise OutcomeUnknown(f"{self.doubt}; then {text}")
        if error.code == Code.SESSION_EXPIRED and self.numbered:
            raise SessionOver
        if error.applied == Applied.UNKNOWN and (self.numbered or self.once):
            self.doubt = f"{address} could not confirm it: {text}"
        retry = error.retry
        if isinstance(retry, _common.Never):
            if self.doubt is not None and error.applied == Applied.UNKNOWN:
                raise OutcomeUnknown(f"{self.doubt}; then {text}")
            raise Refused.of(error)
        floor, pause = 0.0, True
        if isinstance(retry, _common.AtLeader):
            session.drop(connection, address)
            self.tried[address] = f"says the leader is {retry.value.name} at {retry.value.address}"
            self.hint = retry.value
            self.failures += 1
            # Two nodes may name each other.
            pause = self.failures > 1
        elif error.code in LEADS_NO_MORE:
            self.tried[address] = text
            session.drop(connection, address)
            self.core.pass_over(address)
        elif isinstance(retry, _common.AfterMs):
            floor = retry.value / 1000
        if self.doubt is not None and self.once:
            raise OutcomeUnknown(f"{self.doubt}; then {text}")
        self.refusal = error
        if pause:
            await self.pause(self.deadline, floor)

    async def _on_gone(self, session: Session, connection: Connection, address: str, gone: Gone, sent: bool) -> None:
        self._note(address, str(gone), sent)
        session.drop(connection, address)
        self.core.pass_over(address)
        if gone.goodbye is not None and gone.goodbye.code == Code.BAD_FRAME:
            raise Incompatible(gone.goodbye.message)
        if self.doubt is not None and self.once:
            raise self.out_of_time()
        self.failures += 1
        if self.failures > 1:
            await self.pause(self.deadline)

    def _note(self, address: str, why: str, sent: bool) -> None:
        self.tried[address] = why
        if sent and (self.numbered or self.once):
            self.doubt = f"sent to {address}: {why}"

    async def _find(self, session: Session) -> Connection:
        """The leader, once one is found. One caller looks, the others wait for what it finds."""
        until = min(self.deadline, self.loop.time() + self.core.timeout)
        async with session.search:
            looks = 0
            while True:
                leader = session.leader
                if leader is not None and leader.gone is not None:
                    session.drop(leader, session.leader_address)
                    leader = None
                if leader is not None and self.numbered and not session.has_index:
                    session.drop(leader, session.leader_address)
                    leader = None
                if leader is not None:
                    return leader
                if looks > len(self.core.servers):
                    looks = 0
                    await self.pause(until)
                looks += 1
                await self._look(session, until)

    async def _look(self, session: Session, until: float) -> None:
        """Asks one node who leads: the one that was named last, else the next server."""
        hint, self.hint = self.hint, None
        address = hint.address if hint else self.core.server()
        connection, fresh = session.connections.get(address), False
        if connection is not None and connection.gone is not None:
            session.drop(connection, address)
            connection = None
        if connection is None:
            connection, fresh = await self.dial(session, address, until), True
            if connection is None:
                return
        self.reached = True
        view = connection.accepted.leader if fresh else None
        if view is None:
            view = await self._status(connection, until)
        if view is None:
            self.tried[address] = "knows no leader"
        elif view.node != connection.accepted.node.node:
            self.tried[address] = f"says the leader is {view.name} at {view.address}"
            self.hint = view
        elif self.numbered and not session.has_index:
            # It did not lead yet when it said hello.
            self.tried[address] = "is about to lead"
            self.hint = view
        else:
            session.leader, session.leader_address = connection, address
            return
        session.drop(connection, address)
        self.core.pass_over(address)

    async def dial(self, session: Session, address: str, until: float) -> Optional[Connection]:
        """A new connection to ``address``, if it can be had."""
        asked = time.monotonic()
        try:
            token = self.core.token()
            said = self.core.credentials(token)
            connection = await Connection.open(
                address, session.id, session.cluster, max(until - self.loop.time(), 0.001), said, self.core.tls, token
            )
        except HelloRefused as refused:
            self.tried[address] = str(refused)
            if isinstance(refused.error.retry, _common.Never):
                self.unfit = Incompatible(f"{address}: {refused}")
            else:
                # It joins a cluster, starts or stops.
                self.reached = True
        except NoTls as no_tls:
            self.tried[address] = str(no_tls)
            self.unfit = Incompatible(f"{address}: {no_tls}")
        except Incompatible as unfit:
            self.tried[address] = str(unfit)
            self.unfit = Incompatible(f"{address}: {unfit}")
        except Untrusted as untrusted:
            self.tried[address] = str(untrusted)
            self.unfit = Untrusted(f"{address}: {untrusted}")
        except asyncio.TimeoutError:
            self.tried[address] = "did not answer the hello"
        except (OSError, ValueError, Gone) as error:
            self.tried[address] = str(error) or type(error).__name__
        else:
            session.connections[address] = connection
            session.cluster = connection.accepted.cluster
            self.core.cluster = connection.accepted.cluster
            if connection.accepted.index is not None:
                session.learn_index(connection.accepted.index, asked)
            return connection
        self.core.pass_over(address)
        return None

    async def _status(self, connection: Connection, until: float) -> Optional[_common.LeaderView]:
        call = _request.Call.of(None, int(STATUS_SECONDS * 1000), _request.Status())
        try:
            reply = await connection.call(call, (), (), min(until, self.loop.time() + STATUS_SECONDS))
        except (Gone, TimedOut):
            return None
        result = reply.response.result.value
        return result.value.leader if isinstance(result, _answer.StatusAnswer) else None

    async def pause(self, until: float, floor: float = 0.0) -> None:
        """Waits before the next try, with jitter, at least ``floor``."""
        if self.unfit is not None and not self.reached:
            raise self.unfit
        wait = min(FIRST_WAIT * 2**self.tries, LAST_WAIT)
        self.tries = min(self.tries + 1, 10)
        wait = floor + wait * (0.5 + os.urandom(1)[0] / 512)
        now = self.loop.time()
        if now + wait >= until:
            if not floor:
                await asyncio.sleep(max(until - now, 0))
            raise self.out_of_time()
        await asyncio.sleep(wait)

    def out_of_time(self) -> QueuedError:
        """What it means that there is no answer and no more time."""
        elapsed = self.loop.time() - self.begin
        if self.doubt is not None:
            return OutcomeUnknown(f"{self.doubt}; no answer within {elapsed:.1f} s")
        if self.refusal is not None and self.refusal.code not in LEADS_NO_MORE:
            return Refused.of(self.refusal)
        if isinstance(self.unfit, Untrusted):
            return self.unfit
        tried = ", ".join(f"{address} {why}" for address, why in self.tried.items()) or "no server was tried"
        what = "no leader answered" if self.reached else f"none of {len(self.core.servers)} servers answered"
        return Unavailable(f"{what}: {tried}; waited {elapsed:.1f} s")


class _Hurried(Exception):
    pass


def _with_wait(request: Any, wait: float) -> Any:
    if isinstance(request, _request.Pop):
        return _request.Pop(_with_wait(request.value, wait))
    wait_ms = max(int(wait * 1000) - request.linger_ms, 0)
    return request._replace(wait_ms=wait_ms)
