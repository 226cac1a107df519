//! Which connections of clients are to end: all, or those that are plain.

/// What the server wants of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The node stops.
    pub(super) all: bool,
    /// Plain connections up to this number are to end: the node speaks with nobody in the clear any more.
    pub(super) plain_upto: u64,
    /// Goes up when somebody may have lost the right to stay.
    pub(super) rights: u64,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The node stops.
    Stopping,
    /// It is plain.
    Plain,
    /// It is not logged in, or not any more.
    Shut,
}

impl Stop {
    /// Whether the connection with this number is to end, and why.
    pub(super) fn ends(&self, id: u64, is_secured: bool) -> Option<Ends> {
        match self {
            Self { all: true, .. } => Some(Ends::Stopping),
            Self { plain_upto, .. } if !is_secured && id <= *plain_upto => Some(Ends::Plain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connections_end_in_their_order_and_all_with_the_node() {
        let stop = Stop { plain_upto: 7, ..Stop::default() };
        assert_eq!([6, 7, 8].map(|id| stop.ends(id, false)), [Some(Ends::Plain), Some(Ends::Plain), None]);
        assert_eq!(stop.ends(1, true), None);
        assert_eq!(Stop::default().ends(1, false), None);
        assert_eq!(Stop { all: true, ..stop }.ends(8, true), Some(Ends::Stopping));
    }
}
