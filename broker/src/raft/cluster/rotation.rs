//! Rotating the cluster's secret: every node follows the phase that it has applied (`queue::rotation`), and whoever leads
//! takes the phase further.
//!
//! ```text
//! leader: makes the next generation, on its disk ──► begin, in the log
//! member: the log names one that is not here ──► asks the others for it over a secured connection ──► on its disk
//! leader: asks how far each member is ──► notes, in the log ──► the phase goes on
//! member: switching ──► uses the next one      the state's one is the own one ──► drops the old, ends what it has proved
//! ```
//!
//! If a leader dies before anybody has asked for what it made, the next one makes another generation: nobody uses one
//! that is only spreading. Secrets go over connections alone whose channel is bound to the proof, never into the log.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::handshake::Peer;
use queue_protocol::wire::peer::{AskSecret, GivenSecret, PeerRequest, PeerResponse, SecretsHeld};
use queue_protocol::wire::proof::Secret;
use queue_protocol::wire::security::{RotationView, SecretView};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::fs::DiskError;
use crate::mutants::{self, Mutant};
use crate::outside::{ExitStatus, Fatal};
use crate::queue::command::{BeginRotation, NoteRotation, Op};
use crate::queue::{Admission, NodeStanding, Rotation, Stage};
use crate::raft::node::link::{Lane, Link};
use crate::raft::openraft::types::Member;
use crate::raft::{Consensus, Generation, Key, Vault};

/// How often a node looks what the log asks of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long another node may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// A leader that can get the next generation nowhere for so long makes another one.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// What is asked over a connection that is not secured.
const NOT_SECURED: &str = "secrets travel over TLS only";

/// What the log says.
struct Logged {
    admission: Admission,
    rotation: Option<Rotation>,
}

impl Logged {
    /// The generation that this node must have, if it has not.
    fn wanted(&self, here: u32) -> Option<Admission> {
        let open = self.rotation.as_ref().filter(|rotation| rotation.is_open());
        open.map(|rotation| rotation.next).or(Some(self.admission).filter(|now| now.generation > here))
    }

    /// The generation that a node proves itself with.
    fn used(&self) -> Admission {
        use queue_protocol::wire::security::RotationPhase::Switching;
        let switching = self.rotation.as_ref().filter(|rotation| rotation.phase == Switching);
        switching.map_or(self.admission, |rotation| rotation.next)
    }
}

/// How far a member is, of what a rotation to `generation` asks.
fn stage_of(held: SecretsHeld, generation: u32) -> Option<Stage> {
    let reached =
        [(held.oldest, Stage::Dropped), (held.used, Stage::Switched), (held.durable, Stage::Durable)];
    let reached = reached.into_iter().find(|(number, _)| *number >= generation).map(|(_, stage)| stage);
    reached.or_else(|| mutants::on(Mutant::SecretSwitchedEarly).then_some(Stage::Durable))
}

/// Follows the log, and takes it further while this node leads. Ends with the node.
pub(in crate::raft) async fn run(consensus: Weak<Consensus>) {
    let mut lost_since = None;
    loop {
        let Some(this) = consensus.upgrade() else { return };
        this.rotate(&mut lost_since).await;
        let pulse = this.pulse;
        drop(this);
        pulse.beat(LOOK_EVERY).await;
    }
}

impl Consensus {
    fn logged(&self) -> Option<Logged> {
        self.machine.read(|state, _| {
            Some(Logged { admission: state.admission()?, rotation: state.rotation().cloned() })
        })
    }

    /// How far this node is.
    pub(in crate::raft) fn secrets_held(&self) -> SecretsHeld {
        let next = self.logged().and_then(|logged| Some(logged.rotation?.next));
        self.me.credentials.ring.held(next)
    }

    /// What this node says of its secret.
    pub(in crate::raft) fn secret_view(&self) -> SecretView {
        let ring = &self.me.credentials.ring;
        let rotation = self.machine.read(|state, _| state.rotation_view());
        SecretView { generation: ring.number(), fingerprint: ring.fingerprint(), rotation }
    }

    /// Refuses a change of the members while two secrets count.
    ///
    /// # Errors
    /// `change_in_progress`; it may be repeated.
    pub(in crate::raft) fn check_not_rotating(&self) -> Result<(), Error> {
        let view = self
            .machine
            .read(|state, _| state.rotation().is_some_and(Rotation::is_open).then(|| state.rotation_view()));
        let Some(view) = view.flatten() else { return Ok(()) };
        let what = format!(
            "the cluster's secret is being rotated ({}; it waits for {}): the members do not change meanwhile. queuectl \
             cluster rotate-secret --force does not wait for those that do not answer",
            view.phase.as_str(),
            self.names_of(&view.waits_for)
        );
        Err(Error::again(ErrorCode::ChangeInProgress, what))
    }

