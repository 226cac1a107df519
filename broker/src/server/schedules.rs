//! Schedules: checked, and their first time computed, by the node that proposes; listed.

use bytes::Bytes;
use queue_protocol::limits::SCHEDULES_LISTED_MAX;
use queue_protocol::names::QueueName;
use queue_protocol::values::may_begin_name;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::Due;
use queue_protocol::wire::response::Answer;
use queue_protocol::wire::rights::Verb;
use queue_protocol::wire::schedule::{Schedules, SetSchedule};

use super::dispatch::{Dispatch, bad};
use super::reply_to::{Finished, ReplyTo};
use crate::queue::command::{self, Op, SessionStamp};
use crate::queue::{KeyNumber, Moment};
use crate::recurrence;

impl Dispatch {
    pub(super) fn set_schedule(
        &self,
        session: Option<SessionStamp>,
        set: SetSchedule,
        tail: &Bytes,
        reply: ReplyTo,
    ) {
        let now = self.consensus.now();
        let elapsed_ms = self.consensus.read(|state, _| state.elapsed_ms()).max(now.elapsed_ms);
        let now = Moment { elapsed_ms, ..now };
        self.bring(session, tail, reply, true, |rest| {
            self.check_message(&set.message, rest)?;
            if set.message.options.due != Due::Now {
                return Err(bad("what is scheduled is due at once"));
            }
            if !may_begin_name(set.name.as_str()) {
                return Err(bad("the name of a schedule does not begin with -"));
            }
            let next_ms = recurrence::first_ms(&set.when, set.missed, now).map_err(bad)?;
            let op = Op::SetSchedule(Box::new(command::SetSchedule {
                name: set.name,
                replace: set.replace,
                queue: set.queue,
                when: set.when,
                missed: set.missed,
                options: set.message.options,
                next_ms: Some(next_ms),
            }));
            Ok((op, vec![set.message.content]))
        });
    }

    /// A page of schedules.
    pub(super) fn schedules(&self, schedules: &Schedules, key: Option<KeyNumber>) -> Finished {
        self.consensus.read_now(|state, index| {
            let seen = |name: &QueueName| state.may(key, Verb::Look, name);
            let views = state.schedules_seen(schedules.after.as_ref(), SCHEDULES_LISTED_MAX, seen);
            let views = Bounded::new(views).expect("no more than were asked for");
            Finished::read(index, Answer::Schedules(views))
        })
    }
}
