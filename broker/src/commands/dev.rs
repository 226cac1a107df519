//! `queued dev`: its flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::failure::Failure;
use super::say;
use crate::config::{ClusterFlags, Origin, Scope, Sources, load};
use crate::dev::{self, DevOptions};

/// What differs from a node in production, unless it is set.
const DEFAULTS: [(&str, &str); 4] = [
    ("queues.auto_create", "true"),
    ("log.format", "text"),
    ("shutdown.grace", "1s"),
    // New files are filled with zeros: with small ones a start takes a second and not ten.
    ("storage.segment_size", "4MiB"),
];

const EXAMPLES: &str = "\
Examples:
  queued dev                                    three nodes and a shell
  queued dev --data-dir d                       goes on where it was left
  queued dev -- sh -c 'queuectl push a x'       a command that uses the cluster; its exit status is passed on";

/// `dev`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DevArgs {
    /// Nodes [default: 3, or as many as the data directory holds]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = PossibleValuesParser::new(["1", "3", "5"]).try_map(|count| count.parse::<usize>()))]
    nodes: Option<usize>,
    /// Keep the data in DIR, and go on from what is there
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the temporary data directory
    #[arg(long)]
    keep: bool,
    /// Port of the first node; the others follow, ten apart [default: 7410]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// Use any free ports
    #[arg(long, conflicts_with = "base_port")]
    any_port: bool,
    /// TLS for all, with an authority of its own in the data directory
    #[arg(long)]
    tls: bool,
    /// Logins for all, with a token of its own in the data directory
    #[arg(long)]
    auth: bool,
    /// Print what the nodes log
    #[arg(long)]
    logs: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Run this instead of the shell, with queuectl in its PATH
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// Settings of all nodes.
    #[command(flatten)]
    flags: ClusterFlags,
}

/// Runs the cluster; the exit status.
pub(super) fn run(args: DevArgs) -> Result<i32, Failure> {
    // A file that lies around is for a node; what was set for this command is meant.
    let sources = Sources { files_default: Vec::new(), ..Sources::of_process(&args.flags.0) };
    let loaded = load(&sources)?;
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"));
    }
    let mut flags = loaded.flags(Scope::Cluster);
    for (key, text) in DEFAULTS {
        let value = loaded.values.iter().find(|value| value.setting.key == key);
        let value = value.expect("every default is one of a setting");
        if value.origin == Origin::Default {
            flags.push(format!("--{}={text}", value.setting.flag()));
        }
    }
    dev::run(&DevOptions {
        nodes: args.nodes,
        data_dir: args.data_dir,
        keep: args.keep,
        base_port: args.base_port,
        any_port: args.any_port,
        tls: args.tls,
        auth: args.auth,
        logs: args.logs,
        quiet: args.quiet,
        command: args.command,
        flags,
    })
}
