//! The journal of administrative changes, told one thing at a time.

use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::audit::{AUDIT_LISTED_MAX, Actor, Audit, AuditRecord};
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, KeyId, Token};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{Change, Consistency, WeighGroup};

use super::*;
use crate::queue::By;

fn asked() -> Audit {
    Audit { after: 0, since_ms: 0, by: None, queue: None, consistency: Consistency::Linearizable }
}

fn all(state: &State) -> Vec<AuditRecord> {
    state.audit(&asked()).records.into_vec()
}

fn acts(state: &State) -> Vec<String> {
    all(state).iter().map(|record| record.act.to_string()).collect()
}

fn chained(records: &[AuditRecord]) -> Option<u64> {
    let mut before = (0, [0; 32]);
    for record in records {
        if !record.follows(before.0, &before.1) {
            return Some(record.number);
        }
        before = (record.number, record.hash);
    }
    None
}

fn create(queue: &str) -> Op {
    Op::CreateQueue { queue: name(queue), settings: Box::new(settings()), if_not_exists: true }
}

fn change(broker: &mut Broker, number: u64, change: AuthChange) {
    let stamp = broker.stamp(1, number, 1);
    let by = Some(By { key: 0, version: broker.state.auth_version() });
    let change = ChangeAuth { change, force: false, because: Text::cut("ticket 7") };
    let command =
        Command { session: Some(SessionStamp { by, ..stamp }), op: Op::ChangeAuth(Box::new(change)) };
    broker.entry(vec![command]).replies.remove(0).result.expect("the secret may");
}

#[test]
fn what_is_administrative_has_one_record_and_the_load_has_none() {
    let mut broker = Broker::new();
    broker.call(5, 1, 1, create("jobs")).result.expect("it is new");
    broker.call(5, 2, 1, create("jobs")).result.expect("it is there");
    broker.call(5, 3, 1, push("jobs", 3)).result.expect("it is taken");
    let grants = broker.lease("jobs", 1);
    broker.ack("jobs", &grants);
    assert_eq!(acts(&broker.state), ["create_queue"], "it was made once, and used");
    broker.call(5, 4, 1, push("mail", 1)).result.expect("it makes its queue");
    let change = Box::new(QueueSettings { max_failures: Some(9), ..QueueSettings::default() });
    let alter = Op::AlterQueue { queue: name("jobs"), change, if_version: None };
    broker.call(5, 5, 1, alter).result.expect("it is there");
    let weigh = WeighGroup { queue: name("jobs"), group: key("eu"), weight: Some(3) };
    broker.call(5, 6, 1, Op::WeighGroup(Box::new(weigh))).result.expect("it is there");
    let edit = Op::Edit { queue: name("jobs"), ids: bounded([MessageId(2)]), change: Change::Delete };
    broker.call(5, 7, 1, edit).result.expect("it is there");
    broker.call(5, 8, 1, purge("jobs", None)).result.expect("it is there");
    broker.call(5, 9, 1, purge("jobs", None)).result.expect("nothing is in it");
    let remove = || Op::RemoveQueue { queue: name("jobs"), if_exists: false, if_empty: false };
    broker.call(5, 10, 1, remove()).result.expect("it is there");
    broker.call(5, 11, 1, remove()).result.expect_err("it is gone");
    // A command that comes again counts once.
    broker.call(5, 10, 1, remove()).result.expect("as before");
    let told = all(&broker.state);
    let lines: Vec<String> = told.iter().map(|it| format!("{} {}", it.act, &*it.detail)).collect();
    assert_eq!(
        lines,
        [
            "create_queue ",
            "create_queue by a push",
            "alter_queue max_failures=9",
            "weigh_group weight 3",
            "edit delete 1",
            "sweep delete 1",
            "remove_queue 0 messages",
        ]
    );
    assert!(told.iter().all(|record| record.actor == Actor::Anybody && record.source == Some([0; 16])));
    assert_eq!(chained(&told), None);
}

#[test]
fn a_record_says_who_came_with_which_key_from_where_and_why() {
    let mut broker = Broker::new();
    broker.source = Source([7; 16]);
    let (note, token) = (Text::default(), Token::new([7; 10], [7; 32]));
    let grants = bounded(["manage:*".parse().expect("a grant")]);
    change(&mut broker, 1, AuthChange::AddPrincipal { name: Text::cut("ann"), grants, note: note.clone() });
    let (key, verifier) = (token.id, token.verifier());
    let add_key =
        AuthChange::AddKey { name: Text::cut("ann"), key, verifier, ttl_ms: None, note, others_end_ms: None };
    change(&mut broker, 2, add_key);
    broker.source = Source([9; 16]);
    let (number, _) = broker.state.key(KeyId([7; 10])).expect("it was added");
    let stamp = broker.stamp(2, 1, 1);
    let by = Some(By { key: number, version: broker.state.auth_version() });
    let command = Command { session: Some(SessionStamp { by, ..stamp }), op: create("jobs") };
    broker.entry(vec![command]).replies.remove(0).result.expect("it is new");
    let told = all(&broker.state);
    assert_eq!(
        told.iter().map(|it| &*it.act).collect::<Vec<_>>(),
        ["add_principal", "add_key", "create_queue"]
    );
    assert_eq!(
        (&told[0].actor, &*told[0].because, &*told[0].detail),
        (&Actor::Secret, "ticket 7", "manage:*")
    );
    assert_eq!(told[0].source, Some([7; 16]));
    assert_eq!(told[2].actor, Actor::Principal { name: Text::cut("ann"), key: KeyId([7; 10]) });
    assert_eq!((told[2].source, told[2].index), (Some([9; 16]), broker.index));
    let by_ann = broker.state.audit(&Audit { by: Some(Text::cut("ann")), ..asked() });
    assert_eq!(by_ann.records.iter().map(|it| it.number).collect::<Vec<_>>(), [3]);
    let of_jobs = broker.state.audit(&Audit { queue: Some(name("jobs")), ..asked() });
    assert_eq!(of_jobs.records, by_ann.records);
}

#[test]
fn the_journal_is_read_page_by_page() {
    let mut broker = Broker::new();
    let count = 2 * AUDIT_LISTED_MAX as u64 + 1;
    (1..=count).for_each(|n| drop(broker.run(create(&format!("q{n}")))));
    let (mut audit, mut numbers) = (asked(), Vec::new());
    loop {
        let page = broker.state.audit(&audit);
        numbers.extend(page.records.iter().map(|record| record.number));
        audit.after = page.upto;
        if page.upto == page.last {
            break;
        }
    }
    assert!(numbers.into_iter().eq(1..=count));
    assert!(broker.state.audit(&audit).records.is_empty(), "behind the last there is nothing");
    let beyond = broker.state.audit(&Audit { after: u64::MAX, ..asked() });
    assert!(beyond.records.is_empty());
}

#[test]
fn a_record_edited_on_the_disk_is_loaded_and_named() {
    let mut broker = Broker::new();
    ["one", "two", "six"].iter().for_each(|queue| drop(broker.run(create(queue)).expect("it is new")));
    let mut bytes = encode(&broker.state);
    // The last place where the name stands is its record.
    let at = bytes.windows(3).rposition(|found| found == b"two").expect("it is told");
    bytes[at..at + 3].copy_from_slice(b"ten");
    let edited = State::decode(&bytes).expect("a node goes on with it");
    assert_eq!(chained(&all(&edited)), Some(2));
    assert_eq!(chained(&all(&broker.state)), None);
}
