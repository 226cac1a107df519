"""What all requests of a client share: its servers, its session, and the acks that wait to be sent together."""

import asyncio
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _answer, _common, _postcard, _request
from ._auth import Token
from ._connection import Connection, Gone, HelloRefused, NotSent, Reply, TimedOut
from ._errors import Incompatible, OutcomeUnknown, QueuedError, Refused, Unavailable, Untrusted
from ._pursuit import Pursuit, SessionOver
from ._session import Session
from ._tls import NoTls, Tls

RECEIPTS_MAX = 1_000
CLOSE_SECONDS = 1.0
_HEADERS = _postcard.codec_of(_common.Texts)


class Answered(NamedTuple):
    """An answer with where it stands."""

    answer: Any
    contents: List[bytes]
    #: Its place in the one order of everything.
    at: Tuple[int, int]
    #: It is the recorded answer of an earlier try.
    repeated: bool
    #: The clock by which leases end, at the moment of answering, in milliseconds.
    lease_clock_ms: int


def credentials(name: Optional[str], token: Optional[Token] = None) -> bytes:
    """What a hello says of the program and of its login; a longer name is cut after 64 bytes."""
    if name is None:
        from . import __version__

        name = f"queued-client/{__version__}"
    name = name.encode()[:64].decode(errors="ignore")
    login = None if token is None else _common.Login(token.key, None)
    return bytes(_postcard.encode(_common.Credentials, _common.Credentials(name, login)))


class Core:
    """Follows the leader, and repeats what is safe."""

    def __init__(
        self,
        servers: Sequence[str],
        timeout: float,
        name: Optional[str] = None,
        tls: Optional[Tls] = None,
        token: "Optional[Union[str, os.PathLike[str]]]" = None,
    ) -> None:
        self.name = name
        self.tls = tls
        # A token that is none is found here; that of a file is read anew for each connection.
        self.token_source = None if token is None else token
        self.token()
        self.servers = list(servers)
        self.timeout = timeout
        self.cluster: Optional[int] = None
        self.session = Session(None)
        self._server = 0
        self._acks: "Dict[str, List[Tuple[Tuple[int, int], asyncio.Future[_answer.Settled]]]]" = {}
        self._tasks: "set[asyncio.Task[None]]" = set()

    def token(self) -> Optional[Token]:
        """As whom to log in. Raises ``OSError`` or ``ValueError``."""
        return None if self.token_source is None else Token.of(self.token_source)

    def has_another_token(self, than: Optional[Token]) -> bool:
        """Whether a login would show another token now: that in its file was replaced."""
        try:
            token = self.token()
        except (OSError, ValueError):
            return False
        return token is not None and token != than

    def credentials(self, token: Optional[Token]) -> bytes:
        """What a hello says."""
        return credentials(self.name, token)

    def server(self) -> str:
        """The server to ask when no leader is known."""
        return self.servers[self._server % len(self.servers)]

    def pass_over(self, failed: str) -> None:
        """Another server is to be asked next than ``failed``."""
        if self.server() == failed:
            self._server += 1

    async def call(
        self,
        request: Any,
        contents: Sequence[bytes] = (),
        checksums: Sequence[int] = (),
        hurry: "Optional[asyncio.Event]" = None,
    ) -> Answered:
        """Asks the leader; a request that changes something has a number, is repeated under it, and counts once."""
        pursuit = Pursuit(self, request, contents, checksums, hurry)
        renewals = 0
        while True:
            session = self.session
            try:
                return _answered(await pursuit.run(session))
            except SessionOver:
                self._renew(session)
            renewals += 1
            if renewals > 1:
                await pursuit.pause(pursuit.deadline)

    async def call_node(self, address: str, request: Any) -> Answered:
        """Asks exactly the node at ``address``, once."""
        if type(request) in _request.NUMBERED:
            raise ValueError("a request of the session goes to the leader")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        try:
            token = self.token()
            said = self.credentials(token)
            connection = await Connection.open(
                address, self.session.id, self.cluster, self.timeout, said, self.tls, token
            )
        except (HelloRefused, NoTls) as refused:
            raise Incompatible(f"{address}: {refused}") from None
        except Untrusted as untrusted:
            raise Untrusted(f"{address}: {untrusted}") from None
        except (OSError, ValueError, Gone, asyncio.TimeoutError) as error:
            raise Unavailable(f"{address}: {error or type(error).__name__}") from None
        try:
            call = _request.Call.of(None, int(self.timeout * 1000), request)
            reply = await connection.call(call, (), (), deadline)
        except NotSent as gone:
            raise Unavailable(f"{address}: {gone}") from None
        except (Gone, TimedOut) as gone:
            error_class = OutcomeUnknown if type(request) in _request.ONCE else Unavailable
            raise error_class(f"{address}: {gone}") from None
        finally:
            connection.close()
        result = reply.response.result
        if isinstance(result, _answer.Err):
            raise Refused.of(result.value)
        return _answered(reply)

    def _renew(self, old: Session) -> None:
        """Replaces ``old``, unless another caller has. Its connections stay until nothing is open on them."""
        if self.session is old:
            self.session = Session(self.cluster)
            for connection in list(old.connections.values()):
                connection.leave()

    def ack(self, queue: str, receipt: Tuple[int, int]) -> "asyncio.Future[_answer.Settled]":
        """Settles a message, with all others of this turn of the event loop in one request."""
        loop = asyncio.get_running_loop()
        if not self._acks:
            loop.call_soon(self._flush_acks)
        future: "asyncio.Future[_answer.Settled]" = loop.create_future()
        self._acks.setdefault(queue, []).append((receipt, future))
        return future

    def _flush_acks(self) -> None:
        acks, self._acks = self._acks, {}
        for queue, all_waiting in acks.items():
            for at in range(0, len(all_waiting), RECEIPTS_MAX):
                task = asyncio.get_running_loop().create_task(self._ack(queue, all_waiting[at : at + RECEIPTS_MAX]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _ack(
        self, queue: str, waiting: "List[Tuple[Tuple[int, int], asyncio.Future[_answer.Settled]]]"
    ) -> None:
        try:
            receipts = [receipt for receipt, _ in waiting]
            answered = await self.call(_request.Ack(_request.Receipts(queue, receipts)))
        except QueuedError as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), settled in zip(waiting, answered.answer.value):
            if not future.done():
                future.set_result(settled)

    async def close(self) -> None:
        """Lets the cluster forget the session if the leader is at hand; else it expires by itself."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self.timeout)
        session = self.session
        if session.recorded and session.leader is not None:
            try:
                await asyncio.wait_for(self.call(_request.CloseSession()), CLOSE_SECONDS)
            except (QueuedError, asyncio.TimeoutError):
                pass
        self.session.close()


def _answered(reply: Reply) -> Answered:
    response = reply.response
    answer = response.result.value
    return Answered(answer, reply.contents, response.at, response.repeated, response.lease_clock_ms)




def encode_content(headers: "Sequence[Tuple[str, str]]", body: bytes) -> bytes:
    """Headers and body as one run of bytes."""
    if not headers:
        return b"\0" + body
    head = bytearray()
    _HEADERS.encode(head, list(headers))
    if len(head) > 4_096:
        raise ValueError(f"headers of {len(head)} bytes: at most 4,096 are allowed")
    return bytes(head) + body


def decode_content(content: bytes) -> "Tuple[Dict[str, str], bytes]":
    """Headers and body of a content."""
    if content[:1] == b"\0":
        return {}, content[1:]
    headers, end = _HEADERS.decode(content, 0)
    return dict(headers), content[end:]
