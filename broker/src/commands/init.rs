//! `queued init`: the data directory of the first node.

use clap::Args;

use super::failure::Failure;
use super::{machine, print, settings};
use crate::config::Flags;
use crate::{logging, node};

/// `init`
#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Settings.
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// Formats, and tells what was made.
pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let config = settings(&args.flags)?.config;
    logging::start(&config);
    let options = &config.node;
    let identity = machine::block_on(async { node::init(&machine::outside(), options).await })??;
    print(&format!(
        "formatted {} as node {}, the first of cluster {}\n",
        options.data_dir.display(),
        identity.name,
        identity.cluster
    ))
}
