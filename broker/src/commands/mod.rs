//! The commands of `queued`: one grammar, one file a command, one way to report what went wrong.

#[cfg(feature = "tls")]
mod cert;
mod completions;
mod config;
mod dev;
pub(crate) mod failure;
mod healthcheck;
mod init;
mod join;
pub(crate) mod machine;
pub(crate) mod probe;
mod recover;
mod serve;
mod start;
mod store;
mod supervisor;
mod version;

use std::ffi::OsString;
use std::io::Write as _;

use clap::{Parser, Subcommand};
#[cfg(feature = "sim")]
use queue_protocol::wire::level::Level;
use queue_protocol::wire::level::Levels;

use self::failure::Failure;
use crate::config::{Flags, Loaded, Sources, load};
use crate::outside::ExitStatus;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no, 2 usage, 65 data corrupt, 66 identity or lock, \
69 port in use or nobody reachable, 70 bug, 74 disk, 76 feature level or version, 77 secret, 78 settings or files of TLS.";

/// The command line.
#[derive(Parser, Debug)]
#[command(name = "queued", version, about = "A durable, replicated work queue", after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run one node; its data directory must be formatted
    Serve(serve::ServeArgs),
    /// Run one node of a cluster that forms by itself: format or join if need be, then serve
    Start(start::StartArgs),
    /// Format the data directory of the first node of a cluster
    Init(init::InitArgs),
    /// Format the data directory of a further node and join a cluster
    Join(join::JoinArgs),
    /// Run a throw-away cluster on this machine, with a shell
    Dev(dev::DevArgs),
    /// Look into a data directory, offline; make it a new cluster when the others are lost
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make certificates for TLS, and look into them
    #[cfg(feature = "tls")]
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Check and show the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask a node for a sign of life, or with --ready whether it serves: exit 0 or 1
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
    /// Print the version
    Version,
}

/// Runs the command line; the exit status. Called by the name `queuectl` this is that program.
pub fn main(args: Vec<OsString>) -> i32 {
    #[cfg(feature = "dev")]
    if args
        .first()
        .is_some_and(|name| std::path::Path::new(name).file_name().is_some_and(|name| name == "queuectl"))
    {
        return queuectl::main(args);
    }
    machine::exit_on_panic();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if the terminal is gone.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args).map(|()| 0),
        Command::Start(args) => start::run(&args).map(|()| 0),
        Command::Init(args) => init::run(&args).map(|()| 0),
        Command::Join(args) => join::run(&args).map(|()| 0),
        Command::Dev(args) => dev::run(args),
        Command::Store(command) => store::run(&command),
        #[cfg(feature = "tls")]
        Command::Cert(command) => cert::run(&command).map(|()| 0),
        Command::Config(command) => config::run(&command).map(|()| 0),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Completions(args) => completions::run(&args).map(|()| 0),
        Command::Version => version::run().map(|()| 0),
    };
    done.unwrap_or_else(|failure| {
        crate::logging::note_end(&failure.to_string());
        say(&failure.to_string());
        failure.status.code()
    })
}

/// Reads the settings of this process; warnings are told.
fn settings(flags: &Flags) -> Result<Loaded, Failure> {
    let mut loaded = load(&Sources::of_process(flags))?;
    loaded.config.node.raft.levels.max = level_max();
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"));
    }
    Ok(loaded)
}

/// The highest feature level that this process speaks.
#[cfg(not(feature = "sim"))]
fn level_max() -> queue_protocol::wire::level::Level {
    Levels::OURS.max
}

/// A build for tests knows one more than this one, which it speaks if it is told to.
#[cfg(feature = "sim")]
fn level_max() -> Level {
    let told = std::env::var("QUEUED_LEVEL_MAX").ok().and_then(|max| max.parse().ok());
    told.map_or(Levels::OURS.max, Level)
}

/// A line of talk, on standard error.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Data, on standard output; a reader that went away is none of our business.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitStatus::Disk, "io", format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["queued"], words].concat())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_of_serve_with_its_default_in_the_help() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in crate::config::SETTINGS {
            assert!(help.contains(&format!("--{}", setting.flag())), "{}", setting.key);
            assert!(help.contains(&format!("[default: {}]", setting.default)) || setting.default.is_empty());
        }
        assert!(!help.contains("--parent-pipe"));
    }

    #[test]
    fn flags_give_settings_and_bad_ones_are_usage_errors_that_name_the_flag() {
        let Command::Serve(args) =
            parse(&["serve", "--data-dir", "d", "--raft-heartbeat=1s", "--insecure"]).unwrap().command
        else {
            panic!("not serve")
        };
        let values: Vec<_> =
            args.flags.values.iter().map(|(setting, text)| (setting.key, text.as_str())).collect();
        assert_eq!(values, [("insecure", "true"), ("node.data_dir", "d"), ("raft.heartbeat", "1s")]);
        let error = parse(&["serve", "--raft-heartbeat", "5"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--raft-heartbeat"), "{error}");
        assert!(error.to_string().contains("unit"), "{error}");
    }

    #[test]
    fn what_is_no_command_is_a_usage_error() {
        for words in [
            &["frobnicate"][..],
            &["serve", "--frobnicate"],
            &["join", "--at", "x:1"],
            &["join", "--secret-file", "f", "--learner"],
            &["dev", "--nodes", "2"],
            &["dev", "--any-port", "--base-port", "1000"],
            &["dev", "--node-name", "x"],
            &["store", "verify"],
            &["store", "recover", "d", "--as-single-node"],
            &["start", "--secret-file", "f"],
            &["start", "--peers", "a:1,", "--secret-file", "f"],
            &["join", "--at", "http://x", "--secret-file", "f"],
            &[],
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(parse(&["dev", "--nodes", "5", "--", "sh", "-c", "x", "--json"]).is_ok());
    }
}
