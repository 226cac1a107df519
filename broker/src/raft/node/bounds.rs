//! How far what a peer says may be from what is known here: terms, indexes and starts. Raft believes every term, and the
//! highest one that a number holds would end all elections; what is beyond these bounds ends the connection that it came
//! on, and changes nothing.
//!
//! | what | bound |
//! |---|---|
//! | vote asked for or told by a node that may not lead, rejection, transfer | [`AHEAD_MAX`] above the own term |
//! | vote of a leader, its entries, its snapshot | below [`TERM_MAX`], or [`AHEAD_MAX`] above the own term |
//! | index | below [`TERM_MAX`] |
//! | start number of a peer's directory | [`EPOCH_AHEAD_MAX`] above the last one that was let in |
//!
//! A leader's bound is the wider one, so that a node that was away comes back whatever has happened meanwhile. Beyond it
//! there is still room for as many elections: the highest term that is believed once does not end them.

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::{
    Append, AppendResult, AskVote, Heartbeat, LogId, PeerPing, PeerRequest, PeerResponse, SnapshotBegin,
    SnapshotPart, Transfer, Vote, VoteResult,
};
use queue_protocol::wire::proof::PeerHello;

use crate::mutants::{self, Mutant};

/// Terms above the own one that an election or a rejection may name: more elections than there ever are.
pub(crate) const AHEAD_MAX: u64 = 1 << 32;
/// Terms of a leader that may be anything, and indexes, stay below this.
pub(crate) const TERM_MAX: u64 = 1 << 62;
/// Starts above the last known one that one admission may name.
pub(crate) const EPOCH_AHEAD_MAX: u32 = 1 << 20;

/// What is beyond its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Beyond {
    /// A term that no election can have reached.
    #[error("it names term {term}, and this node is in term {own}: no cluster holds so many elections")]
    Ahead { term: u64, own: u64 },
    /// A vote of somebody else.
    #[error("it speaks for node {0}, and is another one")]
    Another(NodeId),
    /// An index that no log can have reached.
    #[error("it names entry {0}, and indexes stay below {TERM_MAX}")]
    End(u64),
}

/// What a node in a term may hear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The term of this node's durable vote.
    own: u64,
}

impl Bounds {
    pub(crate) fn of(own: Option<Vote>) -> Self {
        Self { own: own.map_or(0, |vote| vote.term) }
    }

    fn ahead(self, term: u64) -> Result<(), Beyond> {
        if term.saturating_sub(self.own) > AHEAD_MAX && !mutants::on(Mutant::AnyTermBelieved) {
            return Err(Beyond::Ahead { term, own: self.own });
        }
        Ok(())
    }

    /// A term that a leader has had.
    fn led(self, term: u64) -> Result<(), Beyond> {
        if term < TERM_MAX { Ok(()) } else { self.ahead(term) }
    }

    fn index(self, index: u64) -> Result<(), Beyond> {
        if index >= TERM_MAX && !mutants::on(Mutant::AnyTermBelieved) {
            return Err(Beyond::End(index));
        }
        Ok(())
    }

    fn ids(self, ids: impl IntoIterator<Item = LogId>) -> Result<(), Beyond> {
        ids.into_iter().try_for_each(|id| self.led(id.term).and_then(|()| self.index(id.index)))
    }

    /// What a leader says: its term and the entries that it names.
    fn leads(self, vote: Vote, ids: impl IntoIterator<Item = LogId>) -> Result<(), Beyond> {
        self.led(vote.term)?;
        self.ids(ids)
    }

    fn ping(self, ping: &PeerPing) -> Result<(), Beyond> {
        ping.durable_vote.map_or(Ok(()), |vote| self.ahead(vote.term))?;
        let lead = ping.lead.map_or(0, |lead| lead.commit_index);
        [ping.last_index, ping.durable_index, lead].into_iter().try_for_each(|index| self.index(index))
    }

