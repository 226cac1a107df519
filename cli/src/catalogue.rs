//! Every error code with what it means and what to do: `queuectl errors`, and what a test compares with the rest.

use queue_protocol::client::ClientError;
use queue_protocol::error::{Error, ErrorCode};
use serde_json::{Value, json};

use crate::errors::{Done, Failure};
use crate::exit::Exit;
use crate::render;
use crate::shell::Shell;
use crate::table::{Align, Table};

/// A code of `error[code]`.
pub(crate) struct Entry {
    pub(crate) code: &'static str,
    /// Its number in the protocol, if nodes say it.
    number: Option<u16>,
    /// How the program ends; several codes may share one.
    exit: Exit,
    meaning: &'static str,
    todo: &'static str,
}

/// Codes of the shell itself, beside those of the protocol.
const OWN: &[(&str, Exit, &str, &str)] = &[
    ("usage", Exit::Usage, "the command line is wrong", "read `queuectl help COMMAND`"),
    (
        "confirm_required",
        Exit::Usage,
        "something that cannot be undone needs consent, and there is no terminal to ask on",
        "add `--yes`, or look first with `--dry-run`",
    ),
    (
        "handler_not_found",
        Exit::Usage,
        "the handler of `work` does not exist or cannot be run; no message was leased",
        "check the path and its permissions",
    ),
    (
        "part_done",
        Exit::Part,
        "some of what was asked was done, some not",
        "the lines below the error say which and why",
    ),
    (
        "io",
        Exit::Io,
        "a file, a pipe or the terminal could not be read or written",
        "check the path, its permissions and the space",
    ),
    (
        "looks_binary",
        Exit::BadData,
        "standard input has a NUL byte and would be cut into lines",
        "use `--whole`, `--null` or `--file`",
    ),
    (
        "bad_input",
        Exit::BadData,
        "a file does not hold what the command expects",
        "the message says what is wrong",
    ),
    (
        "redirect_unreachable",
        Exit::Unreachable,
        "the leader is known but its address cannot be reached from here",
        "run `queuectl doctor`; set `advertise.address` on that node",
    ),
    (
        "unreachable",
        Exit::Unreachable,
        "no server answered",
        "check `--servers` and the network with `queuectl doctor`; `queued dev` starts a local cluster",
    ),
    (
        "protocol",
        Exit::Protocol,
        "a node answered something that does not belong to the question",
        "compare `queuectl version` with `queuectl cluster status`",
    ),
    (
        "tls",
        Exit::Denied,
        "the node is not trusted, or what says whom to trust cannot be used",
        "the message names the reason: compare `--tls-ca` or `--tls-pin` with `queued cert show`; `queuectl doctor`",
    ),
    (
        "config",
        Exit::Config,
        "the file of contexts does not parse or cannot be used",
        "the message names the file and the line; `queuectl context ls`",
    ),
    (
        "context_not_found",
        Exit::Config,
        "no context of that name",
        "`queuectl context ls` lists them, `queuectl context add` makes one",
    ),
    (
        "not_drained",
        Exit::Retry,
        "the node still leads, or leads again",
        "`queuectl cluster status`, then try again",
    ),
    (
        "receipt_unknown",
        Exit::NotFound,
        "no lease of that short number in this shell",
        "`ack` without an argument takes all that are leased here",
    ),
    ("bug", Exit::Bug, "the program did what it never should", "please report it, with `queuectl bundle`"),
    (
        "unknown_code",
        Exit::Protocol,
        "a newer node gave a code that this build does not know",
        "upgrade this program; the message of the error holds all the same",
    ),
];

/// All of them: those of the protocol by number, then the shell's own.
pub(crate) fn all() -> Vec<Entry> {
    let of_protocol = ErrorCode::ALL.iter().map(|code| {
        let (meaning, todo) = explain(*code);
        let exit = Failure::of(ClientError::Refused(Error::refused(*code, "")), None).exit;
        Entry { code: code.as_str(), number: Some(code.number()), exit, meaning, todo }
    });
    let own =
        OWN.iter().map(|&(code, exit, meaning, todo)| Entry { code, number: None, exit, meaning, todo });
    of_protocol.chain(own).collect()
}

