"""Answers, as they are on the wire; the order of ``Answer`` is their number."""

from enum import IntEnum
from typing import Annotated, List, NamedTuple, Optional, Union

from ._common import (
    CodeNumber, ContentSpec, Cursor, DeadReason, Error, Grant, Grants, LeaderView, Levels, LogLevel, Missed, Note, OnExpiry, OnFull,
    OnPoison, Principal, State, When,
)  # fmt: skip
from ._postcard import I64, U8, U16, U32, U64, U128, Address, Bytes8, Bytes10, Bytes16, Bytes32, Key, Max, Name, Queue


class Stored(NamedTuple):
    """So many messages have consecutive ids, and are on the disks of a majority."""

    first_id: U64
    count: U32  # type: ignore[assignment]


class Refused(NamedTuple):
    """So many messages were not stored."""

    code: CodeNumber
    count: U32  # type: ignore[assignment]


class Duplicate(NamedTuple):
    """A message is known by its dedup or unique key: this is the one."""

    id: U64


PushOutcome = Union[Stored, Refused, Duplicate]
PushOutcomes = Annotated[List[PushOutcome], Max(1000)]


class Pushed(NamedTuple):
    value: PushOutcomes


Checkpoint = Annotated[bytes, Max(4096)]


class Delivery(NamedTuple):
    queue: Queue
    id: U64
    token: U64
    attempt: U32
    failures: U32
    priority: U8
    group: Optional[Key]
    pushed_at_ms: U64
    lease_ms: U64
    deadline_ms: U64
    content: ContentSpec
    epoch: U64
    checkpoint: Optional[Checkpoint]


class Delivered(NamedTuple):
    value: Annotated[List[Delivery], Max(256)]


class Settled(IntEnum):
    """What came of a receipt."""

    OK = 0
    #: The lease has ended or was settled before; the message is still there.
    STALE = 1
    #: There is no such message any more.
    GONE = 2


SettledList = Annotated[List[Settled], Max(1000)]


class SettledAnswer(NamedTuple):
    value: SettledList


class Extended(NamedTuple):
    results: SettledList
    count: U64  # type: ignore[assignment]
    deadline_ms: U64


class Failed(NamedTuple):
    pass


class LeaseEnded(NamedTuple):
    pass


class Released(NamedTuple):
    pass


class Died(NamedTuple):
    value: DeadReason


class Redriven(NamedTuple):
    pass


class Moved(NamedTuple):
    value: Queue


class Event(NamedTuple):
    """Something that happened to a message."""

    at_ms: U64
    attempts: U32
    kind: Union[Failed, LeaseEnded, Released, Died, Redriven, Moved]


Events = Annotated[List[Event], Max(8)]


class Heard(NamedTuple):
    """What a node knows of the client of a session."""

    client: Annotated[str, Max(64)]
    address: Annotated[str, Max(64)]
    connected: bool


class LeaseHolder(NamedTuple):
    """Who holds a leased message; ``heard`` is none if the node that answers has not heard of that client yet."""

    session: Optional[U128]
    since_ms: U64
    held_ms: U64
    heard: Optional[Heard]


class MessageView(NamedTuple):
    """A message as a peek shows it."""

    id: U64
    state: State
    priority: U8
    group: Optional[Key]
    attempts: U32
    failures: U32
    releases: U32
    pushed_at_ms: U64
    age_ms: U64
    until_ms: Optional[U64]
    left_ms: Optional[U64]
    dead_ms: Optional[U64]
    token: Optional[U64]
    dead: Optional[DeadReason]
    last_error: Optional[Annotated[str, Max(1024)]]
    history: Events
    expires_at_ms: Optional[U64]
    content: ContentSpec
    checkpoint_size: Optional[U32]
    holder: Optional[LeaseHolder]


class Peeked(NamedTuple):
    messages: Annotated[List[MessageView], Max(256)]
    next: Optional[Cursor]


class Settings(NamedTuple):
    """Settings that a queue has; 0 is none or no limit."""

    max_failures: U32
    lease_ms: U64
    backoff_ms: U64
    backoff_factor_percent: U32
    backoff_ms_max: U64
    backoff_jitter_percent: U32
    ttl_ms: U64
    on_expiry: OnExpiry
    dedup_window_ms: U64
    max_messages: U64
    max_bytes: U64
    on_full: OnFull
    dead_to: Optional[Queue]
    dead_max: U64
    dead_ttl_ms: U64
    pushes_paused: bool
    leases_paused: bool
    ordered: bool
    on_poison: OnPoison
    fair: bool
    group_weight: U32
    group_leased_max: U32
    rate_max: U32
    rate_ms: U64
    single_active: bool
    group_rate_max: U32
    group_rate_ms: U64


