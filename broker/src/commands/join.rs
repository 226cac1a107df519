//! `queued join`: the data directory of a further node, and its place in the cluster.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::{machine, print, settings};
use crate::config::Flags;
use crate::node::{self, secret};
use crate::{fs::os::OsDisk, logging};

/// `join`
#[derive(Args, Debug)]
pub(super) struct JoinArgs {
    /// A node of the cluster
    #[arg(long, value_name = "HOST:PORT")]
    at: String,
    /// The cluster's secret: the file SECRET of the data directory of one of its nodes
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Settings.
    #[command(flatten)]
    flags: Flags,
}

/// Joins, and tells as what.
pub(super) fn run(args: &JoinArgs) -> Result<(), Failure> {
    let config = settings(&args.flags)?.config;
    logging::start(&config);
    let secret = secret::read_file(&OsDisk, &args.secret_file).map_err(|error| {
        Failure::new(66, "secret", error.to_string()).hint("copy SECRET from the data directory of a member")
    })?;
    let options = &config.node;
    let identity =
        machine::block_on(async { node::join(&machine::outside(), options, &args.at, secret).await })??;
    print(&format!(
        "formatted {} as node {}, number {} in cluster {}\n",
        options.data_dir.display(),
        identity.name,
        identity.node,
        identity.cluster
    ))
}
