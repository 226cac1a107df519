//! What somebody on the network tries who is not a member, or was one, or is one and lies. Each attack is a script; each
//! is refused by its own text, and the cluster goes on.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use harness::cluster::{Cluster, random};
use harness::impostor::Impostor;
use harness::program::run;
use harness::{LIMIT, until};
use queue_broker::mutants::{self, Mutant};
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::hello::PeerId;
use queue_protocol::wire::level::Levels;
use queue_protocol::wire::peer::{
    Append, AskVote, EntryKind, EntrySpec, Heartbeat, LogId, PeerCall, PeerPing, PeerRequest, SnapshotBegin,
    Transfer, Vote,
};
use queue_protocol::wire::proof::{Facts, Secret};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Terms above the own one that an election may name, and below which a leader's must stay.
const AHEAD_MAX: u64 = 1 << 32;
const TERM_MAX: u64 = 1 << 62;
/// How long a connection is watched that must not end, or must.
const WATCHED: Duration = Duration::from_secs(3);

/// A start of a directory that has all that can be asked of it.
pub(crate) fn facts(term: u64) -> Facts {
    let last = Some(LogId { term, leader: NodeId(1), index: 1 << 40 });
    let vote = Some(Vote { term: term + 1, node: NodeId(64), committed: true });
    Facts { last, vote, epoch: 1_000, boot: u64::from_le_bytes(random()), levels: Levels::OURS }
}