    fn names_of(&self, nodes: &[NodeId]) -> String {
        let (members, _) = self.members();
        let name =
            |node: &NodeId| members.get(&node.0).map_or_else(|| node.to_string(), |one| one.name.clone());
        nodes.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn other_members(&self) -> BTreeMap<u64, Member> {
        let (mut members, _) = self.members();
        members.remove(&self.me.credentials.node.0);
        members
    }

    /// Does what the log asks of this node, and of the leader if it is that.
    async fn rotate(self: &Arc<Self>, lost_since: &mut Option<Instant>) {
        let Some(logged) = self.logged() else { return };
        if let Ok(_guard) = self.rotating.try_lock()
            && let Err(error) = self.follow(&logged, lost_since).await
        {
            return self.end_for_vault(&error);
        }
        if let Some(rotation) = &logged.rotation
            && self.ready().is_some()
        {
            self.lead_rotation(rotation).await;
        }
    }

    /// The secrets in the data directory could not be changed.
    fn end_for_vault(&self, error: &DiskError) {
        let what = format!("{error}. The node stops: which secret its next start finds is not known to it");
        (self.outside.end)(Fatal { status: ExitStatus::Disk, what });
    }

    async fn follow(
        self: &Arc<Self>,
        logged: &Logged,
        lost_since: &mut Option<Instant>,
    ) -> Result<(), DiskError> {
        let ring = &self.me.credentials.ring;
        let wanted = logged.wanted(ring.number());
        match wanted {
            Some(wanted) if ring.find(wanted).is_none() => {
                match self.fetch(wanted, logged.rotation.as_ref()).await {
                    Some(next) => {
                        let kept = next.clone();
                        self.keep(move |vault| Box::pin(async move { vault.keep_next(&kept).await })).await?;
                        ring.set_next(Some(next));
                        *lost_since = None;
                    }
                    None => self.make_up_for(logged, lost_since).await?,
                }
            }
            Some(_) => *lost_since = None,
            // Nobody wants it any more.
            None if ring.next().is_some() => {
                self.keep(|vault| Box::pin(async move { vault.drop_next().await })).await?;
                ring.set_next(None);
            }
            None => {}
        }
        let used = logged.used();
        if let Some(next) = ring.next().filter(|next| next.named() == used) {
            let old = ring.becomes_old();
            let number = next.number;
            self.keep(move |vault| Box::pin(async move { vault.switch(&next, &old).await })).await?;
            ring.switched();
            tracing::info!(generation = number, "this node uses the next secret");
        }
        if ring.has_old() && ring.number() == logged.admission.generation {
            self.keep(|vault| Box::pin(async move { vault.drop_old().await })).await?;
            ring.dropped_old();
            tracing::info!(generation = ring.number(), "the old secret lets nobody in any more");
            for link in self.network.links_of(|_| true) {
                link.end_unproved().await;
            }
        }
        Ok(())
    }

    /// Changes the data directory where that holds nobody up.
    async fn keep<F>(&self, change: F) -> Result<(), DiskError>
    where
        F: FnOnce(Arc<dyn Vault>) -> std::pin::Pin<Box<dyn Future<Output = Result<(), DiskError>> + Send>>
            + Send
            + 'static,
    {
        let (done, wait) = oneshot::channel();
        let vault = Arc::clone(&self.me.vault);
        let kept = async move {
            // Whoever waits is the loop of this node.
            let _ = done.send(change(vault).await);
        };
        self.outside.tasks.blocking("secrets", Box::pin(kept));
        wait.await.unwrap_or(Ok(()))
    }

    /// Asks the others for a generation, who leads before all others.
    async fn fetch(&self, wanted: Admission, rotation: Option<&Rotation>) -> Option<Generation> {
        let leader = self.view().leader.map(|leader| leader.node.0);
        let mut members: Vec<(u64, Member)> = self.other_members().into_iter().collect();
        members.sort_by_key(|(node, _)| Some(*node) != leader);
        let Admission { generation, key: admission } = wanted;
        for (node, member) in members {
            let link = self.network.link(node, &member);
            let Ok(PeerResponse::Secret(given)) = link
                .ask_secured(PeerRequest::AskSecret(AskSecret { generation, admission }), ASK_TIMEOUT)
                .await
            else {
                continue;
            };
            let given = Generation::from(given);
            let expected = rotation.filter(|rotation| rotation.next == wanted).map(|it| it.fingerprint);
            let is_it = given.named() == wanted;
            if is_it && expected.is_none_or(|expected| expected == given.secret.fingerprint()) {
                return Some(given);
            }
        }
        None
    }

    /// What this node has of what another member lacks.
    ///
    /// # Errors
    /// The connection is not secured, it is no member that asks, or it is not here.
    pub(in crate::raft) fn give_secret(&self, peer: &Peer, ask: AskSecret) -> Result<GivenSecret, Error> {
        if !peer.transcript.is_secured() && !mutants::on(Mutant::SecretOverPlainLink) {
            return Err(Error::refused(ErrorCode::NotPermitted, NOT_SECURED));
        }
        let standing = self.machine.read(|state, _| state.node(peer.hello.node));
        let is_member = matches!(standing, NodeStanding::Given(given) if given.is_member);
        if !is_member {
            return Err(Error::refused(ErrorCode::NotPermitted, "secrets are given to members only"));
        }
        let AskSecret { generation, admission: key } = ask;
        let found = self.me.credentials.ring.find(Admission { generation, key });
        let missing = || Error::again(ErrorCode::ChangeInProgress, "that generation is not here yet");
        found.map(GivenSecret::from).ok_or_else(missing)
    }

    /// A generation that is only spreading and that nobody who answers has gives way to another one.
    async fn make_up_for(
        self: &Arc<Self>,
        logged: &Logged,
        lost_since: &mut Option<Instant>,
    ) -> Result<(), DiskError> {
        let Some(rotation) = logged.rotation.as_ref().filter(|_| self.ready().is_some()) else {
            *lost_since = None;
            return Ok(());
        };
        let spreading = rotation.phase == queue_protocol::wire::security::RotationPhase::Spreading;
        let since = *lost_since.get_or_insert_with(Instant::now);
        if !spreading || since.elapsed() < LOST_AFTER {
            return Ok(());
        }
        *lost_since = None;
        tracing::warn!("nobody who answers has the next secret: another one is made");
        let left_out = rotation.stages.iter().filter(|(_, stage)| **stage == Stage::LeftOut);
        let left_out = left_out.map(|(node, _)| *node).collect();
        // The next look says what came of it.
        let _ = self.begin(rotation.next.generation.saturating_add(1), left_out).await?;
        Ok(())
    }

    /// Makes a generation, keeps it, and says so in the log.
    async fn begin(&self, number: u32, left_out: Vec<NodeId>) -> Result<Result<(), Error>, DiskError> {
        let secret = Secret(self.outside.random_bytes());
        let admission = Key::new(self.outside.random_bytes());
        let next = Generation { number, secret, admission };
        let (named, fingerprint) = (next.named(), next.secret.fingerprint());
        let kept = next.clone();
        self.keep(move |vault| Box::pin(async move { vault.keep_next(&kept).await })).await?;
        self.me.credentials.ring.set_next(Some(next));
        let left_out = Bounded::new(left_out).expect("no more members than that");
        let begin = BeginRotation { next: named, fingerprint, left_out };
        Ok(match self.ask_state(Op::BeginRotation(Box::new(begin))).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(refusal)) => {
                Err(Error::again(refusal.code, "another rotation of the secret is under way"))
            }
            None => {
                let what = "leadership was lost while the rotation began: queuectl cluster status shows whether it did";
                Err(Error::again(ErrorCode::NoLeader, what))
            }
        })
    }

    /// Hears how far the members are, and notes it.
    async fn lead_rotation(&self, rotation: &Rotation) {
        let generation = rotation.next.generation;
        let me = self.me.credentials.node;
        let mut held = vec![(me, Some(self.secrets_held()))];
        let others = self.other_members().into_iter().filter(|(node, _)| !rotation.has_done(NodeId(*node)));
        held.extend(join_all(others.map(|(node, member)| self.ask_held(node, member))).await);
        for (node, held) in held {
            let Some(stage) = held.and_then(|held| stage_of(held, generation)) else { continue };
            let known = rotation.stages.get(&node).copied();
            if known.is_none_or(|known| known < stage || (known == Stage::LeftOut && stage == Stage::Durable))
            {
                // The next look tells whether it is noted.
                let _ = self.ask_state(Op::NoteRotation(NoteRotation { generation, node, stage })).await;
            }
        }
    }

    async fn ask_held(&self, node: u64, member: Member) -> (NodeId, Option<SecretsHeld>) {
        let link = self.network.link(node, &member);
        let answer = link.ask(Lane::Urgent, PeerRequest::AskHeld, Vec::new(), ASK_TIMEOUT).await;
        let held = match answer {
            Ok(PeerResponse::Held(held)) => Some(held),
            _ => None,
        };
        (NodeId(node), held)
    }

    /// Gives the cluster another secret, or tells how far it is with that.
    ///
    /// # Errors
    /// A member is spoken to in the clear, or does not answer and is not to be left out; or to be repeated: the members
    /// are being changed, or this node does not lead.
    pub(crate) async fn rotate_secret(self: &Arc<Self>, force: bool) -> Result<RotationView, Error> {
        self.read_index().await?;
        let _guard = self.rotating.lock().await;
        let logged = self.logged().ok_or_else(|| self.no_quorum())?;
        let others = self.other_members();
        if let Some(rotation) = &logged.rotation {
            if force {
                self.leave_out(rotation, &others).await;
            }
            if rotation.is_open() || !force {
                return self.under_way();
            }
        }
        let Ok(_joining) = self.joining.try_lock() else {
            return Err(Error::again(ErrorCode::ChangeInProgress, "a node is joining"));
        };
        if self.raft.metrics().borrow_watched().membership_config.membership().get_joint_config().len() > 1 {
            return Err(Error::again(ErrorCode::ChangeInProgress, "the voters are being changed"));
        }
        let mut silent = Vec::new();
        for (node, member) in &others {
            match self.network.link(*node, member).ask_secured(PeerRequest::AskHeld, ASK_TIMEOUT).await {
                Ok(_) => {}
                Err(error) if Link::is_plain(&error) => {
                    let what = format!(
                        "{NOT_SECURED}, and {} speaks with {} in the clear: tls.mode = optional or require on every \
                         node. Nothing was changed",
                        self.me.name, member.name
                    );
                    return Err(Error::refused(ErrorCode::NotPermitted, what));
                }
                Err(_) => silent.push(NodeId(*node)),
            }
        }
        if !silent.is_empty() && !force {
            let what = format!(
                "{} does not answer, and every member must have the new secret. Nothing was changed. Start it; or leave \
                 it out (--force), and give it a copy of another member's SECRET file before it starts",
                self.names_of(&silent)
            );
            return Err(Error::refused(ErrorCode::AddressUnreachable, what));
        }
        let newest = logged.rotation.map_or(logged.admission, |rotation| rotation.next).generation;
        match self.begin(newest.saturating_add(1), silent).await {
            Ok(begun) => begun?,
            Err(error) => {
                self.end_for_vault(&error);
                return Err(self.no_quorum());
            }
        }
        tracing::info!(generation = newest.saturating_add(1), "the cluster's secret is rotated");
        self.under_way()
    }

    fn under_way(&self) -> Result<RotationView, Error> {
        let view = self.machine.read(|state, _| state.rotation_view());
        // A cluster of one may be through with it.
        view.ok_or_else(|| Error::again(ErrorCode::NoLeader, "leadership was lost"))
    }

    /// Does not wait for those that do not answer any more.
    async fn leave_out(&self, rotation: &Rotation, others: &BTreeMap<u64, Member>) {
        let waiting = others.iter().filter(|(node, _)| !rotation.has_done(NodeId(**node)));
        let asked = join_all(waiting.map(|(node, member)| self.ask_held(*node, member.clone()))).await;
        let generation = rotation.next.generation;
        for (node, _) in asked.into_iter().filter(|(_, held)| held.is_none()) {
            let note = NoteRotation { generation, node, stage: Stage::LeftOut };
            // What came of it the answer shows.
            let _ = self.ask_state(Op::NoteRotation(note)).await;
        }
    }
}

/// Why nothing was asked.
pub(in crate::raft) fn not_secured() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, NOT_SECURED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_as_far_as_all_that_it_has_done() {
        let held = |durable, used, oldest| SecretsHeld { durable, used, oldest };
        assert_eq!(stage_of(held(1, 1, 1), 2), None);
        assert_eq!(stage_of(held(2, 1, 1), 2), Some(Stage::Durable));
        assert_eq!(stage_of(held(2, 2, 1), 2), Some(Stage::Switched));
        assert_eq!(stage_of(held(2, 2, 2), 2), Some(Stage::Dropped));
        assert_eq!(stage_of(held(3, 3, 3), 2), Some(Stage::Dropped), "it is further");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_switch_before_all_have_the_next_secret_is_noticed() {
        let test = "raft::cluster::rotation::tests::a_member_is_as_far_as_all_that_it_has_done";
        assert!(mutants::is_caught_by(test, Mutant::SecretSwitchedEarly));
    }
}
