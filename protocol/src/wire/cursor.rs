//! Where a listing of messages, or a change of many, goes on: a place in the order of state, priority and id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::MessageId;
use crate::wire::request::MessageState;

/// The last message that a sweep looked at or a peek showed, and where they are to end. In text `state/priority/id/below`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its state.
    pub state: MessageState,
    /// Its priority.
    pub priority: u8,
    /// Which.
    pub id: MessageId,
    /// Messages pushed after the first part, with this id or a higher one, are left out.
    pub below: MessageId,
}

/// Why a text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: it is copied from `next` of an earlier answer")]
pub struct BadCursor;

const STATES: [(&str, MessageState); 4] = [
    ("ready", MessageState::Ready),
    ("leased", MessageState::Leased),
    ("delayed", MessageState::Delayed),
    ("dead", MessageState::Dead),
];

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = STATES.iter().find(|(_, state)| *state == self.state).map_or("", |(name, _)| name);
        write!(f, "{state}/{}/{}/{}", self.priority, self.id, self.below)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let parts: Vec<&str> = text.split('/').collect();
        let [state, priority, id, below] = parts[..] else { return Err(BadCursor) };
        let (_, state) = STATES.iter().find(|(name, _)| *name == state).ok_or(BadCursor)?;
        let id_of = |text: &str| text.parse().map(MessageId).map_err(|_| BadCursor);
        let priority = priority.parse().map_err(|_| BadCursor)?;
        Ok(Self { state: *state, priority, id: id_of(id)?, below: id_of(below)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        for (_, state) in STATES {
            let cursor = Cursor { state, priority: 4, id: MessageId(7), below: MessageId(u64::MAX) };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "dead", "dead/4/7", "dead/4/7/9/1", "gone/4/7/9", "dead/x/7/9", "dead/4/7/"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text}");
        }
    }
}
