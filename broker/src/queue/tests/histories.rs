//! Random histories: entries of commands as clients with sessions and receipts would send them, and as they would not.

use proptest::prelude::*;
use queue_protocol::names::StoreId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::request::{Change, Cursor, NackKind, Unique, UniqueHeld, WeighGroup};
use queue_protocol::wire::response::DeadReason;
use queue_protocol::wire::schedule::{Missed, When};
use queue_protocol::wire::txn::Condition;

use super::super::command::{ErrorText, Fire, SetSchedule, Step as TxnStep, Txn};
use super::any_settings::{any_change, any_settings};
use super::callers::{Callers, Stamp, stamp};
use super::*;

pub(super) const QUEUES: [&str; 4] = ["jobs", "jobz", "mail", "z.audit-log"];
pub(super) const STATES: [MessageState; 4] =
    [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];

/// One entry of a random history.
#[derive(Clone, Debug)]
pub(super) struct Step {
    wall_ms: u64,
    elapsed_ms: u64,
    backwards: bool,
    confirmed_ms: u64,
    unconfirmed_ms: u64,
    commands: Vec<(Stamp, Act)>,
    sizes: Vec<u32>,
    /// The table lacks its last row.
    short: bool,
    /// From here on a state read back from bytes goes along.
    pub(super) restart: bool,
}

/// A command; receipts are chosen among those handed out so far.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Push { queue: usize, create: bool, atomic: bool, count: u32, special: Vec<(u32, PushOptions)> },
    Take { queues: Vec<usize>, max: u16, max_bytes: u32, lease_ms: Option<u64>, pop: bool },
    Ack(Chosen),
    Nack(Chosen, NackKind),
    Extend(Option<Chosen>, u64),
    Txn(Vec<If>, Vec<Act>),
    Save(Chosen, u64, Vec<u8>),
    Plain(Op),
}

/// A condition; messages are chosen as receipts are.
#[derive(Clone, Debug)]
pub(super) enum If {
    Leased(Chosen),
    Exists(Chosen),
    Plain(Condition),
}

#[derive(Clone, Debug)]
pub(super) struct Chosen {
    queue: Option<usize>,
    back: Vec<usize>,
    stale: bool,
}

pub(super) fn queue() -> impl Strategy<Value = usize> {
    0..QUEUES.len()
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![
        2 => Just(Due::Now),
        2 => (0u64..3_000).prop_map(Due::AfterMs),
        1 => (1_000_000u64..1_010_000).prop_map(Due::AtMs),
    ]
}

fn chosen() -> impl Strategy<Value = Chosen> {
    let back = prop::collection::vec(0usize..6, 0..5);
    (prop::option::weighted(0.1, queue()), back, prop::bool::weighted(0.1))
        .prop_map(|(queue, back, stale)| Chosen { queue, back, stale })
}

fn kind() -> impl Strategy<Value = NackKind> {
    let text = |text: &str| ErrorText::cut(text);
    prop_oneof![
        (0u64..2).prop_map(|on| NackKind::Release { delay_ms: on * 700 }),
        prop::option::of(0u64..900)
            .prop_map(move |delay_ms| NackKind::Fail { delay_ms, error: text("no answer") }),
        Just(NackKind::Reject { reason: text("not a picture") }),
    ]
}

