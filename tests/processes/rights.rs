//! Each request needs the rights of `tests/rights.csv`, which was written by hand: what the code says, and what a node does.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::login::{add, change, grants};
use queue_protocol::client::{Client, ClientError, TokenSource};
use queue_protocol::content::encode;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::{LeaseToken, MessageId, NodeId, QueueName};
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::audit::Audit;
use queue_protocol::wire::auth::{AuthChange, Can, ChangeAuth, Principals};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::clients::Clients;
use queue_protocol::wire::explain::Explain;
use queue_protocol::wire::group::Groups;
use queue_protocol::wire::history::History;
use queue_protocol::wire::membership::MemberChange;
use queue_protocol::wire::request::{
    Action, AlterQueue, BindSession, Change, Consistency, CreateQueue, Edit, Extend, ExtendWhich, Lease,
    Nack, NackKind, Peek, Push, PushMessage, Queues, Receipts, RemoveQueue, Request, Select, Sweep,
    WeighGroup,
};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::rights::{Need, Verb};
use queue_protocol::wire::schedule::{Missed, Schedules, SetSchedule, When};
use queue_protocol::wire::txn::{Condition, Step, Txn};

const TABLE: &str = include_str!("../rights.csv");
/// The principal that asks.
const WHO: &str = "who";

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name")
}

fn bounded<T, const N: usize>(values: Vec<T>) -> Bounded<T, N> {
    Bounded::new(values).expect("few")
}

fn receipts() -> Receipts {
    Receipts { queue: queue("jobs"), receipts: bounded(vec![(MessageId(1), LeaseToken(1))]) }
}

fn content() -> bytes::Bytes {
    encode(&Bounded::default(), b"x").expect("it is small")
}

fn push(name: &str, create: bool) -> Push {
    let messages = bounded(vec![PushMessage::plain(&content())]);
    Push { queue: queue(name), create, atomic: false, messages }
}

fn schedule(replace: bool) -> Request {
    let name = if replace { "nightly" } else { "hourly" };
    Request::SetSchedule(Box::new(SetSchedule {
        name: name.parse().expect("a key"),
        replace,
        queue: queue("jobs"),
        when: When::Every(3_600_000),
        missed: Missed::Skip,
        message: PushMessage::plain(&content()),
    }))
}

