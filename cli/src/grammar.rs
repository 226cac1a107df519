//! The words of the shell: one tree for the command line, the interactive shell and batch files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::limits::{LEASE_COUNT_MAX, LEASE_MS_MAX, LEASE_MS_MIN, PRIORITY_MAX, PUSH_COUNT_MAX};
use queue_protocol::names::QueueName;
use queue_protocol::request::MessageState;

use crate::live;
use crate::settle::ReceiptWord;

/// Servers asked when none are named: the three nodes of `queued dev`.
pub(crate) const SERVERS_DEFAULT: &str = "127.0.0.1:7410,127.0.0.1:7420,127.0.0.1:7430";
/// How long a command may take to find a leader and get its answer.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 part done, 65 bad data, 66 not found, \
69 unreachable, 75 nothing was changed (try again), 79 sent but not confirmed; 130, 141, 143 signals.";

/// The command line.
#[derive(Parser, Debug)]
#[command(name = "queuectl", version, about = "The shell of queued, a durable work queue", after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Top>,
}

/// A line of the interactive shell or of a batch file.
#[derive(Parser, Debug)]
#[command(name = "", no_binary_name = true, disable_help_subcommand = true, disable_help_flag = true)]
#[command(help_template = "{subcommands}")]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) word: Word,
}

/// How to reach the cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Reach {
    /// Nodes to ask, in order
    #[arg(
        short,
        long,
        global = true,
        env = "QUEUECTL_SERVERS",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    #[arg(value_parser = server, default_value = SERVERS_DEFAULT, hide_env_values = true)]
    pub(crate) servers: Vec<String>,
    /// Do not follow redirects to the leader
    #[arg(long, global = true)]
    pub(crate) no_follow: bool,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Settings {
    /// Time to find a leader and get the answer [default: 5s]
    #[arg(long, global = true, env = "QUEUECTL_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    #[arg(hide_env_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// JSON instead of text (QUEUECTL_OUTPUT=json does the same)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Do what cannot be undone without asking
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show redirects and lost connections
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colours in messages
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// First words of the command line.
#[derive(Subcommand, Debug)]
pub(crate) enum Top {
    #[command(flatten)]
    Cmd(Cmd),
    /// Run the commands of a file, one a line, # begins a comment
    Run(RunArgs),
    /// Start the interactive shell; no command on a terminal does the same
    Repl,
    /// Print the completion script of a shell
    #[command(after_help = "Example: source <(queuectl completions bash)")]
    Completions {
        /// Which shell
        shell: Completions,
    },
}

/// First words of a line in the shell.
#[derive(Subcommand, Debug)]
pub(crate) enum Word {
    #[command(flatten)]
    Cmd(Cmd),
    /// Use QUEUE where a command names none; without QUEUE no more
    Use {
        /// Its name
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: Option<QueueName>,
    },
    /// Set json or timing on or off
    Set {
        /// What
        what: Setting,
        /// On or off
        value: Switch,
    },
    /// List the commands, or explain one
    Help {
        /// The command
        words: Vec<String>,
    },
    /// Show what was typed
    History,
    /// Leave
    #[command(alias = "quit")]
    Exit,
}

/// What `set` sets.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// JSON output
    Json,
    /// Elapsed time behind answers
    Timing,
}

/// To what `set` sets it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// Shells with completion.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completions {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Cmd {
    /// Store messages
    #[command(aliases = ["enqueue", "put"], after_help = PUSH_HELP)]
    Push(PushArgs),
    /// Take messages and settle them: printed, then acked
    #[command(aliases = ["get", "dequeue"])]
    Pop(PopArgs),
    /// Take messages for a while, to be settled by receipt
    #[command(alias = "reserve")]
    Lease(LeaseArgs),
    /// Settle leased messages for good
    Ack(AckArgs),
    /// Give leased messages back as failed, or with --release without blame
    Nack(NackArgs),
    /// Make leases longer
    #[command(alias = "touch")]
    Extend(ExtendArgs),
    /// Look at messages without changing anything
    Peek(PeekArgs),
    /// Queues: list, look at, make, remove, empty
    #[command(subcommand)]
    Queue(QueueCmd),
    /// Dead messages: list, put back
    #[command(subcommand, alias = "dlq")]
    Dead(DeadCmd),
    /// The cluster: its nodes and their state
    #[command(subcommand)]
    Cluster(ClusterCmd),
    /// Totals of the cluster, or of one queue
    Stats(StatsArgs),
    /// Measure the round trip to each node
    Ping(PingArgs),
    /// Print the version
    Version,
    /// Nack with --release
    #[command(hide = true)]
    Release(ReleaseArgs),
    /// List queues
    #[command(hide = true)]
    Ls(QueueLsArgs),
    /// Show every node
    #[command(hide = true)]
    Status,
}

