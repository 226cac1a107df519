"""One connection to a node: frames out, frames in, many requests in flight. Nothing is repeated here."""

import asyncio
import hashlib
import ipaddress
import os
import ssl
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import _answer, _auth, _common, _crc32c, _errors, _frame, _postcard, _request, _tls

HANDSHAKE_SECONDS = 5.0
LOOK_SECONDS = 0.5
#: Looks without a sign of life, each followed by a ping, after which the node counts as dead.
SILENCE_MAX = 4
IN_FLIGHT_MAX = 1_024
IN_FLIGHT_BYTES_MAX = 64 << 20
VERSION = 1

_CALL = _postcard.codec_of(_request.Call)
_RESPONSE = _postcard.codec_of(_answer.Response)


class Gone(Exception):
    """The connection is of no more use; what was sent on it may have been done."""

    def __init__(self, why: str, goodbye: Optional[_common.Error] = None) -> None:
        super().__init__(why)
        self.goodbye = goodbye


class NotSent(Gone):
    """The connection was of no use before anything was handed over."""


class TimedOut(Exception):
    """Handed over and not answered in time."""


class HelloRefused(Exception):
    """The node does not want this client."""

    def __init__(self, error: _common.Error) -> None:
        super().__init__(f"{error.code.name.lower()}: {error.message}")
        self.error = error


class Reply(NamedTuple):
    """An answer or a refusal, with the contents that came with it."""

    response: _answer.Response
    contents: List[bytes]


def split_address(address: str) -> Tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f'"{address}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def _is_loopback(transport: asyncio.BaseTransport) -> bool:
    peer = transport.get_extra_info("peername")
    try:
        return bool(peer) and ipaddress.ip_address(peer[0]).is_loopback
    except ValueError:
        return False


