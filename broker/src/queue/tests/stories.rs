//! What happens to messages, told one thing at a time.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::request::{Change, MessageState, NackKind};
use queue_protocol::wire::response::{DeadReason, PushOutcome};

use super::super::command::{ErrorText, FoundCluster};
use super::super::{Admission, FIRED_COUNT_MAX, FOUNDER, NodeStanding};
use super::*;

fn fail(delay_ms: Option<u64>) -> NackKind {
    NackKind::Fail { delay_ms, error: ErrorText::cut("no answer") }
}

fn nack(queue: &str, grants: &[Grant], kind: NackKind) -> Op {
    Op::Nack { leases: receipts(queue, grants), kind }
}

#[test]
fn a_checkpoint_reaches_the_next_attempt_whatever_ended_the_last() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 20)).unwrap();
    let save = |grant: &Grant, bytes: Vec<u8>| {
        let checkpoint = Checkpoint::new(bytes).unwrap();
        let (queue, id, token) = (name("jobs"), grant.id, grant.token);
        Op::SaveCheckpoint(Box::new(SaveCheckpoint { queue, id, token, lease_ms: 5_000, checkpoint }))
    };
    let grants = broker.lease("jobs", 1);
    assert_eq!(grants[0].checkpoint, None);
    let saved = broker.run(save(&grants[0], b"row 31".to_vec()));
    let deadline_ms = broker.state.lease_clock_ms() + 5_000;
    assert_eq!(saved, Ok(Outcome::Extended { results: vec![Settled::Ok], count: 1, deadline_ms }));
    broker.pass_lease(4_999);
    assert_eq!(broker.count("jobs"), [19, 1, 0, 0], "its lease is longer");
    broker.pass_lease(1);
    let again = broker.lease("jobs", 1);
    assert_eq!(again[0].checkpoint.as_ref().map(Checkpoint::as_bytes), Some(&b"row 31"[..]));
    // Who lost the lease changes nothing.
    let late = broker.run(save(&grants[0], b"row 1".to_vec())).unwrap();
    assert!(matches!(late, Outcome::Extended { count: 0, results, .. } if results == [Settled::Stale]));
    let shown = broker.state.peek(&name("jobs"), None, Some(again[0].id), 1, 0).unwrap();
    assert_eq!(shown[0].checkpoint_size, Some(6));
    // All of one delivery fit one answer.
    let grants = broker.lease("jobs", 19);
    for grant in again.iter().chain(&grants) {
        broker.run(save(grant, vec![7; 4 << 10])).unwrap();
    }
    broker.pass_lease(5_000);
    assert_eq!(broker.lease("jobs", 20).len(), 16);
    assert_eq!(broker.lease("jobs", 20).len(), 4);
}

#[test]
fn messages_are_delivered_in_push_order_and_higher_priorities_first() {
    let mut broker = Broker::new();
    let special = [(1, 0, Due::Now), (2, 31, Due::Now), (4, 31, Due::Now)];
    broker.run(push_special("jobs", 6, &special)).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 4)), [3, 5, 1, 4]);
    assert_eq!(ids(&broker.lease("jobs", 4)), [6, 2]);
}

#[test]
fn a_message_that_comes_back_takes_its_old_place() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 5)).unwrap();
    let grants = broker.lease("jobs", 3);
    broker.run(nack("jobs", &grants[1..2], NackKind::Release { delay_ms: 0 })).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 2)), [2, 4]);
    broker.run(nack("jobs", &grants[..1], fail(Some(0)))).unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 5]);
}

#[test]
fn tokens_rise_over_all_queues_and_only_the_newest_settles() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(push("mail", 1)).unwrap();
    let first = broker.lease("jobs", 1);
    let other = broker.lease("mail", 1);
    broker.pass_lease(2_000);
    let second = broker.lease("jobs", 1);
    assert!(first[0].token < other[0].token && other[0].token < second[0].token);
    assert_eq!((second[0].attempt, second[0].failures), (2, 1));
    assert_eq!(broker.ack("jobs", &first), [Settled::Stale]);
    assert_eq!(broker.ack("mail", &second), [Settled::Gone]);
    assert_eq!(broker.ack("jobs", &second), [Settled::Ok]);
    assert_eq!(broker.ack("jobs", &second), [Settled::Gone]);
}

