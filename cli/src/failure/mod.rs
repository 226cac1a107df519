//! What a person or a script is told when something did not happen: code, facts, hint, exit code.
//!
//! ```text
//! error[queue_not_found]: no queue named "jbos"
//!   hint: did you mean "jobs"?
//! ```

pub(crate) mod exit;

use queue_protocol::client::ClientError;
use queue_protocol::error::{Applied, Error, ErrorCode, Retry};
use queue_protocol::names::QueueName;
use serde_json::{Map, Value, json};

use crate::failure::exit::Exit;
use crate::show::render;

/// Why a command came to an end before its own.
#[derive(Debug)]
pub(crate) enum End {
    /// With this code and nothing more to say.
    Quiet(Exit),
    /// With an error.
    Failed(Box<Failure>),
}

/// What a command comes to.
pub(crate) type Done = Result<Exit, End>;

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(Box::new(failure))
    }
}

impl End {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            End::Quiet(exit) => *exit,
            End::Failed(failure) => failure.exit,
        }
    }
}

/// An error as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// Code for people and scripts.
    pub(crate) code: &'static str,
    /// Exit code.
    pub(crate) exit: Exit,
    /// What happened; lower case, no full stop.
    pub(crate) message: String,
    /// What else is known, a line each.
    pub(crate) facts: Vec<String>,
    /// What to do, with a command that can be pasted.
    pub(crate) hints: Vec<String>,
    /// The same call may succeed later.
    pub(crate) retryable: bool,
    /// Whether anything was changed.
    pub(crate) applied: Applied,
    /// For scripts.
    pub(crate) details: Vec<(String, Value)>,
}

