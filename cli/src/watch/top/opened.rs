//! The one queue that is opened: its states, what went in and out, what is oldest, who works on it and waits for it, its groups.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::join4;
use queue_protocol::client::Client;
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::wire::clients::{ClientView, LeaseHolder};
use queue_protocol::wire::group::{GroupView, Groups};
use queue_protocol::wire::request::{Consistency, MessageState, Peek};
use queue_protocol::wire::requests::ask;
use tokio::time::timeout;

use super::model::{KEPT_COUNT, Rates, Row};
use super::picture::picture;
use crate::failure::{End, Failure};
use crate::messages::Seen;
use crate::messages::explain;
use crate::messages::holder;
use crate::messages::peek::{self, Page};
use crate::nodes::clients;
use crate::queues::group;
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Leases that are looked at for who holds them, and bytes of their bodies.
const LEASES_SEEN: u16 = 256;
const BODIES_SEEN_SIZE: u32 = 64 << 10;
/// How long the leader may take to say who is connected.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(1);
/// Columns of a body.
const BODY_WIDTH: usize = 60;

/// See the module.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) name: Option<QueueName>,
    /// Of this queue, the newest last.
    history: VecDeque<Rates>,
    seen: Option<Looked>,
    failure: Option<Failure>,
}

/// What one look found.
struct Looked {
    groups: Vec<GroupView>,
    oldest: Option<Seen>,
    leased: Vec<Seen>,
    /// Not all leases were looked at.
    has_more: bool,
    waiting: Vec<ClientView>,
    /// What holds messages back.
    why: Vec<String>,
}

/// Somebody who works on messages of the queue, or waits for some.
#[derive(Debug, Default, PartialEq, Eq)]
struct Consumer {
    name: String,
    address: String,
    leased: u64,
    longest_ms: u64,
    parked: u64,
}

impl Opened {
    /// Another queue is opened, or none.
    pub(super) fn set(&mut self, name: Option<&QueueName>) {
        if self.name.as_ref() != name {
            *self = Self { name: name.cloned(), ..Self::default() };
        }
    }

    /// Asks for what there is to the queue; `leader` is where the leader listens.
    pub(super) async fn look(&mut self, shell: &Shell, leader: Option<String>, row: Option<&Row>) {
        let Some(name) = self.name.clone() else { return };
        if let Some(rates) = row.and_then(|row| row.rates) {
            self.history.push_back(rates);
            if self.history.len() > KEPT_COUNT {
                self.history.pop_front();
            }
        }
        match look(shell, &name, leader).await {
            Ok(seen) => (self.seen, self.failure) = (Some(seen), None),
            Err(End::Failed(failure)) => self.failure = Some(*failure),
            Err(_) => {}
        }
    }

    /// All of it, the most useful first.
    pub(super) fn lines(&self, row: Option<&Row>, columns: usize) -> Vec<String> {
        let Some(name) = &self.name else { return Vec::new() };
        let Some(Row { view, .. }) = row else {
            return vec![format!("{name}: there is no such queue any more")];
        };
        let count = |count: u64, what: &str| format!("{} {what}", render::count(count));
        let states = [
            count(view.ready, "ready"),
            count(view.leased, "leased"),
            count(view.delayed, "delayed"),
            count(view.dead, "dead"),
            render::size(view.bytes),
        ];
        let mut lines = vec![format!("queue {name}  {}", queue_json::queue::state(view)), states.join("  ")];
        lines.push(format!(
            "{}  {}  {}",
            count(view.pushed_total, "pushed"),
            count(view.leased_total, "leases granted"),
            count(view.acked_total, "acked")
        ));
        lines.push(String::new());
        lines.extend(picture(&self.history, columns));
        if let Some(failure) = &self.failure {
            lines.push(format!("unknown what else: {}", failure.message));
        }
        let Some(seen) = &self.seen else { return lines };
        if let Some(oldest) = &seen.oldest {
            let age = view.oldest_ready_ms.map_or_else(|| "?".to_owned(), render::age);
            let body = render::preview(&oldest.body, BODY_WIDTH);
            lines.push(format!("first ready: {}  {body}", oldest.view.id));
            lines.push(format!("oldest ready: {age}"));
        }
        if let Some(due) = view.next_due_in_ms {
            lines.push(format!("next due in {}", render::age(due)));
        }
        lines.extend(seen.why.iter().cloned());
        lines.push(String::new());
        lines.extend(seen.consumers(columns).lines().map(str::to_owned));
        if !seen.groups.is_empty() {
            lines.push(String::new());
            lines.extend(group::table(&seen.groups, Some(columns)).lines().map(str::to_owned));
        }
        lines
    }
}

