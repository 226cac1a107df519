//! Lease and pop: what is handed out is decided here, when the entry is applied.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{LEASE_COUNT_MAX, LEASE_MS_MAX, LEASE_MS_MIN, TAIL_SIZE_MAX};
use queue_protocol::names::{LeaseToken, SessionId};
use queue_protocol::wire::history::GoneHow;

use crate::queue::apply::{Apply, refusal};
use crate::queue::catalog::QueueNumber;
use crate::queue::command::Lease;
use crate::queue::due::clocks::Moment;
use crate::queue::messages::line::Room;
use crate::queue::messages::message::Leased;
use crate::queue::queue::{Queue, Taken};
use crate::queue::reply::{Grant, Outcome, Refusal};

impl Apply<'_> {
    /// Hands messages out for a while.
    ///
    /// # Errors
    /// Refused if none of the queues exists.
    pub(in crate::queue) fn lease(
        &mut self,
        session: Option<SessionId>,
        lease: &Lease,
    ) -> Result<Outcome, Refusal> {
        let Some(number) = self.first_ready(session, lease)? else { return Ok(Outcome::Nothing) };
        let (stamped_ms, now, token) = (self.stamped_ms, self.state.now(), self.state.numbers().token().0);
        let owner = self.owner;
        let grants = self.change(number, |queue| {
            let lease_ms = clamp_lease(lease.lease_ms.unwrap_or(queue.settings.lease_ms));
            let deadline_ms = stamped_ms.saturating_add(lease_ms);
            let served = (session, lease_ms, stamped_ms);
            hand_out(queue, lease, served, token, now, |queue, token, (id, message, expires_at_ms)| {
                let granted = now;
                let leased = Leased { token, deadline_ms, session, owner, granted, expires_at_ms, message };
                queue.lend(id, leased);
                (lease_ms, deadline_ms)
            })
        });
        self.state.numbers_mut().give_tokens(grants.len() as u64);
        if let Some(session) = session {
            for grant in &grants {
                self.state.holders_mut().note(session, grant.id, number);
            }
        }
        Ok(delivered(grants))
    }

    /// Hands messages out for good.
    ///
    /// # Errors
    /// Refused if none of the queues exists.
    pub(in crate::queue) fn pop(
        &mut self,
        session: Option<SessionId>,
        lease: &Lease,
    ) -> Result<Outcome, Refusal> {
        let Some(number) = self.first_ready(session, lease)? else { return Ok(Outcome::Nothing) };
        let (stamped_ms, now, token) = (self.stamped_ms, self.state.now(), self.state.numbers().token().0);
        let grants = self.change(number, |queue| {
            let served = (session, queue.settings.lease_ms, stamped_ms);
            hand_out(queue, lease, served, token, now, |queue, _, (id, message, _)| {
                queue.turnover.acked += 1;
                queue.let_go(id, &message, GoneHow::Popped);
                (0, 0)
            })
        });
        self.state.numbers_mut().give_tokens(grants.len() as u64);
        Ok(delivered(grants))
    }

    /// The first of the queues that has ready messages for the session.
    fn first_ready(&self, session: Option<SessionId>, lease: &Lease) -> Result<Option<QueueNumber>, Refusal> {
        let first = lease.queues.first().ok_or_else(|| refusal(ErrorCode::BadRequest))?;
        let catalog = self.state.catalog();
        let mut known = lease.queues.iter().filter_map(|name| catalog.number(name)).peekable();
        if known.peek().is_none() {
            return Err(self.queue_not_found(first));
        }
        let gives = |queue: &Queue| queue.serves(session) && queue.available() > 0;
        Ok(known.find(|number| catalog.get(*number).is_some_and(gives)))
    }
}

/// Who is served, for how long, from which lease clock on.
type Served = (Option<SessionId>, u64, u64);

/// Takes the head of a queue under tokens from `first_token` on and gives each message to `take_over`, which answers
/// with the lease and its deadline.
fn hand_out(
    queue: &mut Queue,
    lease: &Lease,
    (session, lease_ms, stamped_ms): Served,
    first_token: u64,
    now: Moment,
    mut take_over: impl FnMut(&mut Queue, LeaseToken, Taken) -> (u64, u64),
) -> Vec<Grant> {
    queue.bucket = queue.bucket.refilled(queue.rate(), now.elapsed_ms);
    let allowed = usize::try_from(queue.bucket.count(queue.rate())).unwrap_or(usize::MAX);
    let max = usize::from(lease.max_messages).clamp(1, LEASE_COUNT_MAX).min(allowed);
    // One answer travels in one frame.
    let max_bytes = u64::from(lease.max_bytes).min(TAIL_SIZE_MAX as u64);
    let mut room = Room::new(max, max_bytes);
    let mut grants = Vec::new();
    // What is handed out decides what is next: a group may have to wait, or it is the turn of another.
    loop {
        let taken = queue.take_ready(&mut room, now);
        if taken.is_empty() {
            break;
        }
        for taken in taken {
            queue.claim(session, lease_ms, stamped_ms);
            let token = LeaseToken(first_token + grants.len() as u64);
            grants.push(grant(queue, token, taken, &mut take_over));
        }
    }
    queue.turnover.leased += grants.len() as u64;
    queue.turnover.redelivered += grants.iter().filter(|grant| grant.attempt > 1).count() as u64;
    queue.bucket = queue.bucket.less(queue.rate(), grants.len() as u64, now.elapsed_ms);
    grants
}

fn grant(
    queue: &mut Queue,
    token: LeaseToken,
    (id, mut message, expires_at_ms): Taken,
    take_over: &mut impl FnMut(&mut Queue, LeaseToken, Taken) -> (u64, u64),
) -> Grant {
    message.attempts = message.attempts.saturating_add(1);
    let mut grant = Grant {
        queue: queue.name.clone(),
        id,
        token,
        attempt: message.attempts,
        failures: message.failures,
        priority: message.priority,
        group: message.group.clone(),
        pushed_at_ms: message.pushed.wall_ms,
        lease_ms: 0,
        deadline_ms: 0,
        body: message.body,
        epoch: queue.epoch(),
        checkpoint: message.checkpoint.clone(),
    };
    (grant.lease_ms, grant.deadline_ms) = take_over(queue, token, (id, message, expires_at_ms));
    grant
}

/// All may have expired.
fn delivered(grants: Vec<Grant>) -> Outcome {
    if grants.is_empty() { Outcome::Nothing } else { Outcome::Delivered(grants) }
}

/// A lease within its limits, in milliseconds.
pub(super) fn clamp_lease(lease_ms: u64) -> u64 {
    lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX)
}
