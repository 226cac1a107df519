//! What clients cost a node in memory, whoever they are: many that push once, many that are idle, and some that send half of
//! what they announce. Each bound is first shown to be missed by a node with the planted bug.

use std::sync::Arc;
use std::time::Duration;

use harness::bodies::{drain, push, stored};
use harness::cluster::Cluster;
use harness::settings::choose;
use harness::stranger::{self, Stranger, push_once, raise_descriptors};
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use queue_protocol::wire::frame::OutFrame;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
/// What a node may take beside what is measured: threads that start, and pages that the allocator keeps.
const SLACK: u64 = 24 * MIB;
/// Connections made at a time.
const AT_A_TIME: usize = 32;

/// One node, with a planted bug if one is named, that has answered and is warm; and its memory.
async fn node(memory: &str, bug: Option<Mutant>) -> (Cluster, u64) {
    raise_descriptors();
    // Beside ten thousand idle clients there are those of the test.
    let mut env = vec![("QUEUED_LIMITS_MEMORY", memory), ("QUEUED_LIMITS_CONNECTIONS", "11000")];
    env.extend(bug.map(|bug| (VARIABLE, bug.name())));
    let cluster = Cluster::start_with(1, &env).await;
    push_many(&cluster, 64, true).await;
    drain(&cluster.client(), "jobs").await;
    let before = cluster.resident(0);
    (cluster, before)
}

async fn push_many(cluster: &Cluster, count: usize, close: bool) {
    let at_a_time = Arc::new(Semaphore::new(AT_A_TIME));
    let mut pushes = JoinSet::new();
    for _ in 0..count {
        let place = Arc::clone(&at_a_time).acquire_owned().await.expect("it is never closed");
        let address = cluster.address(0).to_owned();
        pushes.spawn(async move {
            let _place = place;
            push_once(&address, "jobs", b"x", close).await.expect("a push");
        });
    }
    pushes.join_all().await;
}

/// For the ledger.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn figure(what: &str, value: impl std::fmt::Display) {
    println!("{what}: {value}");
}

