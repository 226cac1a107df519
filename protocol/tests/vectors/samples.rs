//! A sample of every message, with the values that a reader of the vectors can tell apart.

mod access;
mod explain;
mod health;
mod peers;
mod requests;

use bytes::Bytes;
use queue_protocol::content::{self, ContentSpec};
use queue_protocol::error::{Applied, Error, ErrorCode, Retry};
use queue_protocol::names::{ClusterId, LeaseToken, MessageId, NodeId, QueueName, SessionId, StoreId};
use queue_protocol::settings::{OnExpiry, OnFull, OnPoison, QueueSettings, Settings};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::clients::{ClientList, ClientView, Clients, Heard, LeaseHolder};
use queue_protocol::wire::credentials::{Credentials, Login};
use queue_protocol::wire::explain::Explain;
use queue_protocol::wire::frame::{Flags, Frame, FrameKind, Goodbye, Message, OutFrame};
use queue_protocol::wire::group::{GroupHeld, GroupView, Groups};
use queue_protocol::wire::hello::{Accepted, Hello, HelloMessage, HelloRole, JOINING, PeerId, Versions};
use queue_protocol::wire::history::{Fate, GoneHow, GoneView, History, HistoryView};
use queue_protocol::wire::level::{Level, Levels};
use queue_protocol::wire::logs::{LogChoice, LogLevel, LogView, SlowList, SlowRequest, StageTook};
use queue_protocol::wire::membership::{MemberChange, Standing};
use queue_protocol::wire::peer::{
    Announcement, Append, AppendResult, AskBootstrap, AskSecret, AskVote, BootstrapState, EntryKind,
    EntrySpec, GivenSecret, Heartbeat, Holder, Invite, Join, Joined, Lead, LogId, PeerCall, PeerPing,
    PeerRequest, PeerResponse, SecretsHeld, SnapshotBegin, SnapshotFrom, SnapshotPart, StateHash, Transfer,
    Vote, VoteResult,
};
use queue_protocol::wire::proof::{
    Certificate, Facts, Identity, PLAIN, Secret, Side, Signature, Told, Transcript,
};
use queue_protocol::wire::request::{
    Action, AlterQueue, BindSession, Call, Change, Consistency, CreateQueue, Cursor, Due, Edit, Extend,
    ExtendWhich, Lease, MessageState, Nack, NackKind, OnBehalfOf, Peek, Push, PushMessage, PushOptions,
    Queues, Receipts, RemoveQueue, Request, Select, Stamp, Sweep, Unique, UniqueHeld, WeighGroup,
};
use queue_protocol::wire::response::{
    Age, Answer, At, DeadReason, Delivery, Edited, Event, EventKind, Extended, LeaderView, MemberView,
    MessageView, Peeked, PushOutcome, QueueView, Response, Role, Settled, StageView, StatsView, StatusView,
    Swept, WriteStage,
};
use queue_protocol::wire::schedule::{Missed, ScheduleView, Schedules, SetSchedule, When};
use queue_protocol::wire::security::{RotationPhase, RotationView, SecretView, Secured, TlsView};
use queue_protocol::wire::txn::{Condition, Step, StepDone, Txn, TxnOutcome, TxnPart};

/// A frame with its name and a check that what was decoded is what was encoded.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) frame: OutFrame,
    pub(crate) check: Box<dyn Fn(&Frame)>,
}

/// Names of all variants of an enum, complete by an exhaustive match.
macro_rules! names {
    ($function:ident, $all:ident, $type:ty, $prefix:literal: $($pattern:pat => $name:literal,)*) => {
        fn $function(value: &$type) -> &'static str {
            match value { $($pattern => concat!($prefix, "/", $name),)* }
        }
        const $all: &[&str] = &[$(concat!($prefix, "/", $name),)*];
    };
}

