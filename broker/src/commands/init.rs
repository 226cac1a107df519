//! `queued init`: the data directory of the first node.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::serve::start_logging;
use super::{machine, print, settings};
use crate::config::{Flags, credential};
use crate::fs::os::OsDisk;
use crate::node::{self, secret};
use crate::outside::ExitStatus;

/// `init`
#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// The cluster's secret, 64 hex digits; without it, a new one is made
    #[arg(long, value_name = "FILE", value_parser = credential::file)]
    secret_file: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// Formats, and tells what was made.
pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let config = settings(&args.flags)?.config;
    start_logging(&config)?;
    let options = &config.node;
    let identity = match &args.secret_file {
        Some(file) => {
            let secret = secret::read_file(&OsDisk, file).map_err(|error| {
                Failure::new(ExitStatus::Directory, "secret", error.to_string())
                    .hint("openssl rand -hex 32 makes one")
            })?;
            machine::block_on(async { node::init_with(&machine::outside(), options, secret).await })??
        }
        None => machine::block_on(async { node::init(&machine::outside(), options).await })??,
    };
    print(&format!(
        "formatted {} as node {}, the first of cluster {}\n",
        options.data_dir.display(),
        identity.name,
        identity.cluster
    ))
}
