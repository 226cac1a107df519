//! Stories of groups: in order, in turn, limited, and how one hides no other.

use std::collections::BTreeMap;

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::{OnPoison, QueueSettings};
use queue_protocol::wire::explain::Hold;
use queue_protocol::wire::request::{NackKind, WeighGroup};
use queue_protocol::wire::response::DeadReason;

use super::super::command::ErrorText;
use super::*;

fn create(queue: &str, change: QueueSettings) -> Op {
    let settings = Box::new(settings().with(&change));
    Op::CreateQueue { queue: name(queue), settings, if_not_exists: false }
}

fn ordered(on_poison: OnPoison) -> QueueSettings {
    QueueSettings { ordered: Some(true), on_poison: Some(on_poison), ..Default::default() }
}

/// One message a group named; an empty name is none.
fn push_groups(groups: &[&str]) -> Op {
    let options = |group: &&str| PushOptions {
        group: (!group.is_empty()).then(|| key(group)),
        ..PushOptions::default()
    };
    let special = (0..).zip(groups.iter().map(options)).filter(|(_, options)| options.group.is_some());
    Op::Push(Push {
        queue: name("jobs"),
        create: None,
        atomic: false,
        count: u32::try_from(groups.len()).unwrap(),
        special: bounded(special),
    })
}

fn nack(grant: &Grant, kind: NackKind) -> Op {
    Op::Nack { leases: receipts("jobs", std::slice::from_ref(grant)), kind }
}

fn fail(grant: &Grant, delay_ms: u64) -> Op {
    nack(grant, NackKind::Fail { delay_ms: Some(delay_ms), error: ErrorText::cut("no") })
}

fn reject(grant: &Grant) -> Op {
    nack(grant, NackKind::Reject { reason: ErrorText::cut("no") })
}

#[test]
fn a_group_of_an_ordered_queue_is_delivered_one_by_one_in_push_order() {
    let mut broker = Broker::new();
    broker.run(create("jobs", ordered(OnPoison::Skip))).unwrap();
    broker.run(push_groups(&["a", "a", "b", "", "a", ""])).unwrap();
    // One of each group, and those that belong to none.
    let first = broker.lease("jobs", 9);
    assert_eq!(ids(&first), [1, 3, 4, 6]);
    assert_eq!(first[0].group, Some(key("a")));
    assert_eq!(broker.run(lease("jobs", 9)), Ok(Outcome::Nothing));
    // A failure keeps its place: what comes behind waits out its back-off.
    broker.run(fail(&first[0], 500)).unwrap();
    assert_eq!(broker.run(lease("jobs", 9)), Ok(Outcome::Nothing));
    broker.pass_wall(500);
    let again = broker.lease("jobs", 9);
    assert_eq!(ids(&again), [1]);
    let entry = vec![Command { session: None, op: Op::Ack(receipts("jobs", &again)) }];
    assert_eq!(broker.entry(entry).effects.ready, [name("jobs")], "who waits hears of the next one");
    assert_eq!(ids(&broker.lease("jobs", 9)), [2]);
    // A lease that ends frees its group, for the same message.
    broker.pass_lease(2_000);
    assert_eq!(broker.lease("jobs", 1)[0].id, MessageId(2));
}

#[test]
fn a_dead_message_is_skipped_or_blocks_its_group_or_takes_it_along() {
    for (on_poison, left) in [(OnPoison::Skip, 2), (OnPoison::Block, 2), (OnPoison::ParkGroup, 0)] {
        let mut broker = Broker::new();
        broker.run(create("jobs", ordered(on_poison))).unwrap();
        broker.run(push_groups(&["a", "a", "a", "b"])).unwrap();
        let grants = broker.lease("jobs", 9);
        assert_eq!(ids(&grants), [1, 4]);
        broker.run(reject(&grants[0])).unwrap();
        broker.tick();
        assert_eq!(broker.count("jobs"), [left, 1, 0, 3 - left], "{on_poison:?}");
        match on_poison {
            OnPoison::Skip => assert_eq!(ids(&broker.lease("jobs", 9)), [2]),
            OnPoison::Block => {
                assert_eq!(broker.run(lease("jobs", 9)), Ok(Outcome::Nothing));
                broker.run(redrive("jobs")).unwrap();
                assert_eq!(ids(&broker.lease("jobs", 9)), [1]);
            }
            OnPoison::ParkGroup => {
                let dead = broker.state.peek(&name("jobs"), None, Some(MessageId(3)), 1, 0).unwrap();
                assert_eq!(dead[0].dead, Some(DeadReason::Admin));
                // What comes later is delivered, and what is redriven comes back in order.
                broker.run(push_groups(&["a"])).unwrap();
                broker.run(redrive("jobs")).unwrap();
                assert_eq!(ids(&broker.lease("jobs", 9)), [1]);
            }
        }
    }
}