names!(request_name, REQUESTS, Request, "request":
    Request::Push(_) => "push",
    Request::Lease(_) => "lease",
    Request::Pop(_) => "pop",
    Request::Ack(_) => "ack",
    Request::Nack(_) => "nack",
    Request::Extend(_) => "extend",
    Request::Peek(_) => "peek",
    Request::Queues(_) => "queues",
    Request::CreateQueue(_) => "create_queue",
    Request::RemoveQueue(_) => "remove_queue",
    Request::Sweep(_) => "sweep",
    Request::Edit(_) => "edit",
    Request::Status => "status",
    Request::TransferLeader(_) => "transfer_leader",
    Request::CloseSession => "close_session",
    Request::Stats => "stats",
    Request::ChangeMembers(_) => "change_members",
    Request::Drain(_) => "drain",
    Request::AlterQueue(_) => "alter_queue",
    Request::Explain(_) => "explain",
    Request::WeighGroup(_) => "weigh_group",
    Request::SaveCheckpoint(_) => "save_checkpoint",
    Request::RaiseLevel(_) => "raise_level",
    Request::Txn(_) => "txn",
    Request::SetSchedule(_) => "set_schedule",
    Request::RemoveSchedule(_) => "remove_schedule",
    Request::Schedules(_) => "schedules",
    Request::Groups(_) => "groups",
    Request::History(_) => "history",
    Request::BindSession { .. } => "bind_session",
    Request::Attend => "attend",
    Request::Clients(_) => "clients",
    Request::RotateSecret { .. } => "rotate_secret",
    Request::TlsForget(_) => "tls_forget",
    Request::SetLog(_) => "set_log",
    Request::Slow => "slow",
    Request::Whoami => "whoami",
    Request::Can(_) => "can",
    Request::Principals(_) => "principals",
    Request::ChangeAuth(_) => "change_auth",
    Request::Audit(_) => "audit",
);
names!(nack_name, NACKS, NackKind, "request/nack":
    NackKind::Release { .. } => "release",
    NackKind::Fail { .. } => "fail",
    NackKind::Reject { .. } => "reject",
);
names!(extend_name, EXTENDS, ExtendWhich, "request/extend":
    ExtendWhich::Receipts(_) => "receipts",
    ExtendWhich::Session => "session",
);
names!(state_name, STATES, MessageState, "request/sweep":
    MessageState::Ready => "ready",
    MessageState::Leased => "leased",
    MessageState::Delayed => "delayed",
    MessageState::Dead => "dead",
);
names!(answer_name, ANSWERS, Answer, "response":
    Answer::Pushed(_) => "pushed",
    Answer::Delivered(_) => "delivered",
    Answer::Settled(_) => "settled",
    Answer::Extended(_) => "extended",
    Answer::Peeked(_) => "peeked",
    Answer::Queues(_) => "queues",
    Answer::Created(_) => "created",
    Answer::Count(_) => "count",
    Answer::Status(_) => "status",
    Answer::Transferred(_) => "transferred",
    Answer::Closed => "closed",
    Answer::Stats(_) => "stats",
    Answer::Member(_) => "member",
    Answer::Drained(_) => "drained",
    Answer::Altered(_) => "altered",
    Answer::Swept(_) => "swept",
    Answer::Edited(_) => "edited",
    Answer::Explained(_) => "explained",
    Answer::Weighed(_) => "weighed",
    Answer::Level(_) => "level",
    Answer::Txn(_) => "txn",
    Answer::Schedules(_) => "schedules",
    Answer::Groups(_) => "groups",
    Answer::History(_) => "history",
    Answer::Bound => "bound",
    Answer::Clients(_) => "clients",
    Answer::Rotation(_) => "rotation",
    Answer::Forgotten(_) => "forgotten",
    Answer::Log(_) => "log",
    Answer::Slow(_) => "slow",
    Answer::Whoami(_) => "whoami",
    Answer::Can(_) => "can",
    Answer::Principals(_) => "principals",
    Answer::AuthChanged(_) => "auth_changed",
    Answer::Audited(_) => "audited",
);
names!(role_name, ROLES, Role, "response/status":
    Role::Leader => "leader",
    Role::Follower => "follower",
    Role::Candidate => "candidate",
    Role::Learner => "learner",
);
names!(retry_name, RETRIES, Retry, "response/retry":
    Retry::Never => "never",
    Retry::Again => "again",
    Retry::AtLeader(_) => "at_leader",
    Retry::AfterMs(_) => "after_ms",
);
names!(peer_request_name, PEER_REQUESTS, PeerRequest, "peer_request":
    PeerRequest::Append(_) => "append",
    PeerRequest::Vote(_) => "vote",
    PeerRequest::PreVote(_) => "pre_vote",
    PeerRequest::TransferLeader(_) => "transfer_leader",
    PeerRequest::SnapshotBegin(_) => "snapshot_begin",
    PeerRequest::SnapshotPart(_) => "snapshot_part",
    PeerRequest::SnapshotEnd => "snapshot_end",
    PeerRequest::Join(_) => "join",
    PeerRequest::Ping(_) => "ping",
    PeerRequest::Invite(_) => "invite",
    PeerRequest::Heartbeat(_) => "heartbeat",
    PeerRequest::Bootstrap(_) => "bootstrap",
    PeerRequest::Announce(_) => "announce",
    PeerRequest::AskHeld => "ask_held",
    PeerRequest::AskSecret(_) => "ask_secret",
);
names!(part_name, PARTS, SnapshotPart, "peer_request/snapshot_part":
    SnapshotPart::Bodies { .. } => "bodies",
    SnapshotPart::State => "state",
);
names!(peer_response_name, PEER_RESPONSES, PeerResponse, "peer_response":
    PeerResponse::Append(_) => "append",
    PeerResponse::Vote(_) => "vote",
    PeerResponse::Seen(_) => "seen",
    PeerResponse::SnapshotFrom(_) => "snapshot_from",
    PeerResponse::PartTaken => "part_taken",
    PeerResponse::Joined(_) => "joined",
    PeerResponse::Pong(_) => "pong",
    PeerResponse::Failed(_) => "failed",
    PeerResponse::Coming => "coming",
    PeerResponse::Bootstrap(_) => "bootstrap",
    PeerResponse::Noted => "noted",
    PeerResponse::Held(_) => "held",
    PeerResponse::Secret(_) => "secret",
);
names!(append_name, APPENDS, AppendResult, "peer_response/append":
    AppendResult::Durable(_) => "durable",
    AppendResult::Conflict(_) => "conflict",
    AppendResult::HigherVote(_) => "higher_vote",
);
names!(hello_name, HELLOS, HelloMessage, "hello":
    HelloMessage::Hello(_) => "hello",
    HelloMessage::Refused(_) => "refused",
    HelloMessage::Accepted(_) => "accepted",
    HelloMessage::Proof(_) => "proof",
    HelloMessage::Login(_) => "login",
    HelloMessage::LoggedIn(_) => "logged_in",
);
names!(kind_name, KINDS, FrameKind, "kind":
    FrameKind::Hello => "hello",
    FrameKind::Request => "request",
    FrameKind::Response => "response",
    FrameKind::PeerRequest => "peer_request",
    FrameKind::PeerResponse => "peer_response",
    FrameKind::Ping => "ping",
    FrameKind::Pong => "pong",
    FrameKind::Goodbye => "goodbye",
    FrameKind::Cancel => "cancel",
);

