//! Who is connected, and what the clients of sessions call themselves: in this node's memory alone, told to operators.
//!
//! ```text
//! connects ──► open ──► leaves ──► remembered, for the leases its session still holds, until many others have left
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::limits::CLIENTS_LISTED_MAX;
use queue_protocol::names::SessionId;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::clients::{ClientList, ClientView, Clients, Heard};
use queue_protocol::wire::credentials::CLIENT_NAME_SIZE_MAX;
use queue_protocol::wire::response::Answer;
use tokio::time::Instant;

use super::caller::Caller;
use super::dispatch::Dispatch;
use super::flight::Flight;
use super::reply_to::Finished;

use crate::locked::Locked as _;

/// Sessions remembered whose connections are gone.
const LEFT_MAX: usize = 10_000;
/// Leases of one session that are counted.
const LEASED_COUNT_MAX: usize = 1_000;

/// A connection that is open.
struct Open {
    session: SessionId,
    client: Text<CLIENT_NAME_SIZE_MAX>,
    from: SocketAddr,
    since: Instant,
    flight: Arc<Flight>,
}

/// The client of a session.
struct Known {
    client: Text<CLIENT_NAME_SIZE_MAX>,
    from: SocketAddr,
    /// Its connections that are open.
    open: u32,
    /// How often its last connection went.
    left: u64,
}

#[derive(Default)]
struct Inner {
    /// By number, which is the order in which they came.
    open: BTreeMap<u64, Open>,
    known: BTreeMap<SessionId, Known>,
    /// Sessions that were left without a connection, and which time that was.
    left: VecDeque<(SessionId, u64)>,
}

impl Inner {
    fn enter(&mut self, connection: u64, open: Open) {
        let (client, from) = (open.client.clone(), open.from);
        let known = self.known.entry(open.session).or_insert(Known {
            client: Text::default(),
            from,
            open: 0,
            left: 0,
        });
        (known.client, known.from) = (client, from);
        known.open += 1;
        self.open.insert(connection, open);
    }

    fn leave(&mut self, connection: u64) {
        let Some(open) = self.open.remove(&connection) else { return };
        let Some(known) = self.known.get_mut(&open.session) else { return };
        known.open -= 1;
        if known.open > 0 {
            return;
        }
        known.left += 1;
        self.left.push_back((open.session, known.left));
        if self.left.len() > LEFT_MAX
            && let Some((session, left)) = self.left.pop_front()
            && self.known.get(&session).is_some_and(|known| known.open == 0 && known.left == left)
        {
            self.known.remove(&session);
        }
    }

    fn heard(&self, session: SessionId) -> Option<Heard> {
        let Known { client, from, open, .. } = self.known.get(&session)?;
        Some(Heard { client: client.clone(), address: Text::cut(from.to_string()), connected: *open > 0 })
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Roster {
    inner: Mutex<Inner>,
}

impl Roster {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// A client has connected.
    pub(super) fn enter(&self, connection: u64, caller: &Caller, flight: &Arc<Flight>) {
        let open = Open {
            session: caller.session,
            client: caller.client.clone(),
            from: caller.address,
            since: Instant::now(),
            flight: Arc::clone(flight),
        };
        self.inner().enter(connection, open);
    }

    /// A connection is gone.
    pub(super) fn leave(&self, connection: u64) {
        self.inner().leave(connection);
    }

    /// The client of a session; `None` if this node has not heard of it.
    pub(super) fn heard(&self, session: SessionId) -> Option<Heard> {
        self.inner().heard(session)
    }

    /// A page of connections without what is parked and leased, and where the next one begins.
    fn page(&self, after: Option<u64>) -> (Vec<ClientView>, Option<u64>) {
        let inner = self.inner();
        let begin = after.map_or(0, |after| after.saturating_add(1));
        let mut behind = inner.open.range(begin..);
        let view = |(connection, open): (&u64, &Open)| ClientView {
            connection: *connection,
            session: open.session,
            client: open.client.clone(),
            address: Text::cut(open.from.to_string()),
            connected_ms: milliseconds(open.since.elapsed()),
            in_flight: u32::try_from(open.flight.count()).unwrap_or(u32::MAX),
            parked: 0,
            parked_on: Bounded::default(),
            leased: 0,
        };
        let page: Vec<_> = behind.by_ref().take(CLIENTS_LISTED_MAX).map(view).collect();
        let next = page.last().map(|last| last.connection).filter(|_| behind.next().is_some());
        (page, next)
    }
}

impl Dispatch {
    /// A page of the connections of this node.
    pub(super) fn clients(&self, asked: Clients) -> Finished {
        let (mut clients, next) = self.roster.page(asked.after);
        for client in &mut clients {
            let (parked, queues) = self.waiters.parked_of(client.connection);
            client.parked = u32::try_from(parked).unwrap_or(u32::MAX);
            client.parked_on = Bounded::new(queues).expect("no more than were asked for");
        }
        self.consensus.read_now(|state, index| {
            for client in &mut clients {
                let leased = state.leased_to(client.session, LEASED_COUNT_MAX);
                client.leased = u32::try_from(leased).expect("counted no further");
                client.session = self.shown(client.session);
            }
            let clients = Bounded::new(clients).expect("no more than a page");
            Finished::read(index, Answer::Clients(ClientList { clients, next }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(session: u128, client: &str) -> Open {
        Open {
            session: SessionId(session),
            client: Text::cut(client),
            from: "192.0.2.1:5".parse().expect("an address"),
            since: Instant::now(),
            flight: Arc::new(Flight::new()),
        }
    }

    #[test]
    fn a_client_is_remembered_after_its_last_connection_until_many_others_have_left() {
        let mut inner = Inner::default();
        let shown = |inner: &Inner, session| {
            inner.heard(SessionId(session)).map(|heard| (heard.client.to_string(), heard.connected))
        };
        inner.enter(1, open(7, "worker/1"));
        inner.enter(2, open(7, "worker/1"));
        inner.leave(1);
        assert_eq!(shown(&inner, 7), Some(("worker/1".into(), true)), "the other one is open");
        inner.leave(2);
        inner.leave(2);
        assert_eq!(shown(&inner, 7), Some(("worker/1".into(), false)));
        inner.enter(3, open(7, "worker/2"));
        for k in 0..u64::try_from(LEFT_MAX).unwrap() + 9 {
            inner.enter(100 + k, open(1_000 + u128::from(k), "x"));
            inner.leave(100 + k);
        }
        assert_eq!(shown(&inner, 7), Some(("worker/2".into(), true)), "it came back");
        assert_eq!(shown(&inner, 1_000), None);
        assert_eq!((inner.left.len(), inner.known.len()), (LEFT_MAX, LEFT_MAX + 1));
    }

    #[test]
    fn pages_are_complete_and_none_comes_twice() {
        let roster = Roster::default();
        let count = 2 * CLIENTS_LISTED_MAX as u64 + 1;
        (1..=count).for_each(|k| roster.inner().enter(k, open(k.into(), "x")));
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = roster.page(after);
            seen.extend(page.iter().map(|view| view.connection));
            if next.is_none() {
                break;
            }
            after = next;
        }
        assert_eq!(seen, (1..=count).collect::<Vec<_>>());
    }
}
