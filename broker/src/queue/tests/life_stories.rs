//! Stories of a message's life: it expires, it is known already, it is the only one of its kind.

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::{OnExpiry, QueueSettings};
use queue_protocol::wire::request::{MessageState, NackKind, Unique, UniqueHeld};
use queue_protocol::wire::response::{DeadReason, PushOutcome};

use super::super::due::deadlines::FIRED_COUNT_MAX;
use super::settings_stories::{alter, with};
use super::*;

fn push_one(options: PushOptions) -> Op {
    push_with("jobs", 1, vec![(0, options)])
}

fn ttl(ttl_ms: u64) -> PushOptions {
    PushOptions { ttl_ms: Some(ttl_ms), ..PushOptions::default() }
}

fn keyed(key: &str) -> PushOptions {
    PushOptions { dedup_key: Some(key.parse().unwrap()), ..PushOptions::default() }
}

fn unique(key: &str, held: UniqueHeld) -> PushOptions {
    PushOptions { unique: Some(Unique { key: key.parse().unwrap(), held }), ..PushOptions::default() }
}

fn outcome(broker: &mut Broker, options: PushOptions) -> PushOutcome {
    match broker.run(push_one(options)) {
        Ok(Outcome::Pushed(outcomes)) => outcomes[0],
        other => panic!("not a push: {other:?}"),
    }
}

fn stored(id: u64) -> PushOutcome {
    PushOutcome::Stored { first_id: MessageId(id), count: 1 }
}

fn duplicate(id: u64) -> PushOutcome {
    PushOutcome::Duplicate { id: MessageId(id) }
}

#[test]
fn a_message_expires_wherever_it_stands_in_the_queue() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(push_with("jobs", 3, vec![(1, ttl(500))])).unwrap();
    let late = PushOptions { due: Due::AfterMs(9_000), ..ttl(700) };
    broker.run(push_one(late)).unwrap();
    assert_eq!(broker.state.next_due().elapsed_ms, Some(broker.wall_ms + 500));
    broker.pass_wall(500);
    assert_eq!(broker.count("jobs"), [3, 0, 1, 1]);
    let dead = broker.state.peek(&name("jobs"), Some(MessageState::Dead), None, 9, 99).unwrap().remove(0);
    assert_eq!((dead.id, dead.dead), (MessageId(3), Some(DeadReason::Expired)));
    broker
        .run(alter("jobs", QueueSettings { on_expiry: Some(OnExpiry::Drop), ..Default::default() }))
        .unwrap();
    broker.pass_wall(200);
    assert_eq!(broker.count("jobs"), [3, 0, 0, 1]);
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2, 4]);
}

#[test]
fn time_to_live_does_not_end_a_lease_but_meets_the_message_when_it_comes_back() {
    let mut broker = Broker::new();
    broker.run(push_one(ttl(500))).unwrap();
    broker.run(push_one(ttl(500))).unwrap();
    let grants = broker.lease("jobs", 2);
    broker.pass_wall(1_000);
    assert_eq!(broker.count("jobs"), [0, 2, 0, 0]);
    assert_eq!(broker.ack("jobs", &grants[..1]), [Settled::Ok]);
    let kind = NackKind::Release { delay_ms: 0 };
    settled(broker.run(Op::Nack { leases: receipts("jobs", &grants[1..]), kind }));
    assert_eq!(broker.count("jobs"), [0, 0, 0, 1]);

    // Put back, it has the time to live of the queue, and here that is for ever.
    broker.run(redrive("jobs")).unwrap();
    broker.pass_wall(9_000_000);
    assert_eq!(ids(&broker.lease("jobs", 9)), [2]);
}

#[test]
fn what_has_expired_is_not_handed_out_even_if_too_much_expired_at_once() {
    let mut state = State::new();
    let settings = Box::new(Settings { ttl_ms: 1_000, ..settings() });
    let count = u32::try_from(FIRED_COUNT_MAX).unwrap() + 1_000;
    let mut apply = |index, wall_ms, ops: Vec<Op>| {
        let table = vec![ContentSpec { size: 1, crc32c: 0 }; count as usize];
        let commands = ops.into_iter().map(|op| Command { session: None, op });
        let stamps = Stamps::of(wall_ms, 0);
        state.apply(index, &Batch { stamps, commands: bounded(commands) }, &table)
    };
    let create = Op::CreateQueue { queue: name("jobs"), settings, if_not_exists: false };
    let rest = count % 1_000;
    let pushes = (0..count / 1_000).map(|_| push("jobs", 1_000)).chain([push("jobs", rest)]);
    apply(1, 1_000, std::iter::once(create).chain(pushes).collect());
    let applied = apply(2, 5_000, vec![push("jobs", 1), lease("jobs", 10)]);
    // The one that was just pushed has not expired, and the others are in its way no more.
    assert_eq!(ids(&delivered(applied.replies[1].result.clone())), [u64::from(count) + 1]);
    assert_eq!(state.stats().dead, u64::from(count));
    state.check();
}

