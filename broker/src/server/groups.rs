//! The groups of a queue, listed.

use queue_protocol::limits::GROUPS_LISTED_MAX;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::group::Groups;
use queue_protocol::wire::response::Answer;

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
                    Finished::read(index, Answer::Groups(views))
                }
                Err(refusal) => Finished::Failed(error(&refusal)),
            }
        })
    }
}