/// Every name that must begin the name of a sample.
pub(crate) fn variants() -> Vec<String> {
    let lists = [
        REQUESTS,
        NACKS,
        EXTENDS,
        STATES,
        ANSWERS,
        ROLES,
        RETRIES,
        PEER_REQUESTS,
        PARTS,
        PEER_RESPONSES,
        APPENDS,
        HELLOS,
    ];
    let kinds = KINDS.iter().map(|kind| kind.strip_prefix("kind/").expect("the prefix above"));
    let errors = ErrorCode::ALL.iter().map(|code| format!("response/error/{}", code.as_str()));
    lists.concat().into_iter().chain(kinds).map(str::to_owned).chain(errors).collect()
}

/// The frame that carries `message`.
pub(crate) fn frame_of<M: Message>(message: &M) -> OutFrame {
    OutFrame::new(7, message, Vec::new())
}

fn sample<M: Message + PartialEq + std::fmt::Debug + 'static>(
    name: impl Into<String>,
    id: u64,
    message: M,
    tail: Vec<Bytes>,
) -> Sample {
    let frame = OutFrame::new(id, &message, tail);
    let check = move |frame: &Frame| assert_eq!(frame.message::<M>().unwrap(), message);
    Sample { name: name.into(), frame, check: Box::new(check) }
}

