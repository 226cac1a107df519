//! A disk whose sync fails, by strace: the node must end at once and answer nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harness::trace::{self, Call};
use queue_protocol::wire::frame::FrameKind;

use crate::wire::Stream;

/// What is traced beside the call that fails.
const CALLS: [&str; 8] = ["fdatasync", "read", "readv", "recvfrom", "write", "writev", "sendto", "sendmsg"];

/// What stands before a node whose log thread, or whoever syncs so often, fails at its `number`th sync.
pub(crate) fn under(output: &Path, number: u64) -> Vec<String> {
    let inject = format!("inject=fdatasync:error=EIO:when={number}");
    trace::under(output, &CALLS, &["-e", &inject])
}

/// Checks that a sync failed, and that no push was answered from then on; how long the process lived on, microseconds.
pub(crate) fn check(calls: &[Call]) -> u64 {
    let failed = calls.iter().find(|call| call.name == "fdatasync" && call.result < 0);
    let failed = failed.expect("a sync failed").over;
    let mut incoming: BTreeMap<[&str; 2], Stream> = BTreeMap::new();
    let mut outgoing: BTreeMap<[&str; 2], Stream> = BTreeMap::new();
    let mut pushes = BTreeSet::new();
    for call in calls {
        let Some(connection) = call.connection() else { continue };
        if call.name.starts_with("re") {
            let frames = incoming.entry(connection).or_default().frames(call);
            // Of what the load asks only a push has a tail.
            let asked =
                frames.iter().filter(|frame| frame.kind == FrameKind::Request && !frame.tail.is_empty());
            pushes.extend(asked.map(|frame| (connection, frame.request_id)));
            continue;
        }
        for frame in outgoing.entry(connection).or_default().frames(call) {
            let push = frame.kind == FrameKind::Response && pushes.remove(&(connection, frame.request_id));
            assert!(!push || call.began <= failed, "a push was answered after a sync had failed: {call:?}");
        }
    }
    calls.iter().map(|call| call.over).max().unwrap_or(failed) - failed
}
