"""What requests and answers share, the handshake, and errors: as they are on the wire."""

from enum import IntEnum
from typing import Annotated, List, NamedTuple, Optional, Tuple, Union

from ._postcard import U8, U16, U32, U64, U128, Address, Bytes10, Bytes32, Magic, Max, Name, Number16, Queue

MAGIC = b"queued\r\n"

Texts = Annotated[List[Tuple[Annotated[str, Max(4096)], Annotated[str, Max(4096)]]], Max(32)]


class Code(IntEnum):
    """Why a request was refused; the table is in PROTOCOL.md, section Errors."""

    BAD_FRAME = 1
    VERSION_MISMATCH = 2
    WRONG_CLUSTER = 3
    NOT_PERMITTED = 4
    BAD_REQUEST = 5
    MESSAGE_TOO_BIG = 6
    NOT_LEADER = 7
    NO_LEADER = 8
    QUEUE_NOT_FOUND = 9
    QUEUE_EXISTS = 10
    QUEUE_NOT_EMPTY = 11
    MESSAGE_NOT_FOUND = 12
    TOO_OLD = 13
    SESSION_EXPIRED = 14
    SESSION_LIMIT = 15
    SESSION_FULL = 16
    DISK_RESERVE = 17
    OVERLOADED = 18
    SHUTTING_DOWN = 19
    TIMED_OUT = 20
    NOT_CONFIRMED = 21
    UNSUPPORTED = 22
    NODE_EXISTS = 23
    NODE_NOT_FOUND = 24
    ADDRESS_UNREACHABLE = 25
    CHANGE_IN_PROGRESS = 26
    CONTENT_CORRUPT = 27
    QUEUE_LIMIT = 28
    QUEUE_CHANGED = 29
    QUEUE_FULL = 30
    DEDUP_FULL = 31
    UNIQUE_HELD = 32
    QUEUE_PAUSED = 33
    DEAD_TO_CYCLE = 34
    ALREADY_READY = 35
    MESSAGE_LEASED = 36
    GROUP_LIMIT = 37
    RECEIPT_STALE = 38
    CONDITION_FAILED = 39
    SCHEDULE_EXISTS = 40
    SCHEDULE_NOT_FOUND = 41
    SCHEDULE_LIMIT = 42
    STATES_DIFFER = 43
    SESSION_NOT_BOUND = 44
    NUMBER_REUSED = 45
    AUTH_REQUIRED = 46
    AUTH_FAILED = 47
    DENIED = 48
    KEY_ENDED = 49
    PRINCIPAL_EXISTS = 50
    PRINCIPAL_NOT_FOUND = 51
    KEY_NOT_FOUND = 52
    TLS_REQUIRED = 53
    AUTH_LIMIT = 54
    TLS_OFF = 55
    AUTH_CHANGED = 56
    LAST_ADMIN = 57
    NODE_REMOVED = 60
    QUORUM_AT_RISK = 61
    STORE_REFUSED = 62
    LEVEL_UNKNOWN = 63
    LEVEL_NOT_SPOKEN = 64

    @classmethod
    def _missing_(cls, value: object) -> "Optional[Code]":
        """A code that this version does not know: what else the error says decides."""
        if not isinstance(value, int) or not 0 < value < 1 << 16:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"OTHER_{value}"
        member._value_ = value
        return member


CodeNumber = Annotated[Code, Number16]


#: ``Credentials``, encoded; empty if there is nothing to say.
CredentialBytes = Annotated[bytes, Max(1024)]


class Login(NamedTuple):
    """Who a client says that it is; it proves it afterwards."""

    key: Bytes10
    as_: Optional[Annotated[str, Max(64)]]


class Credentials(NamedTuple):
    """What a client says of itself in its hello."""

    client: Annotated[str, Max(64)]
    login: Optional[Login]


class Levels(NamedTuple):
    min: U32
    max: U32


class PeerId(NamedTuple):
    node: U32
    store: U128


class LeaderView(NamedTuple):
    """The node that leads."""

    node: U32
    name: Name
    address: Address
    term: U64


