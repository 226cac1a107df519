//! `queued start`: a node of a cluster that is named by its addresses, formatted when that is right, and then served.

use std::path::PathBuf;

use clap::Args;
use queue_protocol::values::server;

use super::failure::Failure;
use super::serve::{self, Signals, start_logging};
use super::{machine, settings, supervisor};
use crate::config::{Flags, credential};
use crate::fs::os::OsDisk;
use crate::node::{self, Bootstrap, secret};
use crate::outside::ExitStatus;

const NOTES: &str = "\
The command is the same on every machine and at every start. A formatted data directory is served. An empty one joins
the cluster that any of the addresses belongs to. If none does, the first address makes the cluster once all others have
answered that they are empty; until then each waits. A secret is 64 hex digits: openssl rand -hex 32 > FILE";

/// `start`
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(super) struct StartArgs {
    /// The addresses of all nodes, with commas: the same list in the same order on each
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true, value_parser = server)]
    peers: Vec<String>,
    /// The cluster's secret, the same file on each
    #[arg(long, value_name = "FILE", value_parser = credential::file)]
    secret_file: PathBuf,
    /// Settings.
    #[command(flatten)]
    flags: Flags,
}

/// Formats if need be, then serves until a signal comes.
pub(super) fn run(args: &StartArgs) -> Result<(), Failure> {
    let loaded = settings(&args.flags)?;
    start_logging(&loaded.config)?;
    let mut distinct = args.peers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < args.peers.len() {
        return Err(Failure::new(ExitStatus::Config, "config", "--peers names an address twice"));
    }
    let secret = secret::read_file(&OsDisk, &args.secret_file).map_err(|error| {
        Failure::new(ExitStatus::Directory, "secret", error.to_string())
            .hint("openssl rand -hex 32 makes one, for the same file on every node")
    })?;
    let plan = Bootstrap { peers: args.peers.clone(), secret };
    machine::block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        let outside = machine::secured(&loaded.config.tls)?;
        tokio::select! {
            formatted = node::bootstrap(&outside, &loaded.config.node, &plan) => formatted?,
            signal = signals.stop(&args.flags, || tracing::info!("this node has no cluster yet")) => {
                tracing::info!(signal, "stopped before this node had a cluster");
                supervisor::stops();
                return Ok(());
            }
            never = supervisor::waits() => match never {},
        }
        serve::serve(outside, &loaded, &args.flags, signals).await
    })?
}
