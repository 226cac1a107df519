"""A node that plays a script: it shakes hands, notes what it is asked, and answers as the scenario says.

It speaks with the codecs of the Python client, which `vectors.json` has proved before any scenario is run.
"""

import asyncio
import hashlib
import hmac
import ssl
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).parents[1] / "python" / "src"))

from queued import _answer as answer  # noqa: E402
from queued import _common as common  # noqa: E402
from queued import _auth, _crc32c, _frame, _postcard  # noqa: E402
from queued import _request as request  # noqa: E402

ALPN = "queued/1"
#: How a handshake of TLS begins, which no frame does.
CLIENT_HELLO = b"\x16\x03"
#: Of the login's example in PROTOCOL.md.
TOKEN = "qk1_gaytemzugu3doobza4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d634q"
CLUSTER = 0x7C1E
LEASE_CLOCK = 90_000


class Script:
    """What all nodes of a scenario share: the log, and who is who."""

    def __init__(self) -> None:
        self.log: List[str] = []
        self.sessions: Dict[int, str] = {}
        self.nodes: "Dict[str, FakeNode]" = {}
        self.complaints: List[str] = []

    def session(self, id: int) -> str:
        """A short name for a session, in the order in which they appear."""
        return self.sessions.setdefault(id, f"s{len(self.sessions) + 1}")

    def view(self, name: Optional[str]) -> Optional[common.LeaderView]:
        """How a node names another as the leader."""
        if name is None:
            return None
        node = self.nodes[name]
        return common.LeaderView(node.number, name, node.address, 8)


