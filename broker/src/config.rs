//! What an operator can set: one table of settings drives flags, environment, file and their documentation.
//!
//! A flag counts more than the environment, that more than the file, and that more than the default. A variable that is
//! empty is not set, and one that a flag overrides is not looked at; a value of the file is checked in any case.

mod check;
pub(crate) mod credential;
pub mod file;
pub mod flags;
mod memory;
pub mod table;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use queue_protocol::wire::logs::LogLevel;

pub use self::flags::{ClusterFlags, Flags};
pub use self::table::{SETTINGS, Scope, Setting};
use crate::http::HttpOptions;
use crate::log::LogOptions;
use crate::node::NodeOptions;
use crate::raft::RaftOptions;
use crate::server::ServerOptions;
use crate::tls::TlsOptions;

/// Prefix of every environment variable.
const ENV_PREFIX: &str = "QUEUED_";
/// Names the configuration file; no setting.
const ENV_CONFIG: &str = "QUEUED_CONFIG";
/// Configuration files read if none is named: the first that exists.
const FILES_DEFAULT: [&str; 2] = ["queued.toml", "/etc/queued/config.toml"];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// One JSON document a line.
    Json,
}

/// All settings, typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the node behaves.
    pub node: NodeOptions,
    /// HTTP beside the protocol.
    pub http: HttpOptions,
    /// How connections are secured.
    pub tls: TlsOptions,
    /// Serving beyond loopback without TLS is meant.
    pub insecure: bool,
    /// Which log lines are written.
    pub log_level: LogLevel,
    /// Where they go; `None` is standard error.
    pub log_file: Option<PathBuf>,
    /// How they look.
    pub log_format: LogFormat,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// A line of the file, from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(String),
}

/// A setting as it counts.
#[derive(Clone, Debug)]
pub struct Value {
    /// Which.
    pub setting: &'static Setting,
    /// As it was written.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What, with the key and where it was given.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(|problem| problem.what.as_str()).collect::<Vec<_>>().join("; "))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// Where values are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Of the command line.
    pub flags: Vec<(&'static Setting, String)>,
    /// The environment, all of it.
    pub env: Vec<(OsString, OsString)>,
    /// The file; it must exist.
    pub file: Option<PathBuf>,
    /// The variable that names the file, if no flag does.
    pub file_env: Option<&'static str>,
    /// Without `file`: the first of these that exists.
    pub files_default: Vec<PathBuf>,
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Typed.
    pub config: Config,
    /// One value a setting, in the order of the table.
    pub values: Vec<Value>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What looks like a mistake and may be none.
    pub warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            node: NodeOptions {
                data_dir: PathBuf::new(),
                listen: String::new(),
                advertise: None,
                name: None,
                raft: RaftOptions::default(),
                server: ServerOptions::default(),
                // The node puts in its own seed and snapshot.
                log: LogOptions::new(0),
                grace: Duration::ZERO,
                descriptors: None,
            },
            http: HttpOptions::default(),
            tls: TlsOptions::default(),
            insecure: false,
            log_level: LogLevel::Off,
            log_file: None,
            log_format: LogFormat::Auto,
        };
        for setting in SETTINGS {
            (setting.set)(&mut config, setting.default).expect("a default is a value");
        }
        config
    }
}

impl Sources {
    /// What this process was given, with the usual files.
    pub fn of_process(flags: &Flags) -> Self {
        if flags.only_flags {
            return Self { flags: flags.values.clone(), ..Self::default() };
        }
        let file_of_env = std::env::var_os(ENV_CONFIG).filter(|file| !file.is_empty()).map(PathBuf::from);
        Self {
            flags: flags.values.clone(),
            env: std::env::vars_os().collect(),
            file: flags.config.clone().or_else(|| file_of_env.clone()),
            file_env: file_of_env.filter(|_| flags.config.is_none()).map(|_| ENV_CONFIG),
            files_default: FILES_DEFAULT.map(PathBuf::from).to_vec(),
        }
    }
}

