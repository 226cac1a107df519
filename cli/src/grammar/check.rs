//! Words of `check`: what is looked at, and the limits.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::names::QueueName;

use super::values::{duration, size};
use crate::grammar::live;

const CODES: &str = "\
Exit codes: 0 well, or a warning; 1 critical; 66 no such queue or node; 69 nobody reached.
With --format nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (wrong use).";

/// `check …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum CheckCmd {
    /// Can the cluster store a push, and would it after one more loss?
    #[command(after_help = CODES)]
    Cluster(CheckClusterArgs),
    /// Does a queue take pushes and hand messages out, and are its counts within limits?
    #[command(after_help = CODES)]
    Queue(CheckQueueArgs),
    /// Does a node answer, follow the leader and keep pace?
    #[command(after_help = CODES)]
    Node(CheckNodeArgs),
}

/// How a check is told.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// One line with performance data, and the exit codes of a Nagios plugin
    Nagios,
}

/// The format of any check.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct CheckOutput {
    /// How it is told
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: CheckFormat,
}

/// From where on a measure is a warning, and from where on critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) warning: Option<u64>,
    pub(crate) critical: u64,
}

/// `check cluster`
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckClusterArgs {
    /// Critical if fewer voters count for the majority
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) voters: Option<u64>,
    /// Critical if writes would not survive the loss of this many voters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=31))]
    pub(crate) spare: Option<u64>,
    #[command(flatten)]
    pub(crate) output: CheckOutput,
}

/// `check queue`
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckQueueArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Most ready messages: CRITICAL, or WARNING,CRITICAL
    #[arg(long, value_name = "N[,N]", value_parser = counts)]
    pub(crate) ready: Option<Limits>,
    /// Highest age of the oldest ready message
    #[arg(long, value_name = "DURATION[,DURATION]", value_parser = ages)]
    pub(crate) oldest: Option<Limits>,
    /// Most dead messages
    #[arg(long, value_name = "N[,N]", value_parser = counts)]
    pub(crate) dead: Option<Limits>,
    /// Most leased messages
    #[arg(long, value_name = "N[,N]", value_parser = counts)]
    pub(crate) leased: Option<Limits>,
    #[command(flatten)]
    pub(crate) output: CheckOutput,
}

/// `check node`
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckNodeArgs {
    /// The node, by number or name
    #[arg(add = ArgValueCompleter::new(live::nodes))]
    pub(crate) node: String,
    /// Critical if its disk has less room
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) disk_free: Option<u64>,
    /// Most entries that it may lag behind: CRITICAL, or WARNING,CRITICAL
    #[arg(long, value_name = "N[,N]", value_parser = counts)]
    pub(crate) lag: Option<Limits>,
    #[command(flatten)]
    pub(crate) output: CheckOutput,
}

fn limits(text: &str, one: impl Fn(&str) -> Result<u64, String>) -> Result<Limits, String> {
    let (warning, critical) = match text.split_once(',') {
        Some((warning, critical)) => (Some(one(warning)?), one(critical)?),
        None => (None, one(text)?),
    };
    match warning.filter(|warning| *warning > critical) {
        Some(_) => Err("expected WARNING,CRITICAL, the smaller one first".into()),
        None => Ok(Limits { warning, critical }),
    }
}

fn counts(text: &str) -> Result<Limits, String> {
    limits(text, |text| text.parse().map_err(|_| "expected a number, or two: 10,100".to_owned()))
}

fn ages(text: &str) -> Result<Limits, String> {
    limits(text, |text| duration(text).map(|age: Duration| super::values::milliseconds(age)))
}
