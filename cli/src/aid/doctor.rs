//! `doctor`: what this machine can tell about itself and the way to the cluster, a line each, with what to do.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::client::{Connection, Dial, PLAIN_CHANNEL};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::CLOCK_OFF_MS_MAX;
use queue_protocol::names::SessionId;
use queue_protocol::wire::credentials::Credentials;
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::{Accepted, Hello, HelloRole};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::failure::Done;
use crate::failure::exit::Exit;
use crate::grammar::contexts::Contexts;
use crate::grammar::of_process;
use crate::nodes::{self, Nodes};
use crate::shell::{CLIENT_NAME, Shell, random};
use crate::show::clock;
use crate::show::render;

/// How long one node may take.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// File descriptors that a client with many queues and workers may need.
const DESCRIPTORS_MIN: u64 = 1_024;

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One line.
struct Finding {
    level: Level,
    about: String,
    what: String,
    todo: Option<String>,
}

fn ok(about: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, about: about.into(), what: what.into(), todo: None }
}

fn bad(level: Level, about: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Finding {
    Finding { level, about: about.into(), what: what.into(), todo: Some(todo.into()) }
}

/// Runs the command: exit 1 if something is wrong.
pub(crate) async fn run(shell: &mut Shell) -> Done {
    let findings = find(shell).await;
    let is_well = findings.iter().all(|finding| finding.level != Level::Fail);
    if shell.settings.json {
        shell.out.document(&document(&findings));
    } else {
        shell.out.add(text(&findings).as_bytes());
    }
    Ok(if is_well { Exit::Done } else { Exit::No })
}

/// The document `doctor/v1`, for a bundle.
pub(crate) async fn report(shell: &Shell) -> Value {
    document(&find(shell).await)
}

async fn find(shell: &Shell) -> Vec<Finding> {
    let mut findings = vec![config(shell), limits()];
    // As every command reaches them: over TLS and logged in, where that is asked for.
    let dial = shell.reach.secure.dial();
    let servers = join_all(shell.reach.servers.iter().map(|server| look(&*dial, server))).await;
    let accepted: Vec<&Greeted> = servers.iter().filter_map(|(_, greeted)| greeted.as_ref()).collect();
    let clocks = clocks(&accepted);
    findings.extend(servers.into_iter().map(|(finding, _)| finding));
    findings.extend(clocks);
    match nodes::gather(&shell.client, &shell.reach.servers, shell.timeout()).await {
        Ok(nodes) => findings.extend(cluster(&nodes)),
        Err(failure) => findings.push(bad(
            Level::Fail,
            "cluster",
            failure.message,
            "start the nodes, or name others with --servers or a context",
        )),
    }
    findings
}

fn config(shell: &Shell) -> Finding {
    let count = shell.reach.servers.len();
    let servers = if count == 1 { "1 server".to_owned() } else { format!("{count} servers") };
    let from = &shell.reach.origin;
    match Contexts::load(&of_process) {
        Err(failure) => bad(Level::Fail, "config", failure.message, "repair the file, or remove it"),
        Ok(contexts) if contexts.is_open_to_others() => {
            let path = contexts.path().map_or_else(String::new, |path| path.display().to_string());
            bad(Level::Warning, "config", format!("others can read {path}"), format!("chmod 600 {path}"))
        }
        Ok(_) => ok("config", format!("{servers} from {from}")),
    }
}

fn limits() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    match limit.current {
        Some(current) if current < DESCRIPTORS_MIN => bad(
            Level::Warning,
            "limits",
            format!("a process may open {current} files"),
            format!("ulimit -n {DESCRIPTORS_MIN}, if many clients or workers are to run here"),
        ),
        Some(current) => ok("limits", format!("a process may open {} files", render::count(current))),
        None => ok("limits", "a process may open any number of files"),
    }
}

/// A node that accepted, and when.
struct Greeted {
    accepted: Accepted,
    /// Over TLS.
    is_secured: bool,
    /// This machine's clock in the middle of the way there and back.
    here_ms: u64,
    took: Duration,
}

