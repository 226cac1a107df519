//! What the settings must be to each other.

use super::value::{Reach, reach};
use super::{Config, Problem};
use crate::tls::TlsMode;

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
    let http = config.http.listen.as_ref();
    if config.tls.mode != TlsMode::Require && !config.insecure {
        for (key, address) in [("listen.address", Some(listen)), ("listen.http", http)] {
            let Some(address) = address.filter(|address| reach(address) != Reach::Loopback) else { continue };
            problems.push(
                Problem::new(format!(
                    "{key} {address} can be reached from other machines, and tls.mode is {}",
                    config.tls.mode.as_str()
                ))
                .hint("--tls-mode=require, listen on 127.0.0.1, or on a network that nobody else is on say --insecure"),
            );
        }
    }
    problems.extend(check_tls(config));
    problems
}

fn check_tls(config: &Config) -> Option<Problem> {
    let tls = &config.tls;
    let alone = match (&tls.cert, &tls.key) {
        (Some(_), None) => Some(("tls.cert", "tls.key")),
        (None, Some(_)) => Some(("tls.key", "tls.cert")),
        _ => None,
    };
    if let Some((given, missing)) = alone {
        return Some(Problem::new(format!("{given} needs {missing}")).hint("`queued cert node` makes both"));
    }
    let blind = config.http.listen.is_some() && tls.mode == TlsMode::Require && tls.ca.is_none();
    blind.then(|| {
        Problem::new(
            "listen.http needs tls.ca when tls.mode is require: the gateway checks the leader's certificate",
        )
        .hint("--tls-ca FILE, the authority that issued the certificates of the nodes")
    })
}
