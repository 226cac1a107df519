//! What each command takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::limits::{LEASE_COUNT_MAX, PRIORITY_MAX, PUSH_COUNT_MAX};
use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::request::{Consistency, Cursor};

use super::settings::{self, Assignment, SettingFlags};
use super::values::{Held, Sort, State, duration, header, lease_length, moment, span};
use crate::grammar::live;
use crate::grammar::receipt::ReceiptWord;

/// `push`
#[derive(Args, Clone, Debug)]
pub(crate) struct PushArgs {
    /// The queue to push to
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// One message each; none, or -, reads standard input
    #[arg(value_name = "BODY")]
    pub(crate) bodies: Vec<OsString>,
    /// A message from each file, whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["bodies", "whole", "null"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Vec<PathBuf>,
    /// Standard input is one message a line, which is the default
    #[arg(long, conflicts_with_all = ["whole", "null", "file"])]
    pub(crate) lines: bool,
    /// Standard input is one message
    #[arg(long, conflicts_with = "null")]
    pub(crate) whole: bool,
    /// Messages on standard input end with a NUL byte
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// A header of every message
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Becomes ready after this long
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(crate) delay: Option<Duration>,
    /// Becomes ready then: 2026-11-23T14:03:22Z, or with an offset as +02:00
    #[arg(long, value_name = "TIME", conflicts_with = "delay", value_parser = moment)]
    pub(crate) not_before: Option<u64>,
    /// Time to live, from the push [default: as the queue is set]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(crate) ttl: Option<Duration>,
    /// Not stored again if this key came within the queue's dedup window; for one message
    #[arg(long, value_name = "KEY")]
    pub(crate) dedup_key: Option<Key>,
    /// The same for many: the key of each is this and its number, so that a repeat of the whole input stores nothing twice
    #[arg(long, value_name = "PREFIX", conflicts_with = "dedup_key")]
    pub(crate) dedup_prefix: Option<String>,
    /// Not beside a message with the same key that is ready, leased or delayed; for one message
    #[arg(long, value_name = "KEY")]
    pub(crate) unique: Option<Key>,
    /// If there is one: refuse, take its place, or answer with its id [default: reject]
    #[arg(long, value_name = "WHAT", requires = "unique")]
    pub(crate) on_held: Option<Held>,
    /// The group it belongs to, where the queue is ordered or fair or limits groups
    #[arg(long, value_name = "KEY")]
    pub(crate) group: Option<Key>,
    /// 0 to 31, higher is delivered first [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(..=i64::from(PRIORITY_MAX)))]
    pub(crate) priority: Option<u8>,
    /// Make the queue if it does not exist
    #[arg(long)]
    pub(crate) create: bool,
    /// Messages in one request at most
    #[arg(long, default_value = "500", value_parser = clap::value_parser!(u16).range(1..=PUSH_COUNT_MAX as i64))]
    pub(crate) batch: u16,
    /// Wait this long for a request to fill
    #[arg(long, default_value = "5ms", value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Duration,
    /// Requests on their way at most
    #[arg(long, default_value = "16", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) in_flight: u16,
}

/// Taking: `pop` and `lease`
#[derive(Args, Clone, Debug)]
pub(crate) struct PopArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Wait this long for the first message; with --follow, end when none has come for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Once a message is there, wait this long for the other N
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,
    /// Go on until stopped, also over outages of the cluster
    #[arg(long, conflicts_with = "count")]
    pub(crate) follow: bool,
    /// Delete the messages without printing them
    #[arg(long, conflicts_with_all = ["follow", "null", "raw"])]
    pub(crate) discard: bool,
    /// Write bodies to a terminal as they are; without it, what would steer the terminal is escaped
    #[arg(long)]
    pub(crate) raw: bool,
    /// End each body with a NUL byte instead of a line feed
    #[arg(short = '0', long, conflicts_with = "json")]
    pub(crate) null: bool,
}

/// `lease ls`
#[derive(Args, Clone, Debug)]
pub(crate) struct LeaseLsArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Only those behind this place: `next` of an earlier listing
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<Cursor>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// What `lease` does if it leases nothing.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum LeaseCmd {
    /// List the leases of a queue: who holds which message, and since when
    Ls(LeaseLsArgs),
}

/// `lease`
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LeaseArgs {
    #[command(subcommand)]
    pub(crate) other: Option<LeaseCmd>,
    #[command(flatten)]
    pub(crate) take: Option<LeaseTakeArgs>,
}

/// `lease QUEUE`
#[derive(Args, Clone, Debug)]
pub(crate) struct LeaseTakeArgs {
    /// The queue; one called `ls` as `lease -- ls`
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) count: u16,
    /// Wait this long for the first message; with --follow, end when none has come for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Once a message is there, wait this long for the other N
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,
    /// Write bodies to a terminal as they are; without it, what would steer the terminal is escaped
    #[arg(long)]
    pub(crate) raw: bool,
    /// Length of the lease [default: as the queue is set]
    #[arg(long = "for", value_name = "DURATION", value_parser = lease_length)]
    pub(crate) length: Option<Duration>,
}

