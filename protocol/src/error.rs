//! Why a request was not done: a number that is never reused, a text code, what it means for the data,
//! and when to try again.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::Text;
use crate::names::QueueName;
use crate::response::LeaderView;

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
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What went wrong. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
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

codes! {
    /// The bytes are not a frame or not a message of this connection's role.
    BadFrame = 1, "bad_frame";
    /// No common protocol version.
    VersionMismatch = 2, "version_mismatch";
    /// The hello names another cluster.
    WrongCluster = 3, "wrong_cluster";
    /// The peer did not prove the cluster's secret, or is not who it says.
    NotPermitted = 4, "not_permitted";
    /// A value of the request is out of its range.
    BadRequest = 5, "bad_request";
    /// A body, batch or frame exceeds its limit.
    MessageTooBig = 6, "message_too_big";
    /// This node does not lead; `retry` names who does.
    NotLeader = 7, "not_leader";
    /// Nobody leads at present.
    NoLeader = 8, "no_leader";
    /// No such queue.
    QueueNotFound = 9, "queue_not_found";
    /// The queue exists, with other settings.
    QueueExists = 10, "queue_exists";
    /// The queue holds messages.
    QueueNotEmpty = 11, "queue_not_empty";
    /// No such message.
    MessageNotFound = 12, "message_not_found";
    /// The number is below the session's window: its outcome is not known any more.
    TooOld = 13, "too_old";
    /// The session was forgotten: outcomes of its open requests are not known.
    SessionExpired = 14, "session_expired";
    /// The session limit of the cluster is reached.
    SessionLimit = 15, "session_limit";
    /// The session's answer buffer is full, or the number is beyond its window.
    SessionFull = 16, "session_full";
    /// A disk is nearly full: pushes wait, everything else goes on.
    DiskReserve = 17, "disk_reserve";
    /// Too much in flight.
    Overloaded = 18, "overloaded";
    /// The node is stopping.
    ShuttingDown = 19, "shutting_down";
    /// Not answered in the time the client gave.
    TimedOut = 20, "timed_out";
    /// Proposed, but leadership was lost before the outcome was known.
    NotConfirmed = 21, "not_confirmed";
    /// Not understood by this version.
    Unsupported = 22, "unsupported";
    /// A member of that name, address or number exists.
    NodeExists = 23, "node_exists";
    /// No such member.
    NodeNotFound = 24, "node_not_found";
    /// The leader cannot reach the address the joining node advertises.
    AddressUnreachable = 25, "address_unreachable";
    /// Another change of the membership is under way.
    ChangeInProgress = 26, "change_in_progress";
    /// A content does not match its checksum.
    ContentCorrupt = 27, "content_corrupt";
    /// The queue limit of the cluster is reached.
    QueueLimit = 28, "queue_limit";
    /// The queue's version is not the one named.
    QueueChanged = 29, "queue_changed";
    /// The queue is at its limit of messages or bytes.
    QueueFull = 30, "queue_full";
    /// The limit of dedup keys of the queue is reached.
    DedupFull = 31, "dedup_full";
    /// A live message has the unique key.
    UniqueHeld = 32, "unique_held";
    /// Pushes to the queue are paused.
    QueuePaused = 33, "queue_paused";
    /// The dead-letter queues would form a cycle, or too long a chain.
    DeadToCycle = 34, "dead_to_cycle";
    /// The message is ready or leased: too late to cancel it.
    AlreadyReady = 35, "already_ready";
    /// The message is leased.
    MessageLeased = 36, "message_leased";
    /// The limit of weighted groups of the queue is reached.
    GroupLimit = 37, "group_limit";
    /// The lease has ended or was settled before.
    ReceiptStale = 38, "receipt_stale";
    /// A condition of the transaction does not hold.
    ConditionFailed = 39, "condition_failed";
    /// A schedule of that name exists.
    ScheduleExists = 40, "schedule_exists";
    /// No such schedule.
    ScheduleNotFound = 41, "schedule_not_found";
    /// The schedule limit of the cluster is reached.
    ScheduleLimit = 42, "schedule_limit";
    /// Nodes came to different states and no majority says which is right: nothing is leased.
    StatesDiffer = 43, "states_differ";
    /// The session is not bound: bind it before attending.
    SessionNotBound = 44, "session_not_bound";
    /// Another request was sent under this number before, and executed; this one was not.
    NumberReused = 45, "number_reused";
    /// The node speaks with nobody in the clear (`tls.mode`).
    TlsRequired = 53, "tls_required";
    /// The node speaks no TLS (`tls.mode`).
    TlsOff = 55, "tls_off";
    /// The node is no member any more, and its number is never given again.
    NodeRemoved = 60, "node_removed";
    /// Without that member no majority of those that remain would answer.
    QuorumAtRisk = 61, "quorum_at_risk";
    /// The peer's data directory is not the one it had, or an older state of it.
    StoreRefused = 62, "store_refused";
    /// The node does not speak the cluster's feature level.
    LevelUnknown = 63, "level_unknown";
    /// Not all members are known to speak that feature level.
    LevelNotSpoken = 64, "level_not_spoken";
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