#[test]
fn parking_a_large_group_goes_on_entry_by_entry() {
    let mut broker = Broker::new();
    broker.run(create("jobs", ordered(OnPoison::ParkGroup))).unwrap();
    for _ in 0..5 {
        broker.run(push_groups(&["a"; 1_000])).unwrap();
    }
    let grants = broker.lease("jobs", 1);
    let applied = broker.entry(vec![Command { session: None, op: reject(&grants[0]) }]);
    assert!(applied.effects.more_due);
    assert!(broker.tick().effects.more_due);
    assert_eq!(broker.count("jobs"), [4_999 - 4_096, 0, 0, 4_097]);
    assert_eq!(broker.run(lease("jobs", 1)), Ok(Outcome::Nothing));
    assert!(!broker.tick().effects.more_due);
    assert_eq!(broker.count("jobs"), [0, 0, 0, 5_000]);
}

#[test]
fn a_hot_group_hides_nobody() {
    let mut broker = Broker::new();
    broker.run(create("jobs", ordered(OnPoison::Skip))).unwrap();
    broker.run(push_groups(&["hot"; 1_000])).unwrap();
    broker.run(push_groups(&["cold", "hot", ""])).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 256)), [1, 1_001, 1_003]);
}

#[test]
fn so_many_of_a_group_are_leased_at_once_and_no_more() {
    let mut broker = Broker::new();
    let change = QueueSettings { group_leased_max: Some(2), ..Default::default() };
    broker.run(create("jobs", change)).unwrap();
    broker.run(push_groups(&["a", "a", "a", "b", "", "", ""])).unwrap();
    let grants = broker.lease("jobs", 9);
    assert_eq!(ids(&grants), [1, 2, 4, 5, 6, 7]);
    broker.ack("jobs", &grants[..1]);
    assert_eq!(ids(&broker.lease("jobs", 9)), [3]);
    // Popped is settled: nothing counts.
    broker.run(push_groups(&["c", "c", "c"])).unwrap();
    assert_eq!(ids(&delivered(broker.run(pop("jobs", 9)))), [8, 9, 10]);
}

#[test]
fn a_fair_queue_serves_its_groups_in_turn() {
    let mut broker = Broker::new();
    let fair = QueueSettings { fair: Some(true), group_weight: Some(3), ..Default::default() };
    broker.run(create("jobs", fair)).unwrap();
    for group in ["a", "b", "", "c"] {
        broker.run(push_groups(&[group; 600])).unwrap();
    }
    let mut shares = BTreeMap::<Option<Key>, i64>::new();
    for k in 1..=1_000 {
        let grants = broker.lease("jobs", 1);
        *shares.entry(grants[0].group.clone()).or_default() += 1;
        for share in shares.values() {
            assert!((share - k / 4).abs() <= 3, "{shares:?} after {k}");
        }
    }
    assert_eq!(shares.len(), 4);
    // Who comes late waits one round and no longer.
    broker.run(push_groups(&["late"])).unwrap();
    let next: Vec<Option<Key>> = broker.lease("jobs", 13).into_iter().map(|grant| grant.group).collect();
    assert!(next.contains(&Some(key("late"))));
}

fn weigh(group: &str, weight: Option<u32>) -> Op {
    Op::WeighGroup(Box::new(WeighGroup { queue: name("jobs"), group: key(group), weight }))
}

#[test]
fn each_share_of_a_thousand_deliveries_is_within_one_quantum_of_its_weight() {
    let mut broker = Broker::new();
    let fair = QueueSettings { fair: Some(true), group_weight: Some(2), ..Default::default() };
    broker.run(create("jobs", fair)).unwrap();
    let weights = [("a", 7), ("b", 1), ("c", 4), ("", 2), ("d", 2), ("e", 30)];
    for (group, weight) in weights.iter().filter(|(_, weight)| *weight != 2) {
        assert_eq!(broker.run(weigh(group, Some(*weight))), Ok(Outcome::Weighed(None)));
    }
    // Enough that nobody runs dry.
    for (group, weight) in weights {
        broker.run(push_groups(&vec![group; 30 * weight as usize])).unwrap();
    }
    let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut shares = [0; 6];
    for k in 1..=1_000 {
        let grants = broker.lease("jobs", 1);
        let group = grants[0].group.as_ref().map_or("", Key::as_str);
        let of = weights.iter().position(|(known, _)| *known == group).unwrap();
        shares[of] += 1;
        for (share, (group, weight)) in shares.iter().zip(weights) {
            // Its part of k, exactly: within one quantum either way.
            let off = (share * total).abs_diff(k * weight);
            assert!(off <= weight * total, "{group} has {share} after {k}");
        }
    }
    // From the next turn on it weighs what the queue says.
    assert_eq!(broker.run(weigh("e", None)), Ok(Outcome::Weighed(Some(30))));
    broker.lease("jobs", 60);
    let round = broker.lease("jobs", 18);
    assert_eq!(round.iter().filter(|grant| grant.group == Some(key("e"))).count(), 2);
}

