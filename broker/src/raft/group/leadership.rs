//! Who leads, as this node knows it, and the stamps of this node while it leads.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{RaftMetrics, ReadPolicy, ServerState};
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::response::{LeaderView, Role};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::clocks::{self, LeaseStamp, Stamper};
use super::times::{Now, Times};
use crate::locked::Locked as _;
use crate::queue::command::Stamps;
use crate::raft::openraft::types::{RaftLogId, TypeConfig};
use crate::raft::{Consensus, Raft};

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
    /// Confirmed milliseconds on entries that were proposed here and are not applied yet.
    flight_ms: u64,
    /// It leads, and sends nothing that would keep others from electing another.
    silent: bool,
    /// The last that sent entries or a snapshot, and when: only a leader does.
    heard: Option<(NodeId, Instant)>,
}

/// An entry between its stamping and its outcome.
pub(in crate::raft) struct Flight {
    seat: Arc<Seat>,
    confirmed_ms: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.seat.inner().flight_ms -= self.confirmed_ms;
    }
}

impl Inner {
    /// The stamper of this leader, up to date: a quorum of one has acknowledged everything until now.
    fn stamper(&mut self) -> Option<&mut Stamper> {
        let (_, stamper) = self.leading.as_mut()?;
        if self.alone {
            stamper.acknowledge(TypeConfig::now());
        }
        Some(stamper)
    }

    fn lease_stamp(&mut self, leadership: Leadership) -> Option<LeaseStamp> {
        self.leading.as_ref().filter(|(leading, _)| *leading == leadership)?;
        self.stamper()?.stamp(TypeConfig::now())
    }
}

/// What of Raft's metrics says who sits where.
#[derive(PartialEq)]
struct Seen {
    state: ServerState,
    term: u64,
    voted_for: u64,
    leader: Option<u64>,
    /// The entry of the membership, which has the names and addresses.
    membership: Option<RaftLogId>,
}

impl Seen {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        Self {
            state: metrics.state,
            term: metrics.current_term,
            voted_for: metrics.vote.leader_id.node_id,
            leader: metrics.current_leader,
            membership: *metrics.membership_config.log_id(),
        }
    }
}

/// Where this node sits.
pub(crate) struct Seat {
    node: NodeId,
    heartbeat: Duration,
    /// The longest election timeout: for so long a leader takes it that it leads, after a quorum has answered.
    lease: Duration,
    /// A leader that was not heard of for so long is not named to others any more.
    silence_max: Duration,
    times: Arc<Times>,
    inner: Mutex<Inner>,
    view: watch::Sender<View>,
    /// A quorum has answered, while this node leads.
    pub(in crate::raft) confirmed: Notify,
}