fn bare(kind: FrameKind) -> Sample {
    let name = kind_name(&kind).strip_prefix("kind/").expect("the prefix above");
    let check = move |frame: &Frame| assert_eq!(frame.kind, kind);
    Sample { name: name.to_owned(), frame: OutFrame::bare(7, kind), check: Box::new(check) }
}

fn list<T, const N: usize>(values: Vec<T>) -> Bounded<T, N> {
    Bounded::new(values).unwrap()
}

fn text<const N: usize>(text: &str) -> Text<N> {
    Text::new(text).unwrap()
}

fn queue() -> QueueName {
    "jobs".parse().unwrap()
}

fn call(number: u64, request: Request) -> Call {
    Call::new(Some(Stamp { number, done_below: 300, index: 4_500 }), 5_000, request)
}

pub(crate) fn status() -> Call {
    Call::new(None, 5_000, Request::Status)
}

pub(crate) fn goodbye() -> Goodbye {
    Goodbye { reason: Some(Error::again(ErrorCode::ShuttingDown, "the node is stopping")) }
}

fn answered(result: Result<Answer, Error>) -> Response {
    Response {
        at: At { index: 4_812, position: 3 },
        repeated: false,
        lease_clock_ms: 90_000,
        result,
        age: Age::Now,
    }
}

pub(crate) fn refusal(code: ErrorCode) -> Response {
    answered(Err(Error::refused(code, "x")))
}

fn leader() -> LeaderView {
    LeaderView { node: NodeId(2), name: text("n2"), address: text("10.0.0.2:7410"), term: 8 }
}

fn headed() -> Bytes {
    content::encode(&list(vec![(text("type"), text("resize"))]), b"12.png").unwrap()
}

fn plain() -> Bytes {
    content::encode(&Bounded::default(), b"it works").unwrap()
}

fn cursor() -> Cursor {
    Cursor { state: MessageState::Delayed, priority: 4, id: MessageId(4_812), below: MessageId(5_000) }
}

fn delivery(content: &Bytes) -> Delivery {
    Delivery {
        queue: queue(),
        id: MessageId(4_812),
        token: LeaseToken(99),
        attempt: 2,
        failures: 1,
        priority: 4,
        group: None,
        pushed_at_ms: 1_800_000_000_000,
        lease_ms: 30_000,
        epoch: 3,
        checkpoint: Some(Checkpoint::new(&b"row 31"[..]).unwrap()),
        deadline_ms: 120_000,
        content: ContentSpec::of(content),
    }
}

fn message_view(content: &Bytes) -> MessageView {
    MessageView {
        id: MessageId(4_790),
        state: MessageState::Dead,
        priority: 31,
        group: Some("customer 17".parse().expect("a key")),
        attempts: 6,
        failures: 5,
        releases: 1,
        pushed_at_ms: 1_800_000_000_000,
        age_ms: 61_000,
        until_ms: Some(1_800_000_060_000),
        left_ms: Some(2_000),
        dead_ms: Some(3_000),
        token: None,
        dead: Some(DeadReason::MaxFailures),
        last_error: Some(text("exit 1")),
        history: list(
            [
                EventKind::Moved("inbox".parse().unwrap()),
                EventKind::Released,
                EventKind::Redriven,
                EventKind::Failed,
                EventKind::LeaseEnded,
                EventKind::Died(DeadReason::MaxFailures),
            ]
            .map(|kind| Event { at_ms: 1_800_000_000_000, attempts: 6, kind })
            .into(),
        ),
        expires_at_ms: Some(1_800_000_120_000),
        content: ContentSpec::of(content),
        checkpoint_size: Some(6),
        holder: None,
    }
}