class FakeNode:
    """One node of a scenario."""

    def __init__(
        self, script: Script, name: str, number: int, plan: Dict[str, Any], tls: Optional[ssl.SSLContext] = None,
        channel: bytes = _auth.PLAIN_CHANNEL,
    ) -> None:  # fmt: skip
        self.script = script
        self.name = name
        self.number = number
        self.tls = tls
        #: What logins over its connections are bound to.
        self.channel = channel
        #: What it does with a login: `knows` the key, is a `stranger` to it, or the code of a refusal.
        self.login: str = plan.get("login", "knows")
        self.leaders: List[Optional[str]] = list(plan.get("leader", [None]))
        index = plan.get("index", [])
        self.indexes: List[int] = list(index) if isinstance(index, list) else [index]
        self.answers: List[Dict[str, Any]] = list(plan.get("answers", []))
        self.refuses: Optional[str] = plan.get("refuses")
        self.refuses_hellos: int = plan.get("refuses_hellos", 1 << 30)
        self.hellos = 0
        self.leader: Optional[str] = None
        self.address = ""
        self.server: Optional[asyncio.AbstractServer] = None
        self.writers: List[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Listens on a free port of this machine."""
        if self.tls is not None and self.tls.maximum_version == ssl.TLSVersion.TLSv1_2:
            self.server = await asyncio.start_server(self.serve_old, "127.0.0.1", 0)
        else:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def die(self) -> None:
        """Closes everything."""
        if self.server is not None:
            self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.writers.append(writer)
        connection = Played(self, writer)
        try:
            if self.tls is not None:
                spoken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
                if spoken != ALPN:
                    self.script.complaints.append(f"{self.name} was not asked for {ALPN} (ALPN), but for {spoken}")
            while True:
                head = await reader.readexactly(4)
                if head[:2] == CLIENT_HELLO:
                    self.script.log.append(f"{self.name} TLS")
                    return connection.refuse("tls_off")
                whole = head + await reader.readexactly(_frame.size_of(head, 0, _frame.SIZE_MAX) - 4)
                await connection.take(_frame.unpack(whole).check(), whole)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        except ValueError as error:
            self.script.complaints.append(f"{self.name} was sent nonsense: {error}")
        finally:
            writer.transport.abort()

    async def serve_old(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A handshake by hand: asyncio closes without the alert that says why."""
        assert self.tls is not None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = self.tls.wrap_bio(incoming, outgoing, server_side=True)
        try:
            while data := await reader.read(1 << 14):
                incoming.write(data)
                try:
                    handshake.do_handshake()
                    self.script.log.append(f"{self.name} {handshake.version()}")
                except ssl.SSLWantReadError:
                    pass
                finally:
                    writer.write(outgoing.read())
        except (ssl.SSLError, OSError):
            pass
        finally:
            writer.close()

    def next_leader(self) -> Optional[str]:
        """Who leads as of the next hello; the last one stays."""
        self.leader = self.leaders.pop(0) if len(self.leaders) > 1 else self.leaders[0]
        return self.leader


class Played:
    """One connection of a fake node."""

    def __init__(self, node: FakeNode, writer: asyncio.StreamWriter) -> None:
        self.node = node
        self.writer = writer
        self.session = ""
        self.greeted = False
        self.silent = False
        #: What the login must prove, if one is due.
        self.transcript: Optional[bytes] = None

    def send(self, id: int, kind: int, header: bytes = b"", tail: bytes = b"", more: bool = False) -> bytes:
        frame = b"".join(_frame.pack(id, kind, header, [tail] if tail else [], None, more))
        self.writer.write(frame)
        return frame

    def say(self, message: Any) -> bytes:
        return self.send(0, _frame.HELLO, bytes(_postcard.encode(common.HelloMessage, message)))

    def note(self, what: str) -> None:
        self.node.script.log.append(f"{self.node.name} {what}")

    async def take(self, frame: _frame.Frame, whole: bytes) -> None:
        if self.silent:
            return
        if not self.greeted:
            self.greet(_postcard.decode(common.HelloMessage, frame.header), whole)
        elif self.transcript is not None:
            self.log_in(_postcard.decode(common.HelloMessage, frame.header).value, self.transcript)
        elif frame.kind == _frame.PING:
            self.send(frame.request_id, _frame.PONG)
        elif frame.kind == _frame.CANCEL:
            self.note(f"cancel {self.session}")
        elif frame.kind == _frame.REQUEST:
            await self.play(frame)

    def log_in(self, proven: common.Proven, transcript: bytes) -> None:
        self.note(f"login {self.session}")
        self.transcript = None
        stored, server = _auth.Token.parse(TOKEN).verifier()
        client = bytes(a ^ b for a, b in zip(proven.proof, hmac.new(stored, transcript, hashlib.sha256).digest()))
        if hashlib.sha256(client).digest() != stored:
            self.node.script.complaints.append(f"{self.node.name} was shown a proof that is wrong")
        if proven.channel != self.node.channel:
            self.node.script.complaints.append(f"{self.node.name} was shown a login of another channel")
        if self.node.login == "knows":
            self.say(common.LoggedIn(hmac.new(server, transcript, hashlib.sha256).digest()))
        elif self.node.login == "stranger":
            self.say(common.LoggedIn(bytes(32)))
        else:
            self.refuse(self.node.login)

    def greet(self, hello: common.Hello, whole: bytes) -> None:
        node = self.node
        node.hellos += 1
        assert isinstance(hello.role, common.Client)
        self.session = node.script.session(hello.role.session)
        self.note(f"hello {self.session}")
        if node.refuses and node.hellos <= node.refuses_hellos:
            self.refuse(node.refuses)
            return
        self.greeted = True
        leader = node.next_leader()
        index = None
        if leader == node.name and node.indexes:
            index = node.indexes.pop(0) if len(node.indexes) > 1 else node.indexes[0]
        peer = common.PeerId(node.number, node.number)
        view = node.script.view(leader)
        accepted = common.Accepted(1, CLUSTER, node.name, peer, view, 0, 0, bytes(32), index)
        said = self.say(accepted)
        login = _postcard.decode(common.Credentials, hello.credentials).login if hello.credentials else None
        if login is not None:
            if login.key != _auth.Token.parse(TOKEN).key:
                node.script.complaints.append(f"{node.name} was told of a key that nobody gave")
            self.transcript = _auth.transcript(whole, said, node.channel)

    def refuse(self, why: str) -> None:
        code = common.Code[why.upper()]
        retry = common.Again() if code == common.Code.NO_LEADER else common.Never()
        error = common.Error(code, common.Applied.NO, retry, "as the scenario says", None)
        self.say(common.HelloRefused(error))

    async def play(self, frame: _frame.Frame) -> None:
        call: request.Call = _postcard.decode(request.Call, frame.header)
        asked = call.request
        if isinstance(asked, request.Status):
            self.status(frame.request_id)
            return
        if isinstance(asked, request.CloseSession):
            self.respond(frame.request_id, answer.Ok(answer.Closed()), b"", {})
            return
        stamp = call.stamp
        where = f"{stamp.number}/{stamp.done_below}@{stamp.index}" if stamp else "-"
        # A repeat may wait less; that it does not wait at all is worth a word.
        waits = " wait=0" if isinstance(asked, request.Lease) and stamp and self.repeats_without_wait(asked, stamp) else ""
        self.note(f"{type(asked).__name__.lower()} {self.session} {where}{waits}")
        self.check_contents(asked, frame.tail)
        step = self.node.answers.pop(0) if self.node.answers else {"do": "hold"}
        await self.act(frame.request_id, step)

    _waited: Dict[int, int] = {}

    def repeats_without_wait(self, lease: request.Lease, stamp: request.Stamp) -> bool:
        waited = self._waited.setdefault(id(self.node.script) ^ stamp.number, lease.wait_ms)
        return waited > 0 and lease.wait_ms == 0

    def check_contents(self, asked: Any, tail: bytes) -> None:
        if isinstance(asked, request.Push):
            at = 0
            for message in asked.messages:
                content = tail[at : at + message.content.size]
                at += len(content)
                if _crc32c.crc32c(content) != message.content.crc32c:
                    self.node.script.complaints.append("the checksum of a content is wrong")
            if at != len(tail):
                self.node.script.complaints.append("contents and their specs differ")

    def status(self, id: int) -> None:
        node = self.node
        role = answer.Role.LEADER if node.leader == node.name else answer.Role.FOLLOWER
        health = answer.HealthView(None, [], [], 0)
        view = answer.StatusView(
            CLUSTER, node.number, node.name, role, 8, node.script.view(node.leader), 0, 0, 0, 0, 0, 0, 0, "0.1.0", False,
            1, common.Levels(1, 1), [], False, 0, 0, 0, health,
        )  # fmt: skip
        self.respond(id, answer.Ok(answer.StatusAnswer(view)), b"", {})

    async def act(self, id: int, step: Dict[str, Any]) -> None:
        what = step.get("do")
        if what == "close":
            self.writer.transport.abort()
        elif what == "die":
            self.node.die()
        elif what == "silence":
            self.silent = True
        elif what == "hold":
            pass
        else:
            if "goodbye_before" in step:
                code = common.Code[step["goodbye_before"].upper()]
                leaves = common.Error(code, common.Applied.NO, common.Again(), "the node is stopping", None)
                self.send(0, _frame.GOODBYE, bytes(_postcard.encode(common.Goodbye, leaves)))
            result, tail = self.answer(step)
            self.respond(id, result, tail, step)

    def answer(self, step: Dict[str, Any]) -> "tuple[Any, bytes]":
        if "stored" in step:
            return answer.Ok(answer.Pushed([answer.Stored(*step["stored"])])), b""
        if "pushed" in step:
            makers = {
                "stored": answer.Stored,
                "refused": lambda code, count: answer.Refused(common.Code[code.upper()], count),
                "duplicate": answer.Duplicate,
            }
            return answer.Ok(answer.Pushed([makers[kind](*rest) for kind, *rest in step["pushed"]])), b""
        if "settled" in step:
            return answer.Ok(answer.SettledAnswer([answer.Settled[word.upper()] for word in step["settled"]])), b""
        if "delivered" in step:
            contents = [b"\0" + body.encode() for _, _, body, _ in step["delivered"]]
            deliveries = [
                answer.Delivery(
                    "jobs", id, token, 1, 0, 0, None, 1, left, LEASE_CLOCK + left,
                    common.ContentSpec(len(content), _crc32c.crc32c(content)), 0, None,
                )
                for (id, token, _, left), content in zip(step["delivered"], contents)
            ]  # fmt: skip
            tail = b"".join(contents)
            return answer.Ok(answer.Delivered(deliveries)), tail[:-1] + b"?" if step.get("corrupt") else tail
        retry = step.get("retry", "never")
        if isinstance(retry, dict) and "at_leader" in retry:
            view = self.node.script.view(retry["at_leader"])
            assert view is not None
            how: Any = common.AtLeader(view)
        elif isinstance(retry, dict):
            how = common.AfterMs(retry["after_ms"])
        else:
            how = common.Again() if retry == "again" else common.Never()
        applied = common.Applied[step.get("applied", "no").upper()]
        return answer.Err(common.Error(common.Code[step["error"].upper()], applied, how, "as the scenario says", None)), b""

    def respond(self, id: int, result: Any, tail: bytes, step: Dict[str, Any]) -> None:
        response = answer.Response(answer.At(5, 0), step.get("repeated", False), LEASE_CLOCK, result, answer.AgeNow())
        header = bytes(_postcard.encode(answer.Response, response))
        pieces = step.get("pieces", 1)
        size = -(-len(tail) // pieces) if tail else 0
        for piece in range(pieces):
            part = tail[piece * size : (piece + 1) * size] if pieces > 1 else tail
            self.send(id, _frame.RESPONSE, header if piece == 0 else b"", part, piece < pieces - 1)