const PUSH_HELP: &str = "\
Examples:
  queuectl push hello \"text\"          one message
  queuectl push hello < file          one message per line
  queuectl push hello --file a.png    one message, the whole file";

/// `push`
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Where to
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// One message each; none, or -, reads standard input
    #[arg(value_name = "BODY")]
    pub(crate) bodies: Vec<OsString>,
    /// A message from each file, whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["bodies", "whole", "null"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Vec<PathBuf>,
    /// Standard input is one message a line, which is the default
    #[arg(long, conflicts_with_all = ["whole", "null", "file"])]
    pub(crate) lines: bool,
    /// Standard input is one message
    #[arg(long, conflicts_with = "null")]
    pub(crate) whole: bool,
    /// Messages on standard input end with a NUL byte
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// A header of every message
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Becomes ready after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// 0 to 31, higher is delivered first [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(..=i64::from(PRIORITY_MAX)))]
    pub(crate) priority: Option<u8>,
    /// Make the queue if it does not exist
    #[arg(long)]
    pub(crate) create: bool,
    /// Messages in one request at most
    #[arg(long, default_value = "500", value_parser = clap::value_parser!(u16).range(1..=PUSH_COUNT_MAX as i64))]
    pub(crate) batch: u16,
    /// Wait this long for a request to fill
    #[arg(long, default_value = "5ms", value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Duration,
    /// Requests on their way at most
    #[arg(long, default_value = "16", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) in_flight: u16,
}

/// Taking: `pop` and `lease`
#[derive(Args, Debug)]
pub(crate) struct PopArgs {
    /// Where from
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Wait this long for the first message
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Go on until stopped
    #[arg(long, conflicts_with_all = ["count", "wait"])]
    pub(crate) follow: bool,
    /// End each body with a NUL byte instead of a line feed
    #[arg(short = '0', long, conflicts_with = "json")]
    pub(crate) null: bool,
}

/// `lease`
#[derive(Args, Debug)]
pub(crate) struct LeaseArgs {
    /// Where from
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) count: u16,
    /// Wait this long for the first message
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Length of the lease [default: as the queue is set]
    #[arg(long = "for", value_name = "DURATION", value_parser = lease_length)]
    pub(crate) length: Option<Duration>,
}

/// `ack`
#[derive(Args, Debug)]
pub(crate) struct AckArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
}

/// `nack`
#[derive(Args, Debug)]
pub(crate) struct NackArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// Give back without blame
    #[arg(long, conflicts_with = "reject")]
    pub(crate) release: bool,
    /// Dead at once
    #[arg(long, conflicts_with = "delay")]
    pub(crate) reject: bool,
    /// Ready again after this long [default: the queue's back-off]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// Kept with the message
    #[arg(long, value_name = "TEXT", conflicts_with = "release")]
    pub(crate) reason: Option<String>,
}

/// `release`
#[derive(Args, Debug)]
pub(crate) struct ReleaseArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// Ready again after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
}

/// `extend`
#[derive(Args, Debug)]
pub(crate) struct ExtendArgs {
    /// As `lease` prints them; in the shell also #1, and none for all leased here
    #[arg(value_name = "RECEIPT", add = ArgValueCompleter::new(live::receipts))]
    pub(crate) receipts: Vec<ReceiptWord>,
    /// Length of the lease, counted from now
    #[arg(long = "for", value_name = "DURATION", value_parser = lease_length, default_value = "30s")]
    pub(crate) length: Duration,
}

/// `peek`
#[derive(Args, Debug)]
pub(crate) struct PeekArgs {
    /// Where
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// This message, whatever its state
    #[arg(conflicts_with_all = ["count", "state"])]
    pub(crate) id: Option<u64>,
    /// Messages at most
    #[arg(short = 'n', value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) count: u16,
    /// Messages in this state
    #[arg(long, default_value = "ready")]
    pub(crate) state: State,
}