/// NATS JetStream 2.15 (reproduced) and RabbitMQ #3843 forget the key with its message.
#[test]
fn a_dedup_key_outlives_its_message_its_queue_position_and_a_restart() {
    let mut broker = Broker::new();
    assert_eq!(outcome(&mut broker, keyed("order-17")), stored(1));
    assert_eq!(outcome(&mut broker, keyed("order-17")), duplicate(1));
    let grants = broker.lease("jobs", 1);
    broker.ack("jobs", &grants);
    assert_eq!(outcome(&mut broker, keyed("order-17")), duplicate(1), "acked");
    broker.run(purge("jobs", None)).unwrap();
    broker.state = State::decode(&encode(&broker.state)).unwrap();
    assert_eq!(outcome(&mut broker, keyed("order-17")), duplicate(1), "purged and restarted");
    assert_eq!(outcome(&mut broker, keyed("order-18")), stored(2), "no id was spent on duplicates");
    broker.pass_wall(settings().dedup_window_ms - 1);
    assert_eq!(outcome(&mut broker, keyed("order-17")), duplicate(1));
    broker.pass_wall(1);
    assert_eq!(outcome(&mut broker, keyed("order-17")), stored(3), "the window has passed");
    assert_eq!(outcome(&mut broker, keyed("order-17")), duplicate(3));
}

#[test]
fn a_push_that_was_refused_leaves_no_dedup_key() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(alter("jobs", QueueSettings { max_messages: Some(1), ..Default::default() })).unwrap();
    let full = PushOutcome::Refused { code: ErrorCode::QueueFull, count: 1 };
    assert_eq!(outcome(&mut broker, keyed("order-17")), full);
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(outcome(&mut broker, keyed("order-17")), stored(2));
}

#[test]
fn a_unique_key_is_held_until_its_message_is_settled_or_dead() {
    let mut broker = Broker::new();
    let held = PushOutcome::Refused { code: ErrorCode::UniqueHeld, count: 1 };
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Reject)), stored(1));
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Reject)), held);
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Keep)), duplicate(1));
    let later = PushOptions { due: Due::AfterMs(5_000), ..unique("daily", UniqueHeld::Replace) };
    assert_eq!(outcome(&mut broker, later), stored(2));
    assert_eq!(broker.count("jobs"), [0, 0, 1, 0], "the new one stands in for the old one");
    broker.pass_wall(5_000);
    let grants = broker.lease("jobs", 1);
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Replace)), held, "somebody works on it");
    let kind = NackKind::Reject { reason: super::super::command::ErrorText::cut("no") };
    settled(broker.run(Op::Nack { leases: receipts("jobs", &grants), kind }));
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Reject)), stored(3), "the other is dead");
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(outcome(&mut broker, unique("daily", UniqueHeld::Reject)), stored(4));
}

#[test]
fn what_replaces_the_holder_of_a_unique_key_may_grow_only_as_far_as_the_queue_has_room() {
    let mut broker = Broker::new();
    let change = QueueSettings { max_bytes: Some(25), ..Default::default() };
    broker.run(with("jobs", change)).unwrap();
    let mut push = |size| {
        let table = [ContentSpec { size, crc32c: 0 }];
        let op = push_one(unique("daily", UniqueHeld::Replace));
        let command = Command { session: None, op };
        match broker.entry_with(vec![command], &table).replies.remove(0).result {
            Ok(Outcome::Pushed(outcomes)) => outcomes[0],
            other => panic!("not a push: {other:?}"),
        }
    };
    assert_eq!(push(10), stored(1));
    assert_eq!(push(25), stored(2), "the old one's room is there for it");
    let full = PushOutcome::Refused { code: ErrorCode::QueueFull, count: 1 };
    assert_eq!(push(26), full);
    assert_eq!(push(20), stored(3), "what does not grow always fits");
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
}
