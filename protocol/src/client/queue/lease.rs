//! Taking messages: for a while, or for good.

use std::pin::pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, Leased, Queue, Received, milliseconds};
use crate::limits::{LEASE_COUNT_MAX, TAIL_SIZE_MAX};
use crate::wire::bounded::Bounded;
use crate::wire::request::Lease;
use crate::wire::requests::ask;

/// Messages for a while: `queue.lease().max(10).wait(time).send().await`.
#[must_use = "nothing is leased before `send`"]
#[derive(Clone, Debug)]
pub struct LeaseBuilder {
    queue: Queue,
    lease: Lease,
}

/// Messages for good: `queue.pop().send().await`.
#[must_use = "nothing is popped before `send`"]
#[derive(Clone, Debug)]
pub struct PopBuilder {
    queue: Queue,
    lease: Lease,
}

macro_rules! options {
    ($($builder:ident)*) => {$(
        impl $builder {
            pub(super) fn new(queue: Queue) -> Self {
                let queues = Bounded::new(vec![queue.name.clone()]).expect("one queue is within the limit");
                let max_bytes = u32::try_from(TAIL_SIZE_MAX).expect("8 MiB");
                let lease =
                    Lease { queues, max_messages: 1, max_bytes, lease_ms: None, wait_ms: 0, linger_ms: 0 };
                Self { queue, lease }
            }

            /// Messages at most, 1 to 256. Default: 1.
            pub fn max(mut self, count: usize) -> Self {
                self.lease.max_messages = u16::try_from(count.clamp(1, LEASE_COUNT_MAX)).expect("256 at most");
                self
            }

            /// Bodies and headers together at most, in bytes; the first message comes however large it is. Default: 8 MiB.
            pub fn max_bytes(mut self, size: usize) -> Self {
                self.lease.max_bytes = u32::try_from(size).unwrap_or(u32::MAX);
                self
            }

            /// How long to wait for the first message, at most 5 min. Default: not at all.
            pub fn wait(mut self, time: Duration) -> Self {
                self.lease.wait_ms = u32::try_from(milliseconds(time)).unwrap_or(u32::MAX);
                self
            }

            /// Once a message is there, how long to wait for `max` of them, at most 5 min. Default: not at all.
            pub fn linger(mut self, time: Duration) -> Self {
                self.lease.linger_ms = u32::try_from(milliseconds(time)).unwrap_or(u32::MAX);
                self
            }
        }
    )*};
}

options! { LeaseBuilder PopBuilder }

impl LeaseBuilder {
    /// How long the messages are leased, 1 s to 12 h. Default: as the queue is set (30 s).
    pub fn length(mut self, time: Duration) -> Self {
        self.lease.lease_ms = Some(milliseconds(time));
        self
    }

    /// Leases them; none if the queue stayed empty.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`]. After [`Error::Unknown`] messages may be leased that this program never
    /// sees: they come again when their leases end.
    pub async fn send(self) -> Result<Vec<Leased>, Error> {
        self.send_until(std::future::pending()).await
    }

    /// The same, but once `enough` is ready it waits no more for messages: the lease is called back, and what the cluster has
    /// handed out meanwhile comes. Dropping the future of [`LeaseBuilder::send`] instead leaves messages leased that nobody
    /// sees.
    ///
    /// # Errors
    /// As [`LeaseBuilder::send`].
    pub async fn send_until(self, enough: impl Future<Output = ()>) -> Result<Vec<Leased>, Error> {
        let hurry = CancellationToken::new();
        let mut leasing = pin!(self.queue.client.ask_hurried(ask::Lease(self.lease), hurry.clone()));
        let answered = tokio::select! {
            biased;
            answered = &mut leasing => answered,
            () = enough => {
                hurry.cancel();
                leasing.await
            }
        }?;
        let now = answered.lease_clock_ms;
        let leased = answered.answer.into_iter().zip(&answered.contents);
        Ok(leased.map(|(delivery, it)| Leased::new(self.queue.clone(), delivery, it, now)).collect())
    }
}

impl PopBuilder {
    /// Takes them; none if the queue stayed empty.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`]. After [`Error::Unknown`] messages may be gone that nobody saw.
    pub async fn send(self) -> Result<Vec<Received>, Error> {
        let answered = self.queue.client.ask(ask::Pop(self.lease)).await?;
        let popped = answered.answer.into_iter().zip(&answered.contents);
        Ok(popped.map(|(delivery, it)| Received::new(delivery, it)).collect())
    }
}
