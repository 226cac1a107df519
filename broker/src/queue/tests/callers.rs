//! Stamps of random histories: clients that keep the rules of sessions, come late, leave without a word, or never were.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Which session and number a command carries.
#[derive(Clone, Debug)]
pub(super) enum Stamp {
    None,
    /// The next number; the leader may know the session.
    Next {
        slot: usize,
        done: u64,
        known: bool,
    },
    /// One of the last numbers again.
    Again {
        slot: usize,
        back: u64,
    },
    /// One of the last numbers again, for another request.
    Reused {
        slot: usize,
        back: u64,
    },
    /// The first number of a new session.
    Anew(usize),
    /// One of the last numbers of a session that its client has left.
    Late {
        session: usize,
        back: u64,
    },
    /// Anything.
    Any {
        slot: usize,
        number: u64,
        done_below: u64,
        index: Option<u64>,
    },
}

pub(super) fn stamp() -> impl Strategy<Value = Stamp> {
    let slot = || 0..SLOTS;
    prop_oneof![
        2 => Just(Stamp::None),
        8 => (slot(), prop_oneof![Just(0u64), 0u64..6], prop::bool::weighted(0.2))
            .prop_map(|(slot, done, known)| Stamp::Next { slot, done, known }),
        3 => (slot(), 0u64..6).prop_map(|(slot, back)| Stamp::Again { slot, back }),
        1 => (slot(), 0u64..3).prop_map(|(slot, back)| Stamp::Reused { slot, back }),
        2 => slot().prop_map(Stamp::Anew),
        2 => (0usize..12, 0u64..4).prop_map(|(session, back)| Stamp::Late { session, back }),
        1 => (slot(), prop_oneof![0u64..20, 1_000u64..1_100], 0u64..20, prop::option::of(0u64..1 << 32))
            .prop_map(|(slot, number, done_below, index)| Stamp::Any { slot, number, done_below, index }),
    ]
}

/// One client at a time.
const SLOTS: usize = 4;

/// A session as its client has it.
#[derive(Clone, Copy)]
struct Told {
    id: u128,
    opening: Opening,
    sent: u64,
}

/// What the clients know.
#[derive(Default)]
pub(super) struct Callers {
    /// Of the entry that is made.
    index: u64,
    /// The session of each slot, if its client has sent anything.
    slots: [Option<Told>; SLOTS],
    /// Sessions that their clients have left, the last ones.
    left: VecDeque<Told>,
    ids: u128,
}

impl Callers {
    /// The stamps from now on go into the next entry.
    pub(super) fn next_entry(&mut self) {
        self.index += 1;
    }

    /// Notes whose session is gone.
    pub(super) fn hear(&mut self, command: &Command, reply: &Reply) {
        let expired = reply.result.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::SessionExpired);
        let closed = reply.result == Ok(Outcome::Closed);
        if let Some(stamp) = command.session.filter(|_| expired || closed) {
            let is = |told: &Option<Told>| told.is_some_and(|told| told.id == stamp.session.0);
            if let Some(slot) = self.slots.iter().position(is) {
                self.leave(slot);
            }
        }
    }

    /// The sessions in use.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.slots.iter().flatten().map(|told| SessionId(told.id)).collect()
    }

    /// The client takes another session.
    fn leave(&mut self, slot: usize) {
        self.left.extend(self.slots[slot].take());
        while self.left.len() > 12 {
            self.left.pop_front();
        }
    }

    fn told(&mut self, slot: usize) -> &mut Told {
        let mut source = Source::default();
        source.0[15] = u8::from(slot > 0);
        self.slots[slot].get_or_insert_with(|| {
            self.ids += 1;
            Told { id: self.ids, opening: Opening { index: self.index - 1, source }, sent: 0 }
        })
    }

    /// The stamp that a client sends.
    pub(super) fn stamp(&mut self, stamp: &Stamp) -> Option<SessionStamp> {
        let of = |told: Told, number, done_below| SessionStamp {
            session: SessionId(told.id),
            number,
            done_below,
            opening: Some(told.opening),
            request: RequestHash::default(),
            by: None,
        };
        Some(match *stamp {
            Stamp::None => return None,
            Stamp::Next { slot, done, known } => {
                let told = self.told(slot);
                told.sent += 1;
                let stamp = of(*told, told.sent, told.sent - done.min(told.sent - 1));
                let opening = stamp.opening.filter(|_| !known || told.sent == 1);
                SessionStamp { opening, ..stamp }
            }
            Stamp::Again { slot, back } => {
                let told = *self.told(slot);
                of(told, told.sent.saturating_sub(back), 1)
            }
            Stamp::Reused { slot, back } => {
                let told = *self.told(slot);
                let stamp = of(told, told.sent.saturating_sub(back), 1);
                SessionStamp { request: RequestHash([1; 8]), ..stamp }
            }
            Stamp::Anew(slot) => {
                self.leave(slot);
                let told = self.told(slot);
                told.sent += 1;
                of(*told, 1, 1)
            }
            Stamp::Late { session, back } => {
                let told = *self.left.get(session)?;
                of(told, told.sent.saturating_sub(back).max(1), 1)
            }
            Stamp::Any { slot, number, done_below, index } => {
                let mut told = *self.told(slot);
                if let Some(index) = index {
                    // Of a client that never was: whoever has one id has one index.
                    told.opening.index = index;
                    told.id |= u128::from(index) << 64 | 1 << 120;
                }
                of(told, number, done_below)
            }
        })
    }
}