#[test]
fn a_lease_does_not_end_while_no_quorum_is_confirmed() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let grants = broker.lease("jobs", 1);
    broker.pass_wall(600_000);
    broker.pass_lease(1_999);
    assert_eq!(broker.ack("jobs", &grants), [Settled::Ok]);
}

#[test]
fn a_lease_ends_at_the_head_of_the_entry_that_carries_its_time() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let grants = broker.lease("jobs", 1);
    assert_eq!(broker.state.next_due().lease_ms, Some(grants[0].deadline_ms));
    broker.confirmed_ms = 2_000;
    assert_eq!(broker.ack("jobs", &grants), [Settled::Stale]);
    let shown = broker.state.peek(&name("jobs"), None, Some(MessageId(1)), 1, 0).unwrap().remove(0);
    assert_eq!((shown.failures, shown.last_error.as_deref()), (1, Some("lease ended")));
}

#[test]
fn an_extended_lease_counts_from_the_entry_that_extends_it() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 2)).unwrap();
    let grants = broker.lease("jobs", 2);
    broker.pass_lease(1_500);
    let leases = Some(receipts("jobs", &grants[..1]));
    let extended = broker.run(Op::Extend { leases, lease_ms: 5_000 });
    assert_eq!(extended, Ok(Outcome::Extended { results: vec![Settled::Ok], count: 1, deadline_ms: 6_500 }));
    broker.pass_lease(4_999);
    assert_eq!(broker.count("jobs"), [1, 1, 0, 0]);
    broker.pass_lease(1);
    assert_eq!(broker.count("jobs"), [2, 0, 0, 0]);
}

#[test]
fn one_command_extends_all_leases_of_a_session_and_no_others() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    broker.run(push("mail", 1)).unwrap();
    delivered(broker.call(7, 1, 1, lease("jobs", 2)).result);
    delivered(broker.call(7, 2, 1, lease("mail", 1)).result);
    delivered(broker.call(8, 1, 1, lease("jobs", 1)).result);
    let extended = broker.call(7, 3, 1, Op::Extend { leases: None, lease_ms: 9_000 });
    assert_eq!(extended.result, Ok(Outcome::Extended { results: vec![], count: 3, deadline_ms: 9_000 }));
    broker.pass_lease(8_999);
    assert_eq!((broker.count("jobs"), broker.count("mail")), ([1, 2, 0, 0], [0, 1, 0, 0]));
}

#[test]
fn failures_used_up_lead_to_the_dead_and_redrive_forgives_them() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    for _ in 0..3 {
        let grants = broker.lease("jobs", 1);
        broker.run(nack("jobs", &grants, fail(None))).unwrap();
    }
    let shown = broker.state.peek(&name("jobs"), Some(MessageState::Dead), None, 9, 0).unwrap().remove(0);
    assert_eq!((shown.dead, shown.attempts, shown.failures), (Some(DeadReason::MaxFailures), 3, 3));
    assert_eq!((shown.last_error.as_deref(), shown.until_ms), (Some("no answer"), Some(broker.wall_ms)));
    assert_eq!(broker.run(redrive("jobs")), swept(1));
    let grants = broker.lease("jobs", 1);
    assert_eq!((grants[0].attempt, grants[0].failures), (4, 0));
}