fn queue_view() -> QueueView {
    QueueView {
        name: queue(),
        ready: 1,
        leased: 2,
        delayed: 3,
        dead: 4,
        bytes: 4_096,
        oldest_ready_ms: Some(60_000),
        next_due_in_ms: None,
        pushed_total: 100,
        leased_total: 95,
        acked_total: 90,
        settings: Settings { dead_to: Some("jobs.dead".parse().unwrap()), ..Settings::default() },
        waiting: 1,
        version: 3,
        full: true,
        blocked: false,
    }
}

fn member_view() -> MemberView {
    MemberView {
        node: NodeId(2),
        name: text("n2"),
        address: text("10.0.0.2:7410"),
        voter: true,
        matched_index: Some(48_211),
    }
}

fn status_view(role: Role) -> StatusView {
    StatusView {
        cluster: ClusterId(0x7c1e),
        node: NodeId(1),
        name: text("n1"),
        role,
        term: 8,
        leader: Some(leader()),
        last_index: 48_212,
        commit_index: 48_211,
        applied_index: 48_210,
        snapshot_index: 40_000,
        purged_index: 39_000,
        disk_free_bytes: 1 << 36,
        uptime_ms: 123_456,
        version: text("0.1.0"),
        drained: false,
        level: Level::FIRST,
        levels: Levels::OURS,
        members: list(vec![member_view()]),
        changing: false,
        clock_off_ms: -7,
        connections_max: 640,
        connections_asked: 10_000,
        tls: TlsView {
            mode: Secured::Optional,
            until_ms: Some(1_798_761_600_000),
            alarm: Some(Text::cut(
                "n1.crt and n1.key cannot be used: the key is not that of the certificate",
            )),
        },
        health: health::view(),
        secret: SecretView {
            generation: 2,
            fingerprint: [0xf1; 8],
            rotation: (role == Role::Leader).then(rotation_view),
        },
        log: log_view(),
    }
}

fn log_view() -> LogView {
    LogView { level: LogLevel::Debug, settings: LogLevel::Info, left_ms: Some(599_000) }
}

fn slow_list() -> SlowList {
    let took = |stage, us| StageTook { stage, us };
    let slow = SlowRequest {
        at_ms: 1_800_000_000_000,
        request: text("Push"),
        queue: Some(queue()),
        client: text("worker/1.2"),
        took_us: 312_000,
        code: Some(ErrorCode::QueueFull),
        stages: list(vec![took(WriteStage::Wait, 1_200), took(WriteStage::Sync, 300_000)]),
    };
    SlowList { threshold_ms: 250, total: 7, requests: list(vec![slow]) }
}

fn rotation_view() -> RotationView {
    RotationView {
        generation: 3,
        fingerprint: [0xf2; 8],
        phase: RotationPhase::Switching,
        waits_for: list(vec![NodeId(2)]),
        left_out: list(vec![NodeId(3)]),
    }
}

fn heard() -> Heard {
    Heard { client: text("queuectl/0.1.0"), address: text("10.0.0.9:50123"), connected: true }
}

fn client_list() -> ClientList {
    let client = ClientView {
        connection: 17,
        session: SessionId(0x42),
        client: text("queuectl/0.1.0"),
        address: text("10.0.0.9:50123"),
        connected_ms: 61_000,
        in_flight: 2,
        parked: 1,
        parked_on: list(vec![queue()]),
        leased: 3,
    };
    ClientList { clients: list(vec![client]), next: Some(17) }
}

