//! A rotation of the cluster's secret, admission key and certificates, as one generation: its phase, so that the next leader
//! goes on where the last one stopped. The secrets themselves are never here: they go from node to node.
//!
//! ```text
//! begin ──► spreading ── all members have it on disk ──► switching ── all prove themselves with it ──► dropping ──► over
//!              │                                                                                  all have dropped the old
//!              └── another generation takes its place, if nobody has it who answers
//! ```
//!
//! Which secrets a node lets in, and which it proves itself with, follows from the phase that it has applied:
//!
//! | phase | proves | lets in |
//! |---|---|---|
//! | none, dropping | the one of the state | that one |
//! | spreading | the one of the state | that one, and the next one once it has it |
//! | switching | the next one | both |
//!
//! In the last row the next one is on every member's disk, so nobody is locked out; in the first one every member uses the
//! one of the state. Members that are left out are not waited for.

use imbl::OrdMap;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::proof::Fingerprint;
use queue_protocol::wire::security::{ROTATION_NODES_MAX, RotationPhase, RotationView};
use serde::{Deserialize, Serialize};

use super::apply::{Apply, refusal};
use super::nodes::{Admission, Nodes};
use super::reply::{Outcome, Refusal};
use super::state::State;

/// How far one member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// The next secret is on its disk.
    Durable,
    /// It proves itself with the next one.
    Switched,
    /// It lets nobody in with the old one.
    Dropped,
    /// It is not waited for.
    LeftOut,
}

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The generation that it leads to, and the public half of its admission key.
    pub next: Admission,
    /// What tells its secret from others.
    pub fingerprint: Fingerprint,
    /// How far all are.
    pub phase: RotationPhase,
    /// How far each is that has done anything; those that are no members do not count.
    pub stages: OrdMap<NodeId, Stage>,
}

/// A leader has made another secret and admission key, and has them on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginRotation {
    /// A generation above all that there were, and the public half of its admission key.
    pub next: Admission,
    /// What tells its secret from others.
    pub fingerprint: Fingerprint,
    /// Members that are not waited for.
    pub left_out: Bounded<NodeId, ROTATION_NODES_MAX>,
}

/// A leader has heard how far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRotation {
    /// Of the rotation that is meant.
    pub generation: u32,
    /// The member that reached the stage.
    pub node: NodeId,
    /// How far it is.
    pub stage: Stage,
}

impl Stage {
    /// What a phase waits for.
    fn asked_by(phase: RotationPhase) -> Self {
        match phase {
            RotationPhase::Spreading => Self::Durable,
            RotationPhase::Switching => Self::Switched,
            RotationPhase::Dropping => Self::Dropped,
        }
    }
}

impl Rotation {
    /// Whether members may not change: two secrets count.
    pub fn is_open(&self) -> bool {
        self.phase != RotationPhase::Dropping
    }

    /// Whether that member has done what the phase asks of it, or is not waited for.
    pub fn has_done(&self, node: NodeId) -> bool {
        self.stages.get(&node).is_some_and(|stage| *stage >= Stage::asked_by(self.phase))
    }

    /// How far the rotation is, as a status shows it.
    pub fn view(&self, members: impl Iterator<Item = NodeId>) -> RotationView {
        let listed = |nodes: Vec<NodeId>| Bounded::new(nodes).expect("no more were taken");
        let left_out = self.stages.iter().filter(|(_, stage)| **stage == Stage::LeftOut);
        let waits_for = members.filter(|node| !self.has_done(*node)).take(ROTATION_NODES_MAX);
        RotationView {
            generation: self.next.generation,
            fingerprint: self.fingerprint,
            phase: self.phase,
            waits_for: listed(waits_for.collect()),
            left_out: listed(left_out.map(|(node, _)| *node).take(ROTATION_NODES_MAX).collect()),
        }
    }
}

impl Nodes {
    fn members(&self) -> impl Iterator<Item = NodeId> {
        self.given.iter().filter(|(_, given)| given.is_member).map(|(node, _)| *node)
    }

    /// What follows from how far the members are. Whoever is no member any more is forgotten.
    pub(super) fn advance(&mut self) {
        let Some(mut rotation) = self.rotation.take() else { return };
        let members: Vec<NodeId> = self.members().collect();
        rotation.stages =
            rotation.stages.into_iter().filter(|(node, _)| members.binary_search(node).is_ok()).collect();
        loop {
            let done = members.iter().filter(|node| rotation.has_done(**node)).count();
            if done < members.len() {
                self.rotation = Some(rotation);
                return;
            }
            rotation.phase = match rotation.phase {
                RotationPhase::Spreading => RotationPhase::Switching,
                RotationPhase::Switching => {
                    self.admission = Some(rotation.next);
                    RotationPhase::Dropping
                }
                RotationPhase::Dropping => return,
            };
        }
    }

