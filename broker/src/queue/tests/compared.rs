//! Random histories against the model: every reply, every message, every live body, after every entry.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{MessageState, Unique, UniqueHeld};
use queue_protocol::wire::schedule::{Missed, When};

use super::super::NextFire;
use super::super::command::{Fire, SetSchedule};
use super::super::model::Model;
use super::super::read::view::Peeked;
use super::histories::{Clients, STATES, Step, step};
use super::*;

/// Histories tried, of 50 commands on average; the long setting of ten million commands is
/// `QUEUE_CASES=200000 cargo test --release -p queue-broker --lib compared -- --nocapture`.
fn cases() -> u32 {
    std::env::var("QUEUE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_200)
}

/// Sessions open at a time.
const SESSIONS: usize = 5;

/// What a run of histories must have met to be worth anything.
const KINDS: [&str; 42] = [
    "Pushed",
    "Delivered",
    "Nothing",
    "Settled",
    "Extended",
    "Created",
    "Count",
    "Closed",
    "Node",
    "BadRequest",
    "QueueNotFound",
    "QueueExists",
    "QueueNotEmpty",
    "TooOld",
    "SessionExpired",
    "SessionFull",
    "SessionLimit",
    "mark",
    "Altered",
    "Swept",
    "Edited",
    "Weighed",
    "QueueChanged",
    "QueueFull",
    "QueuePaused",
    "UniqueHeld",
    "Duplicate",
    "DeadToCycle",
    "moved",
    "held back",
    "fired",
    "ScheduleExists",
    "ScheduleNotFound",
    "Done(",
    "Condition(",
    "Step(",
    "kept from others",
    "repeated",
    "dead",
    "Bound",
    "released",
    "set back",
];

#[test]
#[expect(clippy::print_stdout, reason = "the long setting wants to say what it covered")]
fn every_history_goes_as_in_the_model() {
    // Values that a strategy passes over are as many as there are histories to make.
    let config = ProptestConfig {
        cases: cases(),
        max_local_rejects: cases().saturating_mul(100),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let (seen, commands) = (RefCell::new(BTreeSet::new()), Cell::new(0));
    let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |steps| {
        compare(&steps, &mut seen.borrow_mut());
        commands.set(commands.get() + steps.iter().map(Step::commands).sum::<usize>());
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let missed: Vec<&str> = KINDS.into_iter().filter(|kind| !seen.borrow().contains(*kind)).collect();
    assert!(missed.is_empty(), "no history met {missed:?}");
    println!("{} commands in {} histories went as in the model", commands.get(), cases());
    assert!(commands.get() >= 45 * cases() as usize, "histories are too short: {}", commands.get());
}

/// Rare in histories: a schedule by a pattern, and then a wall clock that is set back.
#[test]
fn what_a_pattern_waits_for_is_computed_anew_after_a_wall_clock_was_set_back_as_in_the_model() {
    let (mut state, mut model) = (State::new(), Model::default());
    let when = When::Cron { pattern: Text::cut("0 9 * * *"), zone: Text::cut("UTC") };
    let set = SetSchedule {
        name: key("daily"),
        replace: false,
        queue: name("jobs"),
        when,
        missed: Missed::Once,
        options: PushOptions::default(),
        next_ms: Some(1_200_000),
    };
    let anew = Fire {
        name: key("daily"),
        due_ms: Some(1_200_000),
        recount: true,
        pushed_ms: None,
        count: 0,
        next_ms: Some(1_100_000),
    };
    let create =
        Op::CreateQueue { queue: name("jobs"), settings: Box::new(settings()), if_not_exists: false };
    let back = Op::SetWall { from_ms: 1_000_000, to_ms: 500_000 };
    let ops = [create, Op::SetSchedule(Box::new(set)), back, Op::Fire(Box::new(anew))];
    let mut recounts = Vec::new();
    for ((index, op), wall_ms) in (1..).zip(ops).zip([1_000_000, 1_000_000, 1_000_000, 500_000]) {
        let table =
            vec![ContentSpec { size: 1, crc32c: 0 }; usize::try_from(op.rows()).expect("one or none")];
        let stamps = Stamps { elapsed_ms: 1_000_000, ..Stamps::of(wall_ms, 0) };
        let batch = Batch { stamps, commands: bounded([Command { session: None, op }]) };
        let applied = state.apply(index, &batch, &table);
        assert_eq!(applied.replies, model.apply(index, &batch, &table), "entry {index}");
        assert!(applied.replies[0].result.is_ok(), "entry {index}: {:?}", applied.replies[0]);
        state.check();
        assert_same(&state, &model, &[]);
        recounts.push(state.next_fires().into_iter().flatten().any(|fire| fire.recount));
    }
    assert_eq!(recounts, [false, false, true, false]);
}

fn compare(steps: &[Step], seen: &mut BTreeSet<String>) {
    let (mut state, mut model, mut clients) = (State::new(), Model::default(), Clients::default());
    state.sessions_mut().set_max(SESSIONS);
    model.set_sessions_max(SESSIONS);
    let mut executed = BTreeSet::new();
    let mut twins: Vec<State> = Vec::new();
    let mut snapshots: Vec<(State, Vec<u8>)> = Vec::new();
    for (index, step) in (1..).zip(steps) {
        let (batch, table) = clients.entry(step);
        let were_ready = ready_counts(&model);
        let were_there = messages(&model);
        let wall_before = state.wall_ms();
        let applied = state.apply(index, &batch, &table);
        assert_eq!(applied.replies, model.apply(index, &batch, &table), "entry {index}: {batch:?}");
        state.check();
        assert_same(&state, &model, &clients.callers.sessions());
        assert_recorded(&state, &model, &batch);
        assert_effects(&applied, &model, &were_ready);
        assert_gone(&applied, &model, &were_there, &batch);
        for (command, reply) in batch.commands.iter().zip(&applied.replies) {
            clients.hear(command, reply);
            seen.extend(kinds(reply));
            if let Some(stamp) = command.session.filter(|_| is_recorded(reply)) {
                let first = executed.insert((stamp.session, stamp.number));
                assert!(first, "entry {index}: {stamp:?} was executed again");
            }
        }
        seen.extend(state.sessions().forgotten().mark().map(|_| "mark".to_owned()));
        for (command, reply) in batch.commands.iter().zip(&applied.replies) {
            let released =
                matches!(command.op, Op::ReleaseAbsent(_)) && reply.result != Ok(Outcome::Count(0));
            seen.extend(released.then(|| "released".to_owned()));
        }
        seen.extend((state.stats().dead > 0).then(|| "dead".to_owned()));
        seen.extend(
            model.queues().iter().any(|queue| hides_some(&model, queue)).then(|| "held back".to_owned()),
        );
        let kept = |queue: &QueueName| model.available_to(queue, None) < model.available(queue);
        seen.extend(model.queues().iter().any(kept).then(|| "kept from others".to_owned()));
        seen.extend((state.wall_ms() < wall_before).then(|| "set back".to_owned()));
        let fired = model.schedules().iter().any(|schedule| schedule.stored > 0);
        seen.extend(fired.then(|| "fired".to_owned()));
        seen.extend(model.was_moved().then(|| "moved".to_owned()));

        for twin in &mut twins {
            let again = twin.apply(index, &batch, &table);
            assert_eq!(again.replies, applied.replies);
            assert_eq!(again.effects, applied.effects);
        }
        let bytes = encode(&state);
        assert!(twins.iter().all(|twin| encode(twin) == bytes), "entry {index}: a restart shows");
        if step.restart {
            let mut twin = State::decode(&bytes).expect("a state decodes what it encodes");
            twin.sessions_mut().set_max(SESSIONS);
            twin.check();
            twins.push(twin);
            snapshots.push((state.clone(), bytes));
        }
    }
    assert!(snapshots.iter().all(|(snapshot, bytes)| encode(snapshot) == *bytes), "a snapshot changed");
}

/// Whether a command was executed just now, and its answer is kept.
fn is_recorded(reply: &Reply) -> bool {
    let not_admitted = [
        ErrorCode::TooOld,
        ErrorCode::NumberReused,
        ErrorCode::SessionExpired,
        ErrorCode::SessionFull,
        ErrorCode::SessionLimit,
    ];
    match &reply.result {
        Ok(Outcome::Nothing | Outcome::Closed) => false,
        Ok(_) => !reply.repeated,
        Err(refusal) => !reply.repeated && !not_admitted.contains(&refusal.code),
    }
}

/// Whether ready messages of a group wait for others.
fn hides_some(model: &Model, queue: &QueueName) -> bool {
    model.available(queue) < model.peek(queue, MessageState::Ready).len() as u64
}

/// The names of the outcome or error, and whether it was repeated.
fn kinds(reply: &Reply) -> impl Iterator<Item = String> {
    let text = match &reply.result {
        Ok(outcome) => format!("{outcome:?}"),
        Err(refusal) => format!("{:?}", refusal.code),
    };
    let kind: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    let within = ["UniqueHeld", "QueueFull", "Duplicate", "Done(", "Condition(", "Step("]
        .map(|part| text.contains(part).then(|| part.to_owned()));
    [Some(kind), reply.repeated.then(|| "repeated".to_owned())].into_iter().chain(within).flatten()
}

fn assert_same(state: &State, model: &Model, sessions: &[SessionId]) {
    assert_eq!(state.queues(None, None, usize::MAX).len(), model.queues().len());
    let mut sums = [0; 4];
    for queue in model.queues() {
        let stats = state.queues(Some(&queue), None, 1).pop().expect("the queue exists");
        let counts = [stats.ready, stats.leased, stats.delayed, stats.dead];
        let mut bytes = 0;
        for ((which, count), sum) in STATES.into_iter().zip(counts).zip(&mut sums) {
            let expected = model.peek(&queue, which);
            assert_eq!(state.peek(&queue, Some(which), None, usize::MAX, u64::MAX), Ok(expected.clone()));
            assert_eq!(in_pages(state, &queue, Some(which)), expected, "in pages");
            assert_eq!(count, expected.len() as u64);
            for shown in &expected {
                assert_eq!(state.peek(&queue, None, Some(shown.id), 1, 0), Ok(vec![shown.clone()]));
            }
            bytes += expected.iter().map(|shown| u64::from(shown.body.size)).sum::<u64>();
            *sum += count;
        }
        assert_eq!(stats.bytes, bytes);
        assert_eq!(state.available(&queue), model.available(&queue));
        for session in sessions.iter().copied().map(Some).chain([None]) {
            assert_eq!(state.available_to(&queue, session), model.available_to(&queue, session));
        }
        let ready = model.peek(&queue, MessageState::Ready);
        assert_eq!(stats.oldest_ready_ms, ready.iter().map(|shown| shown.age_ms).max());
        let delayed = model.peek(&queue, MessageState::Delayed);
        let due_in = delayed.iter().filter_map(|shown| Some(shown.until_ms?.saturating_sub(state.wall_ms())));
        assert_eq!(stats.next_due_in_ms, due_in.min());
    }
    let totals = state.stats();
    assert_eq!([totals.ready, totals.leased, totals.delayed, totals.dead], sums);
    assert_eq!(totals.sessions, model.sessions() as u64);
    assert!(state.bound().iter().eq(model.bound()));
    assert_eq!(state.next_due(), model.next_due());
    assert_eq!(state.schedules(None, usize::MAX), model.schedules());
    let fires = state.next_fires();
    let looked = |fire: NextFire| Some((if fire.recount { 0 } else { fire.due_ms? }, fire.name));
    assert_eq!(fires.map(|fire| fire.and_then(looked)), model.next_fires());
    let live = state.live_bodies();
    let apart =
        |pair: &[(u64, std::ops::Range<u32>)]| pair[0].0 < pair[1].0 || pair[0].1.end < pair[1].1.start;
    assert!(live.windows(2).all(apart), "ranges touch: {live:?}");
    let rows = live.into_iter().flat_map(|(index, range)| range.map(move |ordinal| (index, ordinal)));
    assert_eq!(rows.collect::<Vec<_>>(), model.live_rows());
}

fn assert_recorded(state: &State, model: &Model, batch: &Batch) {
    for stamp in batch.commands.iter().filter_map(|command| command.session) {
        let number = stamp.number;
        assert_eq!(state.recorded(stamp.session, number), model.recorded(stamp.session, number));
    }
}

/// Queues that have more ready messages are named once, and named are only those that have any; more is due only if the
/// commands made it so.
fn assert_effects(applied: &Applied, model: &Model, were_ready: &BTreeMap<QueueName, u64>) {
    let now_ready = ready_counts(model);
    let named: BTreeSet<&QueueName> = applied.effects.ready.iter().collect();
    assert_eq!(named.len(), applied.effects.ready.len());
    let more = |(queue, count): &(&QueueName, &u64)| *count > were_ready.get(*queue).unwrap_or(&0);
    let gained: BTreeSet<&QueueName> = now_ready.iter().filter(more).map(|(queue, _)| queue).collect();
    assert!(gained.is_subset(&named), "{gained:?} are ready, {named:?} were named");
    assert!(named.iter().all(|queue| now_ready.contains_key(*queue)));
    assert_eq!(applied.effects.more_due, model.is_due());
}

/// All messages, with their queues.
fn messages(model: &Model) -> BTreeMap<MessageId, QueueName> {
    let of = |queue: QueueName| STATES.map(|which| (queue.clone(), model.peek(&queue, which)));
    let all = model.queues().into_iter().flat_map(of);
    all.flat_map(|(queue, shown)| shown.into_iter().map(move |shown| (shown.id, queue.clone()))).collect()
}

/// What is not there any more is told of once, unless it may have gone with its queue; and so is what came and went with
/// this entry.
fn assert_gone(applied: &Applied, model: &Model, were_there: &BTreeMap<MessageId, QueueName>, batch: &Batch) {
    let there = messages(model);
    let went = || applied.gone.iter().flat_map(|gone| &gone.went);
    let told: BTreeSet<MessageId> = went().map(|went| went.id).collect();
    assert_eq!(told.len(), went().count(), "told twice");
    assert!(told.iter().all(|id| !there.contains_key(id)), "told of one that is there");
    if batch.commands.iter().any(|command| matches!(command.op, Op::RemoveQueue { .. })) {
        return;
    }
    let missing = were_there.iter().filter(|(id, _)| !there.contains_key(id));
    let untold: Vec<_> = missing.filter(|(id, _)| !told.contains(id)).collect();
    assert!(untold.is_empty(), "{untold:?} went untold");
}

/// Messages that leases could get.
fn ready_counts(model: &Model) -> BTreeMap<QueueName, u64> {
    let counts = model.queues().into_iter().map(|queue| (queue.clone(), model.available(&queue)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The first of its messages takes the place of one that is there, the second is refused.
#[test]
fn what_an_atomic_push_undoes_did_not_go() {
    let unique = |held| {
        let unique = Some(Unique { key: "a".parse().expect("a key"), held });
        PushOptions { unique, ..PushOptions::default() }
    };
    let push = |atomic, options: Vec<PushOptions>| {
        let (count, special) = (u32::try_from(options.len()).expect("a few"), (0..).zip(options).collect());
        let special = Bounded::new(special).expect("a few");
        let create = Some(Box::default());
        let op = Op::Push(Push { queue: "jobs".parse().expect("a name"), create, atomic, count, special });
        let commands = Bounded::new(vec![Command { session: None, op }]).expect("one");
        Batch { stamps: Stamps::default(), commands }
    };
    let table = [ContentSpec { size: 5, crc32c: 0 }; 2];
    let mut state = State::new();
    state.apply(1, &push(false, vec![unique(UniqueHeld::Reject)]), &table[..1]);
    let both = vec![unique(UniqueHeld::Replace), unique(UniqueHeld::Reject)];
    let applied = state.apply(2, &push(true, both), &table);
    assert_eq!(
        applied.replies[0].result.as_ref().map_err(|refusal| refusal.code),
        Err(ErrorCode::UniqueHeld)
    );
    assert!(applied.gone.is_empty(), "{:?}", applied.gone);
    assert!(!state.apply(3, &push(true, vec![unique(UniqueHeld::Replace)]), &table[..1]).gone.is_empty());
}

/// All that is shown, in pages of three.
fn in_pages(state: &State, queue: &QueueName, which: Option<MessageState>) -> Vec<Peeked> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = state.page(queue, which, after, 3, u64::MAX).expect("it was there before");
        assert!(next.is_none() || page.len() == 3, "a page before the last is full");
        all.extend(page);
        match next {
            Some(_) => after = next,
            None => return all,
        }
    }
}