/// `ack`
#[derive(Args, Clone, Debug)]
pub(crate) struct AckArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
}

/// `nack`
#[derive(Args, Clone, Debug)]
pub(crate) struct NackArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// Give back without blame
    #[arg(long, conflicts_with = "reject")]
    pub(crate) release: bool,
    /// Dead at once
    #[arg(long, conflicts_with = "delay")]
    pub(crate) reject: bool,
    /// Ready again after this long [default: the queue's back-off]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// Kept with the message
    #[arg(long, value_name = "TEXT", conflicts_with = "release")]
    pub(crate) reason: Option<String>,
}

/// `release`
#[derive(Args, Clone, Debug)]
pub(crate) struct ReleaseArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// Ready again after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
}

/// `extend`
#[derive(Args, Clone, Debug)]
pub(crate) struct ExtendArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// How far the work has come, for the next attempt; with one receipt
    #[arg(long, value_name = "TEXT")]
    pub(crate) checkpoint: Option<OsString>,
    /// Length of the lease, counted from now
    #[arg(long = "for", value_name = "DURATION", value_parser = lease_length, default_value = "30s")]
    pub(crate) length: Duration,
}

/// `peek`
#[derive(Args, Clone, Debug)]
pub(crate) struct PeekArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// This message, whatever its state
    #[arg(conflicts_with_all = ["count", "state"])]
    pub(crate) id: Option<u64>,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) count: u16,
    /// Messages in this state
    #[arg(long, default_value = "ready")]
    pub(crate) state: State,
    /// Only those behind this place, in order of priority and id: `next` of an earlier peek
    #[arg(long, value_name = "CURSOR", conflicts_with = "id")]
    pub(crate) after: Option<Cursor>,
    /// Write bodies to a terminal as they are; without it, what would steer the terminal is escaped
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// How much of a listing, which is whole unless it is said.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Part {
    /// At most this many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

impl Part {
    /// Cuts a listing that is there; whether anything was cut off.
    pub(crate) fn cut<T>(self, all: &mut Vec<T>) -> bool {
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let is_cut = all.len() > limit;
        all.truncate(limit);
        is_cut
    }
}

/// Whom a read asks.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Ask any node instead of the leader, and say how old the answer may be
    #[arg(long)]
    pub(crate) stale: bool,
}

impl Reading {
    /// As a request has it.
    pub(crate) fn consistency(self) -> Consistency {
        if self.stale { Consistency::Stale } else { Consistency::Linearizable }
    }
}

/// `explain`
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Only this message
    pub(crate) id: Option<u64>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `queue ls`
#[derive(Args, Clone, Debug)]
pub(crate) struct QueueLsArgs {
    /// Only names that match; * is any text, ? any character
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) pattern: Option<String>,
    /// Largest first
    #[arg(long, default_value = "name")]
    pub(crate) sort: Sort,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Only those behind this one, by name; `next` of an earlier listing
    #[arg(long, value_name = "QUEUE", conflicts_with = "sort")]
    pub(crate) after: Option<QueueName>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `queue create`
#[derive(Args, Clone, Debug)]
pub(crate) struct QueueCreateArgs {
    /// 1 to 128 of A-Z a-z 0-9 . _ -
    pub(crate) queue: QueueName,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// Done if it exists already
    #[arg(long)]
    pub(crate) if_not_exists: bool,
}

/// `queue set`
#[derive(Args, Clone, Debug)]
pub(crate) struct QueueSetArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// What changes; the keys are the options of `queue create`
    #[arg(value_name = "KEY=VALUE", required = true, add = ArgValueCompleter::new(settings::keys))]
    pub(crate) assignments: Vec<Assignment>,
    /// Only if the queue's version, which `queue info` shows, is still this
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<u64>,
}

/// `queue pause` and `queue resume`
#[derive(Args, Clone, Debug)]
pub(crate) struct PauseArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Pushes
    #[arg(long)]
    pub(crate) pushes: bool,
    /// Leases and pops [default if --pushes is not given]
    #[arg(long)]
    pub(crate) leases: bool,
}

/// `queue rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct QueueRmArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Done if it does not exist
    #[arg(long)]
    pub(crate) if_exists: bool,
    /// Refused if a message is in it
    #[arg(long)]
    pub(crate) if_empty: bool,
}

/// `stats`
#[derive(Args, Clone, Debug)]
pub(crate) struct StatsArgs {
    /// Only this queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: Option<QueueName>,
    /// Where the time of writes goes at the leader, since it started
    #[arg(long, conflicts_with = "queue")]
    pub(crate) stages: bool,
}

/// `ping`
#[derive(Args, Clone, Debug)]
pub(crate) struct PingArgs {
    /// Round trips to each node
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
}

/// `run`
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Go on after a command that failed
    #[arg(long)]
    pub(crate) keep_going: bool,
}

/// `txn`
#[derive(Args, Clone, Debug)]
pub(crate) struct TxnArgs {
    /// What to do, in JSON; - is standard input
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}