fn responses() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |suffix: &str, answer: Answer, tail: Vec<Bytes>| {
        let name = format!("{}{suffix}", answer_name(&answer));
        samples.push(sample(name, 1, answered(Ok(answer)), tail));
    };
    let runs = vec![
        PushOutcome::Stored { first_id: MessageId(4_812), count: 2 },
        PushOutcome::Refused { code: ErrorCode::MessageTooBig, count: 1 },
        PushOutcome::Duplicate { id: MessageId(4_790) },
    ];
    add("", Answer::Pushed(list(runs)), Vec::new());
    add("", Answer::Delivered(list(vec![delivery(&headed()), delivery(&plain())])), vec![headed(), plain()]);
    add("/empty", Answer::Delivered(Bounded::default()), Vec::new());
    add("", Answer::Settled(list(vec![Settled::Ok, Settled::Stale, Settled::Gone])), Vec::new());
    let results = list(vec![Settled::Ok]);
    add("", Answer::Extended(Extended { results, count: 1, deadline_ms: 150_000 }), Vec::new());
    let rejected = MessageView { dead: Some(DeadReason::Rejected), ..message_view(&plain()) };
    let next =
        Some(Cursor { state: MessageState::Ready, priority: 4, id: MessageId(9), below: MessageId(12) });
    let messages = list(vec![message_view(&headed()), rejected]);
    add("", Answer::Peeked(Peeked { messages, next }), vec![headed(), plain()]);
    for (suffix, heard) in [("/held", Some(heard())), ("/holder_not_heard", None)] {
        let holder = Some(LeaseHolder {
            session: Some(SessionId(0x42)),
            since_ms: 1_800_000_000_000,
            held_ms: 4_000,
            heard,
        });
        let view = MessageView { state: MessageState::Leased, holder, ..message_view(&plain()) };
        add(suffix, Answer::Peeked(Peeked { messages: list(vec![view]), next: None }), vec![plain()]);
    }
    add("", Answer::Queues(list(vec![queue_view()])), Vec::new());
    add("", Answer::Created(true), Vec::new());
    add("", Answer::Count(17), Vec::new());
    for role in [Role::Leader, Role::Follower, Role::Candidate, Role::Learner] {
        let suffix = role_name(&role).strip_prefix("response/status").expect("the prefix above");
        add(suffix, Answer::Status(Box::new(status_view(role))), Vec::new());
    }
    add("", Answer::Transferred(leader()), Vec::new());
    add("", Answer::Closed, Vec::new());
    add("", Answer::Bound, Vec::new());
    add("", Answer::Clients(client_list()), Vec::new());
    add("", Answer::Rotation(rotation_view()), Vec::new());
    add("", Answer::Forgotten(true), Vec::new());
    add("", Answer::Log(log_view()), Vec::new());
    add("", Answer::Slow(slow_list()), Vec::new());
    for (suffix, answer) in access::answers() {
        add(suffix, answer, Vec::new());
    }
    let stage = StageView {
        stage: WriteStage::Sync,
        count: 7,
        mean_ns: 130_000,
        p50_ns: 129_023,
        p90_ns: 151_551,
        p99_ns: 210_943,
        p999_ns: 210_943,
        max_ns: 210_943,
    };
    let stages = Bounded::new(vec![stage]).expect("one is within the limit");
    let stats = StatsView { queues: 2, ready: 1, wall_ms: 1_800_000_000_000, stages, ..StatsView::default() };
    add("", Answer::Stats(Box::new(stats)), Vec::new());
    add("", Answer::Member(member_view()), Vec::new());
    add("", Answer::Drained(true), Vec::new());
    add("", Answer::Altered(4), Vec::new());
    add("", Answer::Swept(Swept { count: 17, next: Some(cursor()), skipped: 2 }), Vec::new());
    let edited = vec![Edited::Done, Edited::Gone, Edited::Leased, Edited::AlreadyReady, Edited::KeyHeld];
    add("", Answer::Edited(list(edited)), Vec::new());
    add("", Answer::Explained(explain::explained()), Vec::new());
    add("", Answer::Weighed(Some(2)), Vec::new());
    add("", Answer::Level(Level(2)), Vec::new());
    let stored = list(vec![PushOutcome::Stored { first_id: MessageId(4_814), count: 1 }]);
    let done = vec![StepDone::Pushed(stored), StepDone::Extended(91_000), StepDone::Done];
    add("", Answer::Txn(TxnOutcome::Done(list(done))), Vec::new());
    let daily = When::Cron { pattern: text("0 9 * * MON-FRI"), zone: text("Europe/Berlin") };
    let view = ScheduleView {
        name: "report".parse().unwrap(),
        queue: queue(),
        when: daily,
        missed: Missed::Once,
        next_at_ms: Some(1_800_000_000_000),
        next_in_ms: None,
        last_at_ms: None,
        stored: 7,
        refused: 1,
    };
    add("", Answer::Schedules(list(vec![view])), Vec::new());
    let group = GroupView {
        group: "customer-7".parse().expect("a key"),
        weight: 3,
        own_weight: true,
        ready: 5,
        leased: 1,
        waiting: 0,
        dead: 2,
        held: Some(GroupHeld::Leased),
    };
    add("", Answer::Groups(list(vec![group])), Vec::new());
    let (at_ms, pushed_at_ms) = (1_800_000_000_500, 1_800_000_000_000);
    let how = GoneHow::Acked;
    let gone = GoneView { how, at_ms, pushed_at_ms, attempts: 2, failures: 1, releases: 0 };
    for (suffix, fate) in [("/gone", Fate::Gone(gone)), ("/live", Fate::Live(MessageState::Dead))] {
        let event = Event { at_ms, attempts: 1, kind: EventKind::Failed };
        let view = HistoryView { fate, events: list(vec![event]), complete_since_ms: pushed_at_ms };
        add(suffix, Answer::History(view), Vec::new());
    }
    for (suffix, at) in [("/condition", TxnPart::Condition(1)), ("/step", TxnPart::Step(2))] {
        let failed = TxnOutcome::Failed { at, code: ErrorCode::ReceiptStale };
        add(suffix, Answer::Txn(failed), Vec::new());
    }

    let repeated = Response { repeated: true, ..answered(Ok(Answer::Count(17))) };
    samples.push(sample("response/repeated", 1, repeated, Vec::new()));
    for code in ErrorCode::ALL {
        samples.push(sample(format!("response/error/{}", code.as_str()), 1, refusal(*code), Vec::new()));
    }
    samples.push(sample("response/error_of_a_later_build", 1, refusal(ErrorCode::Other(4_711)), Vec::new()));
    for retry in [Retry::Never, Retry::Again, Retry::AtLeader(leader()), Retry::AfterMs(250)] {
        let name = retry_name(&retry);
        let refused = Error::refused(ErrorCode::NotLeader, "n1 is a follower");
        let error = Error { retry, similar: Some(queue()), ..refused };
        samples.push(sample(name, 1, answered(Err(error)), Vec::new()));
    }
    let unknown = Error::unknown(ErrorCode::NotConfirmed, "leadership was lost");
    assert_eq!(unknown.applied, Applied::Unknown);
    samples.push(sample("response/applied_unknown", 1, answered(Err(unknown)), Vec::new()));
    samples
}

