//! Why a call did not do what it was asked, as a program tells the cases apart.

use crate::client::ClientError;
use crate::error::{self, ErrorCode, Retry};
use crate::names::{QueueName, Receipt};
use crate::wire::txn::TxnPart;

/// Why a call failed, and whether it may have been done: only [`Error::Unknown`] leaves that open, with every other one
/// nothing was changed.
///
/// ```no_run
/// # async fn f(jobs: queue_protocol::client::Queue) -> Result<(), queue_protocol::client::Error> {
/// use queue_protocol::client::Error;
///
/// match jobs.push("resize 31.png").dedup("upload-31").send().await {
///     Ok(pushed) => println!("stored as {}", pushed.id),
///     Err(Error::QueueFull(_)) => println!("slow down"),
///     // May have been stored: with the same dedup key the next push finds out.
///     Err(Error::Unknown { what }) => println!("ask again: {what}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is out of its range: nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// No such queue, message, schedule or node. `similar` of the inner error names a queue that may have been meant.
    #[error("{0}")]
    NotFound(error::Error),
    /// The queue is at its limit of messages or bytes.
    #[error("{0}")]
    QueueFull(error::Error),
    /// Somebody paused pushes to the queue.
    #[error("{0}")]
    QueuePaused(error::Error),
    /// A live message has the unique key.
    #[error("{0}")]
    UniqueHeld(error::Error),
    /// The lease has ended or was settled before: somebody else has the message, or will.
    #[error("receipt {receipt} is stale: {}", if *.gone { "the message is gone" } else { "its lease has ended" })]
    StaleReceipt {
        /// Of the lease that has ended.
        receipt: Receipt,
        /// The message is not in the queue any more; otherwise it comes again, or is dead.
        gone: bool,
    },
    /// The transaction did nothing: a condition did not hold, or a step cannot be done.
    #[error("nothing was done: {}: {}", part(*.at), .code.as_str())]
    Aborted {
        /// The condition or step, counted from 0.
        at: TxnPart,
        /// The reason.
        code: ErrorCode,
    },
    /// The cluster refused for another reason: `code` and `message` of the inner error say which, `retry` whether it is worth
    /// repeating.
    #[error("{0}")]
    Refused(error::Error),
    /// Surely not done: no node was reached, or none led, in the time given.
    #[error("{what}")]
    Unavailable {
        /// Each server that was tried, and what came of it.
        what: String,
    },
    /// Sent and not answered: it may have been done, or may yet be.
    #[error("{what}")]
    Unknown {
        /// What happened.
        what: String,
    },
    /// The other side does not speak this protocol, or another version of it, or belongs to another cluster.
    #[error("{0}")]
    Incompatible(error::Error),
    /// Somebody answered whom TLS does not trust: nothing was sent.
    #[error("{what}")]
    Untrusted {
        /// Who answered, and why they are not trusted.
        what: String,
    },
}

impl Error {
    /// The code, where the cluster gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::NotFound(error)
            | Self::QueueFull(error)
            | Self::QueuePaused(error)
            | Self::UniqueHeld(error)
            | Self::Refused(error)
            | Self::Incompatible(error) => Some(error.code),
            Self::StaleReceipt { .. } => Some(ErrorCode::ReceiptStale),
            Self::Aborted { code, .. } => Some(*code),
            Self::Invalid(_) | Self::Unavailable { .. } | Self::Unknown { .. } | Self::Untrusted { .. } => {
                None
            }
        }
    }

    /// Surely not done, and the same call may succeed later. `false` for [`Error::Unknown`]: what may have been done is
    /// repeated only by a program that can bear to see it done twice, or that names a dedup key.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::QueueFull(_) | Self::QueuePaused(_) | Self::Unavailable { .. } => true,
            Self::Refused(error) => error.retry != Retry::Never,
            _ => false,
        }
    }

    /// What one message of a push was refused for.
    pub(super) fn of_message(code: ErrorCode) -> Self {
        Self::of(error::Error::refused(code, "the message was not stored"))
    }

    pub(super) fn no_queue(name: &QueueName) -> Self {
        Self::of(error::Error::refused(ErrorCode::QueueNotFound, format!("no queue named \"{name}\"")))
    }

    fn of(error: error::Error) -> Self {
        match error.code {
            ErrorCode::QueueNotFound
            | ErrorCode::MessageNotFound
            | ErrorCode::ScheduleNotFound
            | ErrorCode::NodeNotFound => Self::NotFound(error),
            ErrorCode::QueueFull => Self::QueueFull(error),
            ErrorCode::QueuePaused => Self::QueuePaused(error),
            ErrorCode::UniqueHeld => Self::UniqueHeld(error),
            _ => Self::Refused(error),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) => Self::of(error),
            ClientError::Unavailable { what, .. } => Self::Unavailable { what },
            ClientError::Unknown { what } => Self::Unknown { what },
            ClientError::Incompatible(error) => Self::Incompatible(error),
            ClientError::Untrusted { what } => Self::Untrusted { what },
        }
    }
}

fn part(part: TxnPart) -> String {
    match part {
        TxnPart::Condition(at) => format!("condition {at} does not hold"),
        TxnPart::Step(at) => format!("step {at} cannot be done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_says_whether_it_is_worth_repeating() {
        for code in ErrorCode::ALL {
            let refused = Error::from(ClientError::Refused(error::Error::refused(*code, "no")));
            assert_eq!(refused.code(), Some(*code), "{refused:?}");
        }
        let full = Error::of_message(ErrorCode::QueueFull);
        assert!(matches!(full, Error::QueueFull(_)) && full.is_temporary());
        let busy = Error::from(ClientError::Refused(error::Error::again(ErrorCode::Overloaded, "later")));
        assert!(matches!(busy, Error::Refused(_)) && busy.is_temporary());
        let unknown = Error::from(ClientError::Unknown { what: "sent".to_owned() });
        assert!(matches!(unknown, Error::Unknown { .. }) && !unknown.is_temporary());
        let held = Error::of_message(ErrorCode::UniqueHeld);
        assert_eq!(held.to_string(), "unique_held: the message was not stored");
    }

    #[test]
    fn texts_say_what_happened() {
        let receipt: Receipt = "jobs/7/9".parse().expect("a receipt");
        let stale = Error::StaleReceipt { receipt: receipt.clone(), gone: false };
        assert_eq!(stale.to_string(), "receipt jobs/7/9 is stale: its lease has ended");
        let gone = Error::StaleReceipt { receipt, gone: true };
        assert_eq!(gone.to_string(), "receipt jobs/7/9 is stale: the message is gone");
        let aborted = Error::Aborted { at: TxnPart::Step(2), code: ErrorCode::QueueFull };
        assert_eq!(aborted.to_string(), "nothing was done: step 2 cannot be done: queue_full");
    }
}
