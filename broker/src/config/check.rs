//! What the settings must be to each other.

use super::value::{Reach, reach};
use super::{Config, Problem};

/// An election must not begin because a few heartbeats were late.
const ELECTION_HEARTBEATS_MIN: u32 = 4;

/// Everything that is wrong, nothing if all is well.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let raft = &config.node.raft;
    let election_min = raft.heartbeat * ELECTION_HEARTBEATS_MIN;
    if raft.election_min < election_min {
        let [is, heartbeat, must] =
            [raft.election_min, raft.heartbeat, election_min].map(humantime::format_duration);
        problems.push(Problem::new(format!(
            "raft.election_timeout begins at {is}, less than {ELECTION_HEARTBEATS_MIN} times raft.heartbeat ({heartbeat})"
        )).hint(format!("{must} or more, or a shorter heartbeat")));
    }
    let defaults = &config.node.server.queues.defaults;
    if defaults.backoff_ms > defaults.backoff_ms_max {
        problems.push(Problem::new("queues.default.backoff is longer than queues.default.backoff_max"));
    }
    let listen = &config.node.listen;
    let listens = reach(listen);
    match &config.node.advertise {
        None if listens == Reach::Wildcard => problems.push(
            Problem::new(format!(
                "advertise.address is needed when listen.address is {listen}: nobody can be sent there"
            ))
            .hint("--advertise-address HOST:PORT, where clients and other nodes reach this one"),
        ),
        Some(address) if reach(address) == Reach::Wildcard => {
            problems.push(Problem::new(format!("advertise.address is {address}: nobody can be sent there")));
        }
        _ => {}
    }
    if listens != Reach::Loopback && !config.insecure {
        problems.push(
            Problem::new(format!(
                "listen.address {listen} can be reached from other machines, and there is neither TLS nor a login"
            ))
            .hint("listen on 127.0.0.1, or on a private network say --insecure"),
        );
    }
    if let Some(http) = config.http.listen.as_ref().filter(|http| reach(http) != Reach::Loopback)
        && !config.insecure
    {
        problems.push(
            Problem::new(format!(
                "listen.http {http} can be reached from other machines, and there is neither TLS nor a login"
            ))
            .hint("listen on 127.0.0.1, or on a private network say --insecure"),
        );
    }
    problems
}
