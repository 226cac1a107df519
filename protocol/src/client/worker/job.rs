//! What a handler gets, and what it decides.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::content::Headers;
use crate::limits::ERROR_TEXT_SIZE_MAX;
use crate::names::Receipt;
use crate::wire::bounded::Text;
use crate::wire::request::NackKind;
use crate::wire::response::Delivery;

/// A message in the hands of a handler; its lease is renewed meanwhile.
#[derive(Clone, Debug)]
pub struct Job {
    /// What the leader says of it. Its token fences: who keeps the highest beside his data can refuse late writers.
    pub delivery: Arc<Delivery>,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    pub(super) told: watch::Receiver<Option<Told>>,
}

/// What a handler is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The lease is lost: somebody else may have the message, and the verdict counts no more.
    LeaseLost,
    /// Come to an end now: the worker gives everything back.
    GiveBack,
}

impl Job {
    /// Returns when there is something to tell; never if there is not.
    pub async fn told(&mut self) -> Told {
        let told = self.told.wait_for(Option::is_some).await.ok().and_then(|told| *told);
        match told {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// The right to settle it, as text that others can use.
    pub fn receipt(&self) -> Receipt {
        Receipt { queue: self.delivery.queue.clone(), id: self.delivery.id, token: self.delivery.token }
    }
}

/// What is to become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Ack,
    /// It comes again without blame, after so many milliseconds.
    Release {
        /// 0 is at once, in its old place.
        delay_ms: u64,
    },
    /// It failed: it comes again after so many milliseconds, or the queue's back-off; or is dead, if that was the last.
    Fail {
        /// The queue's back-off if `None`.
        delay_ms: Option<u64>,
        /// Kept with the message; cut if too long.
        error: String,
    },
    /// It is dead now.
    Reject {
        /// Kept with the message; cut if too long.
        reason: String,
    },
}

impl Verdict {
    /// The nack that says it; `None` is an ack.
    pub(in crate::client) fn nack(&self) -> Option<NackKind> {
        let text = |text: &str| Text::<ERROR_TEXT_SIZE_MAX>::cut(text);
        match self {
            Self::Ack => None,
            Self::Release { delay_ms } => Some(NackKind::Release { delay_ms: *delay_ms }),
            Self::Fail { delay_ms, error } => {
                Some(NackKind::Fail { delay_ms: *delay_ms, error: text(error) })
            }
            Self::Reject { reason } => Some(NackKind::Reject { reason: text(reason) }),
        }
    }
}
