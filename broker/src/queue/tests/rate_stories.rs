//! Stories of rates: how often messages of a queue and of a group are handed out, and who hears of the next one.

use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::explain::Hold;

use super::settings_stories::alter;
use super::*;

fn create(change: &QueueSettings) -> Op {
    let settings = Box::new(settings().with(change));
    Op::CreateQueue { queue: name("jobs"), settings, if_not_exists: false }
}

fn rate(max: u32, ms: u64) -> QueueSettings {
    QueueSettings { rate_max: Some(max), rate_ms: Some(ms), ..Default::default() }
}

fn group_rate(max: u32, ms: u64) -> QueueSettings {
    QueueSettings { group_rate_max: Some(max), group_rate_ms: Some(ms), ..Default::default() }
}

fn push_group(group: &str, count: u32) -> Op {
    let options = PushOptions { group: Some(key(group)), ..PushOptions::default() };
    push_with("jobs", count, (0..count).map(|k| (k, options.clone())).collect())
}

fn holds(broker: &Broker) -> Vec<Hold> {
    broker.state.explain(&name("jobs"), None).unwrap().0
}

#[test]
fn a_queue_hands_out_no_more_than_its_rate_allows() {
    let mut broker = Broker::new();
    broker.run(create(&rate(3, 1_000))).unwrap();
    broker.run(push("jobs", 100)).unwrap();
    // A second's worth at once, pops and leases alike.
    assert_eq!(broker.lease("jobs", 2).len(), 2);
    assert_eq!(delivered(broker.run(pop("jobs", 9))).len(), 1);
    assert_eq!(broker.run(lease("jobs", 9)), Ok(Outcome::Nothing));
    assert_eq!(holds(&broker), [Hold::Rate { wait_ms: 334 }]);
    let of_one = broker.state.explain(&name("jobs"), Some(MessageId(50))).unwrap();
    assert_eq!(of_one, (vec![Hold::Rate { wait_ms: 334 }], Some(46)));
    // Who waits hears of the next one, and not before.
    assert_eq!(broker.state.next_due().elapsed_ms, Some(broker.wall_ms + 334));
    assert!(broker.pass_wall(333).effects.ready.is_empty());
    assert_eq!(broker.pass_wall(1).effects.ready, [name("jobs")]);
    assert_eq!(broker.state.available(&name("jobs")), 1);
    let mut given = 3;
    for _ in 0..966 {
        given += broker.lease("jobs", 9).len();
        broker.pass_wall(10);
    }
    assert!((3 + 29..=3 + 30).contains(&given), "{given} in ten seconds");
}

#[test]
fn a_failure_gives_nothing_back_and_a_rate_that_is_changed_begins_anew() {
    let mut broker = Broker::new();
    broker.run(create(&rate(1, 60_000))).unwrap();
    broker.run(push("jobs", 3)).unwrap();
    let grants = broker.lease("jobs", 9);
    let kind = queue_protocol::wire::request::NackKind::Release { delay_ms: 0 };
    broker.run(Op::Nack { leases: receipts("jobs", &grants), kind }).unwrap();
    assert_eq!(broker.run(lease("jobs", 9)), Ok(Outcome::Nothing));
    broker.run(alter("jobs", rate(2, 60_000))).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2]);
    broker.run(alter("jobs", rate(0, 60_000))).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [3]);
}

#[test]
fn a_queue_that_waits_for_nothing_proposes_nothing_and_serves_at_once_when_it_may() {
    let mut broker = Broker::new();
    broker.run(create(&rate(1, 1_000))).unwrap();
    broker.run(push("jobs", 1)).unwrap();
    let grants = broker.lease("jobs", 1);
    broker.ack("jobs", &grants);
    assert_eq!(broker.state.next_due().elapsed_ms, None);
    // Long after, in the very entry of the push.
    broker.wall_ms += 5_000;
    let take = [push("jobs", 2), lease("jobs", 9)].map(|op| Command { session: None, op });
    let applied = broker.entry(take.into());
    assert_eq!(ids(&delivered(applied.replies[1].result.clone())), [2]);
    // A queue that is paused waits for something else.
    broker.run(alter("jobs", QueueSettings { leases_paused: Some(true), ..Default::default() })).unwrap();
    assert_eq!(broker.state.next_due().elapsed_ms, None);
}

#[test]
fn each_group_has_a_rate_of_its_own() {
    let mut broker = Broker::new();
    broker.run(create(&group_rate(2, 1_000))).unwrap();
    broker.run(push_group("busy", 5)).unwrap();
    broker.run(push_group("calm", 1)).unwrap();
    broker.run(push("jobs", 2)).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2, 6, 7, 8]);
    let wait_ms = Some(500);
    assert_eq!(holds(&broker), [Hold::GroupRate { group: key("busy"), wait_ms }]);
    assert_eq!(broker.state.next_due().elapsed_ms, Some(broker.wall_ms + 500));
    assert_eq!(broker.pass_wall(500).effects.ready, [name("jobs")]);
    assert_eq!(ids(&broker.lease("jobs", 9)), [3]);
    // A bucket that is full again is forgotten with its group.
    broker.pass_wall(1_000);
    assert_eq!(delivered(broker.run(pop("jobs", 9))).len(), 2);
    let busy = contents(&broker.state).len();
    broker.pass_wall(1_000);
    assert!(contents(&broker.state).len() < busy);
}
