//! What happened to a message: of one that is there from the state, of one that is gone from what this node remembers.

use queue_protocol::bounded::Bounded;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::history::{Fate, History, HistoryView};
use queue_protocol::response::Answer;

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;

impl Dispatch {
    pub(super) fn history(&self, history: &History) -> Finished {
        let (gone, complete_since_ms) = self.consensus.gone(history.id);
        self.consensus.read(|state, index| {
            let (queue, id) = (&history.queue, history.id);
            let found = match state.peek(queue, None, Some(id), 1, 0) {
                Ok(mut found) => found.pop(),
                Err(refusal) if refusal.code == ErrorCode::MessageNotFound => None,
                Err(refusal) => return Finished::Failed(error(&refusal)),
            };
            let gone = gone.as_ref().filter(|gone| state.was_in(gone, queue));
            let gone = gone.and_then(|gone| Some(gone.went.first()?.view(gone.at_ms)));
            let (fate, events) = match (found, gone) {
                (Some(live), _) => (Fate::Live(live.state), live.history),
                (None, Some((view, events))) => (Fate::Gone(view), events.to_vec()),
                (None, None) => {
                    let what = if state.was_pushed(id) {
                        format!("no message {id} in {queue}, nor among those that went lately")
                    } else {
                        format!("message {id} was never pushed")
                    };
                    return Finished::Failed(Error::refused(ErrorCode::MessageNotFound, what));
                }
            };
            let events = Bounded::new(events).expect("no more is kept");
            let answer = Box::new(Answer::History(HistoryView { fate, events, complete_since_ms }));
            Finished::Read { index, lease_clock_ms: state.lease_clock_ms(), answer, bodies: Vec::new() }
        })
    }
}
