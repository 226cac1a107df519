//! What `work` takes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use clap_complete::engine::ArgValueCompleter;
use queue_protocol::limits::{LEASE_COUNT_MAX, LEASE_QUEUES_MAX};
use queue_protocol::names::QueueName;

use super::values::{duration, grace, lease_length};
use crate::grammar::live;

pub(crate) const WORK_HELP: &str = "\
The handler gets the body on its standard input; {} among its arguments becomes
the name of a file with it. Its environment names the message: QUEUE_NAME,
QUEUE_MESSAGE_ID, QUEUE_LEASE_TOKEN, QUEUE_RECEIPT, QUEUE_ATTEMPT,
QUEUE_MAX_FAILURES, QUEUE_ENQUEUED_AT, QUEUE_LEASE_EXPIRES_AT,
QUEUE_HEADER_<NAME>; QUEUE_CHECKPOINT is what an earlier attempt left with
`queuectl extend $QUEUE_RECEIPT --checkpoint TEXT`.

Its exit code decides:
  0          done: acked
  65         bad data: dead now; the last line of its standard error is kept
  75         not now: comes again later, without blame
  126, 127   it cannot be run: the worker stops and gives everything back
  another    failed: comes again after a back-off, or is dead if that was the
             last time";

/// `work`
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkArgs {
    /// Queues to take from; the first one with messages is used
    #[arg(required = true, num_args = 1..=LEASE_QUEUES_MAX, value_name = "QUEUE")]
    #[arg(add = ArgValueCompleter::new(live::queues))]
    pub(crate) queues: Vec<QueueName>,
    /// Handlers that run at once
    #[arg(short = 'P', long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) parallel: u16,
    /// Messages held at once: those beyond --parallel wait here [default: as many as --parallel]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=LEASE_COUNT_MAX as i64))]
    pub(crate) batch: Option<u16>,
    /// Once a message is there, wait this long, 30s at most, for as many as there is room for
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,
    /// Length of the leases, renewed while a handler runs [default: as the queue is set]
    #[arg(long, value_name = "DURATION", value_parser = lease_length)]
    pub(crate) lease: Option<Duration>,
    /// Give everything back at once, without blame, when this worker is gone for this long: killed, or cut off
    /// [1s to 12h; default: it comes again when its leases end, as a failure]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub(crate) bound: Option<Duration>,
    #[command(flatten)]
    pub(crate) limit: HandlerLimit,
    /// How long a handler has to end after SIGTERM, and all of them after Ctrl-C
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// End when nothing is ready or leased; =all waits for delays and back-offs too. Exit 1 if messages are left
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "ready")]
    #[arg(conflicts_with_all = ["max", "once"])]
    pub(crate) drain: Option<Drain>,
    /// Give up draining after this long; what runs is finished
    #[arg(long, value_name = "DURATION", requires = "drain", value_parser = duration)]
    pub(crate) drain_timeout: Option<Duration>,
    /// End after this many messages
    #[arg(long, value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// One message; exit 1 if there is none
    #[arg(long)]
    pub(crate) once: bool,
    /// Exit codes of the handler that ack
    #[arg(long, value_name = "CODES", default_value = "0", value_parser = codes)]
    pub(crate) ack_on: Codes,
    /// Exit codes after which the message comes again without blame
    #[arg(long, value_name = "CODES", default_value = "75", value_parser = codes)]
    pub(crate) retry_on: Codes,
    /// Exit codes after which the message is dead
    #[arg(long, value_name = "CODES", default_value = "65", value_parser = codes)]
    pub(crate) dead_on: Codes,
    /// Delay before a message comes again: exp:1s..5m, const:10s or none [default: as the queue is set]
    #[arg(long, value_name = "BACKOFF", value_parser = backoff)]
    pub(crate) backoff: Option<Delays>,
    /// The handler is this pipeline for sh
    #[arg(long, value_name = "PIPELINE", conflicts_with = "handler")]
    pub(crate) shell: Option<String>,
    /// The handler, run directly
    #[arg(last = true, required_unless_present = "shell", value_name = "CMD")]
    pub(crate) handler: Vec<OsString>,
}

/// What `--drain` waits for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// What is ready or leased.
    Ready,
    /// What is delayed, too.
    All,
}

/// `--timeout` means the handler here; the one of other commands is this option's namesake, so only what was typed
/// counts, not what the environment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HandlerLimit(pub(crate) Option<Duration>);

const TIMEOUT: &str = "timeout";

