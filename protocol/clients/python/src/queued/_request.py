"""Requests, as they are on the wire; the order of ``Request`` is their number."""

from enum import IntEnum
from typing import Annotated, List, NamedTuple, Optional, Tuple, Union

from ._common import (
    ContentSpec, Cursor, DeadReason, Grants, LogLevel, Missed, Note, OnExpiry, OnFull, OnPoison, Principal, State, Verb,
    Verifier, When,
)  # fmt: skip
from ._postcard import U8, U16, U32, U64, Address, Bytes10, Bytes16, Key, Max, Queue, QueueOrNone, constant

Ids = Annotated[List[U64], Max(1000)]


class Consistency(IntEnum):
    LINEARIZABLE = 0
    STALE = 1


class Now(NamedTuple):
    pass


class AfterMs(NamedTuple):
    value: U64


class AtMs(NamedTuple):
    value: U64


class Held(IntEnum):
    """What becomes of a push if a live message holds its unique key."""

    REJECT = 0
    REPLACE = 1
    KEEP = 2


class Unique(NamedTuple):
    key: Key
    held: Held


class PushOptions(NamedTuple):
    priority: U8
    due: Union[Now, AfterMs, AtMs]
    ttl_ms: Optional[U64]
    dedup_key: Optional[Key]
    unique: Optional[Unique]
    group: Optional[Key]


#: Of most messages; known by its identity, it is written without a look at its fields.
DEFAULT_OPTIONS = PushOptions(0, Now(), None, None, None, None)


class PushMessage(NamedTuple):
    content: ContentSpec
    options: Annotated[PushOptions, constant(DEFAULT_OPTIONS)]


class Push(NamedTuple):
    queue: Queue
    create: bool
    atomic: bool
    messages: Annotated[List[PushMessage], Max(1000)]


class Lease(NamedTuple):
    queues: Annotated[List[Queue], Max(16)]
    max_messages: U16
    max_bytes: U32
    lease_ms: Optional[U64]
    wait_ms: U32
    linger_ms: U32


class Pop(NamedTuple):
    value: Lease


class Receipts(NamedTuple):
    queue: Queue
    receipts: Annotated[List[Tuple[U64, U64]], Max(1000)]


class Ack(NamedTuple):
    value: Receipts


class Release(NamedTuple):
    delay_ms: U64


class Fail(NamedTuple):
    delay_ms: Optional[U64]
    error: Annotated[str, Max(1024)]


class Reject(NamedTuple):
    reason: Annotated[str, Max(1024)]


class Nack(NamedTuple):
    leases: Receipts
    kind: Union[Release, Fail, Reject]


class OfReceipts(NamedTuple):
    value: Receipts


class OfSession(NamedTuple):
    pass


class Extend(NamedTuple):
    leases: Union[OfReceipts, OfSession]
    lease_ms: U64


class Peek(NamedTuple):
    queue: Queue
    state: Optional[State]
    id: Optional[U64]
    max_messages: U16
    max_bytes: U32
    after: Optional[Cursor]
    consistency: Consistency


class Queues(NamedTuple):
    only: Optional[Queue]
    after: Optional[Queue]
    consistency: Consistency


class QueueSettings(NamedTuple):
    """Settings of a queue, of which none is the default or no change; 0 is none or no limit, an empty ``dead_to`` none."""

    max_failures: Optional[U32] = None
    lease_ms: Optional[U64] = None
    backoff_ms: Optional[U64] = None
    backoff_factor_percent: Optional[U32] = None
    backoff_ms_max: Optional[U64] = None
    backoff_jitter_percent: Optional[U32] = None
    ttl_ms: Optional[U64] = None
    on_expiry: Optional[OnExpiry] = None
    dedup_window_ms: Optional[U64] = None
    max_messages: Optional[U64] = None
    max_bytes: Optional[U64] = None
    on_full: Optional[OnFull] = None
    dead_to: Optional[QueueOrNone] = None
    dead_max: Optional[U64] = None
    dead_ttl_ms: Optional[U64] = None
    pushes_paused: Optional[bool] = None
    leases_paused: Optional[bool] = None
    ordered: Optional[bool] = None
    on_poison: Optional[OnPoison] = None
    fair: Optional[bool] = None
    group_weight: Optional[U32] = None
    group_leased_max: Optional[U32] = None
    rate_max: Optional[U32] = None
    rate_ms: Optional[U64] = None
    single_active: Optional[bool] = None
    group_rate_max: Optional[U32] = None
    group_rate_ms: Optional[U64] = None