/// One server: its name, its addresses, whether something listens there and speaks the protocol.
async fn look(dial: &dyn Dial, server: &str) -> (Finding, Option<Greeted>) {
    let addresses: Vec<SocketAddr> = match timeout(NODE_TIMEOUT, tokio::net::lookup_host(server)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if addresses.is_empty() {
        let todo = "check the name: `getent hosts` and /etc/resolv.conf";
        return (bad(Level::Fail, server, "the name cannot be resolved", todo), None);
    }
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let shown = shown.join(", ");
    match timeout(NODE_TIMEOUT, greet(dial, server)).await {
        Ok(Ok(greeted)) => {
            let Accepted { name, version, .. } = &greeted.accepted;
            let over = if greeted.is_secured { ", TLS" } else { "" };
            let took = render::took(greeted.took);
            (ok(server, format!("{name} at {shown}, protocol {version}{over}, {took}")), Some(greeted))
        }
        Ok(Err(Ungreeted { what, todo })) => {
            (bad(Level::Fail, server, format!("{shown}: {what}"), todo), None)
        }
        Err(_) => {
            let what = format!("{shown}: no answer within {}", humantime::format_duration(NODE_TIMEOUT));
            (bad(Level::Fail, server, what, "a firewall may drop packets, or the machine is down"), None)
        }
    }
}

/// Why a node did not accept, and what to do.
struct Ungreeted {
    what: String,
    todo: &'static str,
}

impl Ungreeted {
    fn refused(error: &Error) -> Self {
        let todo = match error.code {
            ErrorCode::TlsRequired => {
                "add `--tls`, `--tls-ca` or `--tls-pin`, or choose a context that has them"
            }
            ErrorCode::TlsOff => "that node speaks no TLS: set `tls.mode` on it, or ask without --tls",
            ErrorCode::AuthRequired => "add `--token-file`, or choose a context that logs in",
            ErrorCode::AuthFailed | ErrorCode::KeyEnded => "`queuectl key add` makes another key",
            _ => "check the version and the port: something else may listen there",
        };
        Self { what: error.message.to_string(), todo }
    }
}

impl From<std::io::Error> for Ungreeted {
    fn from(error: std::io::Error) -> Self {
        #[cfg(feature = "tls")]
        {
            use queue_protocol::client::tls::{PlainRefusal, Untrusted};
            if let Some(refusal) = PlainRefusal::of(&error) {
                return Self::refused(refusal);
            }
            if let Some(why) = Untrusted::of(&error) {
                let todo = "`queuectl context` says which authority is trusted: is it that of this cluster?";
                return Self { what: why.to_string(), todo };
            }
        }
        let todo = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "is `queued` running there, and is the port right?",
            _ => "check the version and the port: something else may listen there",
        };
        Self { what: error.to_string(), todo }
    }
}

async fn greet(dial: &dyn Dial, server: &str) -> Result<Greeted, Ungreeted> {
    let unusable = |what| Ungreeted { what, todo: "repair the file of the token, or name another" };
    let token = dial.token().map_err(unusable)?;
    let stream = dial.dial(server).await?;
    let is_secured = stream.end_point() != PLAIN_CHANNEL;
    let role = HelloRole::Client { session: SessionId(u128::from_le_bytes(random())) };
    let said = token.iter().fold(Credentials::of(CLIENT_NAME), |said, token| said.with(token.id));
    let hello = Hello::new(None, role, 0, random()).with(&said);
    let began = Instant::now();
    let connection =
        Connection::open_as(stream, hello, token.as_ref()).await.map_err(|error| match error {
            HandshakeError::Refused(error) | HandshakeError::Rejected(error) => Ungreeted::refused(&error),
            HandshakeError::Io(error) => error.into(),
            other => std::io::Error::other(other.to_string()).into(),
        })?;
    let took = began.elapsed();
    let half = u64::try_from(took.as_millis() / 2).unwrap_or(0);
    let here_ms = clock::unix_ms_in(Duration::ZERO).saturating_sub(half);
    Ok(Greeted { accepted: connection.accepted().clone(), is_secured, here_ms, took })
}

