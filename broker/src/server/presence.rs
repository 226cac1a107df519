//! Clients of bound sessions that say that they are there, in this leader's memory, and those that do not.
//!
//! ```text
//!           attend                     its connection is gone, or it does not wait any more
//! absent ───────────► attended ───────────────────────────────────────────────────────────► absent
//!   └── for longer than its grace, and it holds something: the state is told, until it holds nothing
//! ```
//!
//! Absence counts on the lease clock, from when this node became the leader at the earliest: without a quorum nobody's
//! time passes, and after a change of the leader every client has its grace to find the new one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::SessionId;
use tokio::sync::watch;

use super::reply_to::{Finished, ReplyTo};
use super::stop::Stop;
use crate::locked::Locked as _;
use crate::queue::Bound;
use crate::queue::command::Op;
use crate::raft::{Consensus, Leadership};

/// How often it is looked who is absent.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Sessions released at a time.
const RELEASED_AT_ONCE: usize = 64;

/// Who is there. See the module.
pub(crate) struct Presence {
    inner: Mutex<Inner>,
    consensus: Weak<Consensus>,
}

/// The lease clock when somebody looks.
#[derive(Clone, Copy)]
struct LeaseClock {
    /// With what a quorum has confirmed: no more has surely passed.
    confirmed_ms: u64,
    /// With what has passed since, too.
    now_ms: u64,
}

type Requests = BTreeMap<(u64, u64), ReplyTo>;

/// Those of one connection.
fn of(connection: u64) -> RangeInclusive<(u64, u64)> {
    (connection, 0)..=(connection, u64::MAX)
}

#[derive(Default)]
struct Inner {
    /// Requests that say that a client is there, by connection and request.
    attended: BTreeMap<SessionId, Requests>,
    /// Bound sessions that are not attended, and since when on the lease clock: from the first look at it.
    absent: BTreeMap<SessionId, Option<u64>>,
    /// The bound sessions that were looked at.
    bound: Bound,
    leadership: Option<Leadership>,
    /// What the lease clock has confirmed at the last look.
    confirmed_ms: u64,
}

impl Inner {
    /// Takes note of the time and of who is bound now. Requests of sessions that are not come out, and sessions that are
    /// away for longer than their grace.
    fn look(
        &mut self,
        leadership: Leadership,
        bound: &Bound,
        LeaseClock { confirmed_ms, now_ms }: LeaseClock,
    ) -> (Vec<ReplyTo>, Vec<SessionId>) {
        if self.leadership != Some(leadership) {
            *self = Self { attended: std::mem::take(&mut self.attended), ..Self::default() };
            self.leadership = Some(leadership);
        }
        let mut unbound = Vec::new();
        if !self.bound.is_same(bound) {
            self.absent.retain(|session, _| bound.grace_ms(*session).is_some());
            for (session, _) in bound.iter().filter(|(session, _)| !self.attended.contains_key(session)) {
                self.absent.entry(session).or_default();
            }
            let gone = self.attended.extract_if(.., |session, _| bound.grace_ms(*session).is_none());
            unbound.extend(gone.flat_map(|(_, requests)| requests.into_values()));
            self.bound = bound.clone();
        }
        // What an entry carries is for a moment neither pending nor applied.
        self.confirmed_ms = self.confirmed_ms.max(confirmed_ms);
        // Begun with what is not confirmed yet, so that what is confirmed later does not shorten the grace.
        let now_ms = now_ms.max(self.confirmed_ms);
        let overdue = |(session, since_ms): (&SessionId, &mut Option<u64>)| {
            let absent_ms = self.confirmed_ms.saturating_sub(*since_ms.get_or_insert(now_ms));
            (absent_ms > self.bound.grace_ms(*session)?).then_some(*session)
        };
        let overdue = self.absent.iter_mut().filter_map(overdue).collect();
        (unbound, overdue)
    }

    fn attend(&mut self, session: SessionId, reply: ReplyTo) {
        self.absent.remove(&session);
        let from = (reply.connection(), reply.request_id());
        self.attended.entry(session).or_default().insert(from, reply);
    }

    /// Lets go of the requests of a session that `which` names.
    fn leave(&mut self, session: SessionId, which: RangeInclusive<(u64, u64)>) {
        let Some(requests) = self.attended.get_mut(&session) else { return };
        requests.extract_if(which, |_, _| true).for_each(drop);
        if requests.is_empty() {
            self.attended.remove(&session);
            self.absent.insert(session, None);
        }
    }
}

