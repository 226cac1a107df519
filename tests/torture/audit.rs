//! Every answer to a push follows a sync that covers the message on two of three nodes.
//!
//! Three real nodes run under strace. Eight clients push one message at a time, each with a mark of its own. A mark is
//! seen in the request frame read from a client (and the response frame of the same request id is the answer to it), and
//! in the write to the log of each node. A message is covered on a node when, after that write, an fdatasync or fsync of the same file has
//! come back with 0, or at once if the write is synchronous by `O_DSYNC`, `O_SYNC` or `RWF_DSYNC`.
//!
//! This is about the order of system calls, not about a disk that does not keep what it was told to; and about pushes, not
//! about leases, acks and votes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::LazyLock;

use harness::bodies::{push, stored};
use harness::cluster::Cluster;
use harness::trace::{self, Call};
use queue_broker::mutants;
use queue_protocol::wire::frame::FrameKind;
use regex::Regex;
use tokio::task::JoinSet;

use crate::say;
use crate::wire::Stream;

const CLIENTS: usize = 8;
/// What is traced. Only the log of a node is below a directory `log`.
const CALLS: [&str; 13] = [
    "openat",
    "read",
    "readv",
    "recvfrom",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fdatasync",
    "fsync",
];
/// Every sync takes so much longer, in microseconds: an answer that does not wait for it is then far ahead.
const SYNC_DELAY: &str = "inject=fdatasync:delay_enter=3000";
/// Exceptions that are shown.
const SHOWN: usize = 10;

/// What the trace of one node shows. Times in microseconds.
#[derive(Default)]
struct Seen {
    /// When each mark was covered.
    covered: BTreeMap<String, u64>,
    /// Mark, when the answer to it began, on which connection.
    answers: Vec<(String, u64, [String; 2])>,
    connections: BTreeSet<[String; 2]>,
}

/// A connection from the side of the node.
#[derive(Default)]
struct Streams {
    incoming: Stream,
    outgoing: Stream,
    /// Marks by the id of their request.
    asked: BTreeMap<u64, String>,
}

fn marks(text: &str) -> Vec<String> {
    static MARK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"mark-\d+-\d{6}").expect("it is one"));
    MARK.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// What a call has to do with marks.
enum Step {
    Asked,
    Answered,
    Written { durable: bool },
    Synced,
    Opened,
    Other,
}

fn step(call: &Call) -> Step {
    let socket = call.connection().is_some();
    let log = call.target.contains("/log/");
    match call.name.as_str() {
        "read" | "readv" | "recvfrom" if socket => Step::Asked,
        "write" | "writev" | "sendto" | "sendmsg" if socket => Step::Answered,
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" if log => {
            Step::Written { durable: call.text.contains("RWF_DSYNC") || call.text.contains("RWF_SYNC") }
        }
        "fdatasync" | "fsync" if log && call.result == 0 => Step::Synced,
        "openat" => Step::Opened,
        _ => Step::Other,
    }
}

fn see(mut calls: Vec<Call>) -> Seen {
    // An answer counts from its beginning, everything else from its end; a read at the same time comes first.
    calls.sort_by_key(|call| {
        if matches!(step(call), Step::Answered) { (call.began, true) } else { (call.over, false) }
    });
    let mut seen = Seen::default();
    let mut streams: BTreeMap<[String; 2], Streams> = BTreeMap::new();
    let mut written: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let mut synchronous = BTreeSet::new();
    for call in calls {
        let connection = call.connection().map(|ends| ends.map(str::to_owned));
        match step(&call) {
            Step::Asked => {
                let streams = streams.entry(connection.expect("a socket")).or_default();
                for frame in streams.incoming.frames(&call) {
                    let found = marks(&String::from_utf8_lossy(&frame.tail));
                    streams.asked.extend(found.into_iter().map(|mark| (frame.request_id, mark)));
                }
            }
            Step::Answered => {
                let connection = connection.expect("a socket");
                let streams = streams.entry(connection.clone()).or_default();
                for frame in streams.outgoing.frames(&call) {
                    if frame.kind == FrameKind::Response
                        && let Some(mark) = streams.asked.remove(&frame.request_id)
                    {
                        seen.answers.push((mark, call.began, connection.clone()));
                    }
                }
                seen.connections.insert(connection);
            }
            Step::Written { durable } => {
                let durable = durable || call.descriptor.is_some_and(|number| synchronous.contains(&number));
                for mark in marks(&call.text) {
                    if durable {
                        seen.covered.entry(mark).or_insert(call.over);
                    } else {
                        written.entry(call.target.clone()).or_default().push((call.over, mark));
                    }
                }
            }
            Step::Synced => {
                let Some(waiting) = written.get_mut(&call.target) else { continue };
                for (_, mark) in waiting.extract_if(.., |(over, _)| *over <= call.began) {
                    seen.covered.entry(mark).or_insert(call.over);
                }
            }
            Step::Opened => {
                let Ok(number) = u64::try_from(call.result) else { continue };
                if call.text.contains("O_DSYNC") || call.text.contains("O_SYNC") {
                    synchronous.insert(number);
                } else {
                    synchronous.remove(&number);
                }
            }
            Step::Other => {}
        }
    }
    seen
}