/// Runs `errors`.
pub(crate) fn run(shell: &mut Shell, code: Option<&str>) -> Done {
    let mut entries = all();
    if let Some(code) = code {
        let bare = code.trim_start_matches("error").trim_matches(['[', ']', ':']);
        entries.retain(|entry| {
            entry.code == bare || entry.number.is_some_and(|number| number.to_string() == bare)
        });
        if entries.is_empty() {
            return Err(Failure::new("usage", Exit::Usage, format!("no error code \"{code}\""))
                .hint("`queuectl errors` lists them")
                .into());
        }
    }
    if shell.settings.json {
        let errors: Vec<Value> = entries.iter().map(document).collect();
        shell.out.document(&json!({"schema": "errors/v1", "errors": errors}));
    } else if let (Some(_), [entry]) = (code, &entries[..]) {
        shell.out.add(text(entry).as_bytes());
    } else {
        let columns = [("CODE", Align::Left), ("EXIT", Align::Right), ("MEANING", Align::Left)];
        let row =
            |entry: &Entry| vec![entry.code.to_owned(), entry.exit.code().to_string(), plain(entry.meaning)];
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        let table = Table::new(&columns, &[], shell.out.width()).page(&rows);
        shell.out.add(table.as_bytes());
        shell.remark("`queuectl errors CODE` says what to do");
    }
    Ok(Exit::Done)
}

fn text(entry: &Entry) -> String {
    let mut fields = vec![("code", entry.code.to_owned()), ("means", plain(entry.meaning))];
    fields.push(("do", entry.todo.to_owned()));
    fields.push(("exit", entry.exit.code().to_string()));
    if let Some(number) = entry.number {
        fields.push(("on the wire", number.to_string()));
    }
    render::fields(&fields)
}

/// Without the marks of a document.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn document(entry: &Entry) -> Value {
    json!({
        "code": entry.code,
        "number": entry.number,
        "exit": entry.exit.code(),
        "meaning": plain(entry.meaning),
        "do": entry.todo,
    })
}