class CreateQueue(NamedTuple):
    queue: Queue
    settings: QueueSettings
    if_not_exists: bool


class RemoveQueue(NamedTuple):
    queue: Queue
    if_exists: bool
    if_empty: bool


class Select(NamedTuple):
    """Which messages a sweep takes: all for which everything given holds."""

    state: Optional[State] = None
    ids: Optional[Ids] = None
    older_than_ms: Optional[U64] = None
    reason: Optional[DeadReason] = None
    died_within_ms: Optional[U64] = None
    error: Optional[Annotated[str, Max(128)]] = None


class Delete(NamedTuple):
    pass


class Redrive(NamedTuple):
    to: Optional[Queue] = None


class MoveTo(NamedTuple):
    to: Queue


class Sweep(NamedTuple):
    queue: Queue
    select: Select
    action: Union[Delete, Redrive, MoveTo]
    limit: U64
    dry_run: bool
    after: Optional[Cursor]


class Cancel(NamedTuple):
    pass


class Kick(NamedTuple):
    pass


class Priority(NamedTuple):
    value: U8


class Move(NamedTuple):
    value: Queue


Change = Union[Delete, Cancel, Kick, Priority, Move]


class Edit(NamedTuple):
    queue: Queue
    ids: Ids
    change: Change


class Status(NamedTuple):
    pass


class TransferLeader(NamedTuple):
    value: Optional[U32]


class CloseSession(NamedTuple):
    pass


class Stats(NamedTuple):
    pass


class Voter(NamedTuple):
    pass


class Learner(NamedTuple):
    pass


class InsteadOf(NamedTuple):
    value: U32


class Add(NamedTuple):
    address: Address
    standing: Union[Voter, Learner, InsteadOf]


class Promote(NamedTuple):
    value: U32


class Remove(NamedTuple):
    node: U32
    force: bool


class SetAddress(NamedTuple):
    node: U32
    address: Address


class ChangeMembers(NamedTuple):
    value: Union[Add, Promote, Remove, SetAddress]


class Drain(NamedTuple):
    value: bool


class AlterQueue(NamedTuple):
    queue: Queue
    change: QueueSettings
    if_version: Optional[U64]


class Explain(NamedTuple):
    queue: Queue
    id: Optional[U64]
    consistency: Consistency


class WeighGroup(NamedTuple):
    queue: Queue
    group: Key
    weight: Optional[U32]


class RaiseLevel(NamedTuple):
    value: Optional[U32]


class Leased(NamedTuple):
    """The lease still holds."""

    queue: Queue
    id: U64
    token: U64


class Exists(NamedTuple):
    """The message is there."""

    queue: Queue
    id: U64


class AtMost(NamedTuple):
    """The queue has no more than so many messages ready, leased and delayed."""

    queue: Queue
    count: U64  # type: ignore[assignment]


class Version(NamedTuple):
    """The settings of the queue have this version."""

    queue: Queue
    version: U64


class NoDedupKey(NamedTuple):
    """The queue does not remember the key."""

    queue: Queue
    key: Key


Condition = Union[Leased, Exists, AtMost, Version, NoDedupKey]


class ExtendReceipts(NamedTuple):
    leases: Receipts
    lease_ms: U64


Step = Union[Push, Ack, Nack, ExtendReceipts, Edit]


class Txn(NamedTuple):
    conditions: Annotated[List[Condition], Max(256)]
    steps: Annotated[List[Step], Max(256)]


class SetSchedule(NamedTuple):
    name: Key
    replace: bool
    queue: Queue
    when: When
    missed: Missed
    message: PushMessage


class RemoveSchedule(NamedTuple):
    value: Key


class Schedules(NamedTuple):
    after: Optional[Key]
    consistency: Consistency


