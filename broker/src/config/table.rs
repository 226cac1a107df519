//! The table of settings. A row is all there is to a setting: name, default, meaning, and how its text is understood.

use std::time::Duration;

use queue_protocol::limits::{BODY_SIZE_CEILING, FUTURE_MS_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use queue_protocol::values::{
    address, duration, duration_in, duration_range, may_begin_name, milliseconds, number_in, size_in,
};

use super::credential;
use super::value::boolean;
use super::{Config, LogFormat};
use crate::server::MEMORY_MIN;
use crate::tls::TlsMode;

/// Whether nodes of one cluster may differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A node's own.
    Node,
    /// Usually the same on all.
    Cluster,
}

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file: the flag has dashes for dots, the variable underscores.
    pub key: &'static str,
    /// What kind of value it takes.
    pub value: &'static str,
    /// The value if none is given; empty for none.
    pub default: &'static str,
    /// For people.
    pub doc: &'static str,
    /// Another name of the flag.
    pub alias: Option<&'static str>,
    /// Whose it is.
    pub scope: Scope,
    /// Takes the text into the configuration, or says why not.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

/// Kind of value: true or false.
pub(super) const BOOLEAN: &str = "BOOL";
const NUMBER: &str = "N";
const SIZE: &str = "SIZE";
const DURATION: &str = "DURATION";
const ADDRESS: &str = "HOST:PORT";

/// The longest delay of a message, which is that of the wire.
const FUTURE: Duration = Duration::from_millis(FUTURE_MS_MAX);
const NAME_SIZE_MAX: usize = 64;

impl Setting {
    /// `--listen-address` without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// `QUEUED_LISTEN_ADDRESS`.
    pub fn env(&self) -> String {
        format!("{}{}", super::ENV_PREFIX, self.key.replace('.', "_").to_uppercase())
    }

    /// Its value needs no quotes in the file.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.value, BOOLEAN | NUMBER)
    }

    /// What kind of value the file must have.
    pub(super) fn shape(&self) -> &'static str {
        match self.value {
            BOOLEAN => "true or false",
            NUMBER => "a whole number",
            SIZE => "a size in quotes, such as \"64MiB\"",
            DURATION => "a duration in quotes, such as \"30s\"",
            _ => "text in quotes",
        }
    }
}