class QueueView(NamedTuple):
    """A queue and its counts."""

    name: Queue
    ready: U64
    leased: U64
    delayed: U64
    dead: U64
    bytes: U64
    oldest_ready_ms: Optional[U64]
    next_due_in_ms: Optional[U64]
    pushed_total: U64
    leased_total: U64
    acked_total: U64
    settings: Settings
    waiting: U32
    version: U64
    full: bool
    blocked: bool


class QueuesAnswer(NamedTuple):
    value: Annotated[List[QueueView], Max(1000)]


class Created(NamedTuple):
    value: bool


class Count(NamedTuple):
    value: U64


class Role(IntEnum):
    LEADER = 0
    FOLLOWER = 1
    CANDIDATE = 2
    LEARNER = 3


class MemberView(NamedTuple):
    node: U32
    name: Name
    address: Address
    voter: bool
    matched_index: Optional[U64]


class Refusal(NamedTuple):
    code: CodeNumber
    message: Annotated[str, Max(512)]


Refusals = Annotated[List[Refusal], Max(8)]


class LeadView(NamedTuple):
    ready: bool
    quorum_ms: Optional[U64]
    lease_ms: U64
    commit_behind_ms: U64


class Contact(NamedTuple):
    node: U32
    heard_ms: Optional[U64]
    behind_ms: Optional[U64]
    refused: Optional[Refusal]
    refuses: Optional[Refusal]


class HealthView(NamedTuple):
    lead: Optional[LeadView]
    contacts: Annotated[List[Contact], Max(64)]
    refusals: Refusals
    paused_count: U64


class TlsMode(IntEnum):
    OFF = 0
    OPTIONAL = 1
    REQUIRE = 2


class TlsView(NamedTuple):
    """How the connections of a node are secured."""

    mode: TlsMode
    until_ms: Optional[U64]
    alarm: Optional[Annotated[str, Max(512)]]


class RotationPhase(IntEnum):
    """How far a rotation of the secret has come."""

    SPREADING = 0
    SWITCHING = 1
    DROPPING = 2


class RotationView(NamedTuple):
    """A rotation of the secret."""

    generation: U32
    fingerprint: Bytes8
    phase: RotationPhase
    waits_for: Annotated[List[U32], Max(64)]
    left_out: Annotated[List[U32], Max(64)]


class SecretView(NamedTuple):
    """Which secret of the cluster a node has."""

    generation: U32
    fingerprint: Bytes8
    rotation: Optional[RotationView]


class LogView(NamedTuple):
    """Which log lines a node writes."""

    level: LogLevel
    settings: LogLevel
    left_ms: Optional[U64]


class StatusView(NamedTuple):
    """A node about itself."""

    cluster: U128
    node: U32
    name: Name
    role: Role
    term: U64
    leader: Optional[LeaderView]
    last_index: U64
    commit_index: U64
    applied_index: U64
    snapshot_index: U64
    purged_index: U64
    disk_free_bytes: U64
    uptime_ms: U64
    version: Name
    drained: bool
    level: U32
    levels: Levels
    members: Annotated[List[MemberView], Max(64)]
    changing: bool
    clock_off_ms: I64
    connections_max: U64
    connections_asked: U64
    health: HealthView
    tls: TlsView
    secret: SecretView
    log: LogView


class StatusAnswer(NamedTuple):
    value: StatusView


class Transferred(NamedTuple):
    value: LeaderView


class Closed(NamedTuple):
    pass


class Stage(IntEnum):
    WAIT = 0
    ENCODE = 1
    WRITE = 2
    SYNC = 3
    REPLICATE = 4
    APPLY = 5
    ANSWER = 6


class StageView(NamedTuple):
    stage: Stage
    count: U64  # type: ignore[assignment]
    mean_ns: U64
    p50_ns: U64
    p90_ns: U64
    p99_ns: U64
    p999_ns: U64
    max_ns: U64


class StatsView(NamedTuple):
    """Totals of the cluster."""

    queues: U64
    ready: U64
    leased: U64
    delayed: U64
    dead: U64
    bytes: U64
    sessions: U64
    pushed_total: U64
    leased_total: U64
    acked_total: U64
    connections: U64
    waiting: U64
    wall_ms: U64
    stages: Annotated[List[StageView], Max(16)]


