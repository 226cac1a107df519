//! Every error code with what it means and what to do: `queuectl errors`, and what a test compares with the rest.

use queue_protocol::client::ClientError;
use queue_protocol::error::{Error, ErrorCode};
use serde_json::{Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

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
        "not_forgotten",
        Exit::Retry,
        "not every node was told that a member may be dialed in the clear again",
        "the lines below the error say which were not: repeat it when they answer",
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
        let exit = Failure::of(ClientError::Refused(Error::refused(*code, "")), None).exit;
        Entry {
            code: code.as_str(),
            number: Some(code.number()),
            exit,
            meaning: code.meaning(),
            todo: code.advice(),
        }
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
}
