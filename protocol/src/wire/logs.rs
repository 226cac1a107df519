//! Which log lines a node writes, and the requests that took it long.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::limits::{LOG_MS_MAX, SLOW_LISTED_MAX, STAGES_MAX};
use crate::names::QueueName;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::credentials::CLIENT_NAME_SIZE_MAX;
use crate::wire::response::WriteStage;

/// Lines of this weight and above are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// None.
    Off,
    /// What broke.
    Error,
    /// What somebody should look at.
    Warn,
    /// What changes for the whole node.
    #[default]
    Info,
    /// What becomes of single connections and requests.
    Debug,
}

impl LogLevel {
    /// All of them, from none to most.
    pub const ALL: [Self; 5] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl std::str::FromStr for LogLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let level = Self::ALL.into_iter().find(|level| level.as_str() == text);
        level.ok_or(match text {
            "trace" => "not trace: the program has no trace lines; debug says most",
            _ => "must be off, error, warn, info or debug",
        })
    }
}

/// Another level for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChoice {
    /// Which.
    pub level: LogLevel,
    /// How long, in milliseconds: 1 to [`LOG_MS_MAX`].
    pub for_ms: u64,
}

const _: () = assert!(LOG_MS_MAX >= 3_600_000);

/// Which lines a node writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The level that counts.
    pub level: LogLevel,
    /// That of the settings.
    pub settings: LogLevel,
    /// Milliseconds until that one counts again, if another was chosen.
    pub left_ms: Option<u64>,
}

/// How long a stage of a request took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTook {
    /// Which.
    pub stage: WriteStage,
    /// Microseconds.
    pub us: u64,
}

/// A request that took long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowRequest {
    /// When it was answered, Unix milliseconds of the node's own clock.
    pub at_ms: u64,
    /// The name of its row in [`crate::wire::requests::ROWS`].
    pub request: Text<32>,
    /// The queue it is about, the first of several.
    pub queue: Option<QueueName>,
    /// What the program of the client calls itself.
    pub client: Text<CLIENT_NAME_SIZE_MAX>,
    /// From its arrival, or the end of its wait for messages, to its answer: microseconds.
    pub took_us: u64,
    /// Why it was refused, if it was.
    pub code: Option<ErrorCode>,
    /// The stages it passed; of its entry where stages are shared. `replicate` is that of the follower that was first.
    pub stages: Bounded<StageTook, STAGES_MAX>,
}

/// The slow requests that a node remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowList {
    /// What takes longer is slow: milliseconds.
    pub threshold_ms: u32,
    /// How many there were since the node started.
    pub total: u64,
    /// The last of them, newest first.
    pub requests: Bounded<SlowRequest, SLOW_LISTED_MAX>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_its_name_and_trace_is_refused_by_name() {
        for level in LogLevel::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("trace".parse::<LogLevel>().is_err_and(|why| why.contains("trace") && why.contains("debug")));
        assert!("INFO".parse::<LogLevel>().is_err());
    }
}
