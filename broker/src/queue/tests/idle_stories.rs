//! Who gives way when there are too many sessions, told one thing at a time.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{SESSION_SPARE_MS, SESSION_SPARE_MS_MIN};
use queue_protocol::wire::request::{Unique, UniqueHeld};

use super::*;

/// Sessions open at a time.
const MAX: usize = 4;

fn broker() -> Broker {
    let mut broker = Broker::new();
    broker.state.sessions_mut().set_max(MAX);
    broker.run(push("jobs", 9)).unwrap();
    broker
}

fn from(host: u8) -> Source {
    let mut source = Source::default();
    source.0[15] = host;
    source
}

impl Broker {
    /// A session of a host is used.
    fn use_from(&mut self, host: u8, session: u128, number: u64) -> Reply {
        self.source = from(host);
        self.call(session, number, number, push("jobs", 1))
    }

    fn open(&self) -> Vec<u128> {
        self.state.sessions().all().keys().map(|id| id.0).collect()
    }

    fn pass_ms(&mut self, ms: u64) {
        self.pass_wall(ms);
    }
}

#[test]
fn the_one_that_was_not_used_for_longest_gives_way_and_its_repeats_are_refused() {
    let mut broker = broker();
    for session in 1..=4 {
        broker.use_from(1, session, 1);
        broker.pass_ms(1);
    }
    broker.pass_ms(SESSION_SPARE_MS_MIN);
    broker.use_from(1, 1, 2);
    assert!(broker.use_from(1, 5, 1).result.is_ok());
    assert_eq!(broker.open(), [1, 3, 4, 5]);
    let repeat = broker.use_from(1, 2, 1);
    assert_eq!(repeat.result.unwrap_err().code, ErrorCode::SessionExpired);
    assert!(broker.use_from(1, 1, 2).repeated, "others keep their answers");
}

#[test]
fn the_source_with_most_sessions_gives_way_first_and_sooner() {
    let mut broker = broker();
    broker.use_from(1, 1, 1);
    broker.pass_ms(1);
    for session in 2..=4 {
        broker.use_from(2, session, 1);
    }
    broker.pass_ms(SESSION_SPARE_MS_MIN);
    broker.use_from(3, 5, 1);
    assert_eq!(broker.open(), [1, 3, 4, 5], "the one of the first host is idle for longer");
    broker.pass_ms(SESSION_SPARE_MS);
    (2..=3).for_each(|number| drop(broker.use_from(2, 3, number)));
    broker.use_from(2, 4, 2);
    broker.pass_ms(SESSION_SPARE_MS_MIN - 1);
    broker.use_from(3, 6, 1);
    assert_eq!(broker.open(), [3, 4, 5, 6], "those of the second host were used");
}

#[test]
fn who_was_used_lately_or_holds_a_lease_does_not_give_way() {
    let mut broker = broker();
    for session in 1..=3 {
        broker.call(session, 1, 1, lease("jobs", 1));
    }
    broker.use_from(1, 4, 1);
    broker.pass_ms(SESSION_SPARE_MS_MIN - 1);
    let refused = broker.use_from(1, 5, 1);
    assert_eq!(refused.result.unwrap_err().code, ErrorCode::SessionLimit);
    broker.pass_ms(1);
    assert!(broker.use_from(1, 5, 1).result.is_ok(), "a refusal is not remembered");
    assert_eq!(broker.open(), [1, 2, 3, 5]);
    broker.pass_ms(2 * SESSION_SPARE_MS);
    broker.use_from(1, 6, 1);
    assert_eq!(broker.open(), [1, 2, 3, 6]);
    // Their leases end; from the last look on they count as idle.
    broker.pass_lease(2_000);
    broker.pass_ms(SESSION_SPARE_MS_MIN);
    broker.use_from(1, 7, 1);
    assert_eq!(broker.open(), [2, 3, 6, 7]);
}

#[test]
fn a_session_that_gives_way_gives_its_claim_and_its_binding_away() {
    let mut broker = broker();
    let settings = Settings { single_active: true, ..settings() };
    let create = Op::CreateQueue { queue: name("one"), settings: Box::new(settings), if_not_exists: false };
    broker.run(create).unwrap();
    broker.run(push("one", 2)).unwrap();
    broker.call(1, 1, 1, Op::BindSession { grace_ms: Some(2_000) });
    assert_eq!(delivered(broker.call(1, 2, 1, pop("one", 1)).result).len(), 1);
    assert_eq!(broker.call(9, 1, 1, pop("one", 1)).result, Ok(Outcome::Nothing));
    broker.pass_ms(SESSION_SPARE_MS);
    for session in 2..=5 {
        broker.use_from(1, session, 1);
    }
    assert_eq!(broker.open(), [2, 3, 4, 5]);
    assert_eq!(broker.state.bound().iter().count(), 0);
    broker.pass_ms(SESSION_SPARE_MS);
    assert_eq!(delivered(broker.call(9, 1, 1, pop("one", 1)).result).len(), 1);
}

#[test]
fn answers_that_take_too_much_room_go_with_the_sessions_that_are_not_used() {
    let mut state = State::new();
    let mut index = 0;
    let mut apply = |state: &mut State, elapsed_ms, session: u64, count: u32| {
        index += 1;
        let opening = Some(Opening { index: index - 1, source: Source::default() });
        let stamp = SessionStamp {
            session: SessionId(session.into()),
            number: 1,
            done_below: 1,
            opening,
            request: RequestHash::default(),
            by: None,
        };
        // A known one and a refused one in turn, so that each has an outcome of its own.
        let unique = Some(Unique { key: key("b"), held: UniqueHeld::Reject });
        let options = |k| match k % 2 {
            0 => PushOptions { dedup_key: Some(key("a")), ..PushOptions::default() },
            _ => PushOptions { unique: unique.clone(), ..PushOptions::default() },
        };
        let op = push_with("jobs", count, (0..count).map(|k| (k, options(k))).collect());
        let commands = bounded([Command { session: Some(stamp), op }]);
        let stamps = Stamps::of(elapsed_ms, 0);
        let table = vec![ContentSpec { size: 1, crc32c: 0 }; usize::try_from(count).unwrap()];
        state.apply(index, &Batch { stamps, commands }, &table)
    };
    let mut sessions = 0;
    while state.sessions().idle_ms_max() > SESSION_SPARE_MS {
        sessions += 1;
        apply(&mut state, 1_000_000, sessions, 1_000);
        assert!(sessions < 10_000, "answers are not counted");
    }
    assert_eq!(state.stats().sessions, sessions);
    apply(&mut state, 1_000_000 + SESSION_SPARE_MS, sessions + 1, 1);
    assert_eq!(state.stats().sessions, sessions, "the first one is gone");
    assert!(state.sessions().idle_ms_max() > SESSION_SPARE_MS);
    state.check();
}