/// A state, as typed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Can be leased
    Ready,
    /// Handed out
    Leased,
    /// Becomes ready later
    Delayed,
    /// Set aside: failures used up or rejected
    Dead,
}

impl From<State> for MessageState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => MessageState::Ready,
            State::Leased => MessageState::Leased,
            State::Delayed => MessageState::Delayed,
            State::Dead => MessageState::Dead,
        }
    }
}

/// `queue …`
#[derive(Subcommand, Debug)]
pub(crate) enum QueueCmd {
    /// List queues
    Ls(QueueLsArgs),
    /// Show a queue with its settings
    Info {
        /// Which
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
    },
    /// Make a queue
    Create(QueueCreateArgs),
    /// Remove a queue with everything in it
    Rm(QueueRmArgs),
    /// Delete the messages of a queue, but not those that are leased
    Purge {
        /// Which
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// Only those in this state
        #[arg(long)]
        state: Option<State>,
    },
}

/// `queue ls`
#[derive(Args, Debug)]
pub(crate) struct QueueLsArgs {
    /// Only names that match; * is any text, ? any character
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) pattern: Option<String>,
    /// Largest first
    #[arg(long, default_value = "name")]
    pub(crate) sort: Sort,
}

/// What a listing is sorted by.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Name
    Name,
    /// Messages ready
    Ready,
    /// Age of the oldest ready message
    Oldest,
    /// Messages dead
    Dead,
}

/// `queue create`
#[derive(Args, Debug)]
pub(crate) struct QueueCreateArgs {
    /// 1 to 128 of A-Z a-z 0-9 . _ -
    pub(crate) queue: QueueName,
    /// Failures before a message is dead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_failures: Option<u32>,
    /// Length of a lease that names none
    #[arg(long, value_name = "DURATION", value_parser = lease_length)]
    pub(crate) lease: Option<Duration>,
    /// Delay after the first failure, doubled by each further one
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) backoff: Option<Duration>,
    /// Longest delay after a failure
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) backoff_max: Option<Duration>,
    /// Done if it exists already
    #[arg(long)]
    pub(crate) if_not_exists: bool,
}

/// `queue rm`
#[derive(Args, Debug)]
pub(crate) struct QueueRmArgs {
    /// Which
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: QueueName,
    /// Done if it does not exist
    #[arg(long)]
    pub(crate) if_exists: bool,
    /// Refused if a message is in it
    #[arg(long)]
    pub(crate) if_empty: bool,
}

/// `dead …`
#[derive(Subcommand, Debug)]
pub(crate) enum DeadCmd {
    /// List dead messages
    Ls {
        /// Of this queue; of all if none
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: Option<QueueName>,
    },
    /// Put dead messages back with their failures reset
    Retry {
        /// Where
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        /// These
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<u64>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// `cluster …`
#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCmd {
    /// Every node, one row, unreachable ones too
    Status,
    /// The members as the leader knows them
    Members,
    /// Wait until the cluster is as it should be, --timeout at most [default: 30s]
    Wait {
        /// leader, members=N, or applied: every member has applied what is committed
        #[arg(long = "for", value_name = "WHAT", default_value = "leader", value_parser = wait_for)]
        what: WaitFor,
    },
    /// Move leadership
    Transfer {
        /// To this node, by number or name; to the best one if none
        #[arg(add = ArgValueCompleter::new(live::nodes))]
        node: Option<String>,
    },
}

/// What `cluster wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// A leader.
    Leader,
    /// A leader and so many members that answer.
    Members(usize),
    /// Every member has applied what is committed.
    Applied,
}

/// `stats`
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Only this queue
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queue: Option<QueueName>,
}

/// `ping`
#[derive(Args, Debug)]
pub(crate) struct PingArgs {
    /// Round trips to each node
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
}

/// `run`
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Go on after a command that failed
    #[arg(long)]
    pub(crate) keep_going: bool,
}

/// A duration with its units: `30s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn lease_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let range = Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX);
    if range.contains(&length) { Ok(length) } else { Err("a lease lasts 1s to 12h".into()) }
}