#[test]
fn a_release_is_no_failure_and_a_rejection_is_final() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    for _ in 0..5 {
        let grants = broker.lease("jobs", 1);
        broker.run(nack("jobs", &grants, NackKind::Release { delay_ms: 0 })).unwrap();
    }
    let grants = broker.lease("jobs", 1);
    assert_eq!((grants[0].attempt, grants[0].failures), (6, 0));
    broker.run(nack("jobs", &grants, NackKind::Reject { reason: ErrorText::cut("no picture") })).unwrap();
    let shown = broker.state.peek(&name("jobs"), Some(MessageState::Dead), None, 9, 0).unwrap().remove(0);
    assert_eq!((shown.dead, shown.releases), (Some(DeadReason::Rejected), 5));
    assert_eq!(shown.last_error.as_deref(), Some("no picture"));
}

#[test]
fn a_delay_passes_by_the_elapsed_clock_and_the_leader_is_told() {
    let mut broker = Broker::new();
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    assert_eq!(broker.state.next_due().elapsed_ms, Some(broker.wall_ms + 1_000));
    assert!(broker.pass_lease(5_000).effects.ready.is_empty());
    assert!(broker.pass_wall(999).effects.ready.is_empty());
    assert_eq!(broker.pass_wall(1).effects.ready, [name("jobs")]);
    assert_eq!(ids(&broker.lease("jobs", 1)), [1]);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut broker = Broker::new();
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    broker.wall_ms -= 500_000;
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    assert_eq!(broker.state.wall_ms(), 1_000_000);
    broker.wall_ms = 1_001_000;
    broker.tick();
    assert_eq!(broker.count("jobs"), [2, 0, 0, 0]);
}

#[test]
fn whatever_makes_messages_ready_is_an_effect_and_what_is_taken_at_once_is_none() {
    let mut broker = Broker::new();
    let command = |op| Command { session: None, op };
    let applied =
        broker.entry(vec![command(push("jobs", 3)), command(push("mail", 1)), command(pop("mail", 1))]);
    assert_eq!(applied.effects.ready, [name("jobs")]);
    let leased = broker.entry(vec![command(lease("jobs", 2))]);
    assert!(leased.effects.ready.is_empty() && broker.tick().effects.ready.is_empty());
    let grants = delivered(leased.replies[0].result.clone());
    let nack = nack("jobs", &grants[..1], NackKind::Release { delay_ms: 0 });
    assert_eq!(broker.entry(vec![command(nack)]).effects.ready, [name("jobs")]);
    let extend = Op::Extend { leases: Some(receipts("jobs", &grants[1..])), lease_ms: 1_000 };
    assert!(broker.entry(vec![command(extend)]).effects.ready.is_empty());
    assert_eq!(broker.pass_lease(2_000).effects.ready, [name("jobs")]);
}

#[test]
fn a_pop_settles_what_it_hands_out() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    let grants = delivered(broker.run(pop("jobs", 2)));
    assert_eq!((ids(&grants), grants[0].deadline_ms, grants[0].attempt), (vec![1, 2], 0, 1));
    assert_eq!(broker.ack("jobs", &grants), [Settled::Gone, Settled::Gone]);
    let totals = broker.state.stats();
    assert_eq!((totals.pushed_total, totals.leased_total, totals.acked_total, totals.bytes), (3, 2, 2, 10));
}

#[test]
fn a_lease_takes_from_the_first_of_its_queues_that_has_any() {
    let mut broker = Broker::new();
    broker.run(push("mail", 1)).unwrap();
    let both = |first, second| {
        let queues = bounded([name(first), name(second)]);
        Op::Lease(Lease { queues, ..take("any", 5) })
    };
    assert_eq!(delivered(broker.run(both("nowhere", "mail")))[0].queue, name("mail"));
    assert_eq!(broker.run(both("nowhere", "mail")), Ok(Outcome::Nothing));
    let refused = broker.run(both("nowhere", "mial")).unwrap_err();
    assert_eq!((refused.code, refused.queue), (ErrorCode::QueueNotFound, Some(name("nowhere"))));
    assert_eq!(broker.run(push_nowhere("mial")).unwrap_err().similar, Some(name("mail")));
}

fn push_nowhere(queue: &str) -> Op {
    Op::Push(Push { queue: name(queue), create: None, atomic: false, count: 1, special: bounded([]) })
}