    /// What a peer says of its log before it is let in.
    ///
    /// # Errors
    /// `bad_frame`: it is beyond its bound.
    pub(crate) fn hello(self, peer: &PeerHello) -> Result<(), Error> {
        let voted = peer.vote.map_or(Ok(()), |vote| self.led(vote.term));
        let beyond = |beyond: Beyond| Error::refused(ErrorCode::BadFrame, beyond.to_string());
        voted.and_then(|()| self.ids(peer.last)).map_err(beyond)
    }

    /// What the node `peer` asks: it stands for election, and leads, in no other name than its own.
    ///
    /// # Errors
    /// It is beyond its bound.
    pub(crate) fn request(self, peer: NodeId, request: &PeerRequest) -> Result<(), Beyond> {
        match request {
            PeerRequest::Append(Append { vote, .. })
            | PeerRequest::Heartbeat(Heartbeat { vote, .. })
            | PeerRequest::SnapshotBegin(SnapshotBegin { vote, .. })
            | PeerRequest::Vote(AskVote { vote, .. })
            | PeerRequest::PreVote(AskVote { vote, .. })
            | PeerRequest::TransferLeader(Transfer { from: vote, .. })
                if vote.node != peer =>
            {
                Err(Beyond::Another(vote.node))
            }
            PeerRequest::Append(Append { vote, prev, commit, entries }) => {
                let ids = entries.iter().map(|spec| spec.id);
                self.leads(*vote, ids.chain(*prev).chain(*commit))
            }
            PeerRequest::Heartbeat(Heartbeat { vote, prev, commit }) => {
                self.leads(*vote, prev.iter().chain(commit).copied())
            }
            PeerRequest::SnapshotBegin(SnapshotBegin { vote, last, .. }) => self.leads(*vote, *last),
            PeerRequest::SnapshotPart(SnapshotPart::Bodies { id, .. }) => self.ids([*id]),
            PeerRequest::Vote(AskVote { vote, last, .. })
            | PeerRequest::PreVote(AskVote { vote, last, .. })
            | PeerRequest::TransferLeader(Transfer { from: vote, last, .. }) => {
                self.ahead(vote.term)?;
                self.ids(*last)
            }
            PeerRequest::Ping(ping) => self.ping(ping),
            PeerRequest::SnapshotPart(SnapshotPart::State)
            | PeerRequest::SnapshotEnd
            | PeerRequest::Join(_)
            | PeerRequest::Invite(_)
            | PeerRequest::Bootstrap(_)
            | PeerRequest::AskHeld
            | PeerRequest::AskSecret(_)
            | PeerRequest::Announce(_) => Ok(()),
        }
    }

    /// What a peer answers.
    ///
    /// # Errors
    /// It is beyond its bound.
    pub(crate) fn response(self, response: &PeerResponse) -> Result<(), Beyond> {
        match response {
            PeerResponse::Append(AppendResult::HigherVote(vote)) | PeerResponse::Seen(vote) => {
                self.ahead(vote.term)
            }
            PeerResponse::Append(AppendResult::Durable(id)) => self.ids(*id),
            PeerResponse::Append(AppendResult::Conflict(id)) => self.ids([*id]),
            PeerResponse::Vote(VoteResult { vote, last, .. }) => {
                self.ahead(vote.term)?;
                self.ids(*last)
            }
            PeerResponse::SnapshotFrom(from) => {
                self.ids(from.applied)?;
                from.staged.map_or(Ok(()), |(index, _)| self.index(index))
            }
            PeerResponse::Pong(ping) => self.ping(ping),
            PeerResponse::PartTaken
            | PeerResponse::Joined(_)
            | PeerResponse::Failed(_)
            | PeerResponse::Coming
            | PeerResponse::Bootstrap(_)
            | PeerResponse::Held(_)
            | PeerResponse::Secret(_)
            | PeerResponse::Noted => Ok(()),
        }
    }
}