class Connection(asyncio.Protocol):
    """A client's connection to one node."""

    accepted: _common.Accepted

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Optional[asyncio.Transport] = None
        self._buffer = bytearray()
        self._out: List[bytes] = []
        self._waiting: "Dict[int, asyncio.Future[Reply]]" = {}
        self._gatherer = _frame.Gatherer(IN_FLIGHT_BYTES_MAX)
        self._next_id = 1
        self._bytes = 0
        self._for_room: "List[asyncio.Future[None]]" = []
        self._silence = 0
        self._look: Optional[asyncio.TimerHandle] = None
        self._hello: "Optional[asyncio.Future[_common.Accepted]]" = loop.create_future()
        self._login: "Optional[asyncio.Future[bytes]]" = None
        #: The token that it is logged in with.
        self.token: Optional[_auth.Token] = None
        self._heard = b""
        self._left = False
        self.gone: Optional[Gone] = None

    @classmethod
    async def open(
        cls,
        address: str,
        session: int,
        cluster: Optional[int],
        timeout: float,
        credentials: bytes = b"",
        tls: Optional[_tls.Tls] = None,
        token: Optional[_auth.Token] = None,
    ) -> "Connection":
        """Dials ``address``, over TLS if ``tls`` says whom to trust, and shakes hands; ``credentials`` names the program,
        and the key of ``token`` if there is one: then it logs in, over TLS or loopback only.

        Raises ``Untrusted``, ``NoTls``, ``HelloRefused``, ``Gone``, ``OSError`` or ``asyncio.TimeoutError``.
        """
        loop = asyncio.get_running_loop()
        host, port = split_address(address)
        timeout = min(timeout, HANDSHAKE_SECONDS)

        async def dial() -> "Connection":
            secure: Dict[str, Any] = {} if tls is None else {"ssl": tls.context(), "server_hostname": host}
            try:
                transport, self = await loop.create_connection(lambda: cls(loop), host, port, **secure)
            except ssl.SSLError as error:
                raise _tls.failure(error) from None
            try:
                if tls is not None:
                    tls.check(transport.get_extra_info("ssl_object"))
                hello = _common.Hello(
                    _common.MAGIC, _common.Versions(VERSION, VERSION), cluster, _common.Client(session), credentials, 0,
                    int(time.time() * 1000), os.urandom(32),
                )  # fmt: skip
                if token is not None and tls is None and not _is_loopback(transport):
                    raise _errors.Incompatible("a token is shown over TLS or loopback only")
                said = _frame.pack(0, _frame.HELLO, bytes(_postcard.encode(_common.HelloMessage, hello)))
                self._send(said)
                assert self._hello is not None
                self.token = token
                self.accepted = await self._hello
                if token is not None:
                    await self._log_in(token, said, transport.get_extra_info("ssl_object"))
            except BaseException:
                for waited in (self._hello, self._login):
                    if waited is not None:
                        # Nobody waits for it any more.
                        waited.cancel()
                self.fail(Gone("the handshake failed"))
                raise
            return self

        return await asyncio.wait_for(dial(), timeout)

    async def _log_in(self, token: _auth.Token, said: List[bytes], secure: Any) -> None:
        certificate = None if secure is None else secure.getpeercert(binary_form=True)
        channel = _auth.PLAIN_CHANNEL if certificate is None else hashlib.sha256(certificate).digest()
        over = _auth.transcript(b"".join(said), self._heard, channel)
        login = _common.LoginProof(_common.Proven(token.prove(over), channel))
        assert self._login is not None
        self._send(_frame.pack(0, _frame.HELLO, bytes(_postcard.encode(_common.HelloMessage, login))))
        if not token.knows(over, await self._login):
            raise _errors.Incompatible("what answers does not know the key")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=IN_FLIGHT_BYTES_MAX)
        self._transport = transport
        self._look = self._loop.call_later(LOOK_SECONDS, self._on_look)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.fail(Gone(str(exc) if exc else "the connection was closed"))

    def data_received(self, data: bytes) -> None:
        self._silence = 0
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        most = _frame.SIZE_MAX if self._hello is None else _frame.HELLO_SIZE_MAX - 4
        try:
            while end - at >= 4:
                size = _frame.size_of(buffer, at, most)
                if end - at < size:
                    break
                if self._hello is not None:
                    self._heard = bytes(buffer[at : at + size])
                self._on_frame(_frame.unpack(bytes(buffer[at : at + size])))
                at += size
                most = _frame.SIZE_MAX
        except (ValueError, KeyError) as error:
            self.fail(Gone(f"the node sent nonsense: {error}"))
        if at:
            del buffer[:at]

    def _on_frame(self, unchecked: _frame.Unchecked) -> None:
        kind = unchecked.frame.kind
        if self._hello is not None:
            self._on_hello(unchecked.check())
        elif self._login is not None:
            self._on_login(unchecked.check())
        elif kind == _frame.RESPONSE and unchecked.frame.tail and self._gatherer.is_whole(unchecked.frame):
            self._on_contents(unchecked)
        elif kind == _frame.RESPONSE:
            frame = self._gatherer.take(unchecked.check())
            if frame is not None:
                self._on_response(frame)
        elif kind == _frame.PING:
            frame = unchecked.check()
            self._send(_frame.pack(frame.request_id, _frame.PONG))
        elif kind == _frame.PONG:
            unchecked.check()
        elif kind == _frame.GOODBYE:
            error = _postcard.decode(_common.Goodbye, unchecked.check().header)
            if error is None:
                self.fail(Gone("the node said goodbye"))
            elif self.gone is None:
                # Open requests are still answered.
                self.gone = NotSent(f"the node leaves: {error.message}", error)
        else:
            raise _frame.FrameError(f"a frame of kind {kind} is not for a client")

    def _on_hello(self, frame: _frame.Frame) -> None:
        hello, self._hello = self._hello, None
        assert hello is not None
        if frame.kind != _frame.HELLO:
            raise _frame.FrameError("the node did not shake hands")
        message = _postcard.decode(_common.HelloMessage, frame.header)
        if hello.done():
            return
        if isinstance(message, _common.Accepted):
            if self.token is not None:
                self._login = self._loop.create_future()
            hello.set_result(message)
        elif isinstance(message, _common.HelloRefused):
            hello.set_exception(HelloRefused(message.value))
        else:
            raise _frame.FrameError("the node did not answer the hello")

    def _on_login(self, frame: _frame.Frame) -> None:
        login, self._login = self._login, None
        assert login is not None
        if frame.kind != _frame.HELLO:
            raise _frame.FrameError("the node did not answer the login")
        message = _postcard.decode(_common.HelloMessage, frame.header)
        if login.done():
            return
        if isinstance(message, _common.LoggedIn):
            login.set_result(message.value)
        elif isinstance(message, _common.HelloRefused):
            login.set_exception(HelloRefused(message.value))
        else:
            raise _frame.FrameError("the node did not answer the login")

    def _on_contents(self, unchecked: _frame.Unchecked) -> None:
        """The contents are measured once, for their own checksums, and the checksum of the frame follows from those."""
        frame = unchecked.frame
        response = _decoded(frame.header)
        contents = _split(response, frame.tail) if response is not None else None
        if response is None or contents is None:
            unchecked.check()
            raise _frame.FrameError("an answer does not decode, or its contents are not those it names")
        checksums = [_crc32c.crc32c(content) for content in contents]
        unchecked.check_with(checksums, contents)
        self._answered(frame.request_id, response, contents, checksums)

    def _on_response(self, frame: _frame.Frame) -> None:
        response = _postcard.decode(_answer.Response, frame.header)
        contents = _split(response, frame.tail)
        if contents is None:
            raise _frame.FrameError("the contents of an answer are not those it names")
        self._answered(frame.request_id, response, contents, [_crc32c.crc32c(content) for content in contents])

    def _answered(self, request_id: int, response: _answer.Response, contents: List[bytes], checksums: List[int]) -> None:
        if [spec.crc32c for spec in _specs(response)] != checksums:
            raise _frame.FrameError("the checksum of a content does not match")
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply(response, contents))

    async def call(
        self,
        call: _request.Call,
        contents: Sequence[bytes],
        checksums: Sequence[int],
        deadline: float,
    ) -> Reply:
        """Asks once. A caller that stops waiting makes the node forget a parked request."""
        size = 256 + sum(map(len, contents))
        while self.gone is None and (
            len(self._waiting) >= IN_FLIGHT_MAX or (self._bytes and self._bytes + size > IN_FLIGHT_BYTES_MAX)
        ):
            await self._room(deadline)
        if self.gone is not None:
            raise NotSent(str(self.gone), self.gone.goodbye)
        header = bytearray()
        _CALL.encode(header, call)
        request_id = self._next_id
        pieces = _frame.pack(request_id, _frame.REQUEST, bytes(header), contents, checksums)
        self._next_id += 1
        answer: "asyncio.Future[Reply]" = self._loop.create_future()
        self._waiting[request_id] = answer
        self._bytes += size
        self._send(pieces)
        timer = self._loop.call_at(deadline, time_out, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            self._bytes -= size
            if self._waiting.pop(request_id, None) is not None and self._transport is not None:
                self._send(_frame.pack(request_id, _frame.CANCEL))
            for_room, self._for_room = self._for_room, []
            for waiter in for_room:
                if not waiter.done():
                    waiter.set_result(None)
            if self._left and not self._waiting:
                self.close()

    async def _room(self, deadline: float) -> None:
        waiter: "asyncio.Future[None]" = self._loop.create_future()
        self._for_room.append(waiter)
        timer = self._loop.call_at(deadline, time_out, waiter)
        try:
            await waiter
        except TimedOut:
            raise NotSent("too much is in flight") from None
        finally:
            timer.cancel()

    def _send(self, pieces: List[bytes]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += pieces

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out))

    def _on_look(self) -> None:
        if self._transport is None:
            return
        self._look = self._loop.call_later(LOOK_SECONDS, self._on_look)
        if not self._waiting:
            self._silence = 0
            return
        if self._silence >= SILENCE_MAX:
            self.fail(Gone(f"no sign of life for {LOOK_SECONDS * SILENCE_MAX:.0f} s"))
            return
        if self._silence:
            self._send(_frame.pack(0, _frame.PING))
        self._silence += 1

    def fail(self, gone: Gone) -> None:
        """Gives the connection up; everything that waits on it is lost."""
        if self.gone is None or isinstance(self.gone, NotSent):
            self.gone = gone
        transport, self._transport = self._transport, None
        if self._look is not None:
            self._look.cancel()
        if transport is not None:
            transport.abort()
        waiting, self._waiting = self._waiting, {}
        ended: "List[asyncio.Future[Any]]" = [*waiting.values(), *self._for_room]
        ended += [future for future in (self._hello, self._login) if future is not None]
        self._hello = self._login = None
        for future in ended:
            if not future.done():
                future.set_exception(self.gone)

    def leave(self) -> None:
        """Closes as soon as no request is open."""
        self._left = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Says goodbye and closes."""
        if self._transport is not None:
            self._send(_frame.pack(0, _frame.GOODBYE, bytes(_postcard.encode(_common.Goodbye, None))))
            self._flush()
            self._transport.close()
        self.fail_quietly()

    def fail_quietly(self) -> None:
        self._transport = None
        self.fail(Gone("this side closed the connection"))


def time_out(future: "asyncio.Future[Any]") -> None:
    """Ends a wait."""
    if not future.done():
        future.set_exception(TimedOut("no answer in time"))


def _decoded(header: bytes) -> Optional[_answer.Response]:
    try:
        response, end = _RESPONSE.decode(header, 0)
    except _postcard.DecodeError:
        return None
    assert isinstance(response, _answer.Response)
    return response if end == len(header) else None


def _specs(response: _answer.Response) -> List[_common.ContentSpec]:
    answer = response.result.value
    if isinstance(answer, _answer.Delivered):
        return [item.content for item in answer.value]
    if isinstance(answer, _answer.Peeked):
        return [view.content for view in answer.messages]
    return []


def _split(response: _answer.Response, tail: bytes) -> Optional[List[bytes]]:
    """The contents in ``tail``; none if they are not what the answer names."""
    contents, at = [], 0
    for spec in _specs(response):
        contents.append(tail[at : at + spec.size])
        at += spec.size
    return contents if at == len(tail) else None
