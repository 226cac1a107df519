//! Push: ids given in commit order, plain messages stored as runs.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{PRIORITY_MAX, PUSH_COUNT_MAX};
use queue_protocol::names::MessageId;
use queue_protocol::request::{Due, PushOptions};
use queue_protocol::response::PushOutcome;

use super::apply::{Apply, refusal_of};
use super::command::Push;
use super::message::{Delayed, Message};
use super::reply::{BodyRef, Outcome, Refusal};
use super::run::PushedRows;

impl Apply<'_> {
    /// Stores messages whose contents are the rows of the body table from `first_row` on.
    ///
    /// # Errors
    /// Refused if the table is too short or an option is out of its range, if there is no such queue and none is to be
    /// made, or if there are too many queues.
    pub(super) fn push(&mut self, push: &Push, first_row: u64) -> Result<Outcome, Refusal> {
        let bad = || refusal_of(ErrorCode::BadRequest, &push.queue);
        let ordinal = u32::try_from(first_row).map_err(|_| bad())?;
        let end = ordinal.checked_add(push.count).ok_or_else(bad)?;
        let rows = self.table.get(ordinal as usize..end as usize).ok_or_else(bad)?;
        let rising = push.special.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range =
            push.special.iter().all(|(k, options)| *k < push.count && options.priority <= PRIORITY_MAX);
        if !rising || !in_range || rows.is_empty() || rows.len() > PUSH_COUNT_MAX {
            return Err(bad());
        }
        let number = match (self.state.names.get(&push.queue), &push.create) {
            (Some(number), _) => *number,
            (None, Some(settings)) => self.make_queue(&push.queue, settings)?,
            (None, None) => return Err(self.state.queue_not_found(&push.queue)),
        };

        let first_id = self.state.next_id;
        self.state.next_id += u64::from(push.count);
        let (index, wall_ms) = (self.index, self.state.wall_ms);
        self.change(number, |queue| {
            queue.turnover.pushed += u64::from(push.count);
            queue.bytes += rows.iter().map(|row| u64::from(row.size)).sum::<u64>();
            let plain = PushOptions::default();
            let mut specials = push.special.iter().peekable();
            let mut start = 0;
            while start < push.count {
                let options = specials.next_if(|(k, _)| *k == start).map_or(&plain, |(_, options)| options);
                let id = MessageId(first_id + u64::from(start));
                if let Some(due_ms) = due_later(options.due, wall_ms) {
                    let body = BodyRef { index, ordinal: ordinal + start, size: rows[start as usize].size };
                    let message = Message::pushed(body, wall_ms, options.priority);
                    queue.delay(id, Delayed { due_ms, message });
                    start += 1;
                    continue;
                }
                let next_special = specials.peek().map_or(push.count, |(k, _)| *k);
                let end = if *options == plain { next_special } else { start + 1 };
                let rows = &rows[start as usize..end as usize];
                let run = PushedRows { index, ordinal: ordinal + start, pushed_at_ms: wall_ms, rows };
                queue.ready.push(options.priority, id, run);
                start = end;
            }
        });
        Ok(Outcome::Pushed(vec![PushOutcome::Stored { first_id: MessageId(first_id), count: push.count }]))
    }
}

/// When a message becomes ready, unless that is now.
fn due_later(due: Due, wall_ms: u64) -> Option<u64> {
    let due_ms = match due {
        Due::Now => wall_ms,
        Due::AfterMs(delay_ms) => wall_ms.saturating_add(delay_ms),
        Due::AtMs(due_ms) => due_ms,
    };
    (due_ms > wall_ms).then_some(due_ms)
}