impl Presence {
    pub(crate) fn new(consensus: &Arc<Consensus>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), consensus: Arc::downgrade(consensus) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// A client says that it is there, for as long as its request is not answered.
    pub(super) fn attend(&self, session: SessionId, reply: ReplyTo) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        let mut inner = self.inner();
        // Under the lock: whoever dismisses the others afterwards sees this one.
        let refused = if consensus.ready().is_none() {
            Some(Finished::NotLeader)
        } else if consensus.read(|state, _| state.bound().grace_ms(session)).is_none() {
            Some(Finished::Failed(not_bound()))
        } else {
            None
        };
        match refused {
            Some(refused) => {
                drop(inner);
                reply.finish(refused);
            }
            None => inner.attend(session, reply),
        }
    }

    /// Whether a client says over this connection that it is there.
    pub(super) fn attends(&self, session: SessionId, connection: u64) -> bool {
        let inner = self.inner();
        inner.attended.get(&session).is_some_and(|requests| requests.range(of(connection)).next().is_some())
    }

    /// A connection of a session is gone.
    pub(super) fn disconnected(&self, session: SessionId, connection: u64) {
        self.inner().leave(session, of(connection));
    }

    /// The client of `connection` no longer waits for `request_id`.
    pub(super) fn cancelled(&self, session: SessionId, connection: u64, request_id: u64) {
        self.inner().leave(session, (connection, request_id)..=(connection, request_id));
    }

    /// Nobody can be attended here any more.
    pub(super) fn dismiss(&self) {
        let gone = std::mem::take(&mut *self.inner()).attended;
        let replies = gone.into_values().flat_map(Requests::into_values);
        replies.for_each(|reply| reply.finish(Finished::NotLeader));
    }

    /// Tells the state of absent sessions, until the node stops. A node that stops sends its clients away itself.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<Stop>) {
        loop {
            let Some(next) = self.consensus.upgrade().map(|this| this.pulse().next(LOOK_EVERY)) else {
                return;
            };
            let stopped = tokio::time::timeout_at(next, stop.wait_for(|stop| stop.all)).await.is_ok();
            let Some(consensus) = self.consensus.upgrade().filter(|_| !stopped) else { return };
            while let Some(overdue) = self.look(&consensus).filter(|overdue| !overdue.is_empty()) {
                let asked = overdue.into_iter().take(RELEASED_AT_ONCE).map(|session| {
                    tracing::info!(%session, "the client of a bound session is away: its leases go back");
                    consensus.ask_state(Op::ReleaseAbsent(session))
                });
                if join_all(asked).await.iter().any(Option::is_none) {
                    break;
                }
            }
        }
    }

    /// Absent sessions that hold something, if this node leads.
    fn look(&self, consensus: &Consensus) -> Option<Vec<SessionId>> {
        let leadership = consensus.ready()?;
        let bound = consensus.read(|state, _| state.bound().clone());
        let mut inner = self.inner();
        let clock = LeaseClock {
            confirmed_ms: consensus.confirmed_lease_clock_ms(),
            now_ms: consensus.lease_clock_ms(),
        };
        let (unbound, overdue) = inner.look(leadership, &bound, clock);
        drop(inner);
        unbound.into_iter().for_each(|reply| reply.finish(Finished::Failed(not_bound())));
        if overdue.is_empty() {
            return None;
        }
        Some(
            consensus.read(|state, _| {
                overdue.into_iter().filter(|session| state.holds_anything(*session)).collect()
            }),
        )
    }
}

