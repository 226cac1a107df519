//! Stories of unique keys through death, redrive and move, and of who holds a lease.

use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{Change, NackKind, Unique, UniqueHeld};
use queue_protocol::wire::response::{Edited, PushOutcome};

use super::settings_stories::with;
use super::sweep_stories::{all, edit, reject, run, seen};
use super::*;

fn push_unique(broker: &mut Broker, queue: &str) -> Option<u64> {
    let unique = Some(Unique { key: "daily".parse().unwrap(), held: UniqueHeld::Reject });
    let options = PushOptions { unique, ..PushOptions::default() };
    match broker.run(push_with(queue, 1, vec![(0, options)])) {
        Ok(Outcome::Pushed(outcomes)) => match outcomes[0] {
            PushOutcome::Stored { first_id, .. } => Some(first_id.0),
            _ => None,
        },
        other => panic!("not a push: {other:?}"),
    }
}

#[test]
fn a_dead_message_keeps_its_unique_key_and_comes_back_only_while_no_other_holds_it() {
    let mut broker = Broker::new();
    let redrive = || all(Select::default(), Action::Redrive { to: None });
    assert_eq!(push_unique(&mut broker, "jobs"), Some(1));
    reject(&mut broker, &["no"]);
    assert_eq!(push_unique(&mut broker, "jobs"), Some(2), "the dead one does not hold it");
    reject(&mut broker, &["no"]);
    assert_eq!(push_unique(&mut broker, "jobs"), Some(3));
    assert_eq!(run(&mut broker, redrive()), Swept { count: 0, next: None, skipped: 2 });
    assert_eq!(edit(&mut broker, &[1, 2], Change::Kick), [Edited::KeyHeld, Edited::KeyHeld]);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 2], "they stay where they are");
    let dry = run(&mut broker, Sweep { dry_run: true, ..redrive() });
    assert_eq!((dry.count, dry.skipped), (2, 0), "a dry run counts those that it looks at");
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(run(&mut broker, redrive()), Swept { count: 1, next: None, skipped: 1 }, "one of the two");
    assert_eq!(push_unique(&mut broker, "jobs"), None, "it holds the key again");
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(edit(&mut broker, &[2], Change::Kick), [Edited::Done]);
    assert_eq!(push_unique(&mut broker, "jobs"), None);
}

#[test]
fn a_message_takes_its_unique_key_along_and_stays_if_another_holds_it_there() {
    let mut broker = Broker::new();
    broker.run(with("other", Default::default())).unwrap();
    let move_all = || all(Select::default(), Action::Move { to: name("other") });
    push_unique(&mut broker, "jobs");
    reject(&mut broker, &["no"]);
    push_unique(&mut broker, "jobs");
    assert_eq!(run(&mut broker, move_all()), Swept { count: 1, next: None, skipped: 1 }, "two of one key");
    assert_eq!((broker.count("jobs"), broker.count("other")), ([0, 0, 0, 1], [1, 0, 0, 0]));
    assert_eq!(push_unique(&mut broker, "other"), None, "it holds the key there");
    assert_eq!(edit(&mut broker, &[1], Change::Move(name("other"))), [Edited::KeyHeld]);
    let redrive = Action::Redrive { to: Some(name("other")) };
    assert_eq!(run(&mut broker, all(Select::default(), redrive.clone())).skipped, 1);
    broker.run(pop("other", 1)).unwrap();
    assert_eq!(run(&mut broker, all(Select::default(), redrive)).count, 1);
    assert_eq!(push_unique(&mut broker, "other"), None);
}

#[test]
fn a_dead_letter_takes_its_unique_key_through_the_queue_of_dead_letters_and_back() {
    let mut broker = Broker::new();
    broker.run(with("other", Default::default())).unwrap();
    let dead_to = QueueSettings { dead_to: Some(Some(name("other"))), ..Default::default() };
    broker.run(with("jobs", dead_to)).unwrap();
    for _ in 0..2 {
        assert!(push_unique(&mut broker, "jobs").is_some());
        reject(&mut broker, &["no"]);
    }
    assert_eq!(broker.count("other"), [2, 0, 0, 0], "both are there, and one of them holds the key");
    let back = Sweep::all(name("other"), Select::default(), Action::Move { to: name("jobs") });
    assert_eq!(run(&mut broker, back), Swept { count: 1, next: None, skipped: 1 });
    assert_eq!(push_unique(&mut broker, "jobs"), None);
}

#[test]
fn a_lease_says_who_holds_it_since_when_whether_it_is_extended_or_not() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.pass_wall(1_000);
    let grants = broker.lease("jobs", 1);
    let since_ms = broker.state.wall_ms();
    let held = |broker: &Broker| seen(broker, "jobs", 1).holding.map(|held| (held.since_ms, held.held_ms));
    assert_eq!(held(&broker), Some((since_ms, 0)));
    broker.pass_wall(4_000);
    let leases = Some(receipts("jobs", &grants));
    broker.run(Op::Extend { leases, lease_ms: 60_000 }).unwrap();
    assert_eq!(held(&broker), Some((since_ms, 4_000)));
    let kind = NackKind::Release { delay_ms: 0 };
    broker.run(Op::Nack { leases: receipts("jobs", &grants), kind }).unwrap();
    assert_eq!(held(&broker), None);
}
