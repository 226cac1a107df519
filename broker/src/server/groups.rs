//! The groups of a queue, listed.

use queue_protocol::bounded::Bounded;
use queue_protocol::group::Groups;
use queue_protocol::limits::GROUPS_LISTED_MAX;
use queue_protocol::response::Answer;

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;

impl Dispatch {
    /// A page of groups.
    pub(super) fn groups(&self, groups: &Groups) -> Finished {
        self.consensus.read(|state, index| {
            match state.groups(&groups.queue, groups.after.as_ref(), GROUPS_LISTED_MAX) {
                Ok(views) => {
                    let views = Bounded::new(views).expect("no more than were asked for");
                    let (answer, lease_clock_ms) = (Box::new(Answer::Groups(views)), state.lease_clock_ms());
                    Finished::Read { index, lease_clock_ms, answer, bodies: Vec::new() }
                }
                Err(refusal) => Finished::Failed(error(&refusal)),
            }
        })
    }
}
