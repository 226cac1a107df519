//! What `bench` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use queue_protocol::limits::{BODY_SIZE_MAX, LEASE_COUNT_MAX};

use super::values::{duration, size};

/// What is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BenchKind {
    /// From the push to its confirmation.
    Push,
    /// From the lease request to the confirmation of the ack.
    Pop,
    /// From the push until a waiting consumer has the message.
    Roundtrip,
}

/// `bench`
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What is measured
    pub(crate) kind: BenchKind,
    /// Clients, each with a connection and a session of its own; in a roundtrip this many push and this many take
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) clients: u16,
    /// Requests on their way for each client; in a roundtrip messages, and slots of the client that takes them
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) in_flight: u16,
    /// Take with one worker a client, which leases for all its free slots and acks what has gathered; else each slot
    /// leases and acks one request after the other
    #[arg(long)]
    pub(crate) worker: bool,
    /// Queues that are pushed to in turn; in a roundtrip each slot takes from one of them
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) queues: u16,
    /// Groups that messages belong to in turn, of ordered queues [default: no groups]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) groups: Option<u32>,
    /// Connections that are open beside and ask for nothing
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u16).range(0..=20_000))]
    pub(crate) connections: u16,
    /// Size of a body
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = body_size)]
    pub(crate) size: usize,
    /// Messages in a request
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) batch: u16,
    /// Messages that are measured [default: 100,000 if --duration is not given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) count: Option<u64>,
    /// Measure for this long
    #[arg(long, value_name = "DURATION", conflicts_with = "count", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Messages a second, whether or not the cluster keeps up: latency counts from when each was due
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Run for this long before anything is measured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Take everything out again and look for what was lost, duplicated or out of order
    #[arg(long)]
    pub(crate) verify: bool,
    /// Write the result to a file, to compare with later
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) save: Option<PathBuf>,
    /// Compare with a result that was saved
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) compare: Option<PathBuf>,
}

/// Smallest body: it holds who sent it, its number and when.
pub(crate) const BENCH_SIZE_MIN: usize = 20;

fn body_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(size(text)?).ok().filter(|size| (1..=BODY_SIZE_MAX).contains(size));
    size.ok_or_else(|| "expected 1B to 1MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(body_size("256B"), Ok(256));
        assert_eq!(
            (body_size("16"), body_size("16KiB"), body_size("1MiB")),
            (Ok(16), Ok(16 << 10), Ok(1 << 20))
        );
        for bad in ["", "0", "x", "2MiB", "1 acre", "-1"] {
            assert!(body_size(bad).is_err(), "{bad}");
        }
    }
}
