//! What chooses messages, and the commands that do something to those chosen.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::limits::{PRIORITY_MAX, RECEIPTS_COUNT_MAX};
use queue_protocol::names::QueueName;
use queue_protocol::wire::request::Cursor;

use super::args::Part;
use super::values::{Reason, State, duration};
use crate::grammar::live;

/// Which messages of a queue: those for which all that is named holds.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Pushed longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,
    /// Dead for this reason
    #[arg(long)]
    pub(crate) reason: Option<Reason>,
    /// Died within this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// With this text in the error of the last failure
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
    /// At most this many
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only say how many it would be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Filter {
    /// Whether it lets everything through.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { older_than, reason, since, error, limit, dry_run: _ } = self;
        older_than.is_none() && reason.is_none() && since.is_none() && error.is_none() && limit.is_none()
    }
}

/// `queue purge`
#[derive(Args, Clone, Debug)]
pub(crate) struct PurgeArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Only those in this state
    #[arg(long)]
    pub(crate) state: Option<State>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// `queue move`
#[derive(Args, Clone, Debug)]
pub(crate) struct MoveArgs {
    /// The queue to take from
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) from: QueueName,
    /// The queue to put them into
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) to: QueueName,
    /// Only those in this state
    #[arg(long)]
    pub(crate) state: Option<State>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// `dead retry` and `dead rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct DeadArgs {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Ids of dead messages; or use --all
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with_all = ["all", "older_than", "reason", "since", "error", "limit", "dry_run"])]
    pub(crate) ids: Vec<u64>,
    /// All of them, or those that the options choose
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// `dead …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum DeadCmd {
    /// List dead messages
    Ls {
        /// Of this queue; of all if none
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: Option<QueueName>,
        #[command(flatten)]
        part: Part,
        /// Only those behind this place: `next` of an earlier listing of the queue
        #[arg(long, value_name = "CURSOR", requires = "queue")]
        after: Option<Cursor>,
    },
    /// Show a dead message with what happened to it
    Show {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// The message id
        id: u64,
    },
    /// Put dead messages back with their failures reset
    Retry {
        #[command(flatten)]
        which: DeadArgs,
        /// Into this queue instead
        #[arg(long, value_name = "QUEUE", add = ArgValueCompleter::new(live::queues))]
        to: Option<QueueName>,
    },
    /// Delete dead messages for good
    Rm(DeadArgs),
}

/// Messages by their ids.
#[derive(Args, Clone, Debug)]
pub(crate) struct Messages {
    /// The queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// The message ids
    #[arg(value_name = "ID", required = true, num_args = 1..=RECEIPTS_COUNT_MAX)]
    pub(crate) ids: Vec<u64>,
}

/// `message …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum MessageCmd {
    /// Show a message with what happened to it
    Show {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// The message id
        id: u64,
    },
    /// Tell what happened to a message, also when it went lately
    History {
        /// The queue that it is in, or was in last
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// The message id
        id: u64,
    },
    /// Count the ready messages before a message; exit 1 if it is not ready
    Position {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// The message id
        id: u64,
    },
    /// Make delayed and dead messages ready now
    Kick(Messages),
    /// Delete messages that are still delayed
    Cancel(Messages),
    /// Delete messages for good, unless they are leased
    Rm(Messages),
    /// Give messages another priority
    Edit {
        #[command(flatten)]
        messages: Messages,
        /// 0 to 31, higher is delivered first
        #[arg(long, value_parser = clap::value_parser!(u8).range(..=i64::from(PRIORITY_MAX)))]
        priority: u8,
    },
    /// Put messages into another queue, unless they are leased
    Move {
        #[command(flatten)]
        messages: Messages,
        /// The queue to put them into
        #[arg(long, value_name = "QUEUE", add = ArgValueCompleter::new(live::queues))]
        to: QueueName,
    },
}

impl MessageCmd {
    /// The queue it is about.
    pub(crate) fn queue(&self) -> &QueueName {
        match self {
            Self::Show { queue, .. } | Self::History { queue, .. } | Self::Position { queue, .. } => queue,
            Self::Kick(messages)
            | Self::Cancel(messages)
            | Self::Rm(messages)
            | Self::Edit { messages, .. }
            | Self::Move { messages, .. } => &messages.queue,
        }
    }
}