/// Each row of the table as a request; those that change nodes come last.
fn requests() -> Vec<(&'static str, &'static str, Request)> {
    let (jobs, consistency) = (queue("jobs"), Consistency::Linearizable);
    let audit = Audit { after: 0, since_ms: 0, by: None, queue: None, consistency };
    let lease = |names: &[&str]| Lease {
        queues: bounded(names.iter().map(|name| queue(name)).collect()),
        max_messages: 1,
        max_bytes: 1 << 20,
        lease_ms: None,
        wait_ms: 0,
        linger_ms: 0,
    };
    let sweep = |action| Request::Sweep(Box::new(Sweep::all(queue("jobs"), Select::default(), action)));
    let edit = |change| Edit { queue: queue("jobs"), ids: bounded(vec![MessageId(1)]), change };
    let dead_to = || QueueSettings { dead_to: Some(Some(queue("mail"))), ..QueueSettings::default() };
    let create = |settings| {
        let create = CreateQueue { queue: queue("jobs"), settings, if_not_exists: true };
        Request::CreateQueue(Box::new(create))
    };
    let alter =
        |change| Request::AlterQueue(Box::new(AlterQueue { queue: queue("jobs"), change, if_version: None }));
    let txn = Txn {
        conditions: bounded(vec![Condition::Exists { queue: jobs.clone(), id: MessageId(1) }]),
        steps: bounded(vec![
            Step::Push(push("mail", false)),
            Step::Ack(receipts()),
            Step::Edit(edit(Change::Delete)),
        ]),
    };
    let checkpoint = Checkpoint::new(&b"x"[..]).expect("it is small");
    let save = SaveCheckpoint {
        queue: jobs.clone(),
        id: MessageId(1),
        token: LeaseToken(1),
        lease_ms: 1_000,
        checkpoint,
    };
    let peek = Peek {
        queue: jobs.clone(),
        state: None,
        id: None,
        max_messages: 1,
        max_bytes: 1 << 20,
        after: None,
        consistency,
    };
    let extend = |leases| Request::Extend(Extend { leases, lease_ms: 1_000 });
    let can = |name| Request::Can(Can { name, verb: Verb::Push, queue: Some(queue("jobs")) });
    let nack = Nack { leases: receipts(), kind: NackKind::Release { delay_ms: 0 } };
    let to_mail = || Some(queue("mail"));
    let weigh = WeighGroup { queue: jobs.clone(), group: "g".parse().expect("a key"), weight: None };
    let remove = MemberChange::Remove { node: NodeId(99), force: false };
    let touched = AuthChange::Disable { name: Text::cut("nobody"), disabled: true };
    let touched = ChangeAuth { change: touched, force: false, because: Text::default() };
    vec![
        ("push", "", Request::Push(push("jobs", false))),
        ("push", "create", Request::Push(push("jobs", true))),
        ("lease", "of two queues", Request::Lease(lease(&["jobs", "mail"]))),
        ("pop", "", Request::Pop(lease(&["jobs"]))),
        ("ack", "", Request::Ack(receipts())),
        ("nack", "", Request::Nack(nack)),
        ("extend", "receipts", extend(ExtendWhich::Receipts(receipts()))),
        ("extend", "session", extend(ExtendWhich::Session)),
        ("save_checkpoint", "", Request::SaveCheckpoint(save)),
        ("bind_session", "", Request::BindSession(BindSession { grace_ms: None })),
        ("attend", "", Request::Attend),
        ("peek", "", Request::Peek(peek)),
        ("explain", "", Request::Explain(Explain { queue: jobs.clone(), id: None, consistency })),
        ("history", "", Request::History(History { queue: jobs.clone(), id: MessageId(1), consistency })),
        ("groups", "", Request::Groups(Groups { queue: jobs.clone(), after: None, consistency })),
        ("queues", "all", Request::Queues(Queues { only: None, after: None, consistency })),
        (
            "queues",
            "only one",
            Request::Queues(Queues { only: Some(jobs.clone()), after: None, consistency }),
        ),
        ("create_queue", "", create(QueueSettings::default())),
        ("create_queue", "dead to another", create(dead_to())),
        ("alter_queue", "", alter(QueueSettings::default())),
        ("alter_queue", "dead to another", alter(dead_to())),
        ("weigh_group", "", Request::WeighGroup(weigh)),
        ("sweep", "delete", sweep(Action::Delete)),
        ("sweep", "redrive here", sweep(Action::Redrive { to: None })),
        ("sweep", "redrive elsewhere", sweep(Action::Redrive { to: to_mail() })),
        ("sweep", "move", sweep(Action::Move { to: queue("mail") })),
        ("edit", "delete", Request::Edit(edit(Change::Delete))),
        ("edit", "cancel", Request::Edit(edit(Change::Cancel))),
        ("edit", "kick", Request::Edit(edit(Change::Kick))),
        ("edit", "priority", Request::Edit(edit(Change::Priority(9)))),
        ("edit", "move", Request::Edit(edit(Change::Move(queue("mail"))))),
        ("txn", "push ack edit", Request::Txn(txn)),
        ("set_schedule", "", schedule(false)),
        ("set_schedule", "replacing one of mail", schedule(true)),
        ("remove_schedule", "of mail", Request::RemoveSchedule("weekly".parse().expect("a key"))),
        ("schedules", "", Request::Schedules(Schedules { after: None, consistency })),
        ("status", "", Request::Status),
        ("stats", "", Request::Stats),
        ("whoami", "", Request::Whoami),
        ("can", "oneself", can(None)),
        ("can", "somebody", can(Some(Text::cut("admin")))),
        ("principals", "", Request::Principals(Principals::default())),
        ("audit", "", Request::Audit(audit)),
        ("change_auth", "", Request::ChangeAuth(Box::new(touched))),
        ("clients", "", Request::Clients(Clients { after: None })),
        ("close_session", "", Request::CloseSession),
        (
            "remove_queue",
            "",
            Request::RemoveQueue(RemoveQueue { queue: jobs, if_exists: true, if_empty: true }),
        ),
        ("tls_forget", "", Request::TlsForget(NodeId(99))),
        ("set_log", "", Request::SetLog(None)),
        ("slow", "", Request::Slow),
        ("change_members", "", Request::ChangeMembers(remove)),
        ("raise_level", "", Request::RaiseLevel(None)),
        ("rotate_secret", "", Request::RotateSecret(false)),
        ("transfer_leader", "", Request::TransferLeader(Some(NodeId(99)))),
        ("drain", "", Request::Drain(false)),
    ]
}

