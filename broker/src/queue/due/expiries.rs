//! When the waiting messages of one queue expire: beside the messages, as spans of consecutive ids that expire together.
//!
//! Spans do not overlap. One that loses a message in its middle falls in two; neighbours join only when messages are
//! added behind. Each span is listed under its last id, so that messages taken off its front leave it where it is.

use imbl::{OrdMap, OrdSet};
use queue_protocol::names::MessageId;

use crate::queue::queue::Deadline;

/// Expiries of messages that have one.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Expiries {
    /// By last id: first id and elapsed time.
    spans: OrdMap<MessageId, (MessageId, u64)>,
    /// Elapsed time and last id of each span.
    ends: OrdSet<Deadline>,
}

impl Expiries {
    /// Takes over messages with ids from `first` to `last` that have no expiry here.
    pub(in crate::queue) fn add(&mut self, first: MessageId, last: MessageId, at_ms: u64) {
        let before = self.spans.get_prev(&first).map(|(last, span)| (*last, *span));
        match before {
            Some((end, (begin, same))) if same == at_ms && end.0.checked_add(1) == Some(first.0) => {
                self.take_span(end);
                self.put_span(begin, last, at_ms);
            }
            _ => self.put_span(first, last, at_ms),
        }
    }

    /// When a message expires.
    pub(in crate::queue) fn of(&self, id: MessageId) -> Option<u64> {
        self.span(id).map(|(_, _, at_ms)| at_ms)
    }

    /// Forgets the expiry of a message; what it was.
    pub(in crate::queue) fn remove(&mut self, id: MessageId) -> Option<u64> {
        let (first, last, at_ms) = self.span(id)?;
        if id < last {
            self.spans.insert(last, (MessageId(id.0 + 1), at_ms));
        } else {
            self.take_span(last);
        }
        if first < id {
            self.put_span(first, MessageId(id.0 - 1), at_ms);
        }
        Some(at_ms)
    }

    /// The message that expires first.
    pub(in crate::queue) fn first(&self) -> Option<Deadline> {
        let (at_ms, last) = *self.ends.get_min()?;
        self.spans.get(&last).map(|(first, _)| (at_ms, *first))
    }

    /// First id, last id and elapsed time of all spans, rising.
    pub(in crate::queue) fn spans(
        &self,
    ) -> impl ExactSizeIterator<Item = (MessageId, (MessageId, u64))> + '_ {
        self.spans.iter().map(|(last, span)| (*last, *span))
    }

    /// Puts a span back as it was.
    pub(in crate::queue) fn put_span(&mut self, first: MessageId, last: MessageId, at_ms: u64) {
        self.spans.insert(last, (first, at_ms));
        self.ends.insert((at_ms, last));
    }

    fn take_span(&mut self, last: MessageId) {
        if let Some((_, at_ms)) = self.spans.remove(&last) {
            self.ends.remove(&(at_ms, last));
        }
    }

    fn span(&self, id: MessageId) -> Option<(MessageId, MessageId, u64)> {
        let (last, (first, at_ms)) = self.spans.get_next(&id)?;
        (*first <= id).then_some((*first, *last, *at_ms))
    }

    /// Whether the spans are in order and of messages that `waits` knows; stops at the first that is not.
    pub(in crate::queue) fn holds(&self, waits: impl Fn(MessageId) -> bool) -> bool {
        let mut end = 0;
        let ends: OrdSet<Deadline> = self.spans.iter().map(|(last, (_, at_ms))| (*at_ms, *last)).collect();
        ends == self.ends
            && self.spans.iter().all(|(last, (first, _))| {
                let rises = end < first.0 && first <= last;
                end = last.0;
                rises && (first.0..=last.0).all(|id| waits(MessageId(id)))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_fall_apart_and_join_as_messages_come_and_go() {
        let mut expiries = Expiries::default();
        let spans = |expiries: &Expiries| -> Vec<(u64, u64, u64)> {
            assert!(expiries.holds(|_| true));
            expiries.spans().map(|(last, (first, at_ms))| (first.0, last.0, at_ms)).collect()
        };
        expiries.add(MessageId(1), MessageId(3), 70);
        expiries.add(MessageId(4), MessageId(6), 70);
        expiries.add(MessageId(7), MessageId(7), 50);
        assert_eq!(spans(&expiries), [(1, 6, 70), (7, 7, 50)]);
        assert_eq!((expiries.first(), expiries.of(MessageId(6))), (Some((50, MessageId(7))), Some(70)));
        assert_eq!(expiries.remove(MessageId(1)), Some(70));
        assert_eq!(expiries.remove(MessageId(4)), Some(70));
        assert_eq!(expiries.remove(MessageId(4)), None);
        assert_eq!(spans(&expiries), [(2, 3, 70), (5, 6, 70), (7, 7, 50)]);
        assert_eq!(expiries.remove(MessageId(7)), Some(50));
        assert_eq!(expiries.first(), Some((70, MessageId(2))));
        expiries.add(MessageId(4), MessageId(4), 70);
        assert_eq!(spans(&expiries), [(2, 4, 70), (5, 6, 70)]);
        assert_eq!(expiries.remove(MessageId(6)), Some(70));
        assert_eq!(spans(&expiries), [(2, 4, 70), (5, 5, 70)]);
    }
}
