//! Looking at messages: a page, or one of them; with who holds those that are leased.

use queue_protocol::content::ContentSpec;
use queue_protocol::limits::{LEASE_COUNT_MAX, TAIL_SIZE_MAX};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::clients::LeaseHolder;
use queue_protocol::wire::request::{MessageState, Peek};
use queue_protocol::wire::response::{Answer, MessageView, Peeked};

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;
use crate::queue::Holding;

impl Dispatch {
    pub(super) fn peek(&self, peek: &Peek) -> Finished {
        let max = usize::from(peek.max_messages).clamp(1, LEASE_COUNT_MAX);
        let max_bytes = u64::from(peek.max_bytes).min(TAIL_SIZE_MAX as u64);
        let lag_ms = self.consensus.lease_clock_lag_ms();
        self.consensus.read_now(|state, index| {
            let found = match peek.id {
                Some(_) => {
                    state.peek(&peek.queue, peek.state, peek.id, 1, max_bytes).map(|found| (found, None))
                }
                None => state.page(&peek.queue, peek.state, peek.after, max, max_bytes),
            };
            match found {
                Ok((found, next)) => {
                    let bodies = found.iter().map(|peeked| peeked.body).collect();
                    let views = found.into_iter().map(|peeked| self.view_of(peeked, lag_ms)).collect();
                    let views = Bounded::new(views).expect("no more than were asked for");
                    let answer = Box::new(Answer::Peeked(Peeked { messages: views, next }));
                    Finished::Read { index, answer, bodies }
                }
                Err(refusal) => Finished::Failed(error(&refusal)),
            }
        })
    }

    /// `lag_ms` is what the state's lease clock lags behind.
    fn view_of(&self, peeked: crate::queue::Peeked, lag_ms: u64) -> MessageView {
        let lag_ms = if peeked.state == MessageState::Leased { lag_ms } else { 0 };
        MessageView {
            id: peeked.id,
            state: peeked.state,
            priority: peeked.priority,
            group: peeked.group,
            attempts: peeked.attempts,
            failures: peeked.failures,
            releases: peeked.releases,
            pushed_at_ms: peeked.pushed_at_ms,
            age_ms: peeked.age_ms,
            until_ms: peeked.until_ms.map(|until_ms| until_ms.saturating_sub(lag_ms)),
            left_ms: peeked.left_ms,
            dead_ms: peeked.dead_ms,
            token: peeked.token,
            dead: peeked.dead,
            last_error: peeked.last_error,
            history: Bounded::new(peeked.history).expect("no more is kept"),
            expires_at_ms: peeked.expires_at_ms,
            content: ContentSpec { size: peeked.body.size, crc32c: 0 },
            checkpoint_size: peeked.checkpoint_size,
            holder: peeked.holding.map(|holding| self.holder(holding)),
        }
    }

    fn holder(&self, holding: Holding) -> LeaseHolder {
        let Holding { session, since_ms, held_ms } = holding;
        LeaseHolder {
            session: session.map(|session| self.shown(session)),
            since_ms,
            held_ms,
            heard: session.and_then(|session| self.roster.heard(session)),
        }
    }
}