async fn look(shell: &Shell, name: &QueueName, leader: Option<String>) -> Result<Looked, End> {
    let groups = Groups { queue: name.clone(), after: None, consistency: Consistency::Linearizable };
    let groups = shell.ask(ask::Groups(groups), Some(name));
    let peek = |state, max_messages| Peek {
        queue: name.clone(),
        state: Some(state),
        id: None,
        max_messages,
        max_bytes: BODIES_SEEN_SIZE,
        after: None,
        consistency: Consistency::Linearizable,
    };
    let ready = peek::page(shell, peek(MessageState::Ready, 1));
    let leased = peek::page(shell, peek(MessageState::Leased, LEASES_SEEN));
    let rest = async { (explain::of_queue(shell, name).await, waiting(&shell.client, leader, name).await) };
    let (groups, ready, leased, (why, waiting)) = join4(groups, ready, leased, rest).await;
    let Page { seen: leased, next, .. } = leased?;
    Ok(Looked {
        groups: groups?.into_vec(),
        oldest: ready?.seen.into_iter().next(),
        leased,
        has_more: next.is_some(),
        waiting,
        why: why?,
    })
}

/// The connections of the leader that wait for messages of the queue; none if it does not say.
async fn waiting(client: &Client, leader: Option<String>, name: &QueueName) -> Vec<ClientView> {
    let Some(leader) = leader else { return Vec::new() };
    let Ok(Ok(mut all)) = timeout(CLIENTS_TIMEOUT, clients::all(client, &leader)).await else {
        return Vec::new();
    };
    all.retain(|view| view.parked_on.iter().any(|on| on == name));
    all
}

impl Looked {
    fn consumers(&self, columns: usize) -> String {
        use Align::{Left, Right};
        let holders = self.leased.iter().filter_map(|seen| seen.view.holder.as_ref());
        let found = consumers(holders, &self.waiting);
        let heads =
            [("CONSUMER", Left), ("ADDRESS", Left), ("LEASED", Right), ("LONGEST", Right), ("WAITS", Right)];
        let row = |consumer: &Consumer| {
            vec![
                consumer.name.clone(),
                consumer.address.clone(),
                render::count(consumer.leased),
                if consumer.leased == 0 { "-".to_owned() } else { render::age(consumer.longest_ms) },
                render::count(consumer.parked),
            ]
        };
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        let mut text = Table::new(&heads, &["ADDRESS", "LONGEST"], Some(columns)).page(&rows);
        if found.is_empty() {
            text.push_str("nobody works on it or waits for it\n");
        }
        if self.has_more {
            text.push_str(&format!("(of the first {} leases)\n", render::count(self.leased.len() as u64)));
        }
        text
    }
}