/// A cluster of three voters and a learner, n4, which is gone; and somebody who has its directory.
pub(crate) async fn stolen(env: &[(&str, &str)]) -> (Cluster, usize, Impostor) {
    let mut cluster = Cluster::start_with(3, env).await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    let (n4, _) = cluster.take_in(&["cluster", "add", "--learner"]).await;
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
    cluster.kill(n4);
    let (_, status) = cluster.leader().await;
    let thief = Impostor::of(cluster.data_dir(n4), facts(status.term));
    until("the learner is gone", LIMIT, async || {
        let status = cluster.ctl(&["cluster", "status"]).await;
        if status.stdout.contains("UNREACHABLE") { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    (cluster, n4, thief)
}

/// The cluster elects whom it likes, and commits.
async fn commits(cluster: &Cluster, what: &str) {
    until(&format!("a push is accepted after {what}"), LIMIT, async || {
        let ran = cluster.ctl(&["--timeout", "20s", "push", "jobs", "x"]).await;
        if ran.code == 0 { Ok(()) } else { Err(ran.to_string()) }
    })
    .await;
}

fn vote(node: NodeId, term: u64, committed: bool) -> Vote {
    Vote { term, node, committed }
}

/// A frame that names a term: how it is called, whether it is a leader's, and how it is made.
type Named = (&'static str, bool, fn(NodeId, u64) -> PeerRequest);

/// Each kind of frame that names a term, as a node sends it.
const NAMED: [Named; 7] = [
    ("a ping", false, |node, term| {
        PeerRequest::Ping(PeerPing {
            wall_ms: 0,
            elapsed_ms: None,
            disk_free_bytes: 1 << 40,
            disk_spare_bytes: 1 << 40,
            last_index: 5,
            disk_low: false,
            descriptors_short: false,
            durable_index: 5,
            durable_vote: Some(vote(node, term, false)),
            levels: Levels::OURS,
            lead: None,
            hashes: [None; 4],
        })
    }),
    ("a transfer", false, |node, term| {
        let from = vote(node, term, true);
        PeerRequest::TransferLeader(Transfer { from, to: NodeId(1), last: None })
    }),
    ("a pre-vote", false, |node, term| PeerRequest::PreVote(ask(node, term))),
    ("a vote", false, |node, term| PeerRequest::Vote(ask(node, term))),
    ("the begin of a snapshot", true, |node, term| {
        let last = Some(LogId { term, leader: node, index: 1 << 41 });
        PeerRequest::SnapshotBegin(SnapshotBegin { vote: vote(node, term, true), last, state_size: 1 })
    }),
    ("a heartbeat", true, |node, term| {
        PeerRequest::Heartbeat(Heartbeat { vote: vote(node, term, true), prev: None, commit: None })
    }),
    ("an append", true, |node, term| {
        let id = LogId { term, leader: node, index: 1 << 41 };
        let (kind, commands_size, bodies_count, bodies_size) = (EntryKind::Blank, 0, 0, 0);
        let entry = EntrySpec { id, kind, commands_size, bodies_count, bodies_size };
        let prev = Some(LogId { index: id.index - 1, ..id });
        let entries = Bounded::new(vec![entry]).expect("it is one");
        PeerRequest::Append(Append { vote: vote(node, term, true), prev, commit: None, entries })
    }),
];

pub(crate) fn ask(node: NodeId, term: u64) -> AskVote {
    let last = Some(LogId { term, leader: node, index: 1 << 40 });
    AskVote { vote: vote(node, term, false), last, by_transfer: true }
}

/// Attack 2: one frame with the highest term that a number holds ended all elections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_that_no_election_reaches_ends_its_connection_and_one_that_might_leaves_a_cluster() {
    let (cluster, _, thief) = stolen(&[]).await;
    let node = thief.id.node;
    let target = cluster.address(0);
    let own = async || cluster.status(0).await.expect("it answers").term;
    for (name, of_leader, frame) in NAMED {
        let term = own().await;
        // A status says what is durable, which may lag.
        let above = if of_leader { TERM_MAX + AHEAD_MAX } else { term + AHEAD_MAX + 64 };
        for term in [above, u64::MAX] {
            let mut line = thief.dial(target).await.expect("it has all that a member has");
            let answer = line.ask(&frame(node, term), Vec::new()).await;
            let ended = answer.expect_err("it was heard");
            assert!(ended.contains("ended") || ended.contains("reset"), "{name} of term {term}: {ended}");
        }
        assert!(own().await < term + 64, "{name} has moved the term");
        commits(&cluster, &format!("{name} of the highest term there is")).await;
    }
    assert!(cluster.log_of(0).contains("no cluster holds so many elections"), "{}", cluster.log_of(0));

    for (name, of_leader, frame) in NAMED {
        let term = if of_leader { TERM_MAX - 1 } else { own().await + AHEAD_MAX };
        let mut line = thief.dial(target).await.expect("it has all that a member has");
        // Answered or not: one that has a leader does not look at votes.
        let _ = line.ask(&frame(node, term), Vec::new()).await;
        commits(&cluster, &format!("{name} of the highest term that it may carry")).await;
    }
    for (name, _, frame) in NAMED {
        let request = frame(node, own().await);
        let mut line = thief.dial(target).await.expect("it has all that a member has");
        let ended = line.call(&PeerCall { group: 1, request }, Vec::new()).await.expect_err("it was heard");
        assert!(ended.contains("ended") || ended.contains("reset"), "{name} about another group: {ended}");
    }
    assert!(cluster.log_of(0).contains("it asks about group 1"), "{}", cluster.log_of(0));
    let mut line = thief.dial(cluster.address(1)).await.expect("it has all that a member has");
    let of_another = NAMED[3].2(NodeId(1), cluster.status(1).await.expect("it answers").term + 1);
    assert!(line.ask(&of_another, Vec::new()).await.is_err(), "it stands for somebody else");
}

/// Attack 2, the other half: a changed hello kept a healthy node out for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_number_that_no_node_reaches_is_refused_and_the_node_comes_back() {
    let (mut cluster, n4, thief) = stolen(&[]).await;
    for n in 0..3 {
        let facts = Facts { epoch: u32::MAX, ..thief.facts };
        let late = Impostor { facts, ..thief.clone() };
        let refused = late.dial(cluster.address(n)).await.err().expect("no node starts so often");
        assert!(refused.starts_with("store_refused") && refused.contains("4294967295 times"), "{refused}");
    }
    cluster.restart(n4).await;
    cluster.ctl(&["push", "jobs", "x"]).await.expect(0);
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
}

/// Attack 3: a number that is no member, with the secret, was granted a vote; a removed node kept its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_the_node_that_it_says_it_is_gets_in_nowhere() {
    let (cluster, _, thief) = stolen(&[]).await;
    let own = || SigningKey::from_bytes(&random());
    let stranger = Impostor {
        id: PeerId { node: NodeId(77), store: StoreId(77) },
        key: own(),
        admission: own(),
        index: u64::MAX,
        ..thief.clone()
    };
    let with = |change: fn(&mut Impostor)| {
        let mut changed = thief.clone();
        change(&mut changed);
        changed
    };
    let cases: [(&str, Impostor, &str); 9] = [
        ("number 77 with the secret", stranger.clone(), "node 77 is not certified by this cluster"),
        ("number 77 that shows nothing", Impostor { shows: false, ..stranger.clone() }, "nothing shows"),
        (
            "number 77 by an entry that was applied",
            Impostor { index: 1, admission: thief.admission.clone(), ..stranger },
            "no node was ever given the number 77",
        ),
        ("n4 without its key", Impostor { key: own(), ..thief.clone() }, "with another key"),
        ("n4 that shows nothing", with(|thief| thief.shows = false), "nothing shows"),
        (
            "n1 with the key of n4",
            with(|thief| thief.id.node = NodeId(2)),
            "number 2 was given to another node",
        ),
        ("another store", with(|thief| thief.id.store = StoreId(4)), "was given to another node"),
        (
            "a member without the secret",
            with(|thief| thief.secret = Secret(random())),
            "the cluster's secret was not proved",
        ),
        ("another cluster's", with(|thief| thief.cluster.0 ^= 1), "wrong_cluster"),
    ];
    for (name, impostor, says) in &cases {
        for n in 0..3 {
            let refused = impostor.dial(cluster.address(n)).await.err();
            let refused = refused.unwrap_or_else(|| panic!("{name} was let in by {n}"));
            let is_itself = impostor.id.node == cluster.node_id(n);
            let says = if is_itself { "is this node" } else { says };
            assert!(refused.contains(says), "{name}: {refused}");
        }
    }
    assert!(thief.dial(cluster.address(0)).await.is_ok(), "with all that n4 had it is n4");
    cluster.ctl(&["cluster", "remove", "n4", "--yes"]).await.expect(0);
    for n in 0..3 {
        until("all have applied the removal", LIMIT, async || {
            let refused = thief.dial(cluster.address(n)).await.err().unwrap_or_default();
            if refused.starts_with("node_removed") { Ok(()) } else { Err(refused) }
        })
        .await;
    }
    cluster.ctl(&["push", "jobs", "x"]).await.expect(0);
}

/// Attack 3, the other half: what a removed node has open ends when the removal is applied, on every node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connections_of_a_removed_node_end_at_once() {
    let removed = async |env: &[(&str, &str)]| {
        let (cluster, _, thief) = stolen(env).await;
        let mut lines = Vec::new();
        for n in 0..3 {
            lines.push(thief.dial(cluster.address(n)).await.expect("it is a member"));
        }
        assert!(!lines[0].ends(WATCHED).await, "it ended too early");
        cluster.ctl(&["cluster", "remove", "n4", "--yes"]).await.expect(0);
        let mut ended = 0;
        for mut line in lines {
            ended += usize::from(line.ends(WATCHED).await);
        }
        ended
    };
    assert_eq!(removed(&[]).await, 3);
    for mutant in [Mutant::RemovedStillHeard, Mutant::RemovedStaysMember] {
        let mutant = (mutants::VARIABLE, mutant.name());
        assert_eq!(removed(&[mutant]).await, 0, "the planted bug is noticed");
    }
}