fn hellos() -> Vec<Sample> {
    let client = Hello::new(None, HelloRole::Client { session: SessionId(0x42) }, 0, [1; 32]);
    let peer = PeerId { node: NodeId(3), store: StoreId(0x33) };
    let facts = Facts {
        last: Some(peers::log_id(12)),
        vote: Some(peers::vote()),
        epoch: 5,
        boot: 0xb007,
        levels: Levels::OURS,
    };
    let cluster = Some(ClusterId(0x7c1e));
    let member = Hello::new(cluster, HelloRole::Peer(peer), 1_800_000_000_000, [1; 32]);
    let none = PeerId { node: JOINING, ..peer };
    let joining = Hello::new(None, HelloRole::Peer(none), 1_800_000_000_000, [1; 32]);
    let accepted = Accepted {
        version: 1,
        cluster: ClusterId(0x7c1e),
        name: text("n2"),
        node: PeerId { node: NodeId(2), store: StoreId(0x22) },
        leader: Some(leader()),
        features: 0,
        wall_ms: 1_800_000_000_001,
        nonce: [2; 32],
        index: Some(4_500),
    };
    // Of the frames above and below, on a connection without TLS. The signatures are for their form only.
    let opening = Frame::of(0, &HelloMessage::Hello(Box::new(member.clone())));
    let answer = Accepted { name: Text::default(), leader: None, index: None, ..accepted.clone() };
    let answered = Frame::of(0, &HelloMessage::Accepted(Box::new(answer.clone())));
    let transcript = Transcript::new(&opening, &answered, &PLAIN, Side::Dialer);
    let signature = Signature::new([9; 64]);
    let certificate = Certificate { key: [7; 32], index: 40, generation: 1, signature };
    let told = Told { facts, identity: Some(Identity { signature, certificate }) };
    let step = |side, told| HelloMessage::Proof(transcript.of(side).prove(&Secret([5; 32]), told).into());
    let proof = |side| step(side, told.clone());
    let joins = step(Side::Dialer, Told::nothing());
    let refused = Error::refused(ErrorCode::VersionMismatch, "this side speaks protocol 1-1, the other 2-3");
    let named = client.clone().with(&Credentials::of("queuectl/0.1.0"));
    let key = access::token().id;
    let login = client.clone().with(&Credentials::of("billing/2.3").with(key));
    let as_ann = Login { key, r#as: Some(text("ann")) };
    let as_ann = Credentials { login: Some(as_ann), ..Credentials::of("billing/2.3") };
    let behalf = HelloMessage::Hello(Box::new(client.clone().with(&as_ann)));
    let login = HelloMessage::Hello(Box::new(login));
    let taken = HelloMessage::Accepted(Box::new(accepted.clone()));
    let [shows, shown] = access::steps(&login, &taken);
    let later = Hello { versions: Versions { min: 2, max: 3 }, ..client.clone() };
    let steps = [
        ("/client", HelloMessage::Hello(Box::new(client))),
        ("/client_named", HelloMessage::Hello(Box::new(named))),
        ("/client_login", login),
        ("/client_on_behalf", behalf),
        ("/peer", HelloMessage::Hello(Box::new(member))),
        ("/joining", HelloMessage::Hello(Box::new(joining))),
        ("/later_version", HelloMessage::Hello(Box::new(later))),
        ("", HelloMessage::Refused(refused)),
        ("", HelloMessage::Accepted(Box::new(accepted))),
        ("/to_peer", HelloMessage::Accepted(Box::new(answer))),
        ("/dialer_secret_05", proof(Side::Dialer)),
        ("/acceptor_secret_05", proof(Side::Acceptor)),
        ("/joining_secret_05", joins),
        ("/secret_07", shows),
        ("/secret_07", shown),
    ];
    let step =
        |(suffix, message)| sample(format!("{}{suffix}", hello_name(&message)), 0, message, Vec::new());
    steps.into_iter().map(step).collect()
}

fn rest() -> Vec<Sample> {
    let mut samples = vec![
        bare(FrameKind::Ping),
        bare(FrameKind::Pong),
        bare(FrameKind::Cancel),
        sample("goodbye", 0, Goodbye { reason: None }, Vec::new()),
        sample("goodbye/shutting_down", 0, goodbye(), Vec::new()),
    ];
    let mut pieces = sample(
        "response/more/first",
        1,
        answered(Ok(Answer::Delivered(list(vec![delivery(&plain())])))),
        vec![plain().slice(..4)],
    );
    pieces.frame.flags = Flags::MORE;
    samples.push(pieces);
    samples
}

/// One of each, in the order of the file.
pub(crate) fn all() -> Vec<Sample> {
    [hellos(), requests::requests(), responses(), peers::peers(), rest()].into_iter().flatten().collect()
}
