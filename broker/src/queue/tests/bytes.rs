//! A state as bytes: canonical, and refused when they are anything else.

use super::super::BadState;
use super::*;

/// A small state with something in every part of it.
fn sample() -> State {
    let mut broker = Broker::new();
    let table = [5, 6, 7, 7, 9].map(|size| ContentSpec { size, crc32c: 0 });
    let special = [(4, 9, Due::AfterMs(9_000))];
    broker.entry_with(vec![Command { session: None, op: push_special("jobs", 5, &special) }], &table);
    broker.call(7, 1, 1, push("mail", 3));
    let grants = delivered(broker.call(7, 2, 1, lease("mail", 2)).result);
    let reason = super::super::command::ErrorText::cut("no");
    let kind = queue_protocol::wire::request::NackKind::Reject { reason };
    broker.call(7, 3, 1, Op::Nack { leases: receipts("mail", &grants[..1]), kind });
    broker.call(7, 4, 1, pop("none", 1));
    broker.call(8, 1, 1, Op::CloseSession);
    broker.call(7, 5, 1, Op::BindSession { grace_ms: Some(5_000) });
    broker.state
}

#[test]
fn what_decodes_goes_on_like_the_original() {
    let mut state = sample();
    let mut twin = State::decode(&encode(&state)).unwrap();
    let session = Some(SessionStamp {
        session: SessionId(7),
        number: 2,
        done_below: 1,
        opening: None,
        request: RequestHash::default(),
        by: None,
    });
    let repeat = Command { session, op: lease("mail", 2) };
    let batch = Batch {
        stamps: Stamps::of(2_000_000, 60_000),
        commands: bounded([repeat, Command { session: None, op: lease("jobs", 9) }]),
    };
    let replies = state.apply(99, &batch, &[]).replies;
    assert_eq!(twin.apply(99, &batch, &[]).replies, replies);
    assert!(replies[0].repeated && delivered(replies[1].result.clone()).len() == 5);
    assert_eq!(encode(&twin), encode(&state));
}

#[test]
fn a_run_that_lost_the_messages_that_differed_has_the_bytes_of_an_even_one() {
    let states = [[5, 7, 7], [7, 7, 7]].map(|sizes| {
        let mut broker = Broker::new();
        let table = sizes.map(|size| ContentSpec { size, crc32c: 0 });
        broker.entry_with(vec![Command { session: None, op: push("jobs", 3) }], &table);
        broker.run(pop("jobs", 1)).unwrap();
        contents(&broker.state)
    });
    assert_eq!(states[0], states[1]);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = encode(&sample());
    for size in 0..bytes.len() {
        assert!(State::decode(&bytes[..size]).is_err(), "{size} of {} bytes", bytes.len());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(State::decode(&longer), Err(BadState::Inconsistent { .. })));
    let newer = [&[3, 0, 0, 0], &bytes[4..]].concat();
    assert!(matches!(State::decode(&newer), Err(BadState::Level(Level(3)))));
}

#[test]
fn a_raised_level_is_part_of_the_state_and_of_how_it_is_written() {
    let mut broker = Broker::new();
    assert_eq!(broker.run(Op::RaiseLevel(Level(2))), Ok(Outcome::Raised(Level(2))));
    assert_eq!(broker.run(Op::RaiseLevel(Level(1))), Ok(Outcome::Raised(Level(2))), "it never falls");
    let unknown = broker.run(Op::RaiseLevel(Level(3))).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::BadRequest);
    let bytes = encode(&broker.state);
    assert_eq!(bytes[..4], [2, 0, 0, 0]);
    assert_eq!(State::decode(&bytes).unwrap().level(), Level(2));
    let claimed = [&[1, 0, 0, 0], &bytes[4..]].concat();
    assert!(State::decode(&claimed).is_err(), "one level is not read as the other");
}

#[test]
fn no_changed_byte_makes_decoding_or_what_follows_panic() {
    let bytes = encode(&sample());
    let commands = [push("jobs", 1), lease("jobs", 9), lease("mail", 9), pop("jobs", 9), Op::Tick];
    let all = redrive("mail");
    let commands = commands.into_iter().chain([all]).map(|op| Command { session: None, op });
    let stamps = Stamps::of(u64::MAX / 2, 90_000);
    let batch = Batch { stamps, commands: bounded(commands) };
    let mut taken = 0;
    for at in 0..bytes.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            if let Ok(mut state) = State::decode(&changed) {
                taken += 1;
                state.check();
                state.live_bodies();
                state.apply(99, &batch, &[ContentSpec { size: 1, crc32c: 0 }]);
                state.check();
            }
        }
    }
    assert!(taken > 0, "some changes give another state");
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let empty = encode(&State::new());
    // That of the journal, and that of the forgotten sessions and of what is before them.
    for cut in [1, 39] {
        let mut bytes = empty[..empty.len() - cut].to_vec();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert!(matches!(State::decode(&bytes), Err(BadState::Malformed { .. })));
    }
}

#[test]
fn the_bytes_of_an_empty_state_are_what_they_were() {
    let bytes = encode(&State::new());
    // Version, three clocks, next id, token, node, queue, nine totals, hash, no admission key and no rotation, then nodes, principals and keys with their next numbers, queues, sessions
    // and answers, the mark, forgotten sessions and schedules; the number and hash before the journal, what was cut of it, and its records.
    let mut expected = [0; 38 + 35];
    expected[..10].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
    expected[28..30].copy_from_slice(&[1, 1]);
    assert_eq!(bytes, expected);
}

#[test]
fn the_state_hash_differs_with_whatever_is_answered_or_kept() {
    let told = |change: fn(&mut State), op: Op| {
        let mut broker = Broker::new();
        broker.run(push("jobs", 5)).unwrap();
        broker.run(lease("jobs", 1)).unwrap();
        change(&mut broker.state);
        let command = Command { session: None, op };
        let stamps = Stamps::of(2_000_000, 5);
        broker.state.apply(99, &Batch { stamps, commands: bounded([command]) }, &[]);
        broker.state.digest()
    };
    let same = |state: &mut State| {
        *state = State::decode(&encode(state)).unwrap();
    };
    let before = told(|_| {}, Op::Tick);
    assert_eq!(told(same, Op::Tick), before);
    let changes: [fn(&mut State); 7] = [
        |state| {
            let next = state.numbers().id().0 + 1;
            state.numbers_mut().give_ids_below(next);
        },
        |state| state.numbers_mut().give_tokens(1),
        |state| *state.clocks_mut().parts_mut()[0] += 9_000_000,
        |state| *state.clocks_mut().parts_mut()[2] += 1,
        |state| {
            state.raise_level(Level(2));
        },
        |state| state.catalog_mut().sums_mut().0.bytes += 1,
        |state| state.catalog_mut().sums_mut().1.acked += 1,
    ];
    let mut all: Vec<u64> = changes.into_iter().map(|change| told(change, Op::Tick)).collect();
    // What is delivered, and in what order.
    all.extend([
        before,
        told(|_| {}, lease("jobs", 1)),
        told(|_| {}, lease("jobs", 2)),
        told(|_| {}, pop("jobs", 2)),
    ]);
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
}
