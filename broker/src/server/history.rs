//! What happened to a message: of one that is there from the state, of one that is gone from what this node remembers.

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::history::{Fate, History, HistoryView};
use queue_protocol::wire::response::Answer;

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;

impl Dispatch {
    pub(super) fn history(&self, history: &History) -> Finished {
        self.consensus.read_with_gone(|state, index, gone| {
            let (queue, id) = (&history.queue, history.id);
            let found = match state.peek(queue, None, Some(id), 1, 0) {
                Ok(mut found) => found.pop(),
                Err(refusal) if refusal.code == ErrorCode::MessageNotFound => None,
                Err(refusal) => return Finished::Failed(error(&refusal)),
            };
            let (fate, events) = if let Some(live) = found {
                (Fate::Live(live.state), live.history)
            } else {
                let Some((with, went)) = gone.find(id).filter(|(with, _)| state.was_in(with, queue)) else {
                    let what = if state.was_pushed(id) {
                        format!("no message {id} in {queue}, nor among those that went lately")
                    } else {
                        format!("message {id} was never pushed")
                    };
                    return Finished::Failed(Error::refused(ErrorCode::MessageNotFound, what));
                };
                let (view, events) = went.view(with.at.wall_ms);
                (Fate::Gone(view), events.to_vec())
            };
            let events = Bounded::new(events).expect("no more is kept");
            let complete_since_ms = state.now().past_label(gone.since_ms());
            let view = HistoryView { fate, events, complete_since_ms };
            Finished::read(index, Answer::History(view))
        })
    }
}