/// Reads all sources.
///
/// # Errors
/// Everything that is wrong with them, at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (mut problems, mut warnings, mut given) = (Vec::new(), Vec::new(), Vec::new());
    let path =
        sources.file.clone().or_else(|| sources.files_default.iter().find(|path| path.exists()).cloned());
    if let Some(path) = &path {
        file::read(path, &mut given, &mut problems);
        if let Some(name) = sources.file_env {
            problems.iter_mut().for_each(|problem| problem.what = format!("{name}: {}", problem.what));
        }
    }
    from_env(&sources.env, &mut given, &mut problems, &mut warnings);
    // A good flag is not to suffer from a bad variable.
    let is_overridden = |key: &str| sources.flags.iter().any(|(setting, _)| setting.key == key);
    given.retain(|value| !matches!(value.origin, Origin::Env(_)) || !is_overridden(value.setting.key));
    given.extend(sources.flags.iter().map(|(setting, text)| {
        let origin = Origin::Flag(format!("--{}", setting.flag()));
        Value { setting, text: text.clone(), origin }
    }));

    let mut config = Config::default();
    let mut values: Vec<Value> = SETTINGS
        .iter()
        .map(|setting| Value { setting, text: setting.default.to_owned(), origin: Origin::Default })
        .collect();
    for value in given {
        match (value.setting.set)(&mut config, &value.text) {
            Ok(()) => {
                let place = values.iter_mut().find(|place| place.setting.key == value.setting.key);
                *place.expect("every setting is in the table") = value;
            }
            Err(why) => problems.push(Problem::new(format!(
                "{} = {:?} ({}): {why}",
                value.setting.key, value.text, value.origin
            ))),
        }
    }
    if problems.is_empty() {
        problems = check::check(&config);
    }
    // A default that this machine decides.
    config.node.server.memory.get_or_insert_with(memory::default_size);
    if problems.is_empty() {
        Ok(Loaded { config, values, file: path, warnings })
    } else {
        Err(ConfigError { problems })
    }
}

fn from_env(
    env: &[(OsString, OsString)],
    given: &mut Vec<Value>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let mut ours: Vec<_> = env
        .iter()
        .filter_map(|(name, text)| Some((name.to_str()?, text)))
        .filter(|(name, _)| {
            name.starts_with(ENV_PREFIX) && *name != ENV_CONFIG && !is_of_an_orchestrator(name)
        })
        .filter(|(_, text)| !text.is_empty())
        .collect();
    ours.sort();
    for (name, text) in ours {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.env() == name) else {
            let similar = similar(name, SETTINGS.iter().map(Setting::env))
                .map(|similar| format!(", did you mean {similar}?"))
                .unwrap_or_default();
            warnings.push(format!("{name} in the environment is no setting{similar}"));
            continue;
        };
        match text.to_str() {
            Some(text) => {
                let origin = Origin::Env(name.to_owned());
                given.push(Value { setting, text: text.to_owned(), origin });
            }
            None => problems.push(Problem::new(format!("{} ({name}) is not UTF-8", setting.key))),
        }
    }
}