/// Waits until the node has at most `bound` more than `before`; what it has then.
async fn falls(cluster: &Cluster, before: u64, bound: u64) -> u64 {
    until(&format!("at most {} MiB are held", bound / MIB), LIMIT, async || {
        let more = cluster.resident(0).saturating_sub(before);
        if more <= bound { Ok(more) } else { Err(format!("{} KiB are", more >> 10)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_push_once_leave_no_buffers_behind() {
    let count = choose(3_000, 100_000);
    let (cluster, before) = node("64MiB", None).await;
    push_many(&cluster, count, true).await;
    let left = falls(&cluster, before, choose(SLACK, 64 * MIB)).await;
    figure("memory-one-shot", format_args!("{count} clients left {} KiB", left >> 10));
    push_many(&cluster, count, false).await;
    falls(&cluster, before, choose(SLACK, 64 * MIB) + count as u64 * 1_024).await;
    drain(&cluster.client(), "jobs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_no_huge_pages() {
    let cluster = Cluster::start_with(1, &[]).await;
    let path = format!("/proc/{}/status", cluster.pid(0));
    let status = std::fs::read_to_string(path).expect("it runs");
    // A kernel without huge pages says nothing of them.
    assert!(!status.contains("THP_enabled:\t1"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_that_keep_their_buffer_would_be_seen() {
    let (cluster, before) = node("64MiB", Some(Mutant::ContentsKeepTheirBuffer)).await;
    push_many(&cluster, 500, true).await;
    let more = cluster.resident(0) - before;
    assert!(more > SLACK + 500 * 1_024, "only {} KiB", more >> 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_client_costs_little() {
    let count: u64 = choose(500, 10_000);
    let (cluster, before) = node("64MiB", None).await;
    let mut strangers = Vec::new();
    for _ in 0..count {
        strangers.push(Stranger::greet(cluster.address(0)).await.expect("there is room for it"));
    }
    // Of which the node itself may keep some: with more of them that is less.
    let bound = choose(4 * MIB + count * (16 << 10), 200 * MIB);
    let held = falls(&cluster, before, bound).await;
    figure("memory-idle-client", format_args!("{count} hold {} KiB, {} B each", held >> 10, held / count));

    // They have been busy, some at a time, and rest again: what many free at once the allocator keeps for a while.
    for stranger in &mut strangers[..200] {
        let push = |number| stranger::push(stranger.stamp(number, 1), "jobs", &[7; 3_000]);
        let frames: Vec<OutFrame> = (1..=60).map(push).collect();
        let bytes = stranger::bytes(&frames).await;
        assert!(stranger.send(&bytes, LIMIT).await, "the node reads");
        for _ in &frames {
            stranger.next().await.expect("each push is answered");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The queue and the newest entries are still there: 36 MB of bodies, of which memory holds the last 32 MiB.
    falls(&cluster, before, bound + 40 * MIB).await;
    assert_eq!(drain(&cluster.client(), "jobs").await.len(), 200 * 60);
}

/// Pushes a second by 64 clients, each one at a time.
async fn busy_rate(cluster: &Cluster) -> u64 {
    let during = choose(Duration::from_secs(1), Duration::from_secs(10));
    let mut busy = JoinSet::new();
    for _ in 0..64 {
        let client = cluster.client();
        busy.spawn(async move {
            let (began, mut count) = (Instant::now(), 0_u64);
            while began.elapsed() < during {
                stored(&push(&client, "busy", &[b"b"]).await.expect("it is served"), 1);
                count += 1;
            }
            count
        });
    }
    busy.join_all().await.into_iter().sum::<u64>() / during.as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_clients_do_not_feel_idle_ones() {
    let (cluster, _) = node("64MiB", None).await;
    busy_rate(&cluster).await;
    let alone = busy_rate(&cluster).await;
    let mut strangers = Vec::new();
    for _ in 0..choose(500, 10_000) {
        strangers.push(Stranger::greet(cluster.address(0)).await.expect("there is room for it"));
    }
    let beside = busy_rate(&cluster).await;
    figure(
        "busy-beside-idle",
        format_args!("{beside} pushes a second, {alone} alone, {} idle", strangers.len()),
    );
    // A short measurement on a machine that others use, too, shows only what is grossly wrong.
    assert!(beside * 10 >= alone * choose(4, 9), "{beside} a second, {alone} alone");
}

/// A client that does as it should. How long each of its pushes took at most.
async fn serve_well(cluster: &Cluster, during: Duration) -> Duration {
    let client = cluster.client();
    let (began, mut worst) = (Instant::now(), Duration::ZERO);
    let mut count = 0;
    while began.elapsed() < during {
        for size in [10, 1_000, 16_000] {
            let asked = Instant::now();
            let answer = push(&client, "good", &[vec![b'g'; size]]).await.expect("it is served");
            stored(&answer, 1);
            worst = worst.max(asked.elapsed());
            count += 1;
        }
    }
    assert_eq!(drain(&client, "good").await.len(), count);
    worst
}

/// So many strangers that each send `bytes`, as far as they are taken, and then nothing.
async fn besiege(cluster: &Cluster, count: usize, bytes: Vec<u8>) -> JoinSet<Stranger> {
    let bytes = Arc::new(bytes);
    let mut besiegers = JoinSet::new();
    for _ in 0..count {
        let bytes = Arc::clone(&bytes);
        let mut stranger = Stranger::greet(cluster.address(0)).await.expect("there is room for it");
        besiegers.spawn(async move {
            stranger.send(&bytes, Duration::from_secs(3)).await;
            stranger
        });
    }
    besiegers
}

/// What the siege made of the node: its memory at most, and the longest time of a good client's push.
async fn under_siege(bug: Option<Mutant>, count: usize, bytes: Vec<u8>) -> (u64, Duration) {
    let (cluster, before) = node(choose("64MiB", "512MiB"), bug).await;
    let besiegers = besiege(&cluster, count, bytes).await;
    let mut most = 0;
    let worst = {
        let mut serving = std::pin::pin!(serve_well(&cluster, Duration::from_secs(6)));
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                worst = &mut serving => break worst,
                _ = looks.tick() => most = most.max(cluster.resident(0)),
            }
        }
    };
    drop(besiegers.join_all().await);
    (most.saturating_sub(before), worst)
}

/// What is allowed beside the budget: the newest entries, and a page for each connection.
const BESIDE: u64 = 64 * MIB;

fn check_siege((held, worst): (u64, Duration)) {
    let bound = choose(64, 512) * MIB + BESIDE;
    assert!(held <= bound, "{} MiB are held of {}", held / MIB, bound / MIB);
    // Somebody has to give way first, after a second.
    assert!(worst < Duration::from_secs(4), "a good client waited {worst:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_frames_have_no_more_than_the_budget() {
    check_siege(under_siege(None, choose(40, 400), stranger::unfinished().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_requests_have_no_more_than_the_budget() {
    check_siege(under_siege(None, choose(8, 40), stranger::pieces().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_does_not_count_would_be_seen() {
    let (held, _) =
        under_siege(Some(Mutant::InputNotCounted), choose(40, 150), stranger::unfinished().await).await;
    assert!(held > choose(64, 512) * MIB + BESIDE, "only {} MiB", held / MIB);
}

/// Sends 900 bytes a second of a frame until the node ends the connection; when that was.
async fn drip(cluster: &Cluster, limit: Duration) -> Option<Duration> {
    let mut stranger = Stranger::greet(cluster.address(0)).await.expect("there is room for it");
    let began = Instant::now();
    let bytes = stranger::unfinished().await;
    let mut every = tokio::time::interval(Duration::from_millis(100));
    for drop in bytes.chunks(90) {
        tokio::select! {
            end = stranger.next() => {
                // A goodbye says why.
                assert!(end.is_some(), "it ends without a word");
                return Some(began.elapsed());
            }
            _ = every.tick() => {}
        }
        if began.elapsed() > limit || !stranger.send(drop, LIMIT).await {
            break;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_drips_is_ended() {
    let (cluster, _) = node("64MiB", None).await;
    let ended = drip(&cluster, Duration::from_secs(40)).await.expect("the node ends it");
    assert!(ended >= Duration::from_secs(25), "after {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_drips_for_ever_would_be_seen() {
    let (cluster, _) = node("64MiB", Some(Mutant::SlowInputStays)).await;
    assert_eq!(drip(&cluster, Duration::from_secs(40)).await, None);
}