class Applied(IntEnum):
    """Whether a refused request may have changed anything."""

    NO = 0
    UNKNOWN = 1


class Never(NamedTuple):
    pass


class Again(NamedTuple):
    pass


class AtLeader(NamedTuple):
    value: LeaderView


class AfterMs(NamedTuple):
    value: U32


class Error(NamedTuple):
    """A refusal, as the node sent it."""

    code: CodeNumber
    applied: Applied
    retry: Union[Never, Again, AtLeader, AfterMs]
    message: Annotated[str, Max(512)]
    similar: Optional[Queue]


Goodbye = Optional[Error]


class Versions(NamedTuple):
    min: U16
    max: U16


class Client(NamedTuple):
    session: U128


class Peer(NamedTuple):
    value: PeerId


class Hello(NamedTuple):
    magic: Magic
    versions: Versions
    cluster: Optional[U128]
    role: Union[Client, Peer]
    credentials: CredentialBytes
    features: U64
    wall_ms: U64
    nonce: Bytes32


class HelloRefused(NamedTuple):
    value: Error


class Accepted(NamedTuple):
    version: U16
    cluster: U128
    name: Name
    node: PeerId
    leader: Optional[LeaderView]
    features: U64
    wall_ms: U64
    nonce: Bytes32
    index: Optional[U64]  # type: ignore[assignment]


class Proof(NamedTuple):
    """Only nodes send it to each other; it stands here for its number."""


class Proven(NamedTuple):
    """What shows that a client has its key, over this connection."""

    proof: Bytes32
    channel: Bytes32


class LoginProof(NamedTuple):
    """A client logs in."""

    value: Proven


class LoggedIn(NamedTuple):
    """It is let in, by who knows that key."""

    value: Bytes32


#: What a client says and hears.
HelloMessage = Union[Hello, HelloRefused, Accepted, Proof, LoginProof, LoggedIn]


Verifier = NamedTuple("Verifier", [("stored", Bytes32), ("server", Bytes32)])


class Verb(IntEnum):
    """What may be done."""

    PUSH = 0
    TAKE = 1
    LOOK = 2
    READ = 3
    REDRIVE = 4
    MANAGE = 5
    DESTROY = 6
    FEED = 7
    CLUSTER = 8
    AUTH = 9


class Grant(NamedTuple):
    """Verbs, one bit each, and the queues that they are for."""

    verbs: U16
    pattern: Annotated[str, Max(140)]


Grants = Annotated[List[Grant], Max(64)]
Principal = Annotated[str, Max(64)]
Note = Annotated[str, Max(256)]


class ContentSpec(NamedTuple):
    """Size and checksum of one content: headers and body of a message."""

    size: U32
    crc32c: U32


class State(IntEnum):
    """Where a message stands."""

    READY = 0
    LEASED = 1
    DELAYED = 2
    DEAD = 3


class DeadReason(IntEnum):
    """Why a message is dead."""

    MAX_FAILURES = 0
    REJECTED = 1
    EXPIRED = 2
    OVERFLOW = 3
    ADMIN = 4


class Cursor(NamedTuple):
    """Where a sweep goes on."""

    state: State
    priority: U8
    id: U64
    below: U64


class Cron(NamedTuple):
    """A cron pattern of five fields, or of six with seconds first, in an IANA time zone."""

    pattern: Annotated[str, Max(128)]
    zone: Annotated[str, Max(64)]


class Every(NamedTuple):
    """Every so many milliseconds."""

    value: U64


When = Union[Cron, Every]


class Once(NamedTuple):
    """One message for all times that were missed."""


class Skip(NamedTuple):
    """No message for times that were missed."""


class CatchUp(NamedTuple):
    """One message for each of the last times that were missed, at most as many as given."""

    value: U32


Missed = Union[Once, Skip, CatchUp]


class OnExpiry(IntEnum):
    DROP = 0
    DEAD = 1


class OnFull(IntEnum):
    REJECT = 0
    DROP_OLDEST = 1


class OnPoison(IntEnum):
    SKIP = 0
    BLOCK = 1
    PARK_GROUP = 2