/// How far this machine's clock is from those of the nodes.
fn clocks(greeted: &[&Greeted]) -> Option<Finding> {
    let off = greeted.iter().map(|node| (node.here_ms.abs_diff(node.accepted.wall_ms), &*node.accepted.name));
    let (most, name) = off.max()?;
    let shown = render::took(Duration::from_millis(most));
    Some(if most > CLOCK_OFF_MS_MAX {
        let what = format!("this machine and {name} differ by {shown}");
        bad(
            Level::Warning,
            "clock",
            what,
            "set the clock that is wrong: `timedatectl`, chrony or ntpd; --not-before goes by the cluster's",
        )
    } else {
        ok("clock", format!("within {shown} of the nodes"))
    })
}

/// Members at the addresses that they advertise, their versions and clocks, and whether writes work.
fn cluster(nodes: &Nodes) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own = env!("CARGO_PKG_VERSION");
    let mut versions = Vec::new();
    for node in nodes.iter() {
        match &node.status {
            Ok((status, _)) => versions.push((status.name.to_string(), status.version.to_string())),
            Err(why) => findings.push(bad(
                Level::Fail,
                node.name(),
                format!("advertises {}, which does not answer from here: {why}", node.address),
                format!(
                    "start it, or set `advertise.address` on it: a redirect to {} would fail",
                    node.name()
                ),
            )),
        }
    }
    let differ: Vec<String> = versions
        .iter()
        .filter(|(_, version)| version != own)
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    findings.push(if differ.is_empty() {
        ok("versions", format!("queuectl and {} nodes are {own}", versions.len()))
    } else {
        let what = format!("queuectl is {own}, {}", differ.join(", "));
        bad(Level::Warning, "versions", what, "run one version once an upgrade is over")
    });
    for line in nodes.clocks() {
        let todo = "set the clock of that node: `timedatectl`, chrony or ntpd";
        findings.push(bad(Level::Warning, "clock", line, todo));
    }
    for line in nodes.warnings() {
        findings.push(bad(Level::Warning, "limits", line, "raise LimitNOFILE of its service, or ulimit -n"));
    }
    for line in nodes.log_choices() {
        let todo = "it goes back by itself; `queuectl cluster log NODE settings` does so at once";
        findings.push(bad(Level::Warning, "log", line, todo));
    }
    let judged = nodes.judge();
    findings.push(if judged.is_writable() {
        ok("cluster", nodes.summary())
    } else {
        bad(Level::Fail, "cluster", judged.verdict(), "`queuectl cluster status` says what is missing")
    });
    findings
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { level, about, what, todo } in findings {
        text.push_str(&format!(
            "{:<4}  {about:<width$}  {}\n",
            level.name(),
            render::preview(what.as_bytes(), 400)
        ));
        if let Some(todo) = todo {
            text.push_str(&format!("{:<4}  {:<width$}  → {todo}\n", "", ""));
        }
    }
    text
}

fn document(findings: &[Finding]) -> Value {
    let check = |finding: &Finding| {
        json!({
            "name": finding.about,
            "status": finding.level.name().to_lowercase(),
            "what": finding.what,
            "do": finding.todo,
        })
    };
    json!({
        "schema": "doctor/v1",
        "healthy": findings.iter().all(|finding| finding.level != Level::Fail),
        "checks": findings.iter().map(check).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_what_is_wrong_says_what_to_do() {
        let nodes = crate::nodes::tests::one_down();
        let findings = cluster(&nodes);
        let text = text(&findings);
        assert!(text.contains("FAIL  n3") && text.contains("→ start it"), "{text}");
        assert!(findings.iter().all(|finding| (finding.level == Level::Ok) == finding.todo.is_none()));
        assert_eq!(document(&findings)["healthy"], false);
    }
}
