//! The words of the shell: one tree for the command line, the interactive shell and batch files.

mod access;
mod args;
mod bench;
mod check;
mod cluster;
mod context;
pub(crate) mod contexts;
mod environment;
mod examples;
mod group;
pub(crate) mod live;
pub(crate) mod receipt;
mod schedule;
mod secure;
mod settings;
mod sweep;
mod token_command;
mod top;
pub(crate) mod trace;
mod values;
mod work;

use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::names::QueueName;

pub(crate) use self::access::*;
pub(crate) use self::args::*;
pub(crate) use self::bench::*;
pub(crate) use self::check::*;
pub(crate) use self::cluster::*;
pub(crate) use self::context::*;
pub(crate) use self::environment::*;
pub(crate) use self::examples::with_examples;
pub(crate) use self::group::*;
pub(crate) use self::schedule::*;
pub(crate) use self::secure::*;
pub(crate) use self::settings::*;
pub(crate) use self::sweep::*;
pub(crate) use self::top::*;
pub(crate) use self::values::*;
pub(crate) use self::work::*;

/// Servers asked when none are named: the three nodes of `queued dev`.
pub(crate) const SERVERS_DEFAULT: &str = "127.0.0.1:7410,127.0.0.1:7420,127.0.0.1:7430";
/// How long a command may take to find a leader and get its answer.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 part done, 65 bad data, 66 not found, \
69 unreachable, 75 nothing was changed (try again), 77 not permitted or not trusted, 79 sent but not confirmed; 130, 141, 143 signals.";

/// The command line.
#[derive(Parser, Debug)]
#[command(name = "queuectl", version, about = "The shell of queued, a durable work queue", after_help = EXIT_CODES)]
#[command(bin_name = "queuectl", disable_help_subcommand = true)]
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
    /// Servers of this context [env: QUEUECTL_CONTEXT; default: the one that `context use` chose]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Where the servers were named.
    #[arg(skip)]
    pub(crate) origin: String,
    /// Nodes to ask, in order; without a port it is 7410 [env: QUEUECTL_SERVERS; default: the three of `queued dev`]
    #[arg(short, long, global = true, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = server)]
    pub(crate) servers: Vec<String>,
    /// Do not follow redirects to the leader
    #[arg(long, global = true)]
    pub(crate) no_follow: bool,
    /// Give up at once if no node can be reached, instead of trying until the time is up
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) secure: Secure,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Settings {
    /// Time to find a leader and get the answer [env: QUEUECTL_TIMEOUT; default: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// JSON instead of text [env: QUEUECTL_OUTPUT=json]
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
    /// Repeat a command that only reads, every 2s or as often as this says, until Ctrl-C
    #[arg(long, global = true, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "2s", value_parser = duration)]
    pub(crate) watch: Option<Duration>,
    /// Colours in messages
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// First words of the command line.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Top {
    #[command(flatten)]
    Cmd(Cmd),
    /// Run the commands of a file, one a line, # begins a comment
    Run(RunArgs),
    /// Start the interactive shell; no command on a terminal does the same
    Repl,
    /// Clusters by name, so that no command has to list servers
    #[command(subcommand)]
    Context(ContextCmd),
    /// Print the JSON Schema of a document that --json gives, or list the documents
    Schema {
        /// As in its `schema`, with or without the version
        name: Option<String>,
    },
    /// List the commands, or explain one
    Help {
        /// The command
        words: Vec<String>,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Completions,
    },
}