class StatsAnswer(NamedTuple):
    value: StatsView


class Member(NamedTuple):
    value: MemberView


class Drained(NamedTuple):
    value: bool


class Altered(NamedTuple):
    value: U64


class Swept(NamedTuple):
    count: U64  # type: ignore[assignment]
    next: Optional[Cursor]
    #: Messages that stayed where they are: another message holds their unique key.
    skipped: U64


class Edited(IntEnum):
    """What came of a change of a message."""

    DONE = 0
    GONE = 1
    LEASED = 2
    ALREADY_READY = 3
    KEY_HELD = 4


class EditedAnswer(NamedTuple):
    value: Annotated[List[Edited], Max(1000)]


class Paused(NamedTuple):
    pass


class Empty(NamedTuple):
    pass


class Leased(NamedTuple):
    id: U64
    left_ms: U64


class Delayed(NamedTuple):
    id: U64
    due_at_ms: U64
    left_ms: Optional[U64]


class Dead(NamedTuple):
    id: U64
    reason: DeadReason


class GroupLeased(NamedTuple):
    group: Key
    id: Optional[U64]
    left_ms: Optional[U64]


class GroupWaits(NamedTuple):
    group: Key
    id: Optional[U64]
    due_at_ms: Optional[U64]
    left_ms: Optional[U64]


class GroupBlocked(NamedTuple):
    group: Key
    id: Optional[U64]


class GroupParked(NamedTuple):
    group: Key


class GroupFull(NamedTuple):
    group: Key


class Rate(NamedTuple):
    wait_ms: U64


class GroupRate(NamedTuple):
    group: Key
    wait_ms: Optional[U64]


class Active(NamedTuple):
    session: U128
    epoch: U64
    left_ms: U64


Hold = Union[
    Paused, Empty, Leased, Delayed, Dead, GroupLeased, GroupWaits, GroupBlocked, GroupParked, GroupFull, Rate,
    GroupRate, Active,
]  # fmt: skip


class Explained(NamedTuple):
    """What keeps a queue or a message from being delivered: nothing, if ``holds`` is empty."""

    holds: Annotated[List[Hold], Max(16)]
    ahead: Optional[U64]
    waiting: U32
    clock_off_ms: I64
    refusals: Refusals


class Weighed(NamedTuple):
    value: Optional[U32]


class Level(NamedTuple):
    value: U32


class StepExtended(NamedTuple):
    value: U64


class StepDone(NamedTuple):
    pass


class TxnDone(NamedTuple):
    value: Annotated[List[Union[Pushed, StepExtended, StepDone]], Max(256)]


class AtCondition(NamedTuple):
    value: U16


class AtStep(NamedTuple):
    value: U16


class TxnFailed(NamedTuple):
    at: Union[AtCondition, AtStep]
    code: CodeNumber


class TxnAnswer(NamedTuple):
    value: Union[TxnDone, TxnFailed]


class ScheduleView(NamedTuple):
    """A schedule."""

    name: Key
    queue: Queue
    when: When
    missed: Missed
    next_at_ms: Optional[U64]
    next_in_ms: Optional[U64]
    last_at_ms: Optional[U64]
    stored: U64
    refused: U64


class SchedulesAnswer(NamedTuple):
    value: Annotated[List[ScheduleView], Max(1000)]


class GroupHeld(IntEnum):
    LEASED = 0
    WAITS = 1
    BLOCKED = 2
    PARKED = 3
    FULL = 4
    RATE = 5


class GroupView(NamedTuple):
    """A group of a queue."""

    group: Key
    weight: U32
    own_weight: bool
    ready: U64
    leased: U64
    waiting: U64
    dead: U64
    held: Optional[GroupHeld]


class GroupsAnswer(NamedTuple):
    value: Annotated[List[GroupView], Max(1000)]


class Live(NamedTuple):
    value: State


class How(IntEnum):
    ACKED = 0
    POPPED = 1
    EXPIRED = 2
    DELETED = 3
    REPLACED = 4
    FORGOTTEN = 5


class Gone(NamedTuple):
    how: How
    at_ms: U64
    pushed_at_ms: U64
    attempts: U32
    failures: U32
    releases: U32


class HistoryView(NamedTuple):
    """What happened to a message."""

    fate: Union[Live, Gone]
    events: Events
    complete_since_ms: U64


class Bound(NamedTuple):
    pass