fn select() -> impl Strategy<Value = Select> {
    let state = prop::option::of(prop::sample::select(STATES.to_vec()));
    let ids = prop::option::weighted(0.2, prop::collection::vec((1u64..60).prop_map(MessageId), 0..20));
    let reasons = vec![DeadReason::MaxFailures, DeadReason::Rejected, DeadReason::Expired];
    let reason = prop::option::weighted(0.1, prop::sample::select(reasons));
    let ages = || prop::option::weighted(0.1, 0u64..4_000);
    let error = prop::option::weighted(0.1, prop::sample::select(vec!["no", "picture"]));
    (state, ids, reason, ages(), ages(), error).prop_map(
        |(state, ids, reason, older_than_ms, died_within_ms, error)| Select {
            state,
            ids: ids.map(bounded),
            older_than_ms,
            reason,
            died_within_ms,
            error: error.map(Text::cut),
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let queue = || queue().prop_map(|queue| name(QUEUES[queue]));
    prop_oneof![
        1 => Just(Action::Delete),
        2 => prop::option::of(queue()).prop_map(|to| Action::Redrive { to }),
        2 => queue().prop_map(|to| Action::Move { to }),
    ]
}

fn cursor() -> impl Strategy<Value = Option<Cursor>> {
    let states = prop::sample::select(STATES.to_vec());
    let at = (states, 0u8..33, (0u64..60).prop_map(MessageId), (0u64..90).prop_map(MessageId));
    prop::option::weighted(
        0.3,
        at.prop_map(|(state, priority, id, below)| Cursor { state, priority, id, below }),
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Delete),
        Just(Change::Cancel),
        Just(Change::Kick),
        (0u8..34).prop_map(Change::Priority),
        queue().prop_map(|queue| Change::Move(name(QUEUES[queue]))),
    ]
}

fn plain() -> impl Strategy<Value = Op> {
    let queue = || queue().prop_map(|queue| name(QUEUES[queue]));
    prop_oneof![
        3 => prop::option::weighted(0.8, 990u64..1_200).prop_map(|grace_ms| Op::BindSession { grace_ms }),
        3 => (0u128..3).prop_map(|session| Op::ReleaseAbsent(SessionId(session))),
        5 => (queue(), any_settings(), any::<bool>()).prop_map(|(queue, settings, if_not_exists)| {
            Op::CreateQueue { queue, settings: Box::new(settings), if_not_exists }
        }),
        6 => (queue(), any_change(), prop::option::weighted(0.1, 1u64..4)).prop_map(
            |(queue, change, if_version)| Op::AlterQueue { queue, change: Box::new(change), if_version },
        ),
        1 => (queue(), any::<bool>(), any::<bool>())
            .prop_map(|(queue, if_exists, if_empty)| Op::RemoveQueue { queue, if_exists, if_empty }),
        5 => (queue(), select(), action(), cursor(), prop_oneof![Just(u64::MAX), 0u64..4], any::<bool>())
            .prop_map(|(queue, select, action, after, limit, dry_run)| {
                Op::Sweep(Box::new(Sweep { queue, select, action, limit, dry_run, after }))
            }),
        5 => (queue(), prop::collection::vec((1u64..60).prop_map(MessageId), 0..20), change())
            .prop_map(|(queue, ids, change)| Op::Edit { queue, ids: bounded(ids), change }),
        2 => (queue(), group(), prop::option::of(1u32..5)).prop_map(|(queue, group, weight)| {
            let group = group.unwrap_or_else(|| key("group 1"));
            Op::WeighGroup(Box::new(WeighGroup { queue, group, weight }))
        }),
        10 => (queue(), options(), any::<bool>(), 0u64..3, prop::bool::weighted(0.2)).prop_map(|(queue, options, replace, at, interval)| {
            let (name, missed) = (key("daily"), Missed::Once);
            let pattern = When::Cron { pattern: Text::cut("0 9 * * *"), zone: Text::cut("UTC") };
            let (when, next_ms) = (if interval { When::Every(1_000) } else { pattern }, Some(at));
            Op::SetSchedule(Box::new(SetSchedule { name, replace, queue, when, missed, options, next_ms }))
        }),
        1 => Just(Op::RemoveSchedule(key("daily"))),
        6 => (nth(), 0u32..4, nth(), prop::bool::weighted(0.3), nth()).prop_map(
            |(due_ms, count, next_ms, recount, pushed_ms)| {
                Op::Fire(Box::new(Fire { name: key("daily"), due_ms, recount, pushed_ms, count, next_ms }))
            },
        ),
        1 => Just(Op::CloseSession),
        1 => any::<[u8; 32]>().prop_map(|key| Op::AssignNode { store: StoreId(7), key }),
        20 => (walls(), walls()).prop_map(|(from_ms, to_ms)| Op::SetWall { from_ms, to_ms }),
        1 => (1..4_u32).prop_map(|level| Op::RaiseLevel(Level(level))),
        1 => Just(Op::Tick),
    ]
}

/// A time of a schedule.
fn nth() -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(0.9, 0u64..3)
}

