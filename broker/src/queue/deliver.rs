//! Lease and pop: what is handed out is decided here, when the entry is applied.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{LEASE_COUNT_MAX, LEASE_MS_MAX, LEASE_MS_MIN, TAIL_SIZE_MAX};
use queue_protocol::names::{LeaseToken, MessageId, SessionId};

use super::apply::{Apply, refusal};
use super::command::Lease;
use super::message::{Leased, Message};
use super::messages::Queue;
use super::reply::{Grant, Outcome, Refusal};
use super::state::QueueNumber;

impl Apply<'_> {
    /// Hands messages out for a while.
    ///
    /// # Errors
    /// Refused if none of the queues exists.
    pub(super) fn lease(&mut self, session: Option<SessionId>, lease: &Lease) -> Result<Outcome, Refusal> {
        let Some(number) = self.first_ready(lease)? else { return Ok(Outcome::Nothing) };
        let (clock_ms, token) = (self.state.lease_clock_ms, self.state.next_token);
        let grants = self.change(number, |queue| {
            let lease_ms = clamp_lease(lease.lease_ms.unwrap_or(queue.settings.lease_ms));
            let deadline_ms = clock_ms.saturating_add(lease_ms);
            hand_out(queue, lease, token, |queue, id, token, message| {
                queue.lend(id, Leased { token, deadline_ms, session, message });
                (lease_ms, deadline_ms)
            })
        });
        self.state.next_token += grants.len() as u64;
        if let Some(session) = session {
            for grant in &grants {
                self.state.held.insert((session, grant.id), number);
            }
        }
        Ok(Outcome::Delivered(grants))
    }

    /// Hands messages out for good.
    ///
    /// # Errors
    /// Refused if none of the queues exists.
    pub(super) fn pop(&mut self, lease: &Lease) -> Result<Outcome, Refusal> {
        let Some(number) = self.first_ready(lease)? else { return Ok(Outcome::Nothing) };
        let token = self.state.next_token;
        let grants = self.change(number, |queue| {
            hand_out(queue, lease, token, |queue, _, _, message| {
                queue.turnover.acked += 1;
                queue.bytes -= u64::from(message.body.size);
                (0, 0)
            })
        });
        self.state.next_token += grants.len() as u64;
        Ok(Outcome::Delivered(grants))
    }

    /// The first of the queues that has ready messages.
    fn first_ready(&self, lease: &Lease) -> Result<Option<QueueNumber>, Refusal> {
        let first = lease.queues.first().ok_or_else(|| refusal(ErrorCode::BadRequest))?;
        let mut known = lease.queues.iter().filter_map(|name| self.state.names.get(name)).copied().peekable();
        if known.peek().is_none() {
            return Err(self.state.queue_not_found(first));
        }
        Ok(known.find(|number| self.state.queues.get(number).is_some_and(|queue| queue.available() > 0)))
    }
}

/// Takes the head of a queue under tokens from `first_token` on and gives each message to `take_over`, which answers
/// with the lease and its deadline.
fn hand_out(
    queue: &mut Queue,
    lease: &Lease,
    first_token: u64,
    mut take_over: impl FnMut(&mut Queue, MessageId, LeaseToken, Message) -> (u64, u64),
) -> Vec<Grant> {
    let max = usize::from(lease.max_messages).clamp(1, LEASE_COUNT_MAX);
    // One answer travels in one frame.
    let max_bytes = u64::from(lease.max_bytes).min(TAIL_SIZE_MAX as u64);
    let taken = queue.ready.take(max, max_bytes);
    queue.turnover.leased += taken.len() as u64;
    let grant = |(token, (id, mut message)): (u64, (MessageId, Message))| {
        message.attempts = message.attempts.saturating_add(1);
        let mut grant = Grant {
            queue: queue.name.clone(),
            id,
            token: LeaseToken(token),
            attempt: message.attempts,
            failures: message.failures,
            priority: message.priority,
            pushed_at_ms: message.pushed_at_ms,
            lease_ms: 0,
            deadline_ms: 0,
            body: message.body,
        };
        (grant.lease_ms, grant.deadline_ms) = take_over(queue, id, grant.token, message);
        grant
    };
    (first_token..).zip(taken).map(grant).collect()
}

/// A lease within its limits, in milliseconds.
pub(super) fn clamp_lease(lease_ms: u64) -> u64 {
    lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX)
}
