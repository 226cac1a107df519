//! Log lines: what the program says of its work, on standard error or in a file.
//!
//! The level may change and the file be opened anew while the program runs ([`reload`]), so that an operator sees more
//! without a restart, and files can be rotated. A level that is chosen for a while ([`choose`]) is not forgotten: it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use queue_protocol::wire::logs::LogLevel;
use tokio::time::Instant;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Config, LogFormat};
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// The libraries that talk a lot: a peer that is away is a warning of theirs at every heartbeat. Below debug only
/// their errors are of interest; who is away is said by `raft::cluster::status`, once.
const TALKATIVE: [&str; 1] = ["openraft"];

/// What this process logs with, once it has begun to.
static LOGGING: OnceLock<Logging> = OnceLock::new();

struct Logging {
    filter: reload::Handle<Targets, Registry>,
    output: Output,
    levels: Mutex<Levels>,
}

/// Which lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// As the settings say.
    pub(crate) settings: LogLevel,
    /// What was chosen in its place, and until when.
    pub(crate) chosen: Option<(LogLevel, Instant)>,
}

impl Levels {
    /// The level that counts.
    pub(crate) fn now(self) -> LogLevel {
        self.chosen.map_or(self.settings, |(level, _)| level)
    }
}

impl Logging {
    fn change(&self, change: impl FnOnce(&mut Levels)) -> io::Result<Levels> {
        let mut levels = self.levels.locked();
        let mut changed = *levels;
        change(&mut changed);
        self.filter.reload(filter(changed.now())).map_err(io::Error::other)?;
        *levels = changed;
        Ok(changed)
    }
}

/// Which lines are written; none, if nothing was begun.
pub(crate) fn levels() -> Levels {
    let none = Levels { settings: LogLevel::Off, chosen: None };
    LOGGING.get().map_or(none, |logging| *logging.levels.locked())
}

/// Writes other lines than the settings say, until whoever calls this calls [`go_back`] at that time.
///
/// # Errors
/// The log does not take it.
pub(crate) fn choose(level: LogLevel, until: Instant) -> io::Result<()> {
    let Some(logging) = LOGGING.get() else { return Ok(()) };
    logging.change(|levels| levels.chosen = Some((level, until))).map(drop)
}

/// What was chosen ends, if it was until then; `None` ends it in any case.
///
/// # Errors
/// The log does not take it.
pub(crate) fn go_back(until: Option<Instant>) -> io::Result<()> {
    let Some(logging) = LOGGING.get() else { return Ok(()) };
    let ends = |(_, of): &(LogLevel, Instant)| until.is_none_or(|until| *of == until);
    logging.change(|levels| levels.chosen = levels.chosen.filter(|chosen| !ends(chosen))).map(drop)
}

/// Where lines go: a file, or standard error. Clones are the same.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Option<File>>>);

impl Output {
    /// Goes on in this file, or on standard error.
    fn turn_to(&self, file: Option<&Path>) -> io::Result<()> {
        let opened = file.map(|file| OpenOptions::new().create(true).append(true).open(file)).transpose()?;
        *self.0.locked() = opened;
        Ok(())
    }

    fn is_file(&self) -> bool {
        self.0.locked().is_some()
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.locked() {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Output {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Whether lines are text rather than JSON.
fn is_text(config: &Config) -> bool {
    match config.log_format {
        LogFormat::Auto => is_on_screen(config),
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

/// Whether lines are text for somebody who looks on.
pub(crate) fn is_for_people(config: &Config) -> bool {
    config.log_file.is_none() && is_text(config)
}

fn is_on_screen(config: &Config) -> bool {
    config.log_file.is_none() && io::stderr().is_terminal()
}

/// Begins to log. Only the first call in a process counts.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn start(config: &Config) -> io::Result<()> {
    let output = Output::default();
    output.turn_to(config.log_file.as_deref())?;
    let lines = fmt::layer().with_writer(output.clone());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if is_text(config) {
        let color = is_on_screen(config) && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        lines.with_ansi(color).with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let (filter, handle) = reload::Layer::new(filter(config.log_level));
    let subscriber = Registry::default().with(lines.with_filter(filter));
    // A second call finds the first subscriber in place and leaves it there.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let levels = Mutex::new(Levels { settings: config.log_level, chosen: None });
        LOGGING.get_or_init(|| Logging { filter: handle, output, levels });
    }
    Ok(())
}

/// Takes level and file of `config`; the file is opened anew, so that one that was moved away is not written on. A level that
/// was chosen for a while stays as long.
///
/// # Errors
/// The file cannot be opened: lines go where they went.
pub(crate) fn reload(config: &Config) -> io::Result<()> {
    let Some(logging) = LOGGING.get() else { return Ok(()) };
    if !mutants::on(Mutant::LogFileNotReopened) {
        logging.output.turn_to(config.log_file.as_deref())?;
    }
    logging.change(|levels| levels.settings = config.log_level).map(drop)
}

/// Logs why the process ends, if the log is not where that is said anyway.
pub(crate) fn note_end(why: &str) {
    if LOGGING.get().is_some_and(|logging| logging.output.is_file()) {
        tracing::error!("{}", why.replace('\n', " "));
    }
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let talkative = if level >= LevelFilter::DEBUG { level } else { level.min(LevelFilter::ERROR) };
    TALKATIVE
        .iter()
        .fold(Targets::new().with_default(level), |targets, name| targets.with_target(*name, talkative))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_chosen_counts() {
        let settings = LogLevel::Info;
        let until = Instant::now();
        assert_eq!(Levels { settings, chosen: None }.now(), settings);
        assert_eq!(
            Levels { settings, chosen: Some((LogLevel::Off, until)) }.now(),
            LogLevel::Off,
            "off is a level, too"
        );
    }

    #[test]
    fn libraries_that_talk_a_lot_are_heard_from_debug_on() {
        let heard = |level, target, at: Level| filter(level).would_enable(target, &at);
        assert!(heard(LogLevel::Info, "queue_broker::node", Level::INFO));
        assert!(!heard(LogLevel::Info, "openraft::core", Level::INFO));
        assert!(!heard(LogLevel::Info, "openraft::core", Level::WARN));
        assert!(heard(LogLevel::Info, "openraft::core", Level::ERROR));
        assert!(heard(LogLevel::Debug, "openraft::core", Level::DEBUG));
        assert!(!heard(LogLevel::Error, "openraft::core", Level::WARN));
        assert!(!heard(LogLevel::Off, "queue_broker", Level::ERROR));
    }
}