/// Near the times that entries are stamped with.
fn walls() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1_000_000u64..1_010_000, 1 => 0u64..20_000_000]
}

fn group() -> impl Strategy<Value = Option<Key>> {
    prop::option::weighted(0.7, prop::sample::select(vec!["group 1", "group 2", "group 3"]).prop_map(key))
}

fn options() -> impl Strategy<Value = PushOptions> {
    let key = || prop::sample::select(vec!["a", "b", "c"]).prop_map(|key| key.parse().expect("a key"));
    let held = prop_oneof![Just(UniqueHeld::Reject), Just(UniqueHeld::Replace), Just(UniqueHeld::Keep)];
    let unique = (key(), held).prop_map(|(key, held)| Unique { key, held });
    let priority = prop_oneof![8 => 0u8..=31, 8 => Just(4u8), 1 => Just(32)];
    let ttl_ms = prop::option::weighted(0.3, 1u64..3_000);
    let keys = (prop::option::weighted(0.3, key()), prop::option::weighted(0.3, unique));
    (priority, due(), ttl_ms, keys, group()).prop_map(
        |(priority, due, ttl_ms, (dedup_key, unique), group)| PushOptions {
            priority,
            due,
            ttl_ms,
            dedup_key,
            unique,
            group,
        },
    )
}

