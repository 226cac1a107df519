//! `context …` and `bundle`: what is kept and written on this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::server;
use crate::grammar::contexts::context_name;

/// `context …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ContextCmd {
    /// List contexts; * marks the one in use
    Ls,
    /// Add a context, with TLS if `--tls`, `--tls-ca` or `--tls-pin` is given; the first one is used from then on
    Add {
        /// Letters, digits, - and _
        #[arg(value_parser = context_name)]
        name: String,
        /// Nodes to ask, in order; without a port it is 7410
        #[arg(required = true, value_name = "HOST:PORT", value_delimiter = ',', value_parser = server)]
        servers: Vec<String>,
        /// Change the servers of a context that exists, and whom it trusts if that is given
        #[arg(long)]
        replace: bool,
        /// Use it from now on
        #[arg(long = "use")]
        select: bool,
    },
    /// Use a context from now on, where no command names another
    Use {
        /// The context
        name: String,
    },
    /// Remove a context
    Rm {
        /// The context
        name: String,
    },
}

/// `bundle`
#[derive(Args, Clone, Debug)]
pub(crate) struct BundleArgs {
    /// The archive to write, a .tar.gz; it must not exist [default: queuectl-bundle-TIME.tar.gz]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Add the last 2,000 lines of this log, as of `log.file` or of `queued dev`
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) log: Vec<PathBuf>,
}
