//! Stories of queues that serve one session at a time: who has it, and how it passes on.

use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::explain::Hold;
use queue_protocol::wire::request::NackKind;

use super::super::command::ErrorText;
use super::settings_stories::alter;
use super::*;

/// A client with a session of its own.
struct Consumer {
    session: u128,
    sent: u64,
}

impl Consumer {
    fn new(session: u128) -> Self {
        Self { session, sent: 0 }
    }

    fn call(&mut self, broker: &mut Broker, op: Op) -> Reply {
        self.sent += 1;
        broker.call(self.session, self.sent, 1, op)
    }

    /// Leases of 2 s.
    fn lease(&mut self, broker: &mut Broker) -> Vec<Grant> {
        delivered(self.call(broker, lease("jobs", 1)).result)
    }
}

fn single(broker: &mut Broker, messages: u32) {
    let settings = Settings { single_active: true, lease_ms: 2_000, ..settings() };
    let create = Op::CreateQueue { queue: name("jobs"), settings: Box::new(settings), if_not_exists: false };
    broker.run(create).unwrap();
    broker.run(push("jobs", messages)).unwrap();
}

#[test]
fn one_session_is_served_until_it_is_silent_for_three_leases() {
    let mut broker = Broker::new();
    single(&mut broker, 9);
    let (mut first, mut second) = (Consumer::new(1), Consumer::new(2));
    let grants = first.lease(&mut broker);
    assert_eq!((ids(&grants), grants[0].epoch), (vec![1], 1));
    assert!(second.lease(&mut broker).is_empty());
    let hold = |left_ms| [Hold::Active { session: SessionId(1), epoch: 1, left_ms }];
    let holds = |broker: &Broker| broker.state.explain(&name("jobs"), None).unwrap().0;
    assert_eq!(holds(&broker), hold(6_000));
    // An ack, and everything else it does with its leases, shows that it is there.
    broker.pass_lease(1_500);
    first.call(&mut broker, Op::Ack(receipts("jobs", &grants)));
    broker.pass_lease(5_999);
    assert!(second.lease(&mut broker).is_empty());
    assert_eq!(holds(&broker), hold(1));
    assert_eq!(broker.pass_lease(1).effects.ready, [name("jobs")], "who waits hears of it");
    let grants = second.lease(&mut broker);
    assert_eq!((ids(&grants), grants[0].epoch), (vec![2], 2));
    assert!(first.lease(&mut broker).is_empty());
    // Who had it before comes back under an epoch of its own.
    broker.pass_lease(6_000);
    let again = first.lease(&mut broker);
    assert_eq!(again[0].epoch, 3);
    assert_eq!(broker.ack("jobs", &grants), [Settled::Stale]);
}

#[test]
fn a_session_that_is_closed_passes_the_queue_on_when_its_leases_have_ended() {
    let mut broker = Broker::new();
    single(&mut broker, 9);
    let (mut first, mut second) = (Consumer::new(1), Consumer::new(2));
    let grants = first.lease(&mut broker);
    first.call(&mut broker, Op::CloseSession);
    assert!(second.lease(&mut broker).is_empty(), "nobody else works on the queue yet");
    broker.pass_lease(2_000);
    assert_eq!(broker.ack("jobs", &grants), [Settled::Stale]);
    let grants = second.lease(&mut broker);
    assert_eq!((ids(&grants), grants[0].epoch), (vec![1], 2));
    broker.ack("jobs", &grants);
    let stamp = Some(broker.stamp(2, 99, 1));
    let close = vec![Command { session: stamp, op: Op::CloseSession }];
    assert_eq!(broker.entry(close).effects.ready, [name("jobs")], "without leases at once");
    assert_eq!(Consumer::new(3).lease(&mut broker)[0].epoch, 3);
}

#[test]
fn a_consumer_that_has_nothing_to_do_keeps_the_queue_and_costs_no_entry() {
    let mut broker = Broker::new();
    single(&mut broker, 1);
    let (mut first, mut second) = (Consumer::new(1), Consumer::new(2));
    let grants = first.lease(&mut broker);
    first.call(&mut broker, Op::Ack(receipts("jobs", &grants)));
    assert_eq!(broker.state.next_due().lease_ms, None);
    // Long after, in the entry of the push, as the leader serves those who wait.
    broker.confirmed_ms += 3_600_000;
    first.sent += 1;
    let stamp = broker.stamp(1, first.sent, 1);
    let take = Command { session: Some(stamp), op: lease("jobs", 1) };
    let applied = broker.entry(vec![Command { session: None, op: push("jobs", 2) }, take]);
    let grants = delivered(applied.replies[1].result.clone());
    assert_eq!((ids(&grants), grants[0].epoch), (vec![2], 1));
    assert!(second.lease(&mut broker).is_empty());
    // Switched off, it is a queue like any other.
    broker.run(alter("jobs", QueueSettings { single_active: Some(false), ..Default::default() })).unwrap();
    let grants = second.lease(&mut broker);
    assert_eq!((ids(&grants), grants[0].epoch), (vec![3], 0));
}

/// RabbitMQ #17317: the active consumer goes away at the wrong moment, and nobody is served any more.
#[test]
fn whenever_the_active_consumer_is_killed_the_next_one_is_served() {
    let give_back = |delay_ms| NackKind::Fail { delay_ms: Some(delay_ms), error: ErrorText::cut("no") };
    let steps: [&[&str]; 8] = [
        &[],
        &["lease"],
        &["lease", "extend"],
        &["lease", "ack"],
        &["lease", "nack"],
        &["lease", "delay"],
        &["lease", "pause", "resume"],
        &["lease", "ack", "lease", "close"],
    ];
    for steps in steps {
        let mut broker = Broker::new();
        single(&mut broker, 2);
        let (mut first, mut second) = (Consumer::new(1), Consumer::new(2));
        let mut held = Vec::new();
        for step in steps {
            let paused = |on| QueueSettings { leases_paused: Some(on), ..Default::default() };
            let leases = receipts("jobs", &held);
            let op = match *step {
                "lease" => lease("jobs", 1),
                "extend" => Op::Extend { leases: Some(leases), lease_ms: 5_000 },
                "ack" => Op::Ack(leases),
                "nack" => Op::Nack { leases, kind: give_back(0) },
                "delay" => Op::Nack { leases, kind: give_back(1_000) },
                "pause" => alter("jobs", paused(true)),
                "resume" => alter("jobs", paused(false)),
                _ => Op::CloseSession,
            };
            if let Ok(Outcome::Delivered(grants)) = first.call(&mut broker, op).result {
                held = grants;
            }
        }
        // From here on it is silent. No more than three of its leases later all is done by the other.
        let mut left: u64 = broker.count("jobs").iter().sum();
        for _ in 0..16 {
            broker.wall_ms += 1_000;
            broker.pass_lease(1_000);
            for _ in 0..2 {
                let grants = second.lease(&mut broker);
                left -= grants.len() as u64;
                second.call(&mut broker, Op::Ack(receipts("jobs", &grants)));
            }
        }
        assert_eq!((left, broker.count("jobs")), (0, [0; 4]), "after {steps:?}");
    }
}