/// Kubernetes and Docker put such variables next to those of a service that is called `queued`.
fn is_of_an_orchestrator(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || (name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP")))
}

/// The candidate that was probably meant.
fn similar(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let scored = candidates.map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then_some(best.1)
}

impl Loaded {
    /// The flags that give another process what was set here and not left at its default.
    pub fn flags(&self, scope: Scope) -> Vec<String> {
        self.values
            .iter()
            .filter(|value| value.setting.scope == scope && value.origin != Origin::Default)
            .map(|value| format!("--{}={}", value.setting.flag(), value.text))
            .collect()
    }
}

impl Problem {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, text)| (OsString::from(name), OsString::from(text))).collect()
    }

    fn setting(key: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.key == key).unwrap()
    }

    fn value<'a>(loaded: &'a Loaded, key: &str) -> (&'a str, String) {
        let value = loaded.values.iter().find(|value| value.setting.key == key).unwrap();
        (&value.text, value.origin.to_string())
    }

    fn problems(sources: &Sources) -> Vec<String> {
        let problems = load(sources).unwrap_err().problems;
        problems
            .into_iter()
            .map(|problem| [problem.what, problem.hint.unwrap_or_default()].join(" | "))
            .collect()
    }

    fn with_env(pairs: &[(&str, &str)]) -> Sources {
        Sources { env: env(pairs), ..Sources::default() }
    }

    fn with_file(text: &str) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.toml");
        std::fs::write(&path, text).unwrap();
        (dir, Sources { file: Some(path), ..Sources::default() })
    }

    #[test]
    fn a_flag_counts_more_than_the_environment_that_more_than_the_file_and_that_more_than_the_default() {
        let (_dir, file) =
            with_file("[raft]\nheartbeat = \"10ms\"\nelection_timeout = \"1s..2s\"\n[log]\nlevel = 'warn'\n");
        let all = Sources {
            env: env(&[("QUEUED_RAFT_HEARTBEAT", "20ms"), ("QUEUED_LOG_LEVEL", "error")]),
            flags: vec![(setting("raft.heartbeat"), "30ms".into())],
            ..file
        };
        let loaded = load(&all).unwrap();
        assert_eq!(loaded.config.node.raft.heartbeat, Duration::from_millis(30));
        assert_eq!(loaded.config.node.raft.election_max, Duration::from_secs(2));
        assert_eq!(loaded.config.log_level, LogLevel::Error);
        assert_eq!(value(&loaded, "raft.heartbeat"), ("30ms", "--raft-heartbeat".into()));
        assert_eq!(value(&loaded, "log.level"), ("error", "QUEUED_LOG_LEVEL".into()));
        let (text, origin) = value(&loaded, "raft.election_timeout");
        assert_eq!(text, "1s..2s");
        assert!(origin.ends_with("q.toml line 3"), "{origin}");
        assert_eq!(value(&loaded, "listen.address"), ("127.0.0.1:7410", "default".into()));
        assert_eq!(
            loaded.flags(Scope::Cluster),
            ["--raft-heartbeat=30ms", "--raft-election-timeout=1s..2s", "--log-level=error"]
        );
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_types() {
        let config = Config::default();
        assert_eq!(format!("{:?}", config.node.raft), format!("{:?}", RaftOptions::default()));
        assert_eq!(format!("{:?}", config.node.server), format!("{:?}", ServerOptions::default()));
        assert!(
            load(&Sources::default()).unwrap().values.iter().all(|value| value.origin == Origin::Default)
        );
    }

    #[test]
    fn a_bad_value_names_its_key_its_place_and_why_even_if_it_is_overridden() {
        let (_dir, file) = with_file("raft.heartbeat = 150\nqueues.auto_create = \"perhaps\"\n");
        let problems = problems(&Sources { flags: vec![(setting("raft.heartbeat"), "30ms".into())], ..file });
        let first = |part| problems[0].contains(part);
        assert!(first("raft.heartbeat = \"150\" (") && first("q.toml line 1): ") && first("unit"));
        assert!(problems[1].starts_with("queues.auto_create = \"perhaps\" (") && problems.len() == 2);
    }

    #[test]
    fn a_bad_or_empty_variable_spoils_no_good_flag_and_what_counts_names_its_place() {
        let bad =
            with_env(&[("QUEUED_RAFT_HEARTBEAT", "150"), ("QUEUED_LOG_LEVEL", ""), ("QUEUED_INSECURE", "")]);
        let flags = vec![(setting("raft.heartbeat"), "30ms".into())];
        let loaded = load(&Sources { flags, ..bad.clone() }).unwrap();
        assert_eq!(value(&loaded, "raft.heartbeat"), ("30ms", "--raft-heartbeat".into()));
        assert_eq!(value(&loaded, "log.level"), ("info", "default".into()));
        let problems = problems(&bad);
        assert!(
            problems[0].starts_with("raft.heartbeat = \"150\" (QUEUED_RAFT_HEARTBEAT): "),
            "{problems:?}"
        );
    }

    #[test]
    fn sizes_and_delays_are_those_of_the_shell() {
        let loaded = load(&with_env(&[
            ("QUEUED_STORAGE_SEGMENT_SIZE", "64M"),
            ("QUEUED_QUEUES_DEFAULT_BACKOFF_MAX", "366d"),
        ]))
        .unwrap();
        assert_eq!(loaded.config.node.log.segment_size, 64 << 20);
    }

    #[test]
    fn values_without_sense_are_refused() {
        for (key, text) in [
            ("node.name", "two words"),
            ("listen.address", "7410"),
            ("listen.address", "http://localhost:7410"),
            ("node.name", "-x"),
            ("queues.default.backoff", "367d"),
            ("listen.address", "localhost:70000"),
            ("raft.heartbeat", "0ms"),
            ("raft.election_timeout", "1s"),
            ("raft.election_timeout", "1s..1s"),
            ("raft.snapshot_every", "0"),
            ("raft.snapshot_bytes", "12"),
            ("storage.segment_size", "1KiB"),
            ("limits.max_message", "9MiB"),
            ("limits.connections", "0"),
            ("limits.memory", "63MiB"),
            ("queues.default.max_failures", "0"),
            ("queues.default.lease", "1ms"),
            ("log.level", "loud"),
            ("log.format", "xml"),
            ("shutdown.grace", "-1s"),
        ] {
            let name = setting(key).env();
            let problems = problems(&with_env(&[(&name, text)]));
            assert!(problems[0].starts_with(&format!("{key} = ")), "{problems:?}");
        }
    }

    #[test]
    fn unknown_variables_are_warned_of_except_those_an_orchestrator_sets() {
        let loaded = load(&with_env(&[
            ("QUEUED_LISTEN_ADRESS", "x"),
            ("QUEUED_SERVICE_HOST", "10.0.0.1"),
            ("QUEUED_SERVICE_PORT_CLIENTS", "7410"),
            ("QUEUED_PORT", "tcp://10.0.0.1:7410"),
            ("QUEUED_PORT_7410_TCP_ADDR", "10.0.0.1"),
            ("QUEUED_CONFIG", "x.toml"),
            ("QUEUECTL_SERVERS", "x"),
        ]))
        .unwrap();
        assert_eq!(
            loaded.warnings,
            ["QUEUED_LISTEN_ADRESS in the environment is no setting, did you mean QUEUED_LISTEN_ADDRESS?"]
        );
    }

    #[test]
    fn what_contradicts_itself_or_exposes_the_queues_is_refused() {
        let refused = |pairs: &[(&str, &str)]| problems(&with_env(pairs)).join("\n");
        let allowed = |pairs: &[(&str, &str)]| load(&with_env(pairs)).is_ok();
        assert!(refused(&[("QUEUED_RAFT_HEARTBEAT", "151ms")]).starts_with("raft.election_timeout "));
        assert!(refused(&[("QUEUED_QUEUES_DEFAULT_BACKOFF", "6m")]).starts_with("queues.default.backoff "));
        let beyond = ("QUEUED_LISTEN_ADDRESS", "10.0.0.1:7410");
        assert!(refused(&[beyond]).contains("--insecure"));
        assert!(allowed(&[beyond, ("QUEUED_INSECURE", "true")]));
        assert!(allowed(&[("QUEUED_LISTEN_ADDRESS", "[::1]:7410")]));
        assert!(allowed(&[("QUEUED_LISTEN_ADDRESS", "localhost:7410")]));
        for wildcard in ["0.0.0.0:7410", "[::]:7410"] {
            let listen = ("QUEUED_LISTEN_ADDRESS", wildcard);
            let insecure = ("QUEUED_INSECURE", "true");
            assert!(refused(&[listen, insecure]).starts_with("advertise.address "));
            assert!(
                refused(&[listen, insecure, ("QUEUED_ADVERTISE_ADDRESS", wildcard)])
                    .starts_with("advertise.address ")
            );
            assert!(allowed(&[listen, insecure, ("QUEUED_ADVERTISE_ADDRESS", "mq1:7410")]));
        }
    }

    #[test]
    fn only_the_first_of_the_usual_files_is_read_and_a_named_one_must_exist() {
        let (dir, file) = with_file("log.level = 'off'");
        let path = file.file.unwrap();
        let missing = dir.path().join("missing.toml");
        let usual = Sources { files_default: vec![missing.clone(), path.clone()], ..Sources::default() };
        let loaded = load(&usual).unwrap();
        assert_eq!((loaded.config.log_level, loaded.file), (LogLevel::Off, Some(path)));
        let problems = problems(&Sources { file: Some(missing), ..Sources::default() });
        assert!(problems[0].contains("missing.toml"), "{problems:?}");
    }
}
