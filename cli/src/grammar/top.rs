//! What `top` takes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::duration;

/// The column that queues are sorted by.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopSort {
    /// Most messages ready first
    Ready,
    /// Most pushed a second first
    In,
    /// Most acked or popped a second first
    Out,
    /// Oldest ready message first
    Oldest,
    /// Most dead messages first
    Dead,
    /// By name
    Name,
}

/// `top`
#[derive(Args, Clone, Debug)]
pub(crate) struct TopArgs {
    /// Look this often
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) every: Duration,
    /// End after this many looks [default: on a terminal and with --json none; else 1]
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Sort queues by this column
    #[arg(long, value_name = "COLUMN", default_value = "ready")]
    pub(crate) sort: TopSort,
    /// Show only queues whose names contain this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}