fn not_bound() -> Error {
    Error::refused(ErrorCode::SessionNotBound, "the session is not bound, or not any more")
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::queue::State;
    use crate::queue::command::{Batch, Command, Opening, SessionStamp, Stamps};
    use crate::server::reply_to::Reply;
    use queue_protocol::wire::request_hash::RequestHash;

    const GRACE_MS: u64 = 2_000;
    const FIRST: Leadership = Leadership { term: 1 };

    /// What the state says when these sessions are bound.
    fn bound(sessions: &[u128]) -> Bound {
        let bind = |session: &u128| Command {
            session: Some(SessionStamp {
                session: SessionId(*session),
                number: 1,
                done_below: 1,
                opening: Some(Opening::default()),
                request: RequestHash::default(),
                by: None,
            }),
            op: Op::BindSession { grace_ms: Some(GRACE_MS) },
        };
        let commands = sessions.iter().map(bind).collect::<Vec<_>>().try_into().expect("a few");
        let mut state = State::new();
        state.apply(1, &Batch { stamps: Stamps::default(), commands }, &[]);
        state.bound().clone()
    }

    fn request(connection: u64) -> (ReplyTo, mpsc::UnboundedReceiver<Reply>) {
        let (to, answers) = mpsc::unbounded_channel();
        (ReplyTo::new(connection, 7, 0, to), answers)
    }

    fn overdue(inner: &mut Inner, bound: &Bound, clock_ms: u64) -> Vec<u128> {
        inner.look(FIRST, bound, at(clock_ms)).1.into_iter().map(|session| session.0).collect()
    }

    fn at(clock_ms: u64) -> LeaseClock {
        LeaseClock { confirmed_ms: clock_ms, now_ms: clock_ms }
    }

    #[test]
    fn what_is_confirmed_after_the_first_look_shortens_no_grace() {
        let (mut inner, bound) = (Inner::default(), bound(&[1]));
        let first = LeaseClock { confirmed_ms: 100, now_ms: 340 };
        assert!(inner.look(FIRST, &bound, first).1.is_empty());
        assert_eq!(overdue(&mut inner, &bound, 340 + GRACE_MS), []);
        assert_eq!(overdue(&mut inner, &bound, 341 + GRACE_MS), [1]);
    }

    #[test]
    fn a_session_is_overdue_when_its_grace_has_passed_since_the_first_look_at_its_absence() {
        let (mut inner, bound) = (Inner::default(), bound(&[1, 2]));
        inner.attend(SessionId(2), request(5).0);
        assert_eq!(overdue(&mut inner, &bound, 100), []);
        assert_eq!(overdue(&mut inner, &bound, 100 + GRACE_MS), []);
        assert_eq!(overdue(&mut inner, &bound, 101 + GRACE_MS), [1]);
        inner.leave(SessionId(2), of(5));
        assert_eq!(overdue(&mut inner, &bound, 5_000), [1], "nobody saw when it went");
        assert_eq!(overdue(&mut inner, &bound, 5_000 + GRACE_MS), [1]);
        inner.attend(SessionId(1), request(6).0);
        assert_eq!(overdue(&mut inner, &bound, 5_001 + GRACE_MS), [2]);
    }

    #[test]
    fn a_client_is_there_as_long_as_one_of_its_requests_is_open() {
        let (mut inner, bound) = (Inner::default(), bound(&[1]));
        inner.attend(SessionId(1), request(5).0);
        inner.attend(SessionId(1), request(6).0);
        inner.leave(SessionId(1), of(5));
        assert_eq!(overdue(&mut inner, &bound, 10), []);
        assert_eq!(overdue(&mut inner, &bound, 100_000), []);
        inner.leave(SessionId(1), of(6));
        assert_eq!(overdue(&mut inner, &bound, 100_000), []);
        assert_eq!(overdue(&mut inner, &bound, 100_001 + GRACE_MS), [1]);
    }

    #[test]
    fn with_a_new_leadership_absence_begins_anew_and_a_clock_that_goes_back_counts_nothing() {
        let (mut inner, bound) = (Inner::default(), bound(&[1]));
        assert_eq!(overdue(&mut inner, &bound, 100), []);
        assert_eq!(overdue(&mut inner, &bound, 90), []);
        assert_eq!(overdue(&mut inner, &bound, 101 + GRACE_MS), [1]);
        let second = Leadership { term: 2 };
        assert!(inner.look(second, &bound, at(200 + GRACE_MS)).1.is_empty());
        assert!(inner.look(second, &bound, at(200 + 2 * GRACE_MS)).1.is_empty());
        assert_eq!(inner.look(second, &bound, at(201 + 2 * GRACE_MS)).1, [SessionId(1)]);
    }

    #[test]
    fn who_is_not_bound_any_more_is_told_and_never_overdue() {
        let mut inner = Inner::default();
        inner.attend(SessionId(1), request(5).0);
        assert!(inner.look(FIRST, &bound(&[1, 2]), at(10)).0.is_empty());
        let (unbound, _) = inner.look(FIRST, &bound(&[]), at(20));
        assert_eq!(unbound.iter().map(ReplyTo::connection).collect::<Vec<_>>(), [5]);
        assert_eq!(overdue(&mut inner, &bound(&[]), 1_000_000), []);
    }
}