/// How many marks were answered, and what is wrong with which.
fn compare(nodes: &[Seen]) -> (usize, Vec<String>) {
    // A connection that two nodes have is one between peers.
    let peers = |connection| nodes.iter().filter(|node| node.connections.contains(connection)).count() > 1;
    let given = nodes.iter().flat_map(|node| &node.answers).filter(|(_, _, connection)| !peers(connection));
    // A client that was sent elsewhere is answered again: the last one says that it is stored.
    let mut answers: BTreeMap<&str, u64> = BTreeMap::new();
    for (mark, began, _) in given {
        let last = answers.entry(mark).or_default();
        *last = (*last).max(*began);
    }
    let mut exceptions = Vec::new();
    for (mark, began) in &answers {
        let mut covered: Vec<u64> =
            nodes.iter().filter_map(|node| node.covered.get(*mark).copied()).collect();
        covered.sort_unstable();
        if covered.get(1).is_none_or(|second| second > began) {
            exceptions.push(format!("{mark}: answered at {began}, covered at {covered:?}"));
        }
    }
    (answers.len(), exceptions)
}

/// Pushes `pushes` messages, and says how many answers came too early.
pub(crate) async fn audit(pushes: usize) -> ExitCode {
    if let Some(missing) = trace::missing() {
        say(&format!("skipped: {missing}"));
        return ExitCode::SUCCESS;
    }
    let mutant = std::env::var(mutants::VARIABLE).ok();
    let env: Vec<(&str, &str)> = mutant.iter().map(|name| (mutants::VARIABLE, name.as_str())).collect();
    let mut cluster = Cluster::start_with(3, &env).await;
    // Again from the start, so that every file is opened before eyes.
    cluster.kill_all();
    let mut dir = tempfile::tempdir().expect("there is a temporary directory");
    let traces: Vec<_> = (0..3).map(|n| dir.path().join(format!("n{}.trace", n + 1))).collect();
    for (n, trace) in traces.iter().enumerate() {
        cluster.run_under(n, trace::under(trace, &CALLS, &["-e", SYNC_DELAY]));
    }
    cluster.restart_all().await;
    cluster.leader().await;

    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let pusher = cluster.client();
        clients.spawn(async move {
            for number in (client..pushes).step_by(CLIENTS) {
                let answered = push(&pusher, "audit", &[format!("mark-{client}-{number:06}")]).await;
                stored(&answered.unwrap_or_else(|error| panic!("push {number}: {error}")), 1);
            }
        });
    }
    clients.join_all().await;
    let pids: Vec<u32> = (0..3).map(|n| cluster.pid(n)).collect();
    cluster.kill_all();

    let mut nodes = Vec::new();
    for (trace, pid) in traces.iter().zip(pids) {
        nodes.push(see(trace::calls(trace, pid).await));
    }
    let (answers, exceptions) = compare(&nodes);
    exceptions.iter().take(SHOWN).for_each(|exception| say(exception));
    if !exceptions.is_empty() {
        dir.disable_cleanup(true);
        say(&format!("the traces are in {}", dir.path().display()));
    }
    say(&format!("{answers} answers to {pushes} pushes, {} exceptions", exceptions.len()));
    if answers < pushes {
        say("the traces do not show every answer");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(!exceptions.is_empty()))
}
