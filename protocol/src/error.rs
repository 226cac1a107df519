//! Why a request was not done: a number that is never reused, a text code, what it means for the data,
//! and when to try again.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::QueueName;
use crate::wire::bounded::Text;
use crate::wire::response::LeaderView;

/// A refusal or failure as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether anything was changed.
    pub applied: Applied,
    /// When to ask again.
    pub retry: Retry,
    /// What happened, for a person; lower case, no full stop.
    pub message: Text<512>,
    /// The queue that may have been meant.
    pub similar: Option<QueueName>,
}

/// Whether a request that was not answered with success changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// Certainly not.
    No,
    /// It may have.
    Unknown,
}

/// When a request is worth repeating.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// Never as it is.
    Never,
    /// At once or a little later, anywhere.
    Again,
    /// At this node.
    AtLeader(LeaderView),
    /// After at least this many milliseconds.
    AfterMs(u32),
}

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal, $retry:literal, $meaning:literal, $advice:literal;)*) => {
        /// What went wrong. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name,)*
            /// A code that this build does not know, by its number: the other side is newer. `applied`, `retry` and the text
            /// of its error hold all the same.
            Other(u16),
        }

        impl ErrorCode {
            /// All that this build knows.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as people and scripts see it.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* ErrorCode::Other(_) => "unknown_code" }
            }

            /// When a request that got it is worth repeating, in words: what [`Error::retry`] usually is.
            pub fn retry(self) -> &'static str {
                match self { $(ErrorCode::$name => $retry,)* ErrorCode::Other(_) => "as the error says" }
            }

            /// What went wrong, for a person.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $meaning,)*
                    ErrorCode::Other(_) => "a newer node gave a code that this build does not know",
                }
            }

            /// What a person at a shell can do about it.
            pub fn advice(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $advice,)*
                    ErrorCode::Other(_) => "upgrade this program",
                }
            }

            /// Whoever asked may not: said before anything that was recorded is looked at.
            pub fn is_denial(self) -> bool {
                matches!(self, ErrorCode::Denied | ErrorCode::KeyEnded | ErrorCode::AuthRequired)
            }

            /// The code as it crosses the wire.
            pub fn number(self) -> u16 {
                match self { $(ErrorCode::$name => $number,)* ErrorCode::Other(number) => number }
            }

            /// The code of a number.
            fn from_number(number: u16) -> Self {
                match number { $($number => ErrorCode::$name,)* other => ErrorCode::Other(other) }
            }
        }
    };
}

