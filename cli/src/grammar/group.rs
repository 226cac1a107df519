//! `group …`: the groups of a queue.

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::names::{Key, QueueName};

use super::args::Part;
use super::live;
use super::values::{Weight, weight};

/// `group …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum GroupCmd {
    /// List the groups of a queue: weights, messages, and what holds one back
    Ls {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        #[command(flatten)]
        part: Part,
        /// Only groups behind this one
        #[arg(long, value_name = "GROUP")]
        after: Option<Key>,
    },
    /// Give a group a weight of its own: messages in each of its turns, in a fair queue
    Weight {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// The group; it need not have messages
        group: Key,
        /// 1 to 1,000, or none for the queue's
        #[arg(value_name = "N", value_parser = weight)]
        weight: Weight,
    },
}