fn server(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(1..))) { Ok(text.to_owned()) } else { Err("expected HOST:PORT".into()) }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn wait_for(text: &str) -> Result<WaitFor, String> {
    let members =
        |count: &str| count.parse().ok().filter(|count| (1..=64).contains(count)).map(WaitFor::Members);
    match text {
        "leader" => Some(WaitFor::Leader),
        "applied" => Some(WaitFor::Applied),
        _ => text.strip_prefix("members=").and_then(members),
    }
    .ok_or_else(|| "expected leader, members=N or applied".into())
}

/// Milliseconds of a duration; what does not fit is as good as for ever.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn line(words: &[&str]) -> Result<Line, clap::Error> {
        Line::try_parse_from(words)
    }

    fn cli(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["queuectl"], words].concat())
    }

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
        Line::command().debug_assert();
    }

    #[test]
    fn the_command_line_and_the_shell_share_their_commands() {
        let words = |command: clap::Command| -> Vec<String> {
            command.get_subcommands().map(|command| command.get_name().to_owned()).collect()
        };
        let (shell, cli) = (words(Line::command()), words(Cli::command()));
        let shared: Vec<_> = shell.iter().filter(|word| cli.contains(word)).collect();
        assert_eq!(shared.len(), 16, "{shared:?}");
        assert!(
            [
                "push", "pop", "lease", "ack", "nack", "extend", "peek", "queue", "dead", "cluster", "stats",
                "ping"
            ]
            .iter()
            .all(|word| shell.iter().any(|shared| shared == word))
        );
    }

    #[test]
    fn hidden_aliases_are_understood() {
        for words in [
            &["enqueue", "jobs", "x"][..],
            &["put", "jobs", "x"],
            &["get", "jobs"],
            &["dequeue", "jobs"],
            &["reserve", "jobs"],
            &["touch", "jobs/1/2"],
            &["release", "jobs/1/2"],
            &["dlq", "ls"],
            &["ls"],
            &["status"],
        ] {
            assert!(line(words).is_ok(), "{words:?}");
            assert!(cli(words).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn what_is_not_built_is_a_usage_error_and_absent_from_help() {
        for words in [&["work", "jobs"][..], &["top"], &["events"], &["push", "jobs", "x", "--ttl", "1s"]] {
            assert_eq!(cli(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        fn walk(command: &clap::Command, words: &mut Vec<String>) {
            words.push(command.get_name().to_owned());
            words.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|command| walk(command, words));
        }
        let mut words = Vec::new();
        walk(&Cli::command(), &mut words);
        for word in
            ["work", "top", "events", "context", "bench", "token", "ttl", "dedup-key", "explain", "watch"]
        {
            assert!(!words.iter().any(|known| known == word), "{word}");
        }
    }

    #[test]
    fn values_out_of_range_are_usage_errors() {
        for words in [
            &["lease", "jobs", "--for", "30"][..],
            &["lease", "jobs", "--for", "10ms"],
            &["lease", "jobs", "-n", "257"],
            &["push", "jobs", "x", "--priority", "32"],
            &["push", "bad name", "x"],
            &["push", "jobs", "x", "-H", "novalue"],
            &["cluster", "wait", "--for", "members=0"],
            &["ack", "jobs/1"],
            &["peek", "jobs", "1", "-n", "2"],
            &["dead", "retry", "jobs"],
            &["dead", "retry", "jobs", "1", "--all"],
            &["nack", "jobs/1/2", "--release", "--reject"],
            &["-s", "nowhere", "ping"],
        ] {
            assert_eq!(cli(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn global_options_are_understood_anywhere() {
        let cli = cli(&["queue", "ls", "--json", "-s", "a:1,b:2", "-vv", "--timeout", "1m30s"]).unwrap();
        assert_eq!(cli.reach.servers, ["a:1", "b:2"]);
        assert_eq!((cli.settings.json, cli.settings.verbose), (true, 2));
        assert_eq!(cli.settings.timeout, Some(Duration::from_secs(90)));
        assert!(line(&["pop", "jobs", "--json"]).unwrap().settings.json);
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for (words, kind) in [
            (&["--help"][..], ErrorKind::DisplayHelp),
            (&["push", "--help"], ErrorKind::DisplayHelp),
            (&["--version"], ErrorKind::DisplayVersion),
        ] {
            let error = cli(words).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, 0));
        }
    }
}
