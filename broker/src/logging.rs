//! Log lines: what the program says of its work, on standard error.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Config, LogFormat};

/// The libraries that talk a lot: a peer that is away is a warning of theirs at every heartbeat. Below debug only
/// their errors are of interest; who is away is said by `raft::status`, once.
const TALKATIVE: [&str; 1] = ["openraft"];

/// Whether lines are text rather than JSON.
pub(crate) fn is_text(config: &Config) -> bool {
    match config.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

/// Begins to log. Only the first call in a process counts.
pub(crate) fn start(config: &Config) {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if is_text(config) {
        let color =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        lines.with_ansi(color).with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let subscriber = Registry::default().with(lines.with_filter(filter(config.log_level)));
    // A second call finds the first subscriber in place and leaves it there.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn filter(level: Option<Level>) -> Targets {
    let level = level.map_or(LevelFilter::OFF, LevelFilter::from_level);
    let talkative = if level >= LevelFilter::DEBUG { level } else { level.min(LevelFilter::ERROR) };
    TALKATIVE
        .iter()
        .fold(Targets::new().with_default(level), |targets, name| targets.with_target(*name, talkative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_talk_a_lot_are_heard_from_debug_on() {
        let heard = |level, target, at: Level| filter(level).would_enable(target, &at);
        assert!(heard(Some(Level::INFO), "queue_broker::node", Level::INFO));
        assert!(!heard(Some(Level::INFO), "openraft::core", Level::INFO));
        assert!(!heard(Some(Level::INFO), "openraft::core", Level::WARN));
        assert!(heard(Some(Level::INFO), "openraft::core", Level::ERROR));
        assert!(heard(Some(Level::DEBUG), "openraft::core", Level::DEBUG));
        assert!(!heard(Some(Level::ERROR), "openraft::core", Level::WARN));
        assert!(!heard(None, "queue_broker", Level::ERROR));
    }
}
