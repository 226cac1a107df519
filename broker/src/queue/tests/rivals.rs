//! What users of other queues suffer from, as reported there, and does not happen here.

use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::NackKind;

use super::super::command::ErrorText;
use super::settings_stories::alter;
use super::*;

fn fail(queue: &str, grants: &[Grant]) -> Op {
    let kind = NackKind::Fail { delay_ms: Some(0), error: ErrorText::cut("no") };
    Op::Nack { leases: receipts(queue, grants), kind }
}

/// NATS #4786, RabbitMQ #17037: the ack of a worker that was too slow deletes the message another one works on.
#[test]
fn a_late_ack_does_not_touch_the_message_that_another_worker_has() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let slow = delivered(broker.call(1, 1, 1, lease("jobs", 1)).result);
    broker.pass_lease(2_000);
    let quick = delivered(broker.call(2, 1, 1, lease("jobs", 1)).result);
    assert_eq!(ids(&quick), [1]);
    assert_eq!(broker.ack("jobs", &slow), [Settled::Stale]);
    assert_eq!(settled(broker.run(fail("jobs", &slow))), [Settled::Stale]);
    let leases = Some(receipts("jobs", &slow));
    let extended = broker.run(Op::Extend { leases, lease_ms: 60_000 }).unwrap();
    assert!(matches!(extended, Outcome::Extended { count: 0, .. }));
    assert_eq!(broker.count("jobs"), [0, 1, 0, 0]);
    assert_eq!(broker.ack("jobs", &quick), [Settled::Ok]);
    assert_eq!(broker.ack("jobs", &slow), [Settled::Gone]);
}

/// What every queue with leases leaves to its users: a worker that was stopped writes after another has taken over. The
/// table of the README, with a token beside each row.
#[test]
fn a_database_that_keeps_the_highest_token_refuses_the_late_worker() {
    let mut row = ("new", LeaseToken(0));
    let mut update = |state, token: LeaseToken| {
        let may = row.1 <= token;
        if may {
            row = (state, token);
        }
        may
    };
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let stopped = broker.lease("jobs", 1);
    assert!(update("begun by the first", stopped[0].token));
    // Its lease ends, also across a restart and whatever else is leased meanwhile.
    broker.run(push("mail", 3)).unwrap();
    broker.lease("mail", 3);
    broker.pass_lease(2_000);
    broker.state = State::decode(&encode(&broker.state)).unwrap();
    let second = broker.lease("jobs", 1);
    assert_eq!(second[0].id, stopped[0].id);
    assert!(update("done by the second", second[0].token));
    assert_eq!(broker.ack("jobs", &second), [Settled::Ok]);
    assert!(!update("done by the first", stopped[0].token), "it is fenced off");
    assert_eq!(row.0, "done by the second");
    assert_eq!(broker.ack("jobs", &stopped), [Settled::Gone]);
}

/// RabbitMQ #124, #10937: a message that dies is published and then deleted, and a crash between leaves two or none.
#[test]
fn a_message_that_dies_is_in_one_queue_whichever_entry_was_the_last() {
    let mut broker = Broker::new();
    broker.run(push("morgue", 1)).unwrap();
    broker.run(push("jobs", 2)).unwrap();
    let to = QueueSettings { dead_to: Some(Some(name("morgue"))), ..Default::default() };
    broker.run(alter("jobs", to)).unwrap();
    let everywhere = |state: &State| state.stats().ready + state.stats().leased + state.stats().dead;
    for round in 0..3 {
        let grants = broker.lease("jobs", 2);
        assert_eq!(grants.len(), 2, "round {round}");
        let batch = [fail("jobs", &grants[..1]), fail("jobs", &grants[1..])];
        broker.entry(batch.map(|op| Command { session: None, op }).into());
        let restarted = State::decode(&encode(&broker.state)).unwrap();
        assert_eq!([everywhere(&broker.state), everywhere(&restarted)], [3, 3]);
    }
    assert_eq!((broker.count("jobs"), broker.count("morgue")), ([0; 4], [3, 0, 0, 0]));
    assert_eq!(broker.state.live_bodies().len(), 2, "both entries' bodies are still named");
}

/// A message that comes back goes to the end of the line, behind those of lower priority that were pushed meanwhile.
#[test]
fn a_message_that_comes_back_keeps_its_priority_and_its_place() {
    let mut broker = Broker::new();
    broker.run(push_special("jobs", 3, &[(1, 9, Due::Now)])).unwrap();
    let urgent = broker.lease("jobs", 1);
    assert_eq!(ids(&urgent), [2]);
    broker.run(push_special("jobs", 2, &[(1, 9, Due::Now)])).unwrap();
    broker.run(fail("jobs", &urgent)).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [2, 5, 1, 3, 4]);
    broker.pass_lease(2_000);
    assert_eq!(ids(&broker.lease("jobs", 9)), [2, 5, 1, 3, 4], "also when its lease ended");
}

/// RabbitMQ #3776, #12141, #13113: one old message keeps everything that was written after it.
#[test]
fn one_old_message_keeps_nothing_alive_but_its_own_body() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 10)).unwrap();
    let old = broker.lease("jobs", 1);
    for _ in 0..50 {
        broker.run(push("jobs", 20)).unwrap();
    }
    while broker.run(pop("jobs", 100)) != Ok(Outcome::Nothing) {}
    assert_eq!(broker.state.live_bodies(), [(1, 0..1)]);
    assert_eq!(broker.ack("jobs", &old), [Settled::Ok]);
    assert!(broker.state.live_bodies().is_empty());
}