/// First words of a line in the shell.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Word {
    #[command(flatten)]
    Cmd(Cmd),
    /// Use QUEUE where a command names none; without QUEUE no more
    Use {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: Option<QueueName>,
    },
    /// Set json or timing on or off
    Set {
        /// The setting
        what: Setting,
        /// Its value
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

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Cmd {
    /// Store messages
    #[command(aliases = ["enqueue", "put"])]
    Push(Box<PushArgs>),
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
    /// Say why a queue, or one message, is not delivered now, and why pushes are refused
    Explain(ExplainArgs),
    /// Run a handler for each message; its exit code decides
    #[command(alias = "worker", after_help = WORK_HELP)]
    Work(Box<WorkArgs>),
    /// Do several things or nothing, as a file says
    #[command(after_help = TXN_HELP)]
    Txn(TxnArgs),
    /// Messages by id: look at, delete, move, change
    #[command(subcommand)]
    Message(MessageCmd),
    /// Queues: list, look at, make, change, pause, empty, remove
    #[command(subcommand)]
    Queue(QueueCmd),
    /// Groups of a queue: their weights
    #[command(subcommand)]
    Group(GroupCmd),
    /// Recurring pushes: list, add, remove
    #[command(subcommand)]
    Schedule(ScheduleCmd),
    /// Dead messages: list, look at, put back, delete
    #[command(subcommand, alias = "dlq")]
    Dead(DeadCmd),
    /// The cluster: its nodes and their state
    #[command(subcommand)]
    Cluster(ClusterCmd),
    /// Logins: required or not
    #[command(subcommand)]
    Auth(AuthCmd),
    /// Who there is and what each may do: list, make, grant, revoke, shut out, remove
    #[command(subcommand)]
    Principal(PrincipalCmd),
    /// Keys of principals: list, make, rotate, revoke
    #[command(subcommand)]
    Key(KeyCmd),
    /// Show who is logged in and what it may do
    Whoami,
    /// May somebody do something? Exit 0 or 1
    Can(CanArgs),
    /// Show who changed what, from where, when and why
    Audit(AuditArgs),
    /// Is it well? Exit 0 or 1, 69 if nobody is reached; for monitoring
    #[command(subcommand)]
    Check(CheckCmd),
    /// Totals of the cluster, or of one queue
    Stats(StatsArgs),
    /// The cluster live: queues with rates, ages and consumers, and the nodes; keys sort, filter and pause
    Top(TopArgs),
    /// Put load on the cluster and measure it; makes a queue of its own and removes it
    Bench(BenchArgs),
    /// List the requests that took nodes long, with the stages that each passed
    Slow(SlowArgs),
    /// Measure the round trip to each node
    Ping(PingArgs),
    /// Look for what is wrong between this machine and the cluster, and say what to do. Exit 0 or 1
    Doctor,
    /// Write an archive for a report: states, counts, settings and log lines; no bodies, no secrets
    Bundle(BundleArgs),
    /// Say what an error code means and what to do
    Errors {
        /// As in `error[code]` [default: list all]
        code: Option<String>,
    },
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

impl Cmd {
    /// It changes nothing, and may be done again and again.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Peek(_) | Self::Explain(_) | Self::Check(_) | Self::Stats(_) | Self::Ping(_) => true,
            Self::Ls(_) | Self::Status | Self::Doctor | Self::Slow(_) | Self::Whoami | Self::Can(_) => true,
            Self::Audit(_) => true,
            Self::Auth(cmd) => matches!(cmd, AuthCmd::Status),
            Self::Principal(cmd) => matches!(cmd, PrincipalCmd::Ls | PrincipalCmd::Show { .. }),
            Self::Key(cmd) => matches!(cmd, KeyCmd::Ls { .. }),
            Self::Lease(args) => args.other.is_some(),
            Self::Message(cmd) => {
                matches!(
                    cmd,
                    MessageCmd::Show { .. } | MessageCmd::History { .. } | MessageCmd::Position { .. }
                )
            }
            Self::Queue(cmd) => matches!(cmd, QueueCmd::Ls(_) | QueueCmd::Info { .. }),
            Self::Group(cmd) => matches!(cmd, GroupCmd::Ls { .. }),
            Self::Schedule(cmd) => matches!(cmd, ScheduleCmd::Ls { .. }),
            Self::Dead(cmd) => matches!(cmd, DeadCmd::Ls { .. } | DeadCmd::Show { .. }),
            Self::Cluster(cmd) => {
                matches!(cmd, ClusterCmd::Status | ClusterCmd::Members | ClusterCmd::Clients(_))
            }
            _ => false,
        }
    }
}