// Number, text, when to repeat it, what it means, what to do about it: PROTOCOL.md and `queuectl errors` show them.
codes! {
    BadFrame = 1, "bad_frame", "never",
        "the bytes are not a frame or not a message of this connection's role",
        "compare the versions of the client and of the nodes; a proxy that speaks HTTP may stand between";
    VersionMismatch = 2, "version_mismatch", "never",
        "no common protocol version",
        "upgrade the older side: `queuectl version` and `queuectl cluster status` show both";
    WrongCluster = 3, "wrong_cluster", "never",
        "the hello names another cluster",
        "check `--servers` and the context: these nodes belong to another cluster";
    NotPermitted = 4, "not_permitted", "never",
        "the peer did not prove the secret, or is not who it says",
        "give the node the cluster's secret file; a client needs none, and logins do not exist yet";
    BadRequest = 5, "bad_request", "never",
        "a value of the request is out of its range",
        "read the message of the error: it names the value and its range";
    MessageTooBig = 6, "message_too_big", "never",
        "a body, batch or frame exceeds its limit",
        "make the body smaller, or raise `limits.message_size` of the nodes; send references to large files";
    NotLeader = 7, "not_leader", "at leader",
        "this node does not lead; `retry` names who does",
        "clients follow by themselves; with --no-follow ask the node that the error names";
    NoLeader = 8, "no_leader", "again or after ms",
        "there is no leader at present, or no quorum answers it",
        "wait: an election takes about a second. If it lasts, `queuectl cluster status` says which nodes are missing";
    QueueNotFound = 9, "queue_not_found", "never",
        "no such queue; `similar` may name the one that was meant",
        "check the name with `queuectl queue ls`, or make it with `queuectl queue create`";
    QueueExists = 10, "queue_exists", "never",
        "the queue exists, with other settings",
        "compare with `queuectl queue info`; change it with `queuectl queue set`, or use --if-not-exists";
    QueueNotEmpty = 11, "queue_not_empty", "never",
        "the queue holds messages",
        "empty it with `queuectl queue purge`, or leave out --if-empty";
    MessageNotFound = 12, "message_not_found", "never, of a peek also again",
        "no such message",
        "it was acked, removed or expired: `queuectl message history` may tell";
    TooOld = 13, "too_old", "never, applied unknown",
        "the number is below the session's window: its outcome is not known any more",
        "a client gave up on the request and asked again much later: look whether it was done";
    SessionExpired = 14, "session_expired", "never, applied unknown",
        "the session was or may have been forgotten: outcomes of requests sent before are not known",
        "the client was silent for too long: it opens a new session by itself; look whether the last requests were done";
    SessionLimit = 15, "session_limit", "again",
        "the session limit of the cluster is reached, and no session can give way",
        "close clients that are not needed, or use fewer of them for longer: `queuectl stats` shows the sessions";
    SessionFull = 16, "session_full", "again",
        "the session's answer buffer is full, or the number is beyond its window: raise `done_below`",
        "send fewer requests at once in one session";
    DiskReserve = 17, "disk_reserve", "after ms",
        "the disk of the leader or of a voter would fall below its reserve: pushes wait, everything else goes on",
        "free space on that disk, or pop: what is popped is free within a minute";
    Overloaded = 18, "overloaded", "after ms",
        "too much is in flight",
        "wait and try again; more often than now and then, use fewer clients or a larger `limits.memory`";
    ShuttingDown = 19, "shutting_down", "again",
        "the node is stopping",
        "try another node; clients do by themselves";
    TimedOut = 20, "timed_out", "never, again",
        "a transfer of leadership or a change of members took too long",
        "look whether it was done with `queuectl cluster status`, then try again";
    NotConfirmed = 21, "not_confirmed", "again, applied unknown",
        "proposed, but leadership was lost before the outcome was known",
        "it may have been done: repeat a push with the same --dedup-key, or look";
    Unsupported = 22, "unsupported", "never",
        "understood, but not done by this version; not given at present",
        "upgrade the node";
    NodeExists = 23, "node_exists", "never",
        "a member of that name, address or number exists",
        "choose another name or address, or remove the old member: `queuectl cluster members`";
    NodeNotFound = 24, "node_not_found", "never",
        "no such member",
        "check the name with `queuectl cluster members`";
    AddressUnreachable = 25, "address_unreachable", "never or again",
        "the leader cannot reach the address the node advertises",
        "set `advertise.address` of the joining node to an address that the others can reach";
    ChangeInProgress = 26, "change_in_progress", "again",
        "another change of the membership is under way",
        "wait until the change of members that is under way has ended";
    ContentCorrupt = 27, "content_corrupt", "never",
        "a content does not match its checksum",
        "the data changed between client and disk: check memory and network of the client";
    QueueLimit = 28, "queue_limit", "never",
        "the queue limit of the cluster is reached",
        "remove queues that are not needed; use groups in place of one queue per customer";
    QueueChanged = 29, "queue_changed", "never",
        "the queue's version is not the one named",
        "look at the queue again and repeat the change with its new version";
    QueueFull = 30, "queue_full", "after ms",
        "the queue is at its limit of messages or bytes",
        "pop, or raise max-messages and max-bytes: `queuectl queue info` shows them";
    DedupFull = 31, "dedup_full", "after ms",
        "the limit of dedup keys of the queue is reached",
        "shorten dedup-window, or wait until keys have passed it";
    UniqueHeld = 32, "unique_held", "never",
        "a live message has the unique key",
        "wait for the message that holds the key, or push with `--on-held replace` or `keep`";
    QueuePaused = 33, "queue_paused", "after ms",
        "pushes to the queue are paused",
        "`queuectl queue resume QUEUE --pushes`";
    DeadToCycle = 34, "dead_to_cycle", "never",
        "the dead-letter queues would form a cycle, or a chain of more than 8",
        "choose a dead-to that does not lead back: at most 8 queues in a row";
    AlreadyReady = 35, "already_ready", "never",
        "the message is ready or leased: too late to cancel it",
        "too late to cancel: delete it with `queuectl message rm`, unless it is leased";
    MessageLeased = 36, "message_leased", "never",
        "the message is leased",
        "wait for its consumer: `queuectl lease ls QUEUE` says who holds it";
    GroupLimit = 37, "group_limit", "never",
        "the limit of weighted groups of the queue is reached",
        "take back weights that are not needed: `queuectl group weight QUEUE GROUP none`";
    ReceiptStale = 38, "receipt_stale", "never",
        "the lease has ended or was settled before",
        "the lease had ended: use a longer one (`--for`), or extend it in time";
    ConditionFailed = 39, "condition_failed", "never",
        "a condition of the transaction does not hold",
        "nothing was done: look at what the condition is about, then decide anew";
    ScheduleExists = 40, "schedule_exists", "never",
        "a schedule of that name exists",
        "replace it with `queuectl schedule add --replace`, or choose another name";
    ScheduleNotFound = 41, "schedule_not_found", "never",
        "no such schedule",
        "check the name with `queuectl schedule ls`";
    ScheduleLimit = 42, "schedule_limit", "never",
        "the schedule limit of the cluster is reached",
        "remove schedules that are not needed: `queuectl schedule ls`";
    StatesDiffer = 43, "states_differ", "after ms",
        "nodes came to different states and no majority agrees on one: nothing is leased",
        "find the node that is wrong with `queuectl cluster status` and the logs, and replace it";
    SessionNotBound = 44, "session_not_bound", "never",
        "the session is not bound: bind it before attending",
        "bind the session before attending";
    NumberReused = 45, "number_reused", "never",
        "another request was sent under this number before, and executed; this one was not",
        "the client has a fault: a number stands for one request, and what repeats it carries the same request";
    AuthRequired = 46, "auth_required", "never",
        "only clients that log in are served",
        "log in with a token: `--token-file FILE`, QUEUECTL_TOKEN_FILE or QUEUECTL_TOKEN; an operator makes one with `queuectl key add`";
    AuthFailed = 47, "auth_failed", "never",
        "the login was not proved: an unknown key, another secret, or a proxy that ends TLS in between",
        "check the token; a login works over TLS to the node itself, or over loopback";
    Denied = 48, "denied", "never",
        "the principal may not do this; the message names the right that is missing and the command that grants it",
        "`queuectl whoami` shows what may be done, `queuectl can` says what is missing";
    KeyEnded = 49, "key_ended", "never",
        "the key has reached its end or was revoked, or its principal is disabled or gone",
        "use another token: an operator makes one with `queuectl key add PRINCIPAL`";
    PrincipalExists = 50, "principal_exists", "never",
        "a principal of that name exists",
        "`queuectl principal show NAME`; choose another name, or change it with `queuectl principal grant`";
    PrincipalNotFound = 51, "principal_not_found", "never",
        "no such principal",
        "check the name with `queuectl principal ls`";
    KeyNotFound = 52, "key_not_found", "never",
        "no such key",
        "check the id with `queuectl key ls`";
    TlsRequired = 53, "tls_required", "never",
        "the node speaks with nobody in the clear (`tls.mode`)",
        "add `--tls-ca FILE`, `--tls-pin`, or `--tls` with the authorities of the system";
    TlsOff = 55, "tls_off", "never",
        "the node speaks no TLS (`tls.mode`)",
        "leave out `--tls`, `--tls-ca` and `--tls-pin`, or turn TLS on with `tls.mode` of the node";
    AuthLimit = 54, "auth_limit", "never",
        "the limit of principals, of grants of a principal or of its keys is reached",
        "remove what is not needed: `queuectl principal ls`, `queuectl key ls`";
    AuthChanged = 56, "auth_changed", "again",
        "rights of the principal changed while the request was on its way: it was not done",
        "clients ask again by themselves, and are told then whether they still may";
    LastAdmin = 57, "last_admin", "never",
        "no live key that may change principals and keys would be left, or the caller has none",
        "make another one first: `queuectl principal add NAME --grant auth`, `queuectl key add NAME`; or use --force";
    NodeRemoved = 60, "node_removed", "never",
        "the node is no member any more; its number is never given again",
        "a removed node cannot come back: format a new one and add it";
    QuorumAtRisk = 61, "quorum_at_risk", "never",
        "without that member no majority of those that remain would answer",
        "bring another voter back first, or replace the one that is lost: `queuectl cluster replace`";
    StoreRefused = 62, "store_refused", "never",
        "the peer's data directory is another one than it had, or an older state of it",
        "the disk holds an older state: replace the node (`queued join --replace`), keep the directory";
    LevelUnknown = 63, "level_unknown", "never",
        "the node does not speak the cluster's feature level",
        "run a newer build on that node";
    LevelNotSpoken = 64, "level_not_spoken", "never or again",
        "not all members are known to speak that feature level",
        "upgrade all nodes, then raise the level";
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from_number)
    }
}

impl Error {
    /// A refusal: nothing was changed, and repeating it as it is does not help.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, applied: Applied::No, retry: Retry::Never, message: Text::cut(message), similar: None }
    }

    /// Not now: nothing was changed, try again.
    pub fn again(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { retry: Retry::Again, ..Self::refused(code, message) }
    }

    /// It may have been done.
    pub fn unknown(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { applied: Applied::Unknown, retry: Retry::Again, ..Self::refused(code, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_an_unknown_code_keeps_its_number_and_everything_else() {
        let newer = Error { retry: Retry::AfterMs(250), ..Error::unknown(ErrorCode::Other(4_711), "new") };
        let bytes = postcard::to_allocvec(&newer).expect("it encodes");
        assert_eq!(postcard::from_bytes::<Error>(&bytes), Ok(newer.clone()));
        assert_eq!((newer.code.number(), newer.code.as_str()), (4_711, "unknown_code"));
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), *code);
        }
    }
}