/// Attack 4: a client scanned the network through the leader, and used up its descriptors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_nothing_of_the_addresses_that_it_lets_the_leader_dial() {
    let cluster = Cluster::start_with(1, &[]).await;
    // One that is silent, and one that speaks something else.
    let (silent, other) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = |listener: &TcpListener| listener.local_addr().expect("it is bound").to_string();
    let (silent_at, other_at) = (address(&silent), address(&other));
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            // It goes when it has read what it was sent.
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    let closed_at = format!("127.0.0.1:{}", harness::free_port());
    let mut told = Vec::new();
    for at in [&silent_at, &other_at, &closed_at] {
        let begin = tokio::time::Instant::now();
        let ran = cluster.ctl(&["cluster", "add", at, "--timeout", "20s"]).await.expect(69);
        told.push(ran.stderr.replace(at.as_str(), "ADDRESS"));
        assert!(begin.elapsed() >= WATCHED, "it was told before a silent one is given up");
    }
    assert!(told[0].contains("no node waits there"), "{}", told[0]);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);

    // A node that waits with another secret; then the minute's dials are used up.
    let waiting = cluster.dir().join("waiting");
    let wrong = cluster.dir().join("wrong");
    std::fs::write(&wrong, format!("{}\n", "07".repeat(32))).expect("it is ours");
    let mut join = harness::program::queued();
    let waits_at = format!("127.0.0.1:{}", harness::free_port());
    join.args(["join", "--listen", &waits_at, "--secret-file"]).arg(&wrong).arg("--data-dir").arg(&waiting);
    let _joining = harness::program::Running::start(&mut join);
    until("the node listens", LIMIT, async || tokio::net::TcpStream::connect(&waits_at).await.map(drop))
        .await;
    let ran = cluster.ctl(&["cluster", "add", &waits_at, "--timeout", "20s"]).await.expect(69);
    assert!(ran.stderr.contains("proved another secret"), "{ran}");
    let ran = run(cluster.queuectl().args(["cluster", "add", &closed_at, "--timeout", "2s"]), b"").await;
    assert!(ran.code != 0 && ran.stderr.contains("4 addresses were dialed within a minute"), "{ran}");
}
