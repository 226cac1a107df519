//! `schedule`: what is pushed again and again.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::limits::{CATCH_UP_MAX, PRIORITY_MAX};
use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::schedule::Missed;

use super::args::Part;
use super::values::{duration, header, span};
use crate::grammar::live;

/// `schedule …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ScheduleCmd {
    /// List schedules
    Ls {
        #[command(flatten)]
        part: Part,
        /// Only schedules behind this one
        #[arg(long, value_name = "NAME")]
        after: Option<Key>,
    },
    /// Push a message again and again
    Add(Box<ScheduleAddArgs>),
    /// Remove a schedule; what it pushed stays
    Rm {
        /// The name of the schedule
        name: Key,
    },
}

/// `schedule add`
#[derive(Args, Clone, Debug)]
pub(crate) struct ScheduleAddArgs {
    /// The name of the schedule
    pub(crate) name: Key,
    /// The queue to push to
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// The message
    pub(crate) body: OsString,
    /// When: a cron pattern of five fields, or of six with seconds before them
    #[arg(long, value_name = "PATTERN", required_unless_present = "every", conflicts_with = "every")]
    pub(crate) cron: Option<String>,
    /// The time zone of the pattern
    #[arg(long, value_name = "NAME", default_value = "UTC", requires = "cron")]
    pub(crate) zone: String,
    /// When: this long after each other, from now on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) every: Option<Duration>,
    /// What becomes of times that pass while nobody leads: once, skip, or catch-up=N
    #[arg(long, value_name = "HOW", default_value = "once", value_parser = missed)]
    pub(crate) missed: Missed,
    /// In the place of the one of that name
    #[arg(long)]
    pub(crate) replace: bool,
    /// A header of every message
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Higher first
    #[arg(long, value_name = "0-31", value_parser = clap::value_parser!(u8).range(..=PRIORITY_MAX as i64))]
    pub(crate) priority: Option<u8>,
    /// Time to live, from each push
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(crate) ttl: Option<Duration>,
    /// Nothing while a message with this key is ready, leased or delayed
    #[arg(long, value_name = "KEY")]
    pub(crate) unique: Option<Key>,
    /// The group it belongs to
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Key>,
}

fn missed(text: &str) -> Result<Missed, String> {
    let count = text.strip_prefix("catch-up=").and_then(|count| count.parse().ok());
    match (text, count) {
        ("once", _) => Ok(Missed::Once),
        ("skip", _) => Ok(Missed::Skip),
        (_, Some(count)) if (1..=CATCH_UP_MAX).contains(&count) => Ok(Missed::CatchUp(count)),
        _ => Err(format!("expected once, skip, or catch-up=1 to catch-up={CATCH_UP_MAX}")),
    }
}