/// One for each session, those with most leases first.
fn consumers<'a>(holders: impl Iterator<Item = &'a LeaseHolder>, waiting: &[ClientView]) -> Vec<Consumer> {
    let mut found: BTreeMap<Option<SessionId>, Consumer> = BTreeMap::new();
    for holder in holders {
        let consumer = found.entry(holder.session).or_default();
        consumer.name = holder::name_of(holder);
        consumer.address =
            holder.heard.as_ref().map_or_else(|| "?".to_owned(), |heard| heard.address.to_string());
        consumer.leased += 1;
        consumer.longest_ms = consumer.longest_ms.max(holder.held_ms);
    }
    for view in waiting {
        let consumer = found.entry(Some(view.session)).or_default();
        if consumer.leased == 0 {
            consumer.name = holder::shown_name(&view.client);
            consumer.address = view.address.to_string();
        }
        consumer.parked += u64::from(view.parked);
    }
    let mut found: Vec<Consumer> = found.into_values().collect();
    found.sort_by(|one, other| (other.leased, &one.name).cmp(&(one.leased, &other.name)));
    found
}

#[cfg(test)]
pub(super) mod tests {
    use queue_protocol::wire::bounded::{Bounded, Text};
    use queue_protocol::wire::clients::Heard;

    use super::super::model::tests::view;
    use super::*;

    fn holder(session: u128, name: &str, held_ms: u64) -> LeaseHolder {
        let heard = Heard { client: Text::cut(name), address: Text::cut("10.0.0.1:5"), connected: true };
        LeaseHolder { session: Some(SessionId(session)), since_ms: 0, held_ms, heard: Some(heard) }
    }

    fn waits(session: u128, name: &str) -> ClientView {
        ClientView {
            connection: 1,
            session: SessionId(session),
            client: Text::cut(name),
            address: Text::cut("10.0.0.2:6"),
            connected_ms: 5,
            in_flight: 2,
            parked: 2,
            parked_on: Bounded::default(),
            leased: 0,
        }
    }

    pub(crate) fn opened(groups: usize) -> Opened {
        let group = |k: usize| GroupView {
            group: format!("a-group-with-a-name-{k}").parse().expect("a key"),
            weight: 1,
            own_weight: false,
            ready: 5,
            leased: 1,
            waiting: 0,
            dead: 0,
            held: None,
        };
        Opened {
            name: Some("jobs".parse().expect("a name")),
            history: (0..200).map(|k| Rates { into: k % 40 * 10, out: k }).collect(),
            seen: Some(Looked {
                groups: (0..groups).map(group).collect(),
                oldest: None,
                leased: Vec::new(),
                has_more: true,
                waiting: vec![waits(1, "a-worker-with-a-long-name/1.2.3"), waits(2, "")],
                why: vec!["nothing holds jobs back; 2 consumers wait at the leader".to_owned()],
            }),
            failure: None,
        }
    }

    #[test]
    fn a_consumer_is_a_session_whatever_it_holds_and_waits_for() {
        let holders = [holder(1, "w/1", 50), holder(1, "w/1", 900), holder(2, "v/1", 10)];
        let consumer = |name: &str, address: &str, [leased, longest_ms, parked]: [u64; 3]| Consumer {
            name: name.to_owned(),
            address: address.to_owned(),
            leased,
            longest_ms,
            parked,
        };
        assert_eq!(
            consumers(holders.iter(), &[waits(2, "v/1"), waits(3, "")]),
            [
                consumer("w/1", "10.0.0.1:5", [2, 900, 0]),
                consumer("v/1", "10.0.0.1:5", [1, 10, 2]),
                consumer("unnamed", "10.0.0.2:6", [0, 0, 2]),
            ]
        );
    }

    #[test]
    fn a_queue_that_is_gone_is_told_and_one_of_another_name_is_not_shown_for_it() {
        let mut opened = opened(3);
        assert!(opened.lines(None, 80).concat().contains("no such queue any more"));
        let row = Row { view: view("jobs", [7, 100, 90]), rates: None };
        let text = opened.lines(Some(&row), 80).join("\n");
        let words =
            ["7 ready", "2 leased", "7 dead", "100 pushed", "a-group-with-a-name-2", "first 0 leases"];
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        opened.set(Some(&"other".parse().expect("a name")));
        assert!(!opened.lines(Some(&row), 80).concat().contains("a-group"));
    }
}