fn condition() -> impl Strategy<Value = If> {
    let queue = || queue().prop_map(|queue| name(QUEUES[queue]));
    prop_oneof![
        2 => chosen().prop_map(If::Leased),
        2 => chosen().prop_map(If::Exists),
        1 => (queue(), 0u64..9).prop_map(|(queue, count)| If::Plain(Condition::AtMost { queue, count })),
        1 => (queue(), 1u64..4).prop_map(|(queue, version)| If::Plain(Condition::Version { queue, version })),
        1 => queue().prop_map(|queue| If::Plain(Condition::NoDedupKey { queue, key: key("a") })),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let edit = (queue(), prop::collection::vec((1u64..60).prop_map(MessageId), 0..2), change())
        .prop_map(|(queue, ids, change)| Op::Edit { queue: name(QUEUES[queue]), ids: bounded(ids), change });
    let step = prop_oneof![
        9 => single().prop_filter("leases are no steps", |act| !matches!(act, Act::Take { .. } | Act::Save(..) | Act::Plain(_))),
        1 => edit.prop_map(Act::Plain).boxed(),
    ];
    let txn = (prop::collection::vec(condition(), 0..2), prop::collection::vec(step, 0..4));
    prop_oneof![12 => single(), 1 => txn.prop_map(|(conditions, steps)| Act::Txn(conditions, steps)).boxed()]
}

/// One that is no transaction. Boxed, as are others: a tree of all of them would not fit the stack of a test.
fn single() -> BoxedStrategy<Act> {
    let special = (prop::collection::vec(options(), 0..4), prop::bool::weighted(0.05))
        .prop_map(|(options, beyond)| (if beyond { 8 } else { 0 }..).step_by(2).zip(options).collect());
    let in_groups = prop::collection::vec(group(), 1..8).prop_map(|groups| {
        let options = groups.into_iter().map(|group| PushOptions { group, ..PushOptions::default() });
        (0..).zip(options).filter(|(_, options)| options.group.is_some()).collect()
    });
    let special = prop_oneof![1 => Just(Vec::new()), 2 => special, 2 => in_groups];
    let take = (
        prop::collection::vec(queue(), 0..4),
        0u16..6,
        prop_oneof![Just(u32::MAX), 0u32..300],
        prop::option::of(500u64..3_000),
        prop::bool::weighted(0.3),
    );
    prop_oneof![
        5 => (queue(), any::<bool>(), any::<bool>(), 0u32..8, special).prop_map(
            |(queue, create, atomic, count, special)| Act::Push { queue, create, atomic, count, special },
        ),
        6 => take.prop_map(|(queues, max, max_bytes, lease_ms, pop)| {
            Act::Take { queues, max, max_bytes, lease_ms, pop }
        }),
        3 => chosen().prop_map(Act::Ack),
        5 => (chosen(), kind()).prop_map(|(chosen, kind)| Act::Nack(chosen, kind)),
        2 => (prop::option::of(chosen()), 500u64..3_000).prop_map(|(chosen, ms)| Act::Extend(chosen, ms)),
        2 => (chosen(), 500u64..3_000, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(chosen, ms, bytes)| Act::Save(chosen, ms, bytes)),
        6 => plain().prop_map(Act::Plain).boxed(),
    ]
    .boxed()
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let wall_ms = prop_oneof![8 => 0u64..1_500, 2 => 5_000u64..130_000, 1 => Just(3_600_000u64), 1 => 3_599_000u64..3_602_000];
    let sizes = prop_oneof![Just(vec![64u32]), prop::collection::vec(0u32..200, 1..4)];
    let commands = prop::collection::vec((stamp(), act()), 0..6);
    let odd = (prop::bool::weighted(0.1), prop::bool::weighted(0.05), prop::bool::weighted(0.1));
    // The clocks go at paces of their own.
    let elapsed_ms = prop_oneof![8 => 0u64..1_500, 1 => Just(3_600_000u64)];
    let clock = (prop_oneof![Just(0u64), 0u64..2_500], prop_oneof![Just(0u64), 0u64..900]);
    ((wall_ms, elapsed_ms), clock, commands, sizes, odd).prop_map(
        |(
            (wall_ms, elapsed_ms),
            (confirmed_ms, unconfirmed_ms),
            commands,
            sizes,
            (backwards, short, restart),
        )| Step {
            wall_ms,
            elapsed_ms,
            backwards,
            confirmed_ms,
            unconfirmed_ms,
            commands,
            sizes,
            short,
            restart,
        },
    )
}

impl Step {
    /// How many commands its entry has.
    pub(super) fn commands(&self) -> usize {
        self.commands.len()
    }
}

/// Turns steps into entries.
#[derive(Default)]
pub(super) struct Clients {
    wall_ms: u64,
    elapsed_ms: u64,
    pub(super) callers: Callers,
    granted: Vec<(QueueName, MessageId, LeaseToken)>,
}

impl Clients {
    /// The entry of a step, and its body table.
    pub(super) fn entry(&mut self, step: &Step) -> (Batch, Vec<ContentSpec>) {
        self.wall_ms += step.wall_ms;
        self.elapsed_ms += step.elapsed_ms;
        self.callers.next_entry();
        let back_ms = if step.backwards { 3_600_000 } else { 0 };
        let wall_ms = (1_000_000 + self.wall_ms).saturating_sub(back_ms);
        let commands: Vec<Command> =
            step.commands.iter().map(|(stamp, act)| self.command(stamp, act)).collect();
        let rows = commands.iter().map(|command| command.op.rows());
        let sizes = step.sizes.iter().cycle().map(|size| ContentSpec { size: *size, crc32c: 0 });
        let mut table: Vec<ContentSpec> =
            sizes.take(usize::try_from(rows.sum::<u64>()).expect("a few")).collect();
        if step.short {
            table.pop();
        }
        let unconfirmed_ms = step.unconfirmed_ms;
        let elapsed_ms = (7_000_000 + self.elapsed_ms).saturating_sub(back_ms);
        let stamps = Stamps { elapsed_ms, unconfirmed_ms, ..Stamps::of(wall_ms, step.confirmed_ms) };
        (Batch { stamps, commands: bounded(commands) }, table)
    }

    /// Notes what was handed out, and whose session is gone.
    pub(super) fn hear(&mut self, command: &Command, reply: &Reply) {
        if let Ok(Outcome::Delivered(grants)) = &reply.result {
            self.granted.extend(grants.iter().map(|grant| (grant.queue.clone(), grant.id, grant.token)));
        }
        self.callers.hear(command, reply);
    }

    fn command(&mut self, stamp: &Stamp, act: &Act) -> Command {
        Command { session: self.callers.stamp(stamp), op: self.op(act) }
    }

    fn op(&self, act: &Act) -> Op {
        match act {
            Act::Push { queue, create, atomic, count, special } => {
                // An ordinal beyond the push is odd, and rare.
                let count =
                    special.last().filter(|(k, _)| *k < 8).map_or(*count, |(k, _)| (*count).max(k + 1));
                match push_with(QUEUES[*queue], count, special.clone()) {
                    Op::Push(push) => {
                        let create = push.create.filter(|_| *create);
                        Op::Push(Push { create, atomic: *atomic, ..push })
                    }
                    other => other,
                }
            }
            Act::Take { queues, max, max_bytes, lease_ms, pop } => {
                let lease = Lease {
                    queues: bounded(queues.iter().map(|queue| name(QUEUES[*queue]))),
                    max_messages: *max,
                    max_bytes: *max_bytes,
                    lease_ms: *lease_ms,
                };
                if *pop { Op::Pop(lease) } else { Op::Lease(lease) }
            }
            Act::Ack(chosen) => Op::Ack(self.receipts(chosen)),
            Act::Nack(chosen, kind) => Op::Nack { leases: self.receipts(chosen), kind: kind.clone() },
            Act::Extend(chosen, lease_ms) => Op::Extend {
                leases: chosen.as_ref().map(|chosen| self.receipts(chosen)),
                lease_ms: *lease_ms,
            },
            Act::Txn(conditions, steps) => Op::Txn(Box::new(Txn {
                conditions: bounded(conditions.iter().filter_map(|condition| self.condition(condition))),
                steps: bounded(steps.iter().filter_map(|act| step_of(self.op(act)))),
            })),
            Act::Save(chosen, lease_ms, bytes) => {
                let Receipts { queue, receipts } = self.receipts(chosen);
                let (id, token) = receipts.first().copied().unwrap_or((MessageId(1), LeaseToken(1)));
                let checkpoint = Checkpoint::new(bytes.clone()).expect("it is short");
                Op::SaveCheckpoint(Box::new(SaveCheckpoint {
                    queue,
                    id,
                    token,
                    lease_ms: *lease_ms,
                    checkpoint,
                }))
            }
            Act::Plain(op) => op.clone(),
        }
    }

    fn condition(&self, condition: &If) -> Option<Condition> {
        let first = |chosen| {
            let Receipts { queue, receipts } = self.receipts(chosen);
            receipts.first().map(|(id, token)| (queue, *id, *token))
        };
        match condition {
            If::Leased(chosen) => {
                first(chosen).map(|(queue, id, token)| Condition::Leased { queue, id, token })
            }
            If::Exists(chosen) => first(chosen).map(|(queue, id, _)| Condition::Exists { queue, id }),
            If::Plain(condition) => Some(condition.clone()),
        }
    }

    fn receipts(&self, chosen: &Chosen) -> Receipts {
        let newest = self.granted.last().map(|(queue, _, _)| queue.clone());
        let queue = chosen.queue.map(|queue| name(QUEUES[queue])).or(newest).unwrap_or_else(|| name("jobs"));
        let back = chosen.back.iter().filter_map(|back| self.granted.iter().rev().nth(*back));
        let token = |token: LeaseToken| LeaseToken(token.0 + u64::from(chosen.stale));
        Receipts { queue, receipts: bounded(back.map(|(_, id, given)| (*id, token(*given)))) }
    }
}

/// The step that does what a command does, if there is one.
fn step_of(op: Op) -> Option<TxnStep> {
    Some(match op {
        Op::Push(push) => TxnStep::Push(push),
        Op::Ack(leases) => TxnStep::Ack(leases),
        Op::Nack { leases, kind } => TxnStep::Nack { leases, kind },
        Op::Extend { leases: Some(leases), lease_ms } => TxnStep::Extend { leases, lease_ms },
        Op::Edit { queue, ids, change } => TxnStep::Edit { queue, ids, change },
        _ => return None,
    })
}
