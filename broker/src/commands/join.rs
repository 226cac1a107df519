//! `queued join`: the data directory of a further node, and its place in the cluster.

use std::path::PathBuf;

use clap::Args;
use queue_protocol::names::NodeId;
use queue_protocol::values::server;
use queue_protocol::wire::membership::Standing;

use super::failure::Failure;
use super::serve::start_logging;
use super::{machine, print, say, settings};
use crate::config::{Flags, credential};
use crate::fs::os::OsDisk;
use crate::node::{self, Way, secret};
use crate::outside::ExitStatus;

/// `join`
#[derive(Args, Debug)]
pub(super) struct JoinArgs {
    /// A node of the cluster; without it, wait for `queuectl cluster add` or `cluster replace`
    #[arg(long, value_name = "HOST:PORT", value_parser = server)]
    at: Option<String>,
    /// Stay a learner, without a vote, until `queuectl cluster promote`
    #[arg(long, requires = "at", conflicts_with = "replace")]
    learner: bool,
    /// Vote instead of this member, by number, which is removed in the same change
    #[arg(long, requires = "at", value_name = "ID")]
    replace: Option<u32>,
    /// The cluster's secret: the file SECRET of the data directory of one of its nodes
    #[arg(long, value_name = "FILE", value_parser = credential::file)]
    secret_file: PathBuf,
    /// Settings.
    #[command(flatten)]
    flags: Flags,
}

/// Joins, and tells as what.
pub(super) fn run(args: &JoinArgs) -> Result<(), Failure> {
    let config = settings(&args.flags)?.config;
    start_logging(&config)?;
    let secret = secret::read_file(&OsDisk, &args.secret_file).map_err(|error| {
        Failure::new(ExitStatus::Directory, "secret", error.to_string())
            .hint("copy SECRET from the data directory of a member")
    })?;
    let options = &config.node;
    let way = match &args.at {
        Some(at) => {
            let instead = args.replace.map(|node| Standing::InsteadOf(NodeId(node.into())));
            let learner = args.learner.then_some(Standing::Learner);
            say(&format!(
                "joining through {at}: waiting for its cluster to take this node in, for 30 s at most while it cannot be asked"
            ));
            Way::Ask { at: at.clone(), standing: instead.or(learner).unwrap_or_default() }
        }
        None => {
            let address = options.advertise.as_ref().unwrap_or(&options.listen);
            say(&format!("waiting to be taken in: `queuectl cluster add {address}`"));
            Way::Wait
        }
    };
    let identity = machine::block_on(async {
        let outside = machine::secured(&config.tls)?;
        node::join(&outside, options, way, secret).await.map_err(Failure::from)
    })??;
    print(&format!(
        "formatted {} as node {}, number {} in cluster {}\n",
        options.data_dir.display(),
        identity.name,
        identity.node,
        identity.cluster
    ))
}