/// A right as the table has it.
fn shown(need: &Need) -> String {
    match need {
        Need::Queue(verb, queue) => format!("{verb}:{queue}"),
        // Those of the test push to mail.
        Need::Schedule(verb, _) => format!("{verb}:mail"),
        Need::Somewhere(verb) | Need::Whole(verb) => verb.to_string(),
    }
}

fn rows() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let row = |line: &'static str| {
        let mut fields = line.split(',');
        let mut next = || fields.next().expect("three fields");
        (next(), next(), next().split_whitespace().collect())
    };
    TABLE.lines().skip(1).map(row).collect()
}

#[test]
fn the_match_from_request_to_right_is_the_table() {
    let rows = rows();
    let asked = requests();
    for (name, which, request) in &asked {
        let row = rows.iter().find(|(row, of, _)| (row, of) == (name, which));
        let (.., needs) = row.unwrap_or_else(|| panic!("{name} {which} is not in the table"));
        let said: Vec<String> = request.needs().iter().map(shown).collect();
        assert_eq!(&said, needs, "{name} {which}");
    }
    assert_eq!(rows.len(), asked.len(), "a row of the table is asked for by nothing");
    let kinds: BTreeSet<&str> = asked.iter().map(|(.., request)| request.row().name).collect();
    let all: BTreeSet<&str> = queue_protocol::wire::requests::ROWS.iter().map(|row| row.name).collect();
    assert_eq!(kinds, all, "every request has a row");
}

/// Whether a request is denied, and for which right.
async fn denied(client: &Client, request: &Request) -> Option<String> {
    let contents = vec![content(); request.contents().len()];
    match client.call(request.clone(), contents).await {
        Err(ClientError::Refused(error)) if error.code == ErrorCode::Denied => {
            Some(error.message.to_string())
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_what_the_table_says_and_each_right_that_is_missing_is_named() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let (admin, _) = cluster.require_logins().await;
    let token = add(&admin, WHO, &[]).await;
    for name in ["jobs", "mail", "other"] {
        let settings = QueueSettings::default();
        let create = CreateQueue { queue: queue(name), settings, if_not_exists: false };
        admin.ask(ask::CreateQueue(Box::new(create))).await.expect("it is new");
    }
    for name in ["nightly", "weekly"] {
        let Request::SetSchedule(mut set) = schedule(false) else { unreachable!("it is one") };
        (set.name, set.queue) = (name.parse().expect("a key"), queue("mail"));
        admin.call(Request::SetSchedule(set), vec![content()]).await.expect("it is new");
    }
    let who = cluster.client_within(TokenSource::Given(token), Duration::from_millis(500));
    let may = async |texts: &[&str]| {
        let all = grants(&["push,take,look,read,redrive,manage,destroy,feed,cluster,auth:*"]);
        let patterns = ["jobs", "mail", "other"]
            .map(|name| format!("push,take,look,read,redrive,manage,destroy,feed:{name}"));
        let named: Vec<&str> = patterns.iter().map(String::as_str).collect();
        for less in [all, grants(&named)] {
            change(&admin, AuthChange::Revoke { name: Text::cut(WHO), grants: less })
                .await
                .expect("it is there");
        }
        if !texts.is_empty() {
            let more = AuthChange::Grant { name: Text::cut(WHO), grants: grants(texts) };
            change(&admin, more).await.expect("it is there");
        }
    };
    // As a grant: what is needed somewhere is given on a queue of its own.
    let granted = |need: &str| match need {
        "take" => "take:other".to_owned(),
        other => other.to_owned(),
    };
    for (name, which, request) in requests() {
        let rows = rows();
        let (.., needs) =
            rows.iter().find(|row| (row.0, row.1) == (name, which)).expect("it is in the table");
        for missing in needs {
            let rest: Vec<String> =
                needs.iter().filter(|need| *need != missing).map(|need| granted(need)).collect();
            let elsewhere = missing.split_once(':').map(|(verb, _)| format!("{verb}:other"));
            for more in [None, elsewhere] {
                let given: Vec<&str> = rest.iter().chain(&more).map(String::as_str).collect();
                may(&given).await;
                let why = denied(&who, &request).await;
                let why =
                    why.unwrap_or_else(|| panic!("{name} {which} is done without {missing}, with {given:?}"));
                assert!(why.contains(missing.split(':').next().expect("a verb")), "{name} {which}: {why}");
            }
        }
        let all: Vec<String> = needs.iter().map(|need| granted(need)).collect();
        may(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(denied(&who, &request).await, None, "{name} {which} with {all:?}");
    }
}