impl Failure {
    /// An error that changed nothing and says nothing but its message.
    pub(crate) fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            message: message.into(),
            facts: Vec::new(),
            hints: Vec::new(),
            retryable: exit == Exit::Retry,
            applied: if exit == Exit::Unknown { Applied::Unknown } else { Applied::No },
            details: Vec::new(),
        }
    }

    /// Called wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", Exit::Usage, message)
    }

    /// Something local could not be read or written.
    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new("io", Exit::Io, message)
    }

    /// Adds a fact.
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a detail for scripts.
    pub(crate) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.push((name.to_owned(), value.into()));
        self
    }

    /// What a node, or the way to it, gave as the reason. `queue` is what the command was about.
    pub(crate) fn of(error: ClientError, queue: Option<&QueueName>) -> Self {
        match error {
            ClientError::Refused(error) | ClientError::Incompatible(error) => Self::of_error(error, queue),
            ClientError::Unavailable { what, leader: Some(leader), .. } => {
                Self::new("redirect_unreachable", Exit::Unreachable, what)
                    .fact(format!("the leader is {} at {}", leader.name, leader.address))
                    .hint("check the network between here and the leader, and the address it advertises")
                    .detail("leader", leader.name.to_string())
            }
            ClientError::Unavailable { what, reached: true, leader: None } => {
                Self::new("no_leader", Exit::Retry, what)
                    .fact("nothing was changed")
                    .hint("`queuectl cluster status`")
            }
            ClientError::Unavailable { what, reached: false, leader: None } => {
                Self { retryable: true, ..Self::new("unreachable", Exit::Unreachable, what) }
                    .hint("is it running? `queued dev` starts a local cluster")
            }
            ClientError::Untrusted { what } => Self::new("tls", Exit::Denied, what).hint(
                "`--tls-ca FILE` names the authorities that are trusted, `--tls-pin sha256:…` one key: `queued cert show FILE` \
                 prints it",
            ),
            ClientError::Unknown { what } => {
                Self::new("not_confirmed", Exit::Unknown, what).fact("it may or may not have been done")
            }
        }
    }

    /// The error of a node. Every code has its line in the `match`.
    fn of_error(error: Error, queue: Option<&QueueName>) -> Self {
        use ErrorCode as E;
        let name = queue.map_or("QUEUE", QueueName::as_str);
        let (exit, hint) = match error.code {
            E::BadFrame | E::VersionMismatch | E::Unsupported => (
                Exit::Protocol,
                Some("compare `queuectl version` with the version in `queuectl cluster status`".into()),
            ),
            E::WrongCluster => {
                (Exit::Config, Some("check `--servers`: they belong to another cluster".into()))
            }
            E::NotPermitted => (Exit::Denied, None),
            E::AuthRequired => (Exit::Denied, Some("a token: `--token-file FILE`, QUEUECTL_TOKEN_FILE or QUEUECTL_TOKEN".into())),
            E::AuthFailed | E::KeyEnded => (Exit::Denied, Some("which keys there are: `queuectl key ls`".into())),
            E::Denied => (Exit::Denied, Some("what may be done: `queuectl whoami`".into())),
            E::PrincipalExists => (Exit::Conflict, Some("`queuectl principal ls`".into())),
            E::PrincipalNotFound => (Exit::NotFound, Some("`queuectl principal ls`".into())),
            E::KeyNotFound => (Exit::NotFound, Some("`queuectl key ls`".into())),
            E::AuthLimit => (Exit::Conflict, Some("`queuectl principal ls`, `queuectl key ls`".into())),
            E::AuthChanged => (Exit::Retry, None),
            E::LastAdmin => (Exit::Conflict, Some("another key with `auth` first: `queuectl key add NAME`; or --force".into())),
            E::TlsRequired => (Exit::Denied, Some("`--tls-ca FILE`, `--tls-pin sha256:…`, or `--tls` with the system's authorities".into())),
            E::TlsOff => (Exit::Denied, Some("without --tls, --tls-ca and --tls-pin it is asked in the clear; `tls.mode` of the node turns TLS on".into())),
            E::BadRequest | E::MessageTooBig | E::ContentCorrupt => (Exit::BadData, None),
            E::NotLeader | E::ChangeInProgress | E::NoLeader => {
                (Exit::Retry, Some("`queuectl cluster status`".into()))
            }
            E::QueueNotFound => (Exit::NotFound, Some(format!("create it: `queuectl queue create {name}`"))),
            E::QueueExists => (Exit::Conflict, Some(format!("compare with `queuectl queue info {name}`"))),
            E::QueueNotEmpty => {
                (Exit::Conflict, Some(format!("see what is in it: `queuectl queue info {name}`")))
            }
            E::MessageNotFound => (Exit::NotFound, Some(format!("`queuectl peek {name}`"))),
            E::NodeNotFound => (Exit::NotFound, Some("`queuectl cluster members`".into())),
            E::NodeExists => (Exit::Conflict, Some("`queuectl cluster members`".into())),
            E::AddressUnreachable => (Exit::Unreachable, None),
            E::NodeRemoved | E::StoreRefused => (Exit::NotFound, Some("`queuectl cluster members`".into())),
            E::QuorumAtRisk => (
                Exit::Conflict,
                Some("bring one back, or replace it: `queuectl cluster replace`; --force if it is lost for good".into()),
            ),
            E::LevelUnknown => (Exit::Protocol, Some("`queuectl cluster status`".into())),
            E::LevelNotSpoken => (Exit::Conflict, Some("`queuectl cluster status`".into())),
            E::DiskReserve => (
                Exit::Retry,
                Some("free space on that disk, or pop: what is popped is free within a minute".into()),
            ),
            E::QueueChanged => {
                (Exit::Conflict, Some(format!("look at it again: `queuectl queue info {name}`")))
            }
            E::QueueFull | E::DedupFull => {
                (Exit::Retry, Some(format!("pop, or see its limits: `queuectl queue info {name}`")))
            }
            E::QueuePaused => (Exit::Retry, None),
            E::UniqueHeld
            | E::AlreadyReady
            | E::MessageLeased
            | E::DeadToCycle
            | E::ConditionFailed => (Exit::Conflict, None),
            E::ReceiptStale => (Exit::NotFound, None),
            E::SessionNotBound => (Exit::Conflict, None),
            E::NumberReused => (Exit::Protocol, None),
            E::ScheduleExists => (Exit::Conflict, Some("replace it: `queuectl schedule add --replace`".into())),
            E::ScheduleNotFound => (Exit::NotFound, Some("`queuectl schedule ls`".into())),
            E::StatesDiffer => (Exit::Retry, Some("which node is wrong: `queuectl cluster status`, and the nodes' logs".into())),
            E::ScheduleLimit => (Exit::Retry, Some("remove one: `queuectl schedule ls`".into())),
            E::GroupLimit => {
                (Exit::Retry, Some(format!("take one back: `queuectl group weight {name} GROUP none`")))
            }
            E::QueueLimit => (Exit::Retry, Some("remove one that is not needed: `queuectl queue ls`".into())),
            E::SessionLimit | E::SessionFull | E::Overloaded | E::ShuttingDown | E::TimedOut => {
                (Exit::Retry, None)
            }
            E::TooOld | E::SessionExpired | E::NotConfirmed => (Exit::Unknown, None),
            E::Other(_) if error.retry != Retry::Never => (Exit::Retry, None),
            E::Other(_) => (
                Exit::Protocol,
                Some("the node is newer: compare `queuectl version` with `queuectl cluster status`".into()),
            ),
        };
        let unknown = error.applied == Applied::Unknown || exit == Exit::Unknown;
        let exit = if unknown { Exit::Unknown } else { exit };
        let mut failure = Self::new(error.code.as_str(), exit, error.message.to_string());
        failure.retryable = !unknown && !matches!(error.retry, Retry::Never);
        match exit {
            Exit::Unknown => failure.facts.push("it may or may not have been done".into()),
            Exit::Retry => failure.facts.push("nothing was changed".into()),
            _ => {}
        }
        if let Some(queue) = queue {
            failure = failure.detail("queue", queue.as_str());
        }
        if let Some(similar) = error.similar {
            failure = failure
                .hint(format!("did you mean \"{similar}\"?"))
                .detail("similar", json!([similar.as_str()]));
        }
        failure.hints.extend(hint);
        failure
    }

    /// The text for people: the first line, facts, hints, each line ended. `typed` is the program's name to be
    /// left out of commands where the reader is in the shell already.
    pub(crate) fn text(&self, color: bool, in_shell: bool) -> String {
        let (red, bold, reset) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        // Keys, groups and errors of messages may stand in it.
        let plain = |text: &str| String::from_utf8_lossy(&render::for_terminal(text.as_bytes())).into_owned();
        let mut text = format!("{red}error[{}]{reset}{bold}:{reset} {}", self.code, plain(&self.message));
        for fact in &self.facts {
            text.push_str(&format!("\n  {}", plain(fact)));
        }
        for hint in &self.hints {
            let hint = if in_shell { hint.replace("queuectl ", "") } else { hint.clone() };
            text.push_str(&format!("\n  hint: {}", plain(&hint)));
        }
        text
    }

    /// The document for scripts.
    pub(crate) fn document(&self) -> Value {
        let details: Map<String, Value> = self.details.iter().cloned().collect();
        json!({
            "schema": "error/v1",
            "code": self.code,
            "message": self.message,
            "facts": self.facts,
            "hint": if self.hints.is_empty() { Value::Null } else { self.hints.join("; ").into() },
            "retryable": self.retryable,
            "applied": if self.applied == Applied::No { "no" } else { "unknown" },
            "exit": self.exit.code(),
            "details": details,
        })
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn jobs() -> QueueName {
        "jobs".parse().unwrap()
    }

    #[test]
    fn an_unknown_queue_names_the_similar_one_and_how_to_make_it() {
        let mut error = Error::refused(ErrorCode::QueueNotFound, "no queue named \"jbos\"");
        error.similar = Some(jobs());
        let jbos: QueueName = "jbos".parse().unwrap();
        let failure = Failure::of(ClientError::Refused(error), Some(&jbos));
        assert_eq!(
            failure.text(false, false),
            "error[queue_not_found]: no queue named \"jbos\"\n  hint: did you mean \"jobs\"?\n  \
             hint: create it: `queuectl queue create jbos`"
        );
        assert!(failure.text(false, true).ends_with("create it: `queue create jbos`"));
        assert_eq!(
            failure.document().to_string(),
            r#"{"schema":"error/v1","code":"queue_not_found","message":"no queue named \"jbos\"","facts":[],"#
                .to_owned()
                + r#""hint":"did you mean \"jobs\"?; create it: `queuectl queue create jbos`","retryable":false,"#
                + r#""applied":"no","exit":66,"details":{"queue":"jbos","similar":["jobs"]}}"#
        );
    }

    #[test]
    fn every_code_of_the_protocol_has_the_exit_code_of_the_manual() {
        let shown: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|code| {
                let failure = Failure::of(ClientError::Refused(Error::refused(*code, "why")), Some(&jobs()));
                format!("{} {}", failure.code, failure.exit.code())
            })
            .collect();
        let expected = [
            "bad_frame 76",
            "version_mismatch 76",
            "wrong_cluster 78",
            "not_permitted 77",
            "bad_request 65",
            "message_too_big 65",
            "not_leader 75",
            "no_leader 75",
            "queue_not_found 66",
            "queue_exists 73",
            "queue_not_empty 73",
            "message_not_found 66",
            "too_old 79",
            "session_expired 79",
            "session_limit 75",
            "session_full 75",
            "disk_reserve 75",
            "overloaded 75",
            "shutting_down 75",
            "timed_out 75",
            "not_confirmed 79",
            "unsupported 76",
            "node_exists 73",
            "node_not_found 66",
            "address_unreachable 69",
            "change_in_progress 75",
            "content_corrupt 65",
            "queue_limit 75",
            "queue_changed 73",
            "queue_full 75",
            "dedup_full 75",
            "unique_held 73",
            "queue_paused 75",
            "dead_to_cycle 73",
            "already_ready 73",
            "message_leased 73",
            "group_limit 75",
            "receipt_stale 66",
            "condition_failed 73",
            "schedule_exists 73",
            "schedule_not_found 66",
            "schedule_limit 75",
            "states_differ 75",
            "session_not_bound 73",
            "number_reused 76",
            "auth_required 77",
            "auth_failed 77",
            "denied 77",
            "key_ended 77",
            "principal_exists 73",
            "principal_not_found 66",
            "key_not_found 66",
            "tls_required 77",
            "tls_off 77",
            "auth_limit 73",
            "auth_changed 75",
            "last_admin 73",
            "node_removed 66",
            "quorum_at_risk 73",
            "store_refused 66",
            "level_unknown 76",
            "level_not_spoken 73",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_may_have_been_done_is_never_called_retryable() {
        for code in ErrorCode::ALL {
            let failure = Failure::of(ClientError::Refused(Error::unknown(*code, "why")), None);
            assert_eq!((failure.exit, failure.retryable), (Exit::Unknown, false), "{code:?}");
            assert_eq!(failure.document()["applied"], "unknown");
        }
    }

    #[test]
    fn not_reaching_anybody_is_told_from_having_no_leader() {
        let unavailable = |reached, leader| ClientError::Unavailable { what: "why".into(), reached, leader };
        let leader = queue_protocol::wire::response::LeaderView {
            node: queue_protocol::names::NodeId(1),
            name: Text::cut("n1"),
            address: Text::cut("172.18.0.2:7410"),
            term: 7,
        };
        let codes: Vec<_> =
            [unavailable(false, None), unavailable(true, None), unavailable(true, Some(leader))]
                .into_iter()
                .map(|error| Failure::of(error, None))
                .map(|failure| (failure.code, failure.exit.code()))
                .collect();
        assert_eq!(codes, [("unreachable", 69), ("no_leader", 75), ("redirect_unreachable", 69)]);
        let unknown =
            Failure::of(ClientError::Unknown { what: "sent to n1, which then failed".into() }, None);
        assert_eq!(
            unknown.text(false, false),
            "error[not_confirmed]: sent to n1, which then failed\n  it may or may not have been done"
        );
    }
}