impl Seat {
    pub(crate) fn new(node: NodeId, heartbeat: Duration, lease: Duration, times: Arc<Times>) -> Self {
        // Raft waits a lease of one timeout and the timeout itself before it elects.
        let silence_max = 2 * lease;
        let view = View { role: Role::Follower, term: 0, leader: None, ready: None };
        let inner = Inner { leading: None, alone: false, flight_ms: 0, silent: false, heard: None };
        let (inner, view) = (Mutex::new(inner), watch::Sender::new(view));
        Self { node, heartbeat, lease, silence_max, times, inner, view, confirmed: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
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

    /// Another leads, and was heard within two heartbeats.
    pub(super) fn hears_leader(&self) -> bool {
        let leader = self.known_leader();
        let heard = self.inner().heard.filter(|(node, _)| Some(*node) == leader && *node != self.node);
        heard.is_some_and(|(_, at)| at.elapsed() <= 2 * self.heartbeat)
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

    /// Stamps an entry proposed under `leadership`. `None` if this node leads no more, no quorum has answered it for
    /// longer than its lease, or it does not know yet how much time has passed: the entry is not to be proposed.
    pub(crate) fn stamp(&self, leadership: Leadership) -> Option<Stamps> {
        if !self.times.may_stamp() {
            return None;
        }
        let Now { wall_ms, elapsed_ms } = self.times.now();
        let LeaseStamp { confirmed_ms, unconfirmed_ms } = self.inner().lease_stamp(leadership)?;
        Some(Stamps { wall_ms, elapsed_ms, confirmed_ms, unconfirmed_ms })
    }

    /// This node leads, and a quorum has answered it within its lease.
    pub(crate) fn has_quorum(&self) -> bool {
        self.inner().stamper().is_some_and(|stamper| stamper.is_confirmed(TypeConfig::now()))
    }

    /// Sends nothing more that tells others that this node leads, or does again.
    pub(super) fn set_silent(&self, silent: bool) {
        self.inner().silent = silent;
    }

    /// A read would ask the followers whether they still follow, which keeps them from electing another.
    pub(in crate::raft) fn is_silent(&self) -> bool {
        self.inner().silent
    }

    /// When what a quorum has answered was sent, if this node leads and was ever answered.
    pub(super) fn acked(&self) -> Option<clocks::Instant> {
        let inner = self.inner();
        let (_, stamper) = inner.leading.as_ref()?;
        if inner.alone { Some(TypeConfig::now()) } else { stamper.acked() }
    }

    /// How long ago that was.
    pub(in crate::raft) fn acked_age(&self) -> Option<Duration> {
        let (acked, now) = (self.acked()?, TypeConfig::now());
        Some(if now > acked { now - acked } else { Duration::ZERO })
    }

    /// Milliseconds a quorum has confirmed that no entry carries yet.
    pub(crate) fn pending_ms(&self) -> u64 {
        self.inner().stamper().map_or(0, |stamper| stamper.pending_ms())
    }

    /// Milliseconds that have passed and are not on the state's lease clock, confirmed or not; 0 if this node does not
    /// lead. Never less than that if it is asked for before the state.
    pub(in crate::raft) fn ahead_ms(&self) -> u64 {
        let mut inner = self.inner();
        let flight_ms = inner.flight_ms;
        inner.stamper().map_or(0, |stamper| stamper.unstamped_ms(TypeConfig::now()) + flight_ms)
    }

    /// An entry with so many confirmed milliseconds is on its way, until what is returned is dropped.
    pub(in crate::raft) fn fly(self: &Arc<Self>, confirmed_ms: u64) -> Flight {
        self.inner().flight_ms += confirmed_ms;
        Flight { seat: Arc::clone(self), confirmed_ms }
    }

    /// Follows Raft's metrics until Raft stops.
    pub(crate) async fn run(self: Arc<Self>, raft: Raft) {
        let mut metrics = raft.metrics();
        let mut seen = None;
        loop {
            self.observe(&raft, &metrics.borrow_watched(), &mut seen);
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    fn observe(self: &Arc<Self>, raft: &Raft, metrics: &RaftMetrics<TypeConfig>, seen: &mut Option<Seen>) {
        let now = Seen::of(metrics);
        let leads = now.state == ServerState::Leader && now.voted_for == self.node.0;
        // Most changes are of what is acknowledged and applied, several to an entry.
        if seen.as_ref() != Some(&now) {
            self.take_seat(raft, metrics, leads.then_some(Leadership { term: now.term }));
            *seen = Some(now);
        }
        let mut inner = self.inner();
        let acked =
            if inner.alone { Some(TypeConfig::now()) } else { metrics.last_quorum_acked.map(|at| *at) };
        if let (Some((_, stamper)), Some(acked)) = (&mut inner.leading, acked) {
            stamper.acknowledge(acked);
            self.confirmed.notify_one();
        }
    }

    /// Who sits where is not as it was.
    fn take_seat(
        self: &Arc<Self>,
        raft: &Raft,
        metrics: &RaftMetrics<TypeConfig>,
        leads: Option<Leadership>,
    ) {
        let term = metrics.current_term;
        let mut inner = self.inner();
        if let Some(leadership) = leads {
            if inner.leading.as_ref().is_none_or(|(before, _)| *before != leadership) {
                inner.leading =
                    Some((leadership, Stamper::new(self.heartbeat, self.lease, TypeConfig::now())));
                TypeConfig::spawn(Arc::clone(self).make_ready(raft.clone(), leadership));
            }
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            inner.alone = voters == [self.node.0];
            self.times.lead(voters);
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
            let ready = view.ready.filter(|ready| leads == Some(*ready));
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

impl Consensus {
    /// Where to go instead.
    pub(crate) fn not_leader(&self) -> Error {
        let view = self.seat.view();
        let me = &self.me.name;
        match view.leader.filter(|leader| leader.node != self.me.credentials.node) {
            Some(leader) => {
                let message = format!("{me} is a follower; leader is {} at {}", leader.name, leader.address);
                Error { retry: Retry::AtLeader(leader), ..Error::refused(ErrorCode::NotLeader, message) }
            }
            None => Error {
                retry: Retry::AfterMs(50),
                ..Error::refused(ErrorCode::NoLeader, format!("{me} knows no leader"))
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::clock::SystemClock;
    use crate::log::Anchor;
    use crate::raft::Witness;

    const FIRST: Leadership = Leadership { term: 1 };

    fn lead(seat: &Seat, second: Duration) {
        seat.inner().leading = Some((FIRST, Stamper::new(second, second, TypeConfig::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quorum_of_one_has_acknowledged_everything_at_the_moment_of_stamping() {
        let second = Duration::from_secs(1);
        let (clock, boot_id) = (SystemClock, SystemClock.boot_id().expect("it has been booted"));
        let anchor = Anchor { boot_id, boot_ms: clock.boot_ms(), elapsed_ms: 1 };
        let times = Times::new(NodeId(1), Arc::new(clock), Some(anchor), Witness::default());
        times.lead(vec![1]);
        let seat = Seat::new(NodeId(1), second, second, times);
        lead(&seat, second);
        tokio::time::advance(3_600 * second).await;
        assert_eq!(seat.stamp(FIRST), None, "no quorum has answered for an hour");
        seat.inner().alone = true;
        let stamps = seat.stamp(FIRST).expect("it is the quorum");
        assert_eq!((stamps.confirmed_ms, stamps.unconfirmed_ms), (2_000, 0));
        assert_eq!(seat.stamp(Leadership { term: 2 }), None, "it does not lead in that term");
    }
}