class SaveCheckpoint(NamedTuple):
    queue: Queue
    id: U64
    token: U64
    lease_ms: U64
    checkpoint: Annotated[bytes, Max(4096)]


class Groups(NamedTuple):
    queue: Queue
    after: Optional[Key]
    consistency: Consistency


class History(NamedTuple):
    queue: Queue
    id: U64
    consistency: Consistency


class BindSession(NamedTuple):
    grace_ms: Optional[U64]


class Attend(NamedTuple):
    pass


class Clients(NamedTuple):
    after: Optional[U64]


class RotateSecret(NamedTuple):
    value: bool


class TlsForget(NamedTuple):
    value: U32


class LogChoice(NamedTuple):
    level: LogLevel
    for_ms: U64


class SetLog(NamedTuple):
    value: Optional[LogChoice]


class Slow(NamedTuple):
    pass


class Whoami(NamedTuple):
    pass


class Can(NamedTuple):
    name: Optional[Principal]
    verb: Verb
    queue: Optional[Queue]


class Principals(NamedTuple):
    only: Optional[Principal]
    after: Optional[Principal]


class Require(NamedTuple):
    value: bool


class AddPrincipal(NamedTuple):
    name: Principal
    grants: Grants
    note: Note


class RemovePrincipal(NamedTuple):
    value: Principal


class GrantMore(NamedTuple):
    name: Principal
    grants: Grants


class RevokeGrants(NamedTuple):
    name: Principal
    grants: Grants


class Disable(NamedTuple):
    name: Principal
    disabled: bool


class AddKey(NamedTuple):
    name: Principal
    key: Bytes10
    verifier: Verifier
    ttl_ms: Optional[U64]
    note: Note
    others_end_ms: Optional[U64]


class RevokeKey(NamedTuple):
    value: Bytes10


class ChangeAuth(NamedTuple):
    change: Union[
        Require, AddPrincipal, RemovePrincipal, GrantMore, RevokeGrants, Disable, AddKey, RevokeKey
    ]
    force: bool
    because: Note


class Audit(NamedTuple):
    after: U64
    since_ms: U64
    by: Optional[Principal]
    queue: Optional[Queue]
    consistency: Consistency


Request = Union[
    Push, Lease, Pop, Ack, Nack, Extend, Peek, Queues, CreateQueue, RemoveQueue, Sweep, Edit, Status, TransferLeader,
    CloseSession, Stats, ChangeMembers, Drain, AlterQueue, Explain, WeighGroup, RaiseLevel, Txn, SetSchedule,
    RemoveSchedule, Schedules, SaveCheckpoint, Groups, History, BindSession, Attend, Clients,
    RotateSecret, TlsForget, SetLog, Slow, Whoami, Can, Principals, ChangeAuth, Audit,
]  # fmt: skip

#: Requests that change something in the session: each has a number and counts once.
NUMBERED = frozenset({
    Push, Lease, Pop, Ack, Nack, Extend, CreateQueue, RemoveQueue, Sweep, Edit, CloseSession, AlterQueue, WeighGroup,
    Txn, SetSchedule, RemoveSchedule, SaveCheckpoint, BindSession, ChangeAuth,
})  # fmt: skip
#: Requests that change something and have no number: never repeated once they were sent.
ONCE = frozenset({TransferLeader, ChangeMembers, Drain, RaiseLevel, RotateSecret, TlsForget, SetLog})


class Stamp(NamedTuple):
    number: U64
    done_below: U64
    index: U64  # type: ignore[assignment]


class OnBehalfOf(NamedTuple):
    """For whom a gateway asks. Reserved: a node refuses it."""

    session: Bytes16
    principal: U32
    key: Bytes10
    from_: Annotated[str, Max(64)]


class Call(NamedTuple):
    stamp: Optional[Stamp]
    timeout_ms: U32
    on_behalf_of: Optional[OnBehalfOf]
    group: U32
    request: Request

    @classmethod
    def of(cls, stamp: Optional[Stamp], timeout_ms: int, request: Request) -> "Call":
        """A call for the client itself, to the one group that there is: nothing that is reserved is used."""
        return cls(stamp, timeout_ms, None, 0, request)