#[test]
fn a_lease_is_bounded_in_bytes_but_never_empty() {
    let mut broker = Broker::new();
    let table = [600, 300, 101, 5].map(|size| ContentSpec { size, crc32c: 0 });
    broker.entry_with(vec![Command { session: None, op: push("jobs", 4) }], &table);
    let up_to = |max_bytes| Op::Lease(Lease { max_bytes, ..take("jobs", 9) });
    assert_eq!(ids(&delivered(broker.run(up_to(1)))), [1]);
    assert_eq!(ids(&delivered(broker.run(up_to(400)))), [2]);
    assert_eq!(ids(&delivered(broker.run(up_to(106)))), [3, 4]);
}

#[test]
fn a_removed_queue_takes_its_leases_along_and_ids_go_on() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    let grants = delivered(broker.call(7, 1, 1, lease("jobs", 1)).result);
    let remove = |if_exists, if_empty| Op::RemoveQueue { queue: name("jobs"), if_exists, if_empty };
    assert_eq!(broker.run(remove(false, true)).unwrap_err().code, ErrorCode::QueueNotEmpty);
    assert_eq!(broker.run(remove(false, false)), Ok(Outcome::Count(3)));
    assert_eq!(broker.run(remove(false, false)).unwrap_err().code, ErrorCode::QueueNotFound);
    assert_eq!(broker.run(remove(true, true)), Ok(Outcome::Count(0)));
    assert_eq!(broker.ack("jobs", &grants), [Settled::Gone]);
    assert_eq!(broker.state.next_due().leases, 0);
    let extended = broker.call(7, 2, 1, Op::Extend { leases: None, lease_ms: 1_000 }).result;
    assert_eq!(extended, Ok(Outcome::Extended { results: vec![], count: 0, deadline_ms: 1_000 }));
    let stored = PushOutcome::Stored { first_id: MessageId(4), count: 1 };
    assert_eq!(broker.run(push("jobs", 1)), Ok(Outcome::Pushed(vec![stored])));
    assert_eq!(broker.ack("jobs", &grants), [Settled::Gone]);
}

#[test]
fn a_purge_spares_the_leased_unless_it_names_them() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    let grants = delivered(broker.call(7, 1, 1, lease("jobs", 1)).result);
    assert_eq!(broker.run(purge("jobs", None)), swept(3));
    assert_eq!(broker.count("jobs"), [0, 1, 0, 0]);
    assert_eq!(broker.run(purge("jobs", Some(MessageState::Leased))), swept(1));
    assert_eq!(broker.ack("jobs", &grants), [Settled::Gone]);
    assert_eq!(broker.state.stats().bytes, 0);
}

#[test]
fn a_queue_is_made_once_and_not_with_other_settings() {
    let mut broker = Broker::new();
    let other = Settings { max_failures: 9, ..settings() };
    let create = |settings: &Settings, if_not_exists| {
        let settings = Box::new(settings.clone());
        Op::CreateQueue { queue: name("jobs"), settings, if_not_exists }
    };
    assert_eq!(broker.run(create(&settings(), false)), Ok(Outcome::Created(true)));
    assert_eq!(broker.run(create(&settings(), false)), Ok(Outcome::Created(false)));
    assert_eq!(broker.run(create(&other, true)), Ok(Outcome::Created(false)));
    assert_eq!(broker.run(create(&other, false)).unwrap_err().code, ErrorCode::QueueExists);
    assert_eq!(broker.state.settings(&name("jobs")), Some(&settings()));
}