/// Why the start number of a peer's directory is none, if the last one known of it is `known`.
pub(crate) fn started_too_often(epoch: u32, known: u32) -> Option<String> {
    (epoch.saturating_sub(known) > EPOCH_AHEAD_MAX && !mutants::on(Mutant::AnyTermBelieved)).then(|| {
        format!("it says that it was started {epoch} times, and {known} times when it was here last: no node starts so often")
    })
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Bounded;
    use queue_protocol::wire::level::Levels;
    use queue_protocol::wire::peer::{EntryKind, EntrySpec, Lead, SnapshotFrom};

    use super::*;

    const OWN: u64 = 7;

    fn vote(term: u64) -> Vote {
        Vote { term, node: NodeId(2), committed: false }
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, leader: NodeId(2), index }
    }

    fn ping(vote: Option<Vote>, index: u64) -> PeerPing {
        PeerPing {
            wall_ms: u64::MAX,
            elapsed_ms: None,
            disk_free_bytes: u64::MAX,
            disk_spare_bytes: u64::MAX,
            last_index: index,
            disk_low: false,
            descriptors_short: false,
            durable_index: index,
            durable_vote: vote,
            levels: Levels::OURS,
            lead: Some(Lead { commit_index: index, confirmed_age_ms: 0 }),
            hashes: [None; 4],
        }
    }

    /// Each kind of frame that names a term, with the term in each place; then the highest term it may carry.
    fn requests(term: u64) -> Vec<(PeerRequest, u64)> {
        let near = id(3, 9);
        let (far, of_leader, of_election) = (id(term, 9), TERM_MAX - 1, OWN + AHEAD_MAX);
        let append = |vote, prev, commit, entry| {
            let (kind, commands_size, bodies_count, bodies_size) = (EntryKind::Blank, 0, 0, 0);
            let spec = EntrySpec { id: entry, kind, commands_size, bodies_count, bodies_size };
            let entries = Bounded::new(vec![spec]).unwrap();
            PeerRequest::Append(Append { vote, prev: Some(prev), commit: Some(commit), entries })
        };
        let heartbeat = |vote, prev, commit| {
            PeerRequest::Heartbeat(Heartbeat { vote, prev: Some(prev), commit: Some(commit) })
        };
        let ask = |vote, last| AskVote { vote, last: Some(last), by_transfer: true };
        let transfer =
            |from, last| PeerRequest::TransferLeader(Transfer { from, to: NodeId(1), last: Some(last) });
        let begin =
            |vote, last| PeerRequest::SnapshotBegin(SnapshotBegin { vote, last: Some(last), state_size: 1 });
        let bodies = |id| PeerRequest::SnapshotPart(SnapshotPart::Bodies { id, bodies: Bounded::default() });
        vec![
            (append(vote(term), near, near, near), of_leader),
            (append(vote(8), far, near, near), of_leader),
            (append(vote(8), near, far, near), of_leader),
            (append(vote(8), near, near, far), of_leader),
            (heartbeat(vote(term), near, near), of_leader),
            (heartbeat(vote(8), far, near), of_leader),
            (heartbeat(vote(8), near, far), of_leader),
            (begin(vote(term), near), of_leader),
            (begin(vote(8), far), of_leader),
            (bodies(far), of_leader),
            (PeerRequest::Vote(ask(vote(term), near)), of_election),
            (PeerRequest::Vote(ask(vote(8), far)), of_leader),
            (PeerRequest::PreVote(ask(vote(term), near)), of_election),
            (PeerRequest::PreVote(ask(vote(8), far)), of_leader),
            (transfer(vote(term), near), of_election),
            (transfer(vote(8), far), of_leader),
            (PeerRequest::Ping(ping(Some(vote(term)), 9)), of_election),
        ]
    }

    fn responses(term: u64) -> Vec<(PeerResponse, u64)> {
        let (far, of_leader, of_election) = (id(term, 9), TERM_MAX - 1, OWN + AHEAD_MAX);
        let voted = |vote, last| PeerResponse::Vote(VoteResult { vote, granted: false, last: Some(last) });
        let from = SnapshotFrom { applied: Some(far), staged: None, state: 0 };
        vec![
            (PeerResponse::Append(AppendResult::HigherVote(vote(term))), of_election),
            (PeerResponse::Append(AppendResult::Durable(Some(far))), of_leader),
            (PeerResponse::Append(AppendResult::Conflict(far)), of_leader),
            (PeerResponse::Seen(vote(term)), of_election),
            (voted(vote(term), id(3, 9)), of_election),
            (voted(vote(8), far), of_leader),
            (PeerResponse::SnapshotFrom(from), of_leader),
            (PeerResponse::Pong(ping(Some(vote(term)), 9)), of_election),
        ]
    }

    #[test]
    fn every_frame_may_carry_the_highest_term_of_its_kind_and_none_above() {
        let bounds = Bounds::of(Some(vote(OWN)));
        for (at, (_, highest)) in requests(0).into_iter().enumerate() {
            for (term, is_heard) in [(0, true), (highest, true), (highest + 1, false), (u64::MAX, false)] {
                let request = &requests(term)[at].0;
                assert_eq!(bounds.request(NodeId(2), request).is_ok(), is_heard, "{request:?}");
            }
        }
        for (at, (_, highest)) in responses(0).into_iter().enumerate() {
            for (term, is_heard) in [(0, true), (highest, true), (highest + 1, false), (u64::MAX, false)] {
                let response = &responses(term)[at].0;
                assert_eq!(bounds.response(response).is_ok(), is_heard, "{response:?}");
            }
        }
        assert!(bounds.request(NodeId(2), &PeerRequest::Ping(ping(None, TERM_MAX))).is_err());
        let in_its_name = |(request, _): &(PeerRequest, u64)| bounds.request(NodeId(3), request).is_ok();
        let not_votes = requests(8).iter().filter(|request| in_its_name(request)).count();
        assert_eq!(not_votes, 2, "a body of a snapshot and a ping name no vote that is asked for");
        assert!(bounds.response(&PeerResponse::Pong(ping(None, TERM_MAX))).is_err());
    }

    #[test]
    fn the_bound_moves_with_the_own_term_and_elections_never_run_out() {
        let at = |own, term| Bounds { own }.request(NodeId(2), &PeerRequest::Ping(ping(Some(vote(term)), 9)));
        assert_eq!(Bounds::of(None).own, 0);
        assert!(at(AHEAD_MAX, 2 * AHEAD_MAX).is_ok() && at(AHEAD_MAX, 2 * AHEAD_MAX + 1).is_err());
        assert!(at(AHEAD_MAX, 3).is_ok(), "an old term harms nobody");
        // Somebody led in the highest term that is believed: the next election is in a term above it.
        let highest = Bounds { own: TERM_MAX - 1 };
        let (vote, prev, commit) = (vote(TERM_MAX), Some(id(TERM_MAX, 9)), None);
        assert_eq!(
            highest.request(NodeId(2), &PeerRequest::Vote(AskVote { vote, last: prev, by_transfer: false })),
            Ok(())
        );
        assert_eq!(
            highest.request(NodeId(2), &PeerRequest::Heartbeat(Heartbeat { vote, prev, commit })),
            Ok(())
        );
        const { assert!(TERM_MAX.checked_add(1 << 30 << 32).is_some()) };
    }

    #[test]
    fn a_directory_is_not_started_a_million_times_between_two_admissions() {
        assert_eq!(started_too_often(EPOCH_AHEAD_MAX + 5, 5), None);
        assert!(started_too_often(EPOCH_AHEAD_MAX + 6, 5).is_some());
        assert_eq!(started_too_often(3, 5), None, "the floors judge that");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_term_that_is_believed_whatever_it_is_is_noticed() {
        let test = "every_frame_may_carry_the_highest_term_of_its_kind_and_none_above";
        assert!(mutants::is_caught_by(
            &format!("raft::node::bounds::tests::{test}"),
            Mutant::AnyTermBelieved
        ));
    }
}
