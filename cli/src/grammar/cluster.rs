//! `cluster …`: the nodes and their part in the cluster.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::wire::logs::LogLevel;

use super::values::{WaitFor, duration, server, wait_for};
use crate::grammar::live;

/// `cluster clients`
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientsArgs {
    /// Those of this node, by number or name [default: the leader]
    #[arg(add = ArgValueCompleter::new(live::nodes))]
    pub(crate) node: Option<String>,
    /// Those of every node
    #[arg(long, conflicts_with = "node")]
    pub(crate) all: bool,
}

/// `cluster …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ClusterCmd {
    /// Every node, one row, unreachable ones too, and whether writes work. Exit 0, or 1 if a push would be refused
    Status,
    /// The members as the leader knows them
    Members,
    /// The connections of clients: program, address, session, what they have leased and wait for
    Clients(ClientsArgs),
    /// Wait for a condition, judged by whom the leader hears; give up after --timeout [default: 30s]
    Wait {
        /// leader or quorum: a leader with a majority behind it; writable: and no node refuses pushes; voters=N that
        /// keep pace; members=N, learners included; applied or applied=INDEX: every member has applied what is
        /// committed, or that entry
        #[arg(long = "for", value_name = "WHAT", default_value = "leader", value_parser = wait_for)]
        what: WaitFor,
    },
    /// Move leadership
    Transfer {
        /// To this node, by number or name; to the best one if none
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: Option<String>,
    },
    /// Add the node waiting at HOST:PORT (started with `queued join` without --at) and wait until it is a voter
    Add {
        /// The address at which it listens
        #[arg(value_name = "HOST:PORT", value_parser = server)]
        address: String,
        /// It stays a learner, without a vote
        #[arg(long)]
        learner: bool,
    },
    /// Give a learner a vote
    Promote {
        /// The node, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
    },
    /// Remove a member for good; its number is never given again
    Remove {
        /// The node, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
        /// Also if the voters that remain do not have a majority that answers
        #[arg(long)]
        force: bool,
        /// Then give the cluster another secret: the removed node still has this one
        #[arg(long)]
        rotate: bool,
    },
    /// Put the node that waits there in the place of a member, in one change, and wait until it votes
    Replace {
        /// The member, by number or name; it may be dead
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        old: String,
        /// The address at which the new one listens
        #[arg(value_name = "HOST:PORT", value_parser = server)]
        address: String,
    },
    /// Know a member at another address, where it runs already; by itself the cluster notices in 10 s
    SetAddress {
        /// The member, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
        /// The address at which it listens now
        #[arg(value_name = "HOST:PORT", value_parser = server)]
        address: String,
    },
    /// Move leadership away from a node and keep it from leading until it is restarted
    Drain {
        /// The node, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
        /// Let it lead again
        #[arg(long)]
        undo: bool,
    },
    /// Give the cluster another secret, another admission key and other certificates, and wait until nothing of the old ones
    /// counts. Members speak TLS with each other meanwhile
    RotateSecret {
        /// Leave out members that do not answer: each needs a copy of another member's new SECRET file before it starts
        #[arg(long)]
        force: bool,
    },
    /// Let nodes dial a member in the clear again that has spoken TLS before
    TlsForget {
        /// The member, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
    },
    /// Let a node write more log lines, or fewer, for a while; it goes back by itself
    Log(LogArgs),
    /// Raise the cluster's feature level, once every node runs a build that speaks the next one; there is no way back
    Upgrade {
        /// To this level; to the highest that all members speak if none
        level: Option<u32>,
    },
    /// Would the cluster work on without this node? Exit 0 or 1
    SafeToStop {
        /// The node, by number or name
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: String,
    },
}

/// `cluster log`
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// The node, by number or name
    #[arg(add = ArgValueCompleter::new(live::nodes))]
    pub(crate) node: String,
    /// off, error, warn, info or debug; settings goes back to what its settings say
    #[arg(value_name = "LEVEL", value_parser = log_word)]
    pub(crate) level: LogWord,
    /// How long; at most a day [default: 10m]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) length: Option<Duration>,
}

/// What a node is to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogWord {
    /// What its settings say.
    Settings,
    /// This.
    Level(LogLevel),
}

/// `slow`
#[derive(Args, Clone, Debug)]
pub(crate) struct SlowArgs {
    /// The node, by number or name [default: all]
    #[arg(add = ArgValueCompleter::new(live::nodes))]
    pub(crate) node: Option<String>,
}

/// A level, or that of the settings.
///
/// # Errors
/// It is neither.
fn log_word(text: &str) -> Result<LogWord, String> {
    match text {
        "settings" => Ok(LogWord::Settings),
        _ => text
            .parse::<LogLevel>()
            .map(LogWord::Level)
            .map_err(|why| format!("{why}, or settings to go back")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_is_one_of_some_and_trace_is_refused_by_name() {
        assert_eq!(log_word("settings"), Ok(LogWord::Settings));
        assert_eq!(log_word("debug"), Ok(LogWord::Level(LogLevel::Debug)));
        assert!(log_word("trace").is_err_and(|why| why.contains("trace") && why.contains("debug")));
    }
}