    /// Whether the rotation leads on from what there is.
    pub(super) fn has_sound_rotation(&self) -> bool {
        let Some(rotation) = &self.rotation else { return true };
        let Some(now) = self.admission else { return false };
        let is_member = |node: &NodeId| self.given.get(node).is_some_and(|given| given.is_member);
        let follows = match rotation.phase {
            RotationPhase::Dropping => rotation.next == now,
            _ => rotation.next.generation > now.generation,
        };
        follows && rotation.stages.keys().all(is_member)
    }
}

impl Apply<'_> {
    /// Begins a rotation; one that is only spreading, or is as good as over, gives way.
    pub(super) fn begin_rotation(&mut self, begin: &BeginRotation) -> Result<Outcome, Refusal> {
        let nodes = self.state.nodes_mut();
        let newest = nodes.rotation.as_ref().map(|rotation| rotation.next).or(nodes.admission);
        let Some(newest) = newest else { return Err(refusal(ErrorCode::NoLeader)) };
        if nodes.rotation.as_ref().is_some_and(|rotation| rotation.phase == RotationPhase::Switching) {
            return Err(refusal(ErrorCode::ChangeInProgress));
        }
        if begin.next.generation <= newest.generation {
            return Err(refusal(ErrorCode::BadRequest));
        }
        let BeginRotation { next, fingerprint, ref left_out } = *begin;
        let stages = left_out.iter().map(|node| (*node, Stage::LeftOut)).collect();
        nodes.rotation = Some(Rotation { next, fingerprint, phase: RotationPhase::Spreading, stages });
        nodes.advance();
        Ok(Outcome::Ticked)
    }

    /// A member is further than it was, or is not waited for any more. What is of another rotation changes nothing.
    pub(super) fn note_rotation(&mut self, note: &NoteRotation) {
        let nodes = self.state.nodes_mut();
        let is_member = nodes.given.get(&note.node).is_some_and(|given| given.is_member);
        let Some(rotation) = nodes.rotation.as_mut().filter(|_| is_member) else { return };
        if rotation.next.generation != note.generation {
            return;
        }
        let known = rotation.stages.get(&note.node).copied();
        // One that was left out and is back is waited for again, before anybody has switched.
        let is_back = known == Some(Stage::LeftOut)
            && note.stage == Stage::Durable
            && rotation.phase == RotationPhase::Spreading;
        if known.is_none_or(|known| note.stage > known) || is_back {
            rotation.stages.insert(note.node, note.stage);
        }
        nodes.advance();
    }
}