#[test]
fn nodes_get_numbers_that_were_never_given() {
    let mut broker = Broker::new();
    let assign = |number| Op::AssignNode { store: StoreId(number), key: [7; 32] };
    assert_eq!(broker.run(assign(20)), Ok(Outcome::Node(NodeId(2))));
    assert_eq!(broker.run(assign(30)), Ok(Outcome::Node(NodeId(3))));
    let found = |key| {
        let admission = Admission { generation: 1, key };
        Op::FoundCluster(Box::new(FoundCluster { store: StoreId(10), key, admission }))
    };
    for key in [[1; 32], [2; 32]] {
        assert_eq!(broker.run(found(key)), Ok(Outcome::Ticked));
    }
    assert_eq!(broker.state.admission().unwrap().key, [1; 32], "a cluster is made once");
    let NodeStanding::Given(founder) = broker.state.node(FOUNDER) else { panic!("it has made the cluster") };
    assert_eq!((founder.store, founder.key, founder.index), (StoreId(10), [1; 32], 0));
    assert!(matches!(broker.state.node(NodeId(3)), NodeStanding::Given(given) if given.store == StoreId(30)));
}

#[test]
fn an_entry_fires_so_many_deadlines_and_says_that_more_are_due() {
    let mut broker = Broker::new();
    for _ in 0..5 {
        broker.run(push("jobs", 1_000)).unwrap();
    }
    while !broker.lease("jobs", 256).is_empty() {}
    let leased = broker.state.stats().leased;
    assert_eq!(leased, 5_000);
    let applied = broker.pass_lease(2_000);
    assert!(applied.effects.more_due);
    assert_eq!(broker.state.stats().leased, leased - FIRED_COUNT_MAX as u64);
    assert!(!broker.tick().effects.more_due);
    assert_eq!(broker.state.stats().leased, 0);
}

#[test]
fn plain_pushes_stand_in_runs_whatever_lies_between_their_ids() {
    let mut broker = Broker::new();
    let command = |op| Command { session: None, op };
    broker.entry(vec![command(push("jobs", 3)), command(push("jobs", 2)), command(push("mail", 1))]);
    broker.entry(vec![command(push("jobs", 1)), command(push("mail", 1)), command(push("jobs", 1))]);
    let entries =
        |queue| broker.state.queue(&name(queue)).unwrap().ready.entries().into_iter().flatten().count();
    assert_eq!((entries("jobs"), entries("mail")), (1, 1));
    let rows = vec![(1, 0..6), (2, 0..3)];
    assert_eq!(broker.state.live_bodies(), rows);
    // One that comes between them parts them, and what is pushed next joins those behind.
    let to = Change::Move(name("jobs"));
    broker.run(Op::Edit { queue: name("mail"), ids: bounded([MessageId(6)]), change: to }).unwrap();
    broker.run(push("jobs", 1)).unwrap();
    let entries = broker.state.queue(&name("jobs")).unwrap().ready.entries().into_iter().flatten().count();
    assert_eq!(entries, 3);
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2, 3, 4, 5, 6, 7, 9, 10]);
}

#[test]
fn bodies_live_as_long_as_a_message_or_a_recorded_answer_names_them() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    delivered(broker.call(7, 1, 1, pop("jobs", 2)).result);
    assert_eq!(broker.state.live_bodies(), [(1, 0..4)]);
    broker.call(7, 2, 2, Op::Tick);
    assert_eq!(broker.state.live_bodies(), [(1, 2..4)]);
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(broker.state.live_bodies(), [(1, 3..4)]);
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(broker.state.live_bodies(), []);
}

#[test]
fn listings_go_by_name_and_page() {
    let mut broker = Broker::new();
    for queue in ["mail", "jobs", "audit"] {
        broker.run(push(queue, 1)).unwrap();
    }
    let names = |after: Option<&str>, max| {
        let after = after.map(name);
        let queues = broker.state.queues(None, after.as_ref(), max);
        queues.into_iter().map(|queue| queue.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 2), ["audit", "jobs"]);
    assert_eq!(names(Some("jobs"), 2), ["mail"]);
    assert_eq!(names(Some("b"), 1), ["jobs"]);
    assert!(broker.state.queues(Some(&name("none")), None, 1).is_empty());
    let missing = broker.state.peek(&name("jobs"), None, Some(MessageId(99)), 1, 0).unwrap_err();
    assert_eq!(missing.code, ErrorCode::MessageNotFound);
}
