//! Who leads, as this node knows it, and the stamps of this node while it leads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use queue_protocol::bounded::Text;
use queue_protocol::names::NodeId;
use queue_protocol::response::{LeaderView, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Raft;
use super::clocks::{self, Stamper};
use super::times::Times;
use super::types::TypeConfig;
use crate::queue::command::Stamps;

/// One time of leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
}

/// What others should know of leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<LeaderView>,
    /// This node leads and has applied everything that was committed before.
    pub(crate) ready: Option<Leadership>,
}

struct Inner {
    leading: Option<(Leadership, Stamper)>,
    /// This node is a quorum by itself.
    alone: bool,
    /// It leads, and sends nothing that would keep others from electing another.
    silent: bool,
    /// The last that sent entries or a snapshot, and when: only a leader does.
    heard: Option<(NodeId, Instant)>,
}

/// Where this node sits.
pub(crate) struct Seat {
    node: NodeId,
    heartbeat: Duration,
    /// A leader that was not heard of for so long is not named to others any more.
    silence_max: Duration,
    times: Arc<Times>,
    inner: Mutex<Inner>,
    view: watch::Sender<View>,
}

impl Seat {
    pub(crate) fn new(node: NodeId, heartbeat: Duration, silence_max: Duration, times: Arc<Times>) -> Self {
        let view = View { role: Role::Follower, term: 0, leader: None, ready: None };
        let inner = Inner { leading: None, alone: false, silent: false, heard: None };
        Self { node, heartbeat, silence_max, times, inner: Mutex::new(inner), view: watch::Sender::new(view) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The leadership to propose under, if this node leads.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        self.inner().leading.as_ref().map(|(leadership, _)| *leadership)
    }

    /// Who sits where now. Raft remembers a leader until there is another; one that is silent is left out, so that
    /// nobody is sent to it for ever when no other can be elected.
    pub(crate) fn view(&self) -> View {
        let mut view = self.view.borrow().clone();
        let heard = self.inner().heard;
        let now = Instant::now();
        view.leader = view.leader.filter(|leader| {
            let recent = |at: Instant| now.saturating_duration_since(at) <= self.silence_max;
            leader.node == self.node || heard.is_some_and(|(node, at)| node == leader.node && recent(at))
        });
        view
    }

    /// The leader as Raft remembers it, heard of lately or not.
    pub(crate) fn known_leader(&self) -> Option<NodeId> {
        self.view.borrow().leader.as_ref().map(|leader| leader.node)
    }

    /// This leader is gone: nobody is sent to it any more.
    pub(crate) fn forget_leader(&self, gone: NodeId) {
        let mut inner = self.inner();
        inner.heard = inner.heard.filter(|(node, _)| *node != gone);
    }

    /// A peer sent what only a leader sends.
    pub(crate) fn hear_leader(&self, peer: NodeId) {
        self.inner().heard = Some((peer, Instant::now()));
    }

    /// The leadership under which this node may answer, if any.
    pub(crate) fn ready(&self) -> Option<Leadership> {
        self.view.borrow().ready
    }

    /// Follows every change of the view.
    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Whether this leader knows what to stamp.
    pub(crate) fn may_stamp(&self) -> bool {
        self.times.may_stamp()
    }

    /// Stamps an entry proposed under `leadership`.
    pub(crate) fn stamp(&self, leadership: Leadership) -> Stamps {
        let now = self.times.now();
        let stamps = match &mut self.inner().leading {
            Some((leading, stamper)) if *leading == leadership => stamper.stamp(now.wall_ms),
            _ => Stamps::of(now.wall_ms, 0),
        };
        Stamps { elapsed_ms: now.elapsed_ms, ..stamps }
    }

    /// Sends nothing more that tells others that this node leads, or does again.
    pub(super) fn set_silent(&self, silent: bool) {
        self.inner().silent = silent;
    }

    /// A read would ask the followers whether they still follow, which keeps them from electing another.
    pub(super) fn is_silent(&self) -> bool {
        self.inner().silent
    }

    /// When what a quorum has answered was sent, if this node leads and was ever answered.
    pub(super) fn acked(&self) -> Option<clocks::Instant> {
        let inner = self.inner();
        let (_, stamper) = inner.leading.as_ref()?;
        if inner.alone { Some(TypeConfig::now()) } else { stamper.acked() }
    }

    /// How long ago that was.
    pub(super) fn acked_age(&self) -> Option<Duration> {
        let (acked, now) = (self.acked()?, TypeConfig::now());
        Some(if now > acked { now - acked } else { Duration::ZERO })
    }

    /// Milliseconds a quorum has confirmed that no entry carries yet.
    pub(crate) fn pending_ms(&self) -> u64 {
        self.inner().leading.as_ref().map_or(0, |(_, stamper)| stamper.pending_ms())
    }

    /// Follows Raft's metrics until Raft stops.
    pub(crate) async fn run(self: Arc<Self>, raft: Raft) {
        let mut metrics = raft.metrics();
        loop {
            self.observe(&raft, &metrics.borrow_watched());
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    fn observe(self: &Arc<Self>, raft: &Raft, metrics: &openraft::RaftMetrics<TypeConfig>) {
        let term = metrics.current_term;
        let leads = metrics.state == ServerState::Leader && metrics.vote.leader_id.node_id == self.node.0;
        let mut inner = self.inner();
        if leads {
            let leadership = Leadership { term };
            if inner.leading.as_ref().is_none_or(|(before, _)| *before != leadership) {
                inner.leading = Some((leadership, Stamper::new(self.heartbeat)));
                TypeConfig::spawn(Arc::clone(self).make_ready(raft.clone(), leadership));
            }
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            let alone = voters == [self.node.0];
            self.times.lead(voters);
            inner.alone = alone;
            let acked = if alone { Some(TypeConfig::now()) } else { metrics.last_quorum_acked.map(|at| *at) };
            if let (Some((_, stamper)), Some(acked)) = (&mut inner.leading, acked) {
                stamper.acknowledge(acked);
            }
        } else {
            inner.leading = None;
            self.times.follow();
        }
        drop(inner);
        let leader = metrics.current_leader.and_then(|id| {
            let member = metrics.membership_config.membership().get_node(&id)?;
            Some(LeaderView {
                node: NodeId(id),
                name: Text::cut(member.name.clone()),
                address: Text::cut(member.address.clone()),
                term,
            })
        });
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Follower | ServerState::Shutdown => Role::Follower,
        };
        self.view.send_if_modified(|view| {
            let ready = view.ready.filter(|ready| leads && ready.term == term);
            let next = View { role, term, leader, ready };
            let changed = *view != next;
            *view = next;
            changed
        });
    }

    /// Nothing is parked or answered `empty` before the first entry of this term is applied.
    async fn make_ready(self: Arc<Self>, raft: Raft, leadership: Leadership) {
        let mut applied = false;
        while self.leadership() == Some(leadership) {
            if !applied && !self.is_silent() {
                applied = raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_ok();
            }
            if applied {
                self.times.applied_all();
            }
            if applied && self.times.may_stamp() {
                self.view.send_if_modified(|view| {
                    let still = self.leadership() == Some(leadership);
                    if still {
                        view.ready = Some(leadership);
                    }
                    still
                });
                return;
            }
            tokio::time::sleep(self.heartbeat).await;
        }
    }
}
