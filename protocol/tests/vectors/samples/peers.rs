//! What nodes ask of each other and answer.

use super::*;

pub(super) fn log_id(index: u64) -> LogId {
    LogId { term: 8, leader: NodeId(2), index }
}

pub(super) fn vote() -> Vote {
    Vote { term: 8, node: NodeId(2), committed: true }
}

pub(super) fn peers() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut ask = |suffix: &str, request: PeerRequest, tail: Vec<Bytes>| {
        let name = format!("{}{suffix}", peer_request_name(&request));
        samples.push(sample(name, 5, PeerCall::from(request), tail));
    };
    let entry = |index, kind, commands_size, bodies: &[Bytes]| EntrySpec {
        id: log_id(index),
        kind,
        commands_size,
        bodies_count: u32::try_from(bodies.len()).unwrap(),
        bodies_size: u32::try_from(bodies.concat().len()).unwrap(),
    };
    let entries = vec![
        entry(10, EntryKind::Blank, 0, &[]),
        entry(11, EntryKind::Membership, 2, &[]),
        entry(12, EntryKind::Commands, 3, &[plain()]),
    ];
    let row = ContentSpec::of(&plain());
    let table = [row.size.to_le_bytes(), row.crc32c.to_le_bytes()].concat();
    let tail = vec![Bytes::from_static(b"mm"), Bytes::from_static(b"ccc"), Bytes::from(table), plain()];
    let append =
        Append { vote: vote(), prev: Some(log_id(9)), commit: Some(log_id(8)), entries: list(entries) };
    ask("", PeerRequest::Append(append.clone()), tail);
    let heartbeat = Append { prev: None, commit: None, entries: Bounded::default(), ..append };
    ask("/heartbeat", PeerRequest::Append(heartbeat), Vec::new());
    let vote_asked = AskVote { vote: vote(), last: Some(log_id(12)), by_transfer: false };
    ask("", PeerRequest::Vote(vote_asked), Vec::new());
    ask("", PeerRequest::PreVote(AskVote { last: None, by_transfer: true, ..vote_asked }), Vec::new());
    let transfer = Transfer { from: vote(), to: NodeId(3), last: Some(log_id(12)) };
    ask("", PeerRequest::TransferLeader(transfer), Vec::new());
    let begin = SnapshotBegin { vote: vote(), last: Some(log_id(12)), state_size: 1_000_000 };
    ask("", PeerRequest::SnapshotBegin(begin), Vec::new());
    let bodies = SnapshotPart::Bodies { id: log_id(4), bodies: list(vec![(3, row)]) };
    for (part, tail) in [(bodies, plain()), (SnapshotPart::State, Bytes::from_static(b"state"))] {
        let suffix = part_name(&part).strip_prefix("peer_request/snapshot_part").expect("the prefix above");
        ask(suffix, PeerRequest::SnapshotPart(part.clone()), vec![tail]);
    }
    ask("", PeerRequest::SnapshotEnd, Vec::new());
    let join = Join {
        name: Some(text("n4")),
        address: text("10.0.0.4:7410"),
        store: StoreId(0xabc),
        key: [7; 32],
        standing: Standing::Voter,
    };
    ask("", PeerRequest::Join(join), Vec::new());
    let invite = Invite { at: text("10.0.0.1:7410"), standing: Standing::InsteadOf(NodeId(3)) };
    ask("", PeerRequest::Invite(invite), Vec::new());
    let peers = || list(vec![text("a:7410"), text("b:7410")]);
    ask("", PeerRequest::Bootstrap(AskBootstrap { peers: peers(), position: 0 }), Vec::new());
    let prev = Some(LogId { term: 6, leader: NodeId(1), index: 48_210 });
    let commit = Some(LogId { term: 7, leader: NodeId(2), index: 48_211 });
    ask("", PeerRequest::Heartbeat(Heartbeat { vote: vote(), prev, commit }), Vec::new());
    ask("", PeerRequest::Announce(Bounded::new(vec![announcement(3)]).unwrap()), Vec::new());
    let ping = PeerPing {
        wall_ms: 1_800_000_000_000,
        elapsed_ms: Some(86_400_000),
        disk_free_bytes: 1 << 36,
        disk_spare_bytes: 1 << 35,
        last_index: 13,
        disk_low: false,
        descriptors_short: false,
        durable_index: 12,
        durable_vote: Some(vote()),
        levels: Levels { min: Level(1), max: Level(2) },
        lead: Some(Lead { commit_index: 48_211, confirmed_age_ms: 90 }),
        hashes: [Some(StateHash { index: 45_056, hash: 1 << 63 }), None, None, None],
    };
    ask("", PeerRequest::Ping(ping), Vec::new());
    ask("", PeerRequest::AskHeld, Vec::new());
    ask("", PeerRequest::AskSecret(AskSecret { generation: 2, admission: [0xad; 32] }), Vec::new());

    let mut answer = |suffix: &str, response: PeerResponse| {
        let name = format!("{}{suffix}", peer_response_name(&response));
        samples.push(sample(name, 5, response, Vec::new()));
    };
    for result in [
        AppendResult::Durable(Some(log_id(12))),
        AppendResult::Conflict(log_id(9)),
        AppendResult::HigherVote(vote()),
    ] {
        let suffix = append_name(&result).strip_prefix("peer_response/append").expect("the prefix above");
        answer(suffix, PeerResponse::Append(result));
    }
    answer("", PeerResponse::Vote(VoteResult { vote: vote(), granted: true, last: Some(log_id(12)) }));
    answer("", PeerResponse::Seen(vote()));
    let from = SnapshotFrom { applied: Some(log_id(3)), staged: Some((5, 7)), state: 100 };
    answer("", PeerResponse::SnapshotFrom(from));
    answer("", PeerResponse::PartTaken);
    let joined = Joined {
        cluster: ClusterId(0x7c1e),
        node: NodeId(4),
        name: text("n4"),
        assigned: 40,
        generation: 1,
        admission: [0xad; 32],
        sealed: [0x5e; 32],
        others: Bounded::new(vec![announcement(3)]).unwrap(),
    };
    answer("", PeerResponse::Joined(joined));
    answer("", PeerResponse::Pong(ping));
    answer("", PeerResponse::Coming);
    answer("", PeerResponse::Noted);
    answer("", PeerResponse::Held(SecretsHeld { durable: 2, used: 1, oldest: 1 }));
    answer("", PeerResponse::Secret(GivenSecret { generation: 2, secret: [5; 32], admission: [6; 32] }));
    let empty = BootstrapState::Empty { peers: peers(), position: 1, word: Some(StoreId(0x44)) };
    answer("/empty", PeerResponse::Bootstrap(empty));
    let holder = Some(Holder { node: NodeId(1), name: text("n1") });
    answer("/member", PeerResponse::Bootstrap(BootstrapState::Member { holder }));
    answer("", PeerResponse::Failed(Error::refused(ErrorCode::NodeExists, "n4 is a member")));
    samples
}

fn announcement(node: u64) -> Announcement {
    Announcement { node: NodeId(node), store: StoreId(9), address: text("10.0.0.9:7410"), epoch: 12 }
}
