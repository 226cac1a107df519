//! The operator's terminal: asks every node how it is, ten times a second, and passes orders on. Nothing cuts it off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harness::simulation::{Book, SimNet};
use queue_protocol::client::{Client, ClientConfig};
use queue_protocol::names::NodeId;
use queue_protocol::wire::membership::MemberChange;
use queue_protocol::wire::request::Request;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{MemberView, Role, StatusView};

use super::plan::address;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
const ORDER_TIMEOUT: Duration = Duration::from_secs(6);
/// An answer that is older tells nothing of now.
const FRESH: Duration = Duration::from_millis(700);

/// What a machine's node said last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) status: StatusView,
}

#[derive(Default)]
struct Inner {
    machines: Vec<String>,
    orders: VecDeque<(String, Request)>,
    seen: BTreeMap<String, Seen>,
    /// Answers that nobody has looked at yet.
    news: Vec<(String, StatusView)>,
    leaders: BTreeSet<(u64, u64)>,
    done: BTreeMap<&'static str, u64>,
}

/// What the terminal shows. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Operator(Arc<Mutex<Inner>>);

/// The cluster as its leader describes it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) leader: String,
    pub(crate) members: Vec<MemberView>,
    /// Who votes is being changed.
    pub(crate) changing: bool,
}

impl Picture {
    pub(crate) fn member(&self, node: u64) -> Option<&MemberView> {
        self.members.iter().find(|member| member.node.0 == node)
    }

    pub(crate) fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.voter).count()
    }
}

fn client(seed: u64, number: u64, timeout: Duration, book: &Book) -> Client {
    let seed = u128::from(seed) << 32 | u128::from(number);
    let config = ClientConfig { servers: Vec::new(), timeout, follow: false, seed };
    Client::new(config, Arc::new(SimNet { book: book.clone(), ..SimNet::default() }))
}

fn now() -> Duration {
    turmoil::sim_elapsed().expect("it runs in the simulation")
}

impl Operator {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more machine to ask.
    pub(crate) fn watch(&self, name: &str) {
        self.inner().machines.push(name.to_owned());
    }

    /// Passes an order on to the node of machine `at`.
    pub(crate) fn order(&self, at: &str, request: Request) {
        self.inner().orders.push_back((at.to_owned(), request));
    }

    /// How orders fared, by kind, those that were done.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, u64> {
        self.inner().done.clone()
    }

    /// Answers since the last look.
    pub(crate) fn news(&self) -> Vec<(String, StatusView)> {
        std::mem::take(&mut self.inner().news)
    }

    /// Leaderships that were seen.
    pub(crate) fn leaderships(&self) -> usize {
        self.inner().leaders.len()
    }

    /// What the node of machine `name` said last, if that was lately.
    pub(crate) fn seen(&self, name: &str, now: Duration) -> Option<StatusView> {
        let inner = self.inner();
        inner
            .seen
            .get(name)
            .filter(|seen| now.saturating_sub(seen.at) <= FRESH)
            .map(|seen| seen.status.clone())
    }

    /// The newest leader that was seen lately.
    pub(crate) fn picture(&self, now: Duration) -> Option<Picture> {
        let inner = self.inner();
        let fresh = inner.seen.iter().filter(|(_, seen)| now.saturating_sub(seen.at) <= FRESH);
        let leads = fresh.filter(|(_, seen)| seen.status.role == Role::Leader);
        let (leader, seen) = leads.max_by_key(|(_, seen)| (seen.status.term, seen.status.node.0))?;
        let members = seen.status.members.to_vec();
        Some(Picture { leader: leader.clone(), members, changing: seen.status.changing })
    }

    /// Runs at its own place in the network, for ever.
    pub(crate) async fn run(self, seed: u64, book: Book) -> turmoil::Result {
        let looking = client(seed, 1, LOOK_TIMEOUT, &book);
        let ordering = client(seed, 2, ORDER_TIMEOUT, &book);
        loop {
            let (machines, orders) = {
                let mut inner = self.inner();
                (inner.machines.clone(), std::mem::take(&mut inner.orders))
            };
            for name in machines {
                let (this, client) = (self.clone(), looking.clone());
                tokio::spawn(async move {
                    if let Ok(answered) = client.ask_node(&address(&name), ask::Status).await {
                        this.take(name, *answered.answer);
                    }
                });
            }
            for (at, request) in orders {
                let (this, client) = (self.clone(), ordering.clone());
                tokio::spawn(async move {
                    let kind = kind(&request);
                    if client.call_node(&address(&at), request).await.is_ok() {
                        *this.inner().done.entry(kind).or_default() += 1;
                    }
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn take(&self, name: String, status: StatusView) {
        let mut inner = self.inner();
        if status.role == Role::Leader {
            // Leaders of one term are told apart by their number; the higher one goes before.
            inner.leaders.insert((status.term, status.node.0));
        }
        inner.news.push((name.clone(), status.clone()));
        inner.seen.insert(name, Seen { at: now(), status });
    }
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::TransferLeader(_) => "transferred",
        Request::ChangeMembers(MemberChange::Promote(_)) => "promoted",
        Request::ChangeMembers(_) => "changed",
        Request::Drain(_) => "drained",
        Request::RotateSecret { .. } => "rotated",
        _ => "other",
    }
}

/// Orders by what they do.
pub(crate) fn transfer(to: Option<u64>) -> Request {
    Request::TransferLeader(to.map(NodeId))
}

pub(crate) fn rotate(force: bool) -> Request {
    Request::RotateSecret(force)
}

pub(crate) fn promote(node: u64) -> Request {
    Request::ChangeMembers(MemberChange::Promote(NodeId(node)))
}

pub(crate) fn remove(node: u64) -> Request {
    Request::ChangeMembers(MemberChange::Remove { node: NodeId(node), force: false })
}