impl Args for HandlerLimit {
    fn augment_args(command: Command) -> Command {
        let timeout = Arg::new(TIMEOUT).long(TIMEOUT).value_name("DURATION").value_parser(duration);
        command.arg(timeout.help("A handler that runs longer gets SIGTERM, then SIGKILL, and has failed"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for HandlerLimit {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = matches.value_source(TIMEOUT) == Some(ValueSource::CommandLine);
        Ok(Self(matches.get_one::<Duration>(TIMEOUT).copied().filter(|_| typed)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Exit codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codes(pub(crate) BTreeSet<u8>);

fn codes(text: &str) -> Result<Codes, String> {
    let code = |code: &str| code.trim().parse().map_err(|_| format!("{code:?} is no exit code: 0 to 255"));
    text.split(',').map(code).collect::<Result<_, _>>().map(Codes)
}

/// Delays before a message comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delays {
    /// After the first time.
    pub(crate) first: Duration,
    /// What each further time makes of it, in percent.
    pub(crate) factor_percent: u32,
    /// The longest.
    pub(crate) last: Duration,
}

impl Delays {
    /// The delay after attempt number `attempt`, from 1, in milliseconds.
    pub(crate) fn after_ms(&self, attempt: u32) -> u64 {
        let last = super::milliseconds(self.last);
        let mut delay = super::milliseconds(self.first);
        // 64 doublings are more than any number has.
        for _ in 1..attempt.min(64) {
            delay = delay.saturating_mul(self.factor_percent.into()) / 100;
            if delay >= last {
                break;
            }
        }
        delay.min(last)
    }
}

fn backoff(text: &str) -> Result<Delays, String> {
    let expected = || "expected exp:1s..5m, const:10s or none".to_owned();
    if text == "none" {
        return Ok(Delays { first: Duration::ZERO, factor_percent: 100, last: Duration::ZERO });
    }
    if let Some(delay) = text.strip_prefix("const:") {
        let delay = duration(delay)?;
        return Ok(Delays { first: delay, factor_percent: 100, last: delay });
    }
    let range = text.strip_prefix("exp:").and_then(|range| range.split_once("..")).ok_or_else(expected)?;
    let (first, last) = (duration(range.0)?, duration(range.1)?);
    if first > last {
        return Err(format!("{} is longer than {}", range.0, range.1));
    }
    Ok(Delays { first, factor_percent: 200, last })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Cmd, Top};
    use super::*;

    fn work(words: &[&str]) -> Result<WorkArgs, clap::Error> {
        let cli = Cli::try_parse_from([&["queuectl", "work"], words].concat())?;
        match cli.command {
            Some(Top::Cmd(Cmd::Work(args))) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_timeout_is_the_handlers_and_everything_behind_the_dashes_is_the_handler() {
        let args = work(&["a", "b", "--timeout", "10s", "--", "./x", "--timeout", "{}"]).unwrap();
        assert_eq!(args.limit, HandlerLimit(Some(Duration::from_secs(10))));
        assert_eq!(args.handler, ["./x", "--timeout", "{}"]);
        assert_eq!(args.queues.len(), 2);
        assert_eq!(work(&["a", "--", "x"]).unwrap().limit, HandlerLimit(None));
    }

    #[test]
    fn a_handler_is_needed_and_only_one_end() {
        for words in [
            &["jobs"][..],
            &["--", "x"],
            &["jobs", "--shell", "x", "--", "x"],
            &["jobs", "--drain", "--once", "--", "x"],
            &["jobs", "--drain=dead", "--", "x"],
            &["jobs", "--drain-timeout", "1s", "--", "x"],
            &["jobs", "--parallel", "0", "--", "x"],
            &["jobs", "--ack-on", "256", "--", "x"],
            &["jobs", "--backoff", "exp:5m..1s", "--", "x"],
            &["jobs", "--backoff", "1s", "--", "x"],
        ] {
            assert_eq!(work(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(work(&["jobs", "--shell", "cat | wc"]).is_ok());
        let drains = |words: &[&str]| work(&[&["jobs"], words, &["--", "x"]].concat()).unwrap().drain;
        assert_eq!(drains(&["--drain"]), Some(Drain::Ready));
        assert_eq!(drains(&["--drain=all", "--drain-timeout", "1m"]), Some(Drain::All));
        assert_eq!(drains(&[]), None);
    }

    #[test]
    fn delays_grow_up_to_their_limit() {
        let delays = backoff("exp:1s..10s").unwrap();
        let after = [1, 2, 3, 4, 5, u32::MAX].map(|attempt| delays.after_ms(attempt));
        assert_eq!(after, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(backoff("const:3s").unwrap().after_ms(7), 3_000);
        assert_eq!(backoff("none").unwrap().after_ms(7), 0);
    }
}