impl State {
    /// The rotation of the secret that is under way.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.nodes().rotation.as_ref()
    }

    /// The same for people.
    pub fn rotation_view(&self) -> Option<RotationView> {
        Some(self.nodes().rotation.as_ref()?.view(self.nodes().members()))
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::StoreId;

    use super::super::command::{Batch, Command, Op, Stamps};
    use super::super::nodes::Assigned;
    use super::*;

    /// A cluster of so many members, at generation 1.
    fn cluster(members: u64) -> State {
        let mut state = State::new();
        state.nodes_mut().admission = Some(Admission { generation: 1, key: [1; 32] });
        for number in 1..=members {
            let next = state.numbers().node().0.max(number + 1);
            state.numbers_mut().give_nodes_below(next);
            let (store, key) = (StoreId(number.into()), [7; 32]);
            let assigned = Assigned { store, key, index: number, is_member: true };
            state.nodes_mut().given.insert(NodeId(number), assigned);
        }
        state
    }

    fn ask(state: &mut State, op: Op) -> Result<Outcome, Refusal> {
        let batch = Batch {
            stamps: Stamps::default(),
            commands: Bounded::new(vec![Command { session: None, op }]).expect("one"),
        };
        let result = state.apply(9, &batch, &[]).replies.pop().expect("one command").result;
        assert!(state.nodes().has_sound_rotation());
        let mut bytes = Vec::new();
        state.encode(&mut |piece| bytes.extend_from_slice(piece));
        assert_eq!(State::decode(&bytes).expect("what was written").nodes(), state.nodes());
        result
    }

    fn begin(state: &mut State, generation: u32, left_out: &[u64]) -> Result<Outcome, Refusal> {
        let left_out = Bounded::new(left_out.iter().map(|node| NodeId(*node)).collect()).expect("few");
        let next = Admission { generation, key: [u8::try_from(generation).expect("small"); 32] };
        ask(state, Op::BeginRotation(Box::new(BeginRotation { next, fingerprint: [9; 8], left_out })))
    }

    fn note(state: &mut State, generation: u32, node: u64, stage: Stage) {
        let note = NoteRotation { generation, node: NodeId(node), stage };
        ask(state, Op::NoteRotation(note)).expect("it is never refused");
    }

    fn phase(state: &State) -> Option<RotationPhase> {
        state.rotation().map(|rotation| rotation.phase)
    }

    fn generation(state: &State) -> u32 {
        state.admission().expect("it has begun").generation
    }

    #[test]
    fn a_rotation_goes_on_when_all_members_have_done_what_its_phase_asks() {
        let mut state = cluster(3);
        assert_eq!(begin(&mut State::new(), 2, &[]).unwrap_err().code, ErrorCode::NoLeader);
        begin(&mut state, 2, &[]).expect("nothing is under way");
        let steps = [
            (Stage::Durable, RotationPhase::Spreading, 1),
            (Stage::Switched, RotationPhase::Switching, 1),
            (Stage::Dropped, RotationPhase::Dropping, 2),
        ];
        for (stage, expected, at) in steps {
            for node in [3, 1, 2] {
                assert_eq!((phase(&state), generation(&state)), (Some(expected), at), "before {node}");
                let view = state.rotation_view().expect("it is under way");
                assert!(view.waits_for.contains(&NodeId(node)) && view.left_out.is_empty());
                note(&mut state, 2, node, stage);
                note(&mut state, 2, node, Stage::Durable);
                note(&mut state, 7, 2, Stage::Dropped);
                note(&mut state, 2, 8, Stage::Dropped);
            }
        }
        assert_eq!((phase(&state), generation(&state)), (None, 2));
        assert_eq!(begin(&mut state, 2, &[]).unwrap_err().code, ErrorCode::BadRequest);
        begin(&mut state, 3, &[]).expect("the next one");
    }

    #[test]
    fn a_member_that_is_left_out_or_leaves_is_not_waited_for_and_one_that_comes_is() {
        let mut state = cluster(3);
        begin(&mut state, 2, &[3]).expect("nothing is under way");
        note(&mut state, 2, 1, Stage::Durable);
        assert_eq!(state.rotation_view().expect("under way").left_out[..], [NodeId(3)]);
        note(&mut state, 2, 2, Stage::Durable);
        assert_eq!(phase(&state), Some(RotationPhase::Switching));
        note(&mut state, 2, 3, Stage::Durable);
        for node in [1, 2] {
            note(&mut state, 2, node, Stage::Switched);
        }
        assert_eq!(phase(&state), Some(RotationPhase::Dropping), "too late to be waited for");

        let mut state = cluster(3);
        begin(&mut state, 2, &[3]).expect("nothing is under way");
        note(&mut state, 2, 3, Stage::Durable);
        let assigned = Assigned { is_member: false, ..state.nodes().given[&NodeId(3)] };
        state.numbers_mut().give_nodes_below(5);
        state.nodes_mut().given.insert(NodeId(4), assigned);
        note(&mut state, 2, 1, Stage::Durable);
        state.note_members(|node| node.0 <= 4);
        note(&mut state, 2, 2, Stage::Durable);
        assert_eq!(phase(&state), Some(RotationPhase::Spreading), "4 has come");
        state.note_members(|node| node.0 <= 3);
        assert_eq!(phase(&state), Some(RotationPhase::Switching), "it has gone again");
        note(&mut state, 2, 1, Stage::Switched);
        note(&mut state, 2, 2, Stage::Switched);
        assert_eq!(phase(&state), Some(RotationPhase::Switching), "3 came back in time");
        note(&mut state, 2, 3, Stage::LeftOut);
        assert_eq!(phase(&state), Some(RotationPhase::Dropping), "by force");
    }

    #[test]
    fn a_rotation_that_only_spreads_gives_way_and_one_that_switches_does_not() {
        let mut state = cluster(1);
        begin(&mut state, 2, &[]).expect("nothing is under way");
        begin(&mut state, 3, &[]).expect("nobody uses the second");
        note(&mut state, 2, 1, Stage::Dropped);
        assert_eq!(phase(&state), Some(RotationPhase::Spreading), "of another one");
        note(&mut state, 3, 1, Stage::Durable);
        assert_eq!(begin(&mut state, 4, &[]).unwrap_err().code, ErrorCode::ChangeInProgress);
        note(&mut state, 3, 1, Stage::Switched);
        begin(&mut state, 4, &[]).expect("all use the third");
        assert_eq!((phase(&state), generation(&state)), (Some(RotationPhase::Spreading), 3));
        note(&mut state, 4, 1, Stage::Dropped);
        assert_eq!((phase(&state), generation(&state)), (None, 4), "what comes late counts at once");
    }
}
