//! Hours of clients that come for one push, in virtual time: none is refused, what is remembered of them is bounded, and no
//! repeat of theirs is executed, however late it comes.
//!
//! | variable | meaning |
//! |---|---|
//! | `QUEUE_SESSION_HOURS=2` | at the full rate for so long, instead of ten minutes at a tenth of it |

use std::collections::VecDeque;

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{SESSION_FORGOTTEN_MS, SESSIONS_MAX};

use super::super::{FIRED_COUNT_MAX, SESSIONS_FORGOTTEN_MAX};
use super::*;

/// Time between two entries.
const STEP_MS: u64 = 100;
/// When repeats come, after the first try.
const AGES_MS: [u64; 7] = [100, 9_900, 60_000, 119_900, 120_100, 240_000, 480_000];

/// One client in so many repeats what it sent.
const REPEATED: u128 = 97;

struct Load {
    state: State,
    index: u64,
    elapsed_ms: u64,
    clients: u128,
    /// Repeats that are to come, by age: when, and the stamp.
    late: [VecDeque<(u64, SessionStamp)>; AGES_MS.len()],
    refused: u64,
    answered: u64,
}

impl Load {
    fn new(sessions_max: usize) -> Self {
        let mut state = State::new();
        state.sessions_mut().set_max(sessions_max);
        let late = Default::default();
        let mut load =
            Self { state, index: 0, elapsed_ms: 1_000_000, clients: 0, late, refused: 0, answered: 0 };
        let kept = Settings {
            max_messages: 10,
            on_full: queue_protocol::settings::OnFull::DropOldest,
            ..settings()
        };
        let queue = name("jobs");
        let create = Op::CreateQueue { queue, settings: Box::new(kept), if_not_exists: true };
        load.entry(vec![Command { session: None, op: create }]);
        load
    }

    fn entry(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        self.index += 1;
        let rows: u64 = commands.iter().map(|command| command.op.rows()).sum();
        let table = vec![ContentSpec { size: 1, crc32c: 0 }; usize::try_from(rows).expect("a few")];
        let stamps = Stamps::of(self.elapsed_ms, 0);
        self.state.apply(self.index, &Batch { stamps, commands: bounded(commands) }, &table).replies
    }

    /// So many clients push once, and close their sessions or do not.
    fn step(&mut self, clients: u64, close: bool) {
        self.elapsed_ms += STEP_MS;
        let opening = Opening { index: self.index, source: Source::default() };
        let mut commands = Vec::new();
        for _ in 0..clients {
            self.clients += 1;
            let session = SessionId(self.clients.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let stamp = SessionStamp {
                session,
                number: 1,
                done_below: 1,
                opening: Some(opening),
                request: RequestHash::default(),
                by: None,
            };
            commands.push(Command { session: Some(stamp), op: push("jobs", 1) });
            if self.clients.is_multiple_of(REPEATED) {
                for (late, age_ms) in self.late.iter_mut().zip(AGES_MS) {
                    late.push_back((self.elapsed_ms + age_ms, stamp));
                }
            }
        }
        for reply in self.entry(commands.clone()) {
            assert!(!reply.repeated && reply.result.is_ok(), "after {} clients: {reply:?}", self.clients);
        }
        if close {
            commands.iter_mut().for_each(|command| command.op = Op::CloseSession);
            self.entry(commands);
        }
        for late in 0..self.late.len() {
            while self.late[late].front().is_some_and(|(at_ms, _)| *at_ms <= self.elapsed_ms) {
                let (_, stamp) = self.late[late].pop_front().expect("it is there");
                self.repeat(stamp);
            }
        }
    }

    /// What was sent comes again.
    fn repeat(&mut self, stamp: SessionStamp) {
        let pushed = self.state.stats().pushed_total;
        let reply = self.entry(vec![Command { session: Some(stamp), op: push("jobs", 1) }]).remove(0);
        match reply.result {
            Ok(_) if reply.repeated => self.answered += 1,
            Err(refusal) if refusal.code == ErrorCode::SessionExpired => self.refused += 1,
            other => panic!("{stamp:?} came again: {other:?}"),
        }
        assert_eq!(self.state.stats().pushed_total, pushed);
    }
}

/// The rate a second of clients, and whether they close their sessions. Sessions open and ids kept at most.
fn run(rate: u64, close: bool) -> (usize, usize) {
    let hours = std::env::var("QUEUE_SESSION_HOURS").ok().and_then(|hours| hours.parse::<u64>().ok());
    let (share, seconds) = hours.map_or((10, 600), |hours| (1, hours * 3_600));
    let mut load = Load::new(SESSIONS_MAX / usize::try_from(share).expect("it is small"));
    let (mut open, mut kept) = (0, 0);
    for step in 0..seconds * 1_000 / STEP_MS {
        load.step(rate / share * STEP_MS / 1_000, close);
        open = open.max(load.state.sessions().count());
        kept = kept.max(load.state.sessions().forgotten().len());
        if step % 1_000 == 0 {
            load.state.sessions().check();
        }
    }
    assert!(load.refused > 300, "repeats were refused {} times", load.refused);
    assert!(close || load.answered > 300, "repeats were answered {} times", load.answered);
    let share = usize::try_from(share).expect("it is small");
    (open * share, kept * share)
}

#[test]
fn thousands_a_second_that_close_their_sessions_are_never_refused() {
    let (open, kept) = run(3_000, true);
    let most = 3_000 * (SESSION_FORGOTTEN_MS + 2 * STEP_MS) / 1_000;
    assert!(open <= 3_000 && kept as u64 <= most, "{open} open, {kept} ids kept");
}

#[test]
fn a_thousand_a_second_that_do_not_close_their_sessions_are_never_refused() {
    let (open, kept) = run(1_000, false);
    let most = 1_000 * (SESSION_FORGOTTEN_MS + 2 * STEP_MS) / 1_000;
    assert!(open <= SESSIONS_MAX && kept as u64 <= most, "{open} open, {kept} ids kept");
}

/// One id more than can be kept drops the oldest, whose index refuses it from then on.
#[test]
fn ids_are_dropped_early_rather_than_kept_without_end() {
    let mut load = Load::new(SESSIONS_MAX);
    let count = SESSIONS_FORGOTTEN_MAX / FIRED_COUNT_MAX + 1;
    let mut first = None;
    for entry in 0..count {
        let opening = Opening { index: load.index, source: Source::default() };
        let ids = (0..FIRED_COUNT_MAX).map(|k| SessionId((entry * FIRED_COUNT_MAX + k) as u128));
        let stamp = |session| SessionStamp {
            session,
            number: 1,
            done_below: 1,
            opening: Some(opening),
            request: RequestHash::default(),
            by: None,
        };
        let close = |session| Command { session: Some(stamp(session)), op: Op::CloseSession };
        first.get_or_insert(stamp(SessionId(0)));
        load.entry(ids.map(close).collect());
    }
    assert_eq!(load.state.sessions().forgotten().len(), SESSIONS_FORGOTTEN_MAX);
    let first = first.expect("there were some");
    assert!(!load.state.sessions().forgotten().has(first.session));
    load.repeat(first);
    load.step(1, false);
}