/// What a code of the protocol means, as PROTOCOL.md says, and what to do.
fn explain(code: ErrorCode) -> (&'static str, &'static str) {
    use ErrorCode as E;
    match code {
        E::BadFrame => (
            "the bytes are not a frame or not a message of this connection's role",
            "compare the versions of the client and of the nodes; a proxy that speaks HTTP may stand between",
        ),
        E::VersionMismatch => (
            "no common protocol version",
            "upgrade the older side: `queuectl version` and `queuectl cluster status` show both",
        ),
        E::WrongCluster => (
            "the hello names another cluster",
            "check `--servers` and the context: these nodes belong to another cluster",
        ),
        E::NotPermitted => (
            "the peer did not prove the secret, or is not who it says",
            "give the node the cluster's secret file; a client needs none, and logins do not exist yet",
        ),
        E::BadRequest => (
            "a value of the request is out of its range",
            "read the message of the error: it names the value and its range",
        ),
        E::MessageTooBig => (
            "a body, batch or frame exceeds its limit",
            "make the body smaller, or raise `limits.message_size` of the nodes; send references to large files",
        ),
        E::NotLeader => (
            "this node does not lead; `retry` names who does",
            "clients follow by themselves; with --no-follow ask the node that the error names",
        ),
        E::NoLeader => (
            "there is no leader at present, or no quorum answers it",
            "wait: an election takes about a second. If it lasts, `queuectl cluster status` says which nodes are missing",
        ),
        E::QueueNotFound => (
            "no such queue; `similar` may name the one that was meant",
            "check the name with `queuectl queue ls`, or make it with `queuectl queue create`",
        ),
        E::QueueExists => (
            "the queue exists, with other settings",
            "compare with `queuectl queue info`; change it with `queuectl queue set`, or use --if-not-exists",
        ),
        E::QueueNotEmpty => {
            ("the queue holds messages", "empty it with `queuectl queue purge`, or leave out --if-empty")
        }
        E::MessageNotFound => {
            ("no such message", "it was acked, removed or expired: `queuectl message history` may tell")
        }
        E::TooOld => (
            "the number is below the session's window: its outcome is not known any more",
            "a client gave up on the request and asked again much later: look whether it was done",
        ),
        E::SessionExpired => (
            "the session was or may have been forgotten: outcomes of requests sent before are not known",
            "the client was silent for too long: it opens a new session by itself; look whether the last requests were done",
        ),
        E::SessionLimit => (
            "the session limit of the cluster is reached, and no session can give way",
            "close clients that are not needed, or use fewer of them for longer: `queuectl stats` shows the sessions",
        ),
        E::SessionFull => (
            "the session's answer buffer is full, or the number is beyond its window: raise `done_below`",
            "send fewer requests at once in one session",
        ),
        E::DiskReserve => (
            "the disk of the leader or of a voter would fall below its reserve: pushes wait, everything else goes on",
            "free space on that disk, or pop: what is popped is free within a minute",
        ),
        E::Overloaded => (
            "too much is in flight",
            "wait and try again; more often than now and then, use fewer clients or a larger `limits.memory`",
        ),
        E::ShuttingDown => ("the node is stopping", "try another node; clients do by themselves"),
        E::TimedOut => (
            "a transfer of leadership or a change of members took too long",
            "look whether it was done with `queuectl cluster status`, then try again",
        ),
        E::NotConfirmed => (
            "proposed, but leadership was lost before the outcome was known",
            "it may have been done: repeat a push with the same --dedup-key, or look",
        ),
        E::Unsupported => {
            ("understood, but not done by this version; not given at present", "upgrade the node")
        }
        E::NodeExists => (
            "a member of that name, address or number exists",
            "choose another name or address, or remove the old member: `queuectl cluster members`",
        ),
        E::NodeNotFound => ("no such member", "check the name with `queuectl cluster members`"),
        E::AddressUnreachable => (
            "the leader cannot reach the address the node advertises",
            "set `advertise.address` of the joining node to an address that the others can reach",
        ),
        E::ChangeInProgress => (
            "another change of the membership is under way",
            "wait until the change of members that is under way has ended",
        ),
        E::ContentCorrupt => (
            "a content does not match its checksum",
            "the data changed between client and disk: check memory and network of the client",
        ),
        E::QueueLimit => (
            "the queue limit of the cluster is reached",
            "remove queues that are not needed; use groups in place of one queue per customer",
        ),
        E::QueueChanged => (
            "the queue's version is not the one named",
            "look at the queue again and repeat the change with its new version",
        ),
        E::QueueFull => (
            "the queue is at its limit of messages or bytes",
            "pop, or raise max-messages and max-bytes: `queuectl queue info` shows them",
        ),
        E::DedupFull => (
            "the limit of dedup keys of the queue is reached",
            "shorten dedup-window, or wait until keys have passed it",
        ),
        E::UniqueHeld => (
            "a live message has the unique key",
            "wait for the message that holds the key, or push with `--on-held replace` or `keep`",
        ),
        E::QueuePaused => ("pushes to the queue are paused", "`queuectl queue resume QUEUE --pushes`"),
        E::DeadToCycle => (
            "the dead-letter queues would form a cycle, or a chain of more than 8",
            "choose a dead-to that does not lead back: at most 8 queues in a row",
        ),
        E::AlreadyReady => (
            "the message is ready or leased: too late to cancel it",
            "too late to cancel: delete it with `queuectl message rm`, unless it is leased",
        ),
        E::MessageLeased => {
            ("the message is leased", "wait for its consumer: `queuectl lease ls QUEUE` says who holds it")
        }
        E::GroupLimit => (
            "the limit of weighted groups of the queue is reached",
            "take back weights that are not needed: `queuectl group weight QUEUE GROUP none`",
        ),
        E::ReceiptStale => (
            "the lease has ended or was settled before",
            "the lease had ended: use a longer one (`--for`), or extend it in time",
        ),
        E::ConditionFailed => (
            "a condition of the transaction does not hold",
            "nothing was done: look at what the condition is about, then decide anew",
        ),
        E::ScheduleExists => (
            "a schedule of that name exists",
            "replace it with `queuectl schedule add --replace`, or choose another name",
        ),
        E::ScheduleNotFound => ("no such schedule", "check the name with `queuectl schedule ls`"),
        E::ScheduleLimit => (
            "the schedule limit of the cluster is reached",
            "remove schedules that are not needed: `queuectl schedule ls`",
        ),
        E::StatesDiffer => (
            "nodes came to different states and no majority agrees on one: nothing is leased",
            "find the node that is wrong with `queuectl cluster status` and the logs, and replace it",
        ),
        E::NumberReused => (
            "another request was sent under this number before, and executed; this one was not",
            "the client has a fault: a number stands for one request, and what repeats it carries the same request",
        ),
        E::SessionNotBound => {
            ("the session is not bound: bind it before attending", "bind the session before attending")
        }
        E::TlsRequired => (
            "the node speaks with nobody in the clear (`tls.mode`)",
            "add `--tls-ca FILE`, `--tls-pin`, or `--tls` with the authorities of the system",
        ),
        E::TlsOff => (
            "the node speaks no TLS (`tls.mode`)",
            "leave out `--tls`, `--tls-ca` and `--tls-pin`, or turn TLS on with `tls.mode` of the node",
        ),
        E::NodeRemoved => (
            "the node is no member any more; its number is never given again",
            "a removed node cannot come back: format a new one and add it",
        ),
        E::QuorumAtRisk => (
            "without that member no majority of those that remain would answer",
            "bring another voter back first, or replace the one that is lost: `queuectl cluster replace`",
        ),
        E::StoreRefused => (
            "the peer's data directory is another one than it had, or an older state of it",
            "the disk holds an older state: replace the node (`queued join --replace`), keep the directory",
        ),
        E::LevelUnknown => {
            ("the node does not speak the cluster's feature level", "run a newer build on that node")
        }
        E::LevelNotSpoken => (
            "not all members are known to speak that feature level",
            "upgrade all nodes, then raise the level",
        ),
        E::Other(_) => ("a newer node gave a code that this build does not know", "upgrade this program"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The codes that the source of this program gives to its failures.
    fn used(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("the source is there") {
            let path = entry.expect("the source is there").path();
            if path.is_dir() {
                used(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("the source is there");
            for part in text.split("Failure::new(").skip(1) {
                let first = part.trim_start();
                let code = first.strip_prefix('"').and_then(|rest| rest.split('"').next());
                let is_code =
                    |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                found.extend(code.filter(is_code).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_that_is_ever_shown_is_in_the_table_once_with_its_exit() {
        let all = all();
        let known: BTreeSet<&str> = all.iter().map(|entry| entry.code).collect();
        assert_eq!(known.len(), all.len(), "no code twice");
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 10, "{found:?}");
        let missing: Vec<&String> = found.iter().filter(|code| !known.contains(code.as_str())).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        assert!(ErrorCode::ALL.iter().all(|code| known.contains(code.as_str())));
        assert!(all.iter().all(|entry| !entry.meaning.is_empty() && !entry.todo.is_empty()));
    }

    #[test]
    fn meanings_are_those_of_the_document_of_the_protocol() {
        let book = include_str!("../../protocol/PROTOCOL.md");
        for code in ErrorCode::ALL {
            let begins = format!("| {} | {} |", code.number(), code.as_str());
            let row = book.lines().find(|line| line.starts_with(&begins)).expect("each has its row");
            assert!(row.contains(&format!("| {} |", explain(*code).0)), "{row}");
        }
    }
}