const TXN_HELP: &str = r#"The file is JSON:
  { "if": [ {"leased": "jobs/1006/1005"},             the receipt still holds
            {"exists": "jobs/1007"},                  the message is there
            {"queue": "mail", "at_most": 100},        ready, leased and delayed
            {"queue": "mail", "version": 3},
            {"queue": "mail", "no_dedup_key": "invoice-7"} ],
    "do": [ {"push": "mail", "body": "text"},         body_base64; headers, priority, delay, ttl,
                                                      dedup_key, unique, on_held, group
            {"ack": "jobs/1006/1005"},
            {"nack": "jobs/1007/1006"},               also delay, reason
            {"release": "jobs/1007/1006"},            also delay
            {"reject": "jobs/1007/1006"},             also reason
            {"extend": "jobs/1008/1007", "for": "1m"},
            {"move": "jobs/1009", "to": "other"},
            {"rm": "jobs/1010"}, {"cancel": "jobs/1011"}, {"kick": "jobs/1012"},
            {"edit": "jobs/1013", "priority": 9} ] }"#;

/// `queue …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum QueueCmd {
    /// List queues
    Ls(QueueLsArgs),
    /// Show a queue with its settings
    Info {
        /// The queue
        #[arg(add = ArgValueCompleter::new(live::queues))]
        queue: QueueName,
        #[command(flatten)]
        reading: Reading,
    },
    /// Make a queue
    Create(Box<QueueCreateArgs>),
    /// Remove a queue with everything in it
    Rm(QueueRmArgs),
    /// Change how a queue behaves
    Set(QueueSetArgs),
    /// Stop taking messages out of a queue, or putting them in
    Pause(PauseArgs),
    /// Go on with what was paused
    Resume(PauseArgs),
    /// Delete the messages of a queue, but not those that are leased
    Purge(PurgeArgs),
    /// Put the messages of a queue into another, but not those that are leased
    Move(MoveArgs),
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
        assert_eq!(shared.len(), 36, "{shared:?}");
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
        for words in [&["events"][..], &["backup"]] {
            assert_eq!(cli(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        fn walk(command: &clap::Command, words: &mut Vec<String>) {
            words.push(command.get_name().to_owned());
            words.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|command| walk(command, words));
        }
        let mut words = Vec::new();
        walk(&Cli::command(), &mut words);
        for word in ["events", "token", "backup"] {
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
            &["cluster", "wait", "--for", "voters"],
            &["check", "cluster", "--voters", "0"],
            &["check", "queue", "jobs", "--ready", "5,1"],
            &["check", "queue", "jobs", "--oldest", "1"],
            &["ack", "jobs/1"],
            &["peek", "jobs", "1", "-n", "2"],
            &["dead", "retry", "jobs"],
            &["dead", "retry", "jobs", "1", "--all"],
            &["dead", "rm", "jobs", "1", "--reason", "expired"],
            &["queue", "set", "jobs"],
            &["queue", "set", "jobs", "ttl"],
            &["queue", "create", "jobs", "--on-full", "explode"],
            &["message", "edit", "jobs", "1"],
            &["push", "jobs", "x", "--on-held", "keep"],
            &["push", "jobs", "x", "--delay", "1s", "--not-before", "2026-11-23T14:03:22Z"],
            &["nack", "jobs/1/2", "--release", "--reject"],
            &["-s", "http://nowhere", "ping"],
            &["-s", "nowhere:0", "ping"],
            &["-s", "", "ping"],
            &["push", "--", "-x", "body"],
            &["cluster", "add", "http://x"],
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