class ClientView(NamedTuple):
    """A connection of a client."""

    connection: U64
    session: U128
    client: Annotated[str, Max(64)]
    address: Annotated[str, Max(64)]
    connected_ms: U64
    in_flight: U32
    parked: U32
    parked_on: Annotated[List[Queue], Max(4)]
    leased: U32


class ClientList(NamedTuple):
    clients: Annotated[List[ClientView], Max(256)]
    next: Optional[U64]


class ClientsAnswer(NamedTuple):
    value: ClientList


class Rotation(NamedTuple):
    value: RotationView


class Forgotten(NamedTuple):
    value: bool


class Log(NamedTuple):
    value: LogView


class StageTook(NamedTuple):
    stage: Stage
    us: U64


class SlowRequest(NamedTuple):
    """A request that took long."""

    at_ms: U64
    request: Annotated[str, Max(32)]
    queue: Optional[Queue]
    client: Annotated[str, Max(64)]
    took_us: U64
    code: Optional[CodeNumber]
    stages: Annotated[List[StageTook], Max(16)]


class SlowList(NamedTuple):
    threshold_ms: U32
    total: U64
    requests: Annotated[List[SlowRequest], Max(128)]


class SlowAnswer(NamedTuple):
    value: SlowList


class WhoamiView(NamedTuple):
    """Who is asking."""

    required: bool
    principal: Optional[Principal]
    key: Optional[Bytes10]
    ends_ms: Optional[U64]
    grants: Grants


class WhoamiAnswer(NamedTuple):
    value: WhoamiView


class CanView(NamedTuple):
    """Whether somebody may do something."""

    name: Principal
    by: Optional[Grant]
    allowed: bool


class CanAnswer(NamedTuple):
    value: CanView


class KeyView(NamedTuple):
    """A key of a principal."""

    id: Bytes10
    made_ms: U64
    ends_ms: Optional[U64]
    used_ms: Optional[U64]
    note: Note


class PrincipalView(NamedTuple):
    """Who may do what."""

    name: Principal
    number: U32
    note: Note
    disabled: bool
    grants: Grants
    keys: Annotated[List[KeyView], Max(8)]


class PrincipalList(NamedTuple):
    required: bool
    version: U64
    count: U32  # type: ignore[assignment]
    admins: U32
    principals: Annotated[List[PrincipalView], Max(16)]


class PrincipalsAnswer(NamedTuple):
    value: PrincipalList


class AuthChanged(NamedTuple):
    value: U64


class Nodes(NamedTuple):
    pass


class Anybody(NamedTuple):
    pass


class RootSecret(NamedTuple):
    pass


class ActorPrincipal(NamedTuple):
    name: Principal
    key: Bytes10


class AuditRecord(NamedTuple):
    """One administrative change, chained to the one before."""

    number: U64
    index: U64  # type: ignore[assignment]
    at_ms: U64
    actor: Union[Nodes, Anybody, RootSecret, ActorPrincipal]
    source: Optional[Bytes16]
    act: Annotated[str, Max(32)]
    queue: Optional[Queue]
    subject: Optional[Key]
    detail: Annotated[str, Max(512)]
    because: Note
    hash: Bytes32


class AuditList(NamedTuple):
    records: Annotated[List[AuditRecord], Max(200)]
    upto: U64
    last: U64
    first: U64
    before: Bytes32
    cut: U64


class Audited(NamedTuple):
    value: AuditList


Answer = Union[
    Pushed, Delivered, SettledAnswer, Extended, Peeked, QueuesAnswer, Created, Count, StatusAnswer, Transferred, Closed,
    StatsAnswer, Member, Drained, Altered, Swept, EditedAnswer, Explained, Weighed, Level, TxnAnswer, SchedulesAnswer,
    GroupsAnswer, HistoryView, Bound, ClientsAnswer, Rotation, Forgotten, Log, SlowAnswer, WhoamiAnswer, CanAnswer,
    PrincipalsAnswer, AuthChanged, Audited,
]  # fmt: skip


class At(NamedTuple):
    """The place of a request in the one order of everything."""

    index: U64  # type: ignore[assignment]
    position: U32


class Ok(NamedTuple):
    value: Answer


class Err(NamedTuple):
    value: Error


class AgeNow(NamedTuple):
    pass


class AgeAtMostMs(NamedTuple):
    value: U64


class AgeUnknown(NamedTuple):
    pass


class Response(NamedTuple):
    at: At
    repeated: bool
    lease_clock_ms: U64
    result: Union[Ok, Err]
    age: Union[AgeNow, AgeAtMostMs, AgeUnknown]