#[test]
fn a_weight_waits_for_its_group_and_there_are_not_too_many() {
    let mut broker = Broker::new();
    let fair = QueueSettings { fair: Some(true), ..Default::default() };
    broker.run(create("jobs", fair)).unwrap();
    broker.run(weigh("later", Some(3))).unwrap();
    broker.run(push_groups(&["later", "later", "later", "later", "a", "a"])).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2, 3, 5, 4, 6]);
    for k in 1..queue_protocol::limits::GROUP_WEIGHTS_MAX {
        broker.state.apply(0, &of_one(weigh(&k.to_string(), Some(1))), &[]);
    }
    let refused = broker.run(weigh("one more", Some(1))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::GroupLimit);
    broker.run(weigh("later", None)).unwrap();
    broker.run(weigh("one more", Some(1))).unwrap();
}

fn of_one(op: Op) -> Batch {
    Batch { stamps: Stamps::default(), commands: bounded([Command { session: None, op }]) }
}

#[test]
fn each_kind_of_blockage_is_explained() {
    let mut broker = Broker::new();
    broker.run(create("jobs", ordered(OnPoison::Block))).unwrap();
    let queue = name("jobs");
    let holds = |broker: &Broker| broker.state.explain(&queue, None).unwrap().0;
    let of = |broker: &Broker, id: u64| broker.state.explain(&queue, Some(MessageId(id))).unwrap();
    let (group, id) = (key("a"), Some(MessageId(1)));
    assert_eq!(holds(&broker), [Hold::Empty]);
    assert!(broker.state.explain(&queue, id).is_err());
    broker.run(push_groups(&["a", "a", "a"])).unwrap();
    assert_eq!((holds(&broker), of(&broker, 3)), (Vec::new(), (Vec::new(), Some(2))));
    let grants = broker.lease("jobs", 1);
    let leased = Hold::GroupLeased { group: group.clone(), id, left_ms: Some(2_000) };
    assert_eq!((holds(&broker), of(&broker, 2)), (vec![leased.clone()], (vec![leased], Some(0))));
    assert_eq!(of(&broker, 1), (vec![Hold::Leased { id: MessageId(1), left_ms: 2_000 }], None));
    broker.run(fail(&grants[0], 500)).unwrap();
    let due_at_ms = broker.wall_ms + 500;
    let left_ms = Some(500);
    let waits = Hold::GroupWaits { group: group.clone(), id, due_at_ms: Some(due_at_ms), left_ms };
    assert_eq!(holds(&broker), [waits]);
    assert_eq!(of(&broker, 1), (vec![Hold::Delayed { id: MessageId(1), due_at_ms, left_ms }], None));
    broker.pass_wall(500);
    let grants = broker.lease("jobs", 1);
    broker.run(reject(&grants[0])).unwrap();
    assert_eq!(holds(&broker), [Hold::GroupBlocked { group: group.clone(), id }]);
    let dead = Hold::Dead { id: MessageId(1), reason: DeadReason::Rejected };
    assert_eq!(of(&broker, 1), (vec![dead], None));
    let change = QueueSettings {
        ordered: Some(false),
        group_leased_max: Some(1),
        leases_paused: Some(false),
        ..Default::default()
    };
    let alter = |change| Op::AlterQueue { queue: name("jobs"), change: Box::new(change), if_version: None };
    broker.run(alter(change)).unwrap();
    broker.lease("jobs", 1);
    assert_eq!(holds(&broker), [Hold::GroupFull { group: group.clone() }]);
    broker.run(alter(QueueSettings { leases_paused: Some(true), ..Default::default() })).unwrap();
    assert_eq!(holds(&broker), [Hold::Paused, Hold::GroupFull { group }]);
}

#[test]
fn groups_are_listed_page_by_page_with_what_holds_them_back() {
    let mut broker = Broker::new();
    let settings = QueueSettings { group_weight: Some(2), ..ordered(OnPoison::Skip) };
    broker.run(create("jobs", settings)).unwrap();
    broker.run(push_groups(&["b", "a", "c", "a"])).unwrap();
    broker.run(lease("jobs", 1)).unwrap();
    let page = broker.state.groups(&name("jobs"), None, 2).unwrap();
    let shown: Vec<_> = page.iter().map(|view| (view.group.as_str(), view.ready, view.leased)).collect();
    assert_eq!(shown, [("a", 2, 0), ("b", 0, 1)]);
    assert_eq!(page[1].held, None, "nothing of it is ready");
    let next = broker.state.groups(&name("jobs"), Some(&key("b")), 2).unwrap();
    assert_eq!((next.len(), next[0].group.as_str(), next[0].weight, next[0].own_weight), (1, "c", 2, false));
    assert_eq!(broker.state.groups(&name("none"), None, 2).unwrap_err().code, ErrorCode::QueueNotFound);
}