/// All settings, by section.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "insecure",
        value: BOOLEAN,
        default: "false",
        doc: "Listen beyond loopback without tls.mode = require, although whoever is on the network can read and do everything",
        alias: None,
        scope: Scope::Node,
        set: |config, text| boolean(text).map(|value| config.insecure = value),
    },
    Setting {
        key: "node.name",
        value: "NAME",
        default: "",
        doc: "Name of the node, unique in its cluster; empty for n and its number",
        alias: Some("name"),
        scope: Scope::Node,
        set: |config, text| node_name(text).map(|name| config.node.name = name),
    },
    Setting {
        key: "node.data_dir",
        value: "DIR",
        default: "./data",
        doc: "Data directory, of this node alone",
        alias: Some("data-dir"),
        scope: Scope::Node,
        set: |config, text| {
            if text.is_empty() {
                return Err("must not be empty".into());
            }
            config.node.data_dir = text.into();
            Ok(())
        },
    },
    Setting {
        key: "listen.address",
        value: ADDRESS,
        default: "127.0.0.1:7410",
        doc: "Where to listen, for clients and other nodes",
        alias: Some("listen"),
        scope: Scope::Node,
        set: |config, text| address(text).map(|address| config.node.listen = address),
    },
    Setting {
        key: "listen.http",
        value: ADDRESS,
        default: "",
        doc: "Where to serve HTTP: health, metrics, a gateway. Empty is off. For who runs probes, Prometheus or curl: which \
              port is free only the operator knows",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            if !text.is_empty() && cfg!(not(feature = "http")) {
                return Err("this queued was built without HTTP".into());
            }
            config.http.listen = if text.is_empty() { None } else { Some(address(text)?) };
            Ok(())
        },
    },
    Setting {
        key: "advertise.address",
        value: ADDRESS,
        default: "",
        doc: "Where clients and other nodes reach this one; empty for the listen address",
        alias: Some("advertise"),
        scope: Scope::Node,
        set: |config, text| {
            config.node.advertise = if text.is_empty() { None } else { Some(address(text)?) };
            Ok(())
        },
    },
    Setting {
        key: "http.hosts",
        value: "NAME,...",
        default: "",
        doc: "Further host names under which HTTP is asked, beside addresses, localhost and those of this node. For who has a \
              proxy or a name in front: other names are refused, as a page could rebind its own to this machine",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            config.http.hosts = names.map(host_name).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    Setting {
        key: "http.queue",
        value: "QUEUE",
        default: "default",
        doc: "The queue of /send and /receive, made when it is first used. For who comes from a program with one queue and \
              has another name for it",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let parsed = text.parse::<queue_protocol::names::QueueName>();
            parsed.map(|queue| config.http.queue = queue).map_err(|error| error.to_string())
        },
    },
    Setting {
        key: "tls.mode",
        value: "MODE",
        default: "off",
        doc: "With whom to speak in the clear: off is everybody, optional those that speak no TLS (clients and other nodes), \
              require nobody; needed beyond loopback. SIGHUP reads it anew, so that a cluster becomes one with TLS without a \
              stop",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            let modes = [TlsMode::Off, TlsMode::Optional, TlsMode::Require];
            let mode = modes.into_iter().find(|mode| mode.as_str() == text);
            config.tls.mode = mode.ok_or("must be off, optional or require")?;
            if config.tls.mode != TlsMode::Off && cfg!(not(feature = "tls")) {
                return Err("this queued was built without TLS".into());
            }
            Ok(())
        },
    },
    Setting {
        key: "tls.cert",
        value: "FILE",
        default: "",
        doc: "The certificate of this node for clients, PEM, with those between it and the authority; read anew when it \
              changes. Empty for one made in memory, which other nodes accept and clients do not. For who has clients over \
              TLS: only the operator's authority can vouch for a name",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            config.tls.cert = (!text.is_empty()).then(|| credential::file(text)).transpose()?;
            Ok(())
        },
    },
    Setting {
        key: "tls.key",
        value: "FILE",
        default: "",
        doc: "The key of tls.cert, PEM, readable by this user only",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            config.tls.key = (!text.is_empty()).then(|| credential::file(text)).transpose()?;
            Ok(())
        },
    },
    Setting {
        key: "tls.ca",
        value: "FILE",
        default: "",
        doc: "The authorities of the cluster's certificates, PEM: the gateway of HTTP is a client of the leader and checks it. \
              For who serves HTTP under tls.mode = require",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            config.tls.ca = (!text.is_empty()).then(|| credential::file(text)).transpose()?;
            Ok(())
        },
    },
    Setting {
        key: "raft.heartbeat",
        value: DURATION,
        default: "150ms",
        doc: "Between signs of life of the leader",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let heartbeat = duration_in(text, Duration::from_millis(10)..=Duration::from_secs(60))?;
            config.node.raft.heartbeat = heartbeat;
            Ok(())
        },
    },
    Setting {
        key: "raft.election_timeout",
        value: "MIN..MAX",
        default: "600ms..1s",
        doc: "Silence of the leader after which an election begins, at least four heartbeats",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let (min, max) = duration_range(text)?;
            (config.node.raft.election_min, config.node.raft.election_max) = (min, max);
            Ok(())
        },
    },
    Setting {
        key: "raft.snapshot_every",
        value: NUMBER,
        default: "100000",
        doc: "Entries after which a snapshot is taken",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            number_in(text, 1..=u64::MAX).map(|count| config.node.raft.snapshot_entries = count)
        },
    },
    Setting {
        key: "raft.snapshot_bytes",
        value: SIZE,
        default: "256MiB",
        doc: "Bytes of entries after which a snapshot is taken",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            size_in(text, 4 << 10..=1 << 40).map(|size| config.node.raft.snapshot_bytes = size)
        },
    },
    Setting {
        key: "raft.keep_bytes",
        value: SIZE,
        default: "256MiB",
        doc: "Bytes of the log kept behind a snapshot, for nodes that were away: a larger value spares them a snapshot, \
              a smaller one disk space. Nothing is kept while the disk has little room",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| size_in(text, 0..=1 << 50).map(|size| config.node.raft.keep_bytes = size),
    },
    Setting {
        key: "storage.segment_size",
        value: SIZE,
        default: "64MiB",
        doc: "Size of a file of the log",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| size_in(text, 64 << 10..=1 << 30).map(|size| config.node.log.segment_size = size),
    },
    Setting {
        key: "storage.disk_reserve",
        value: SIZE,
        default: "auto",
        doc: "Room of the disk below which pushes are refused, beside the files that the log sets aside: auto is 5 %, at most \
              1GiB; never less than two segments and two snapshots",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            let size = if text == "auto" { None } else { Some(size_in(text, 0..=1 << 50)?) };
            config.node.raft.disk_reserve = size;
            Ok(())
        },
    },
    Setting {
        key: "limits.max_message",
        value: SIZE,
        default: "1MiB",
        doc: "Largest body of a message, at most 8MiB",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let size = size_in(text, 1..=BODY_SIZE_CEILING as u64)?;
            let size = usize::try_from(size).expect("the ceiling is a usize");
            config.node.server.queues.message_size_max = size;
            Ok(())
        },
    },
    Setting {
        key: "limits.connections",
        value: NUMBER,
        default: "10000",
        doc: "Connections of clients at a time; fewer if this process may have too few file descriptors",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let count = number_in(text, 1..=1_000_000)?;
            config.node.server.connections_max = usize::try_from(count).expect("a million is a usize");
            Ok(())
        },
    },
    Setting {
        key: "limits.memory",
        value: SIZE,
        default: "auto",
        doc: "Memory for requests of clients that are unfinished or not answered yet, at least 64MiB: auto is a quarter of \
              the memory of the cgroup or machine, at most 512MiB. For who gives a node more memory to serve large requests \
              of many clients, or shares a machine",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            let size = if text == "auto" { None } else { Some(size_in(text, MEMORY_MIN as u64..=1 << 40)?) };
            config.node.server.memory = size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
            Ok(())
        },
    },
    Setting {
        key: "queues.auto_create",
        value: BOOLEAN,
        default: "false",
        doc: "A push makes its queue if there is none",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| boolean(text).map(|value| config.node.server.queues.auto_create = value),
    },
    Setting {
        key: "queues.default.max_failures",
        value: NUMBER,
        default: "5",
        doc: "Failures before a message is dead",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let count = number_in(text, 1..=u64::from(u32::MAX))?;
            let count = u32::try_from(count).expect("it is in the range");
            config.node.server.queues.defaults.max_failures = count;
            Ok(())
        },
    },
    Setting {
        key: "queues.default.lease",
        value: DURATION,
        default: "30s",
        doc: "Length of a lease for which none was asked",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let [min, max] = [LEASE_MS_MIN, LEASE_MS_MAX].map(Duration::from_millis);
            config.node.server.queues.defaults.lease_ms = milliseconds(duration_in(text, min..=max)?);
            Ok(())
        },
    },
    Setting {
        key: "queues.default.backoff",
        value: DURATION,
        default: "1s",
        doc: "Delay of a message after its first failure; it doubles with each",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let backoff = duration_in(text, Duration::ZERO..=FUTURE)?;
            config.node.server.queues.defaults.backoff_ms = milliseconds(backoff);
            Ok(())
        },
    },
    Setting {
        key: "queues.default.backoff_max",
        value: DURATION,
        default: "5m",
        doc: "Longest delay of a message after a failure",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            let backoff = duration_in(text, Duration::ZERO..=FUTURE)?;
            config.node.server.queues.defaults.backoff_ms_max = milliseconds(backoff);
            Ok(())
        },
    },
    Setting {
        key: "log.level",
        value: "LEVEL",
        default: "info",
        doc: "Which log lines are written: off, error, warn, info or debug; SIGHUP reads it anew",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            config.log_level = text.parse()?;
            Ok(())
        },
    },
    Setting {
        key: "log.file",
        value: "FILE",
        default: "",
        doc: "Where log lines go, opened anew at SIGHUP so that it can be rotated; empty for standard error",
        alias: None,
        scope: Scope::Node,
        set: |config, text| {
            config.log_file = (!text.is_empty()).then(|| text.into());
            Ok(())
        },
    },
    Setting {
        key: "log.format",
        value: "FORMAT",
        default: "auto",
        doc: "How log lines look: text, json, or auto, which is text on a terminal",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| {
            config.log_format = match text {
                "auto" => LogFormat::Auto,
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err("must be auto, text or json".into()),
            };
            Ok(())
        },
    },
    Setting {
        key: "shutdown.grace",
        value: DURATION,
        default: "30s",
        doc: "How long a stop waits for requests that are open",
        alias: None,
        scope: Scope::Cluster,
        set: |config, text| duration(text).map(|grace| config.node.grace = grace),
    },
];

fn host_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.chars().all(allowed) { Ok(text.to_owned()) } else { Err(format!("{text:?} is no host name")) }
}

fn node_name(text: &str) -> Result<Option<String>, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.len() > NAME_SIZE_MAX || !text.chars().all(allowed) || !may_begin_name(text) {
        return Err(format!("must be at most {NAME_SIZE_MAX} of A-Z a-z 0-9 . - _, not beginning with -"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
