//! `audit`: the journal of administrative changes, and whether a node's copy of it was edited.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use queue_protocol::client::{Answered, ClientError};
use queue_protocol::names::QueueName;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::audit::{Actor, Audit, AuditList, AuditRecord};
use queue_protocol::wire::auth::PrincipalName;
use queue_protocol::wire::request::Consistency;
use queue_protocol::wire::requests::ask;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::failure::exit::Exit;
use crate::failure::{Done, End};
use crate::grammar::{AuditArgs, AuditCmd};
use crate::nodes::cluster::gather;
use crate::nodes::reason;
use crate::shell::Shell;
use crate::show::clock;
use crate::show::table::{Align, Table};

/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is asked for, from the beginning.
fn all(by: Option<PrincipalName>, queue: Option<QueueName>, consistency: Consistency) -> Audit {
    Audit { after: 0, since_ms: 0, by, queue, consistency }
}

/// Runs `audit`.
pub(crate) async fn run(shell: &mut Shell, args: AuditArgs) -> Done {
    let AuditArgs { cmd, since, by, queue, follow } = args;
    if let Some(AuditCmd::Verify) = cmd {
        return verify(shell).await;
    }
    let now_ms = clock::unix_ms_in(Duration::ZERO);
    let since_ms = since.map_or(0, |since| now_ms.saturating_sub(milliseconds(since)));
    let mut asked = Audit { since_ms, ..all(by, queue, Consistency::Linearizable) };
    let mut told = 0;
    loop {
        let list = *shell.ask(ask::Audit(asked.clone()), None).await?;
        if list.cut > 0 && asked.after == 0 {
            let text = format!("{} records were forgotten for want of room before their time", list.cut);
            shell.remark(&text);
        }
        told += list.records.len();
        show(shell, &list.records);
        let is_all = list.upto >= list.last;
        asked.after = asked.after.max(list.upto);
        if !is_all {
            continue;
        }
        if !follow {
            break;
        }
        shell.out.flush().await?;
        let mut stop = shell.stop.clone();
        tokio::select! {
            exit = stop.wait() => return Err(End::Quiet(exit)),
            () = sleep(LOOK_EVERY) => {}
        }
    }
    if told == 0 && !shell.settings.json {
        shell.remark("no records");
    }
    Ok(Exit::Done)
}

fn show(shell: &mut Shell, records: &[AuditRecord]) {
    if shell.settings.json {
        records.iter().for_each(|record| shell.out.document(&document(record)));
        return;
    }
    if records.is_empty() {
        return;
    }
    let columns = [
        ("NO", Align::Right),
        ("TIME", Align::Left),
        ("WHO", Align::Left),
        ("FROM", Align::Left),
        ("WHAT", Align::Left),
        ("TO", Align::Left),
        ("HOW", Align::Left),
        ("BECAUSE", Align::Left),
    ];
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    let table = Table::new(&columns, &["HOW", "FROM"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
}

fn who(actor: &Actor) -> String {
    match actor {
        Actor::Nodes => "the nodes".to_owned(),
        Actor::Anybody => "not logged in".to_owned(),
        Actor::Secret => "the secret".to_owned(),
        Actor::Principal { name, .. } => name.to_string(),
    }
}

fn source(from: Option<[u8; 16]>) -> Option<String> {
    let address = Ipv6Addr::from(from?);
    Some(match address.to_ipv4_mapped() {
        Some(address) => address.to_string(),
        None => format!("{address}/64"),
    })
}

fn row(record: &AuditRecord) -> Vec<String> {
    let to =
        [record.queue.as_ref().map(ToString::to_string), record.subject.as_ref().map(ToString::to_string)];
    let to: Vec<String> = to.into_iter().flatten().collect();
    vec![
        record.number.to_string(),
        clock::rfc3339(record.at_ms),
        who(&record.actor),
        source(record.source).unwrap_or_else(|| "-".to_owned()),
        record.act.to_string(),
        if to.is_empty() { "-".to_owned() } else { to.join(" ") },
        record.detail.to_string(),
        record.because.to_string(),
    ]
}

fn document(record: &AuditRecord) -> Value {
    let (kind, name, key) = match &record.actor {
        Actor::Nodes => ("nodes", None, None),
        Actor::Anybody => ("anybody", None, None),
        Actor::Secret => ("secret", None, None),
        Actor::Principal { name, key } => ("principal", Some(name.to_string()), Some(key.to_string())),
    };
    json!({
        "schema": "audit/v1",
        "number": record.number,
        "index": record.index.to_string(),
        "at": clock::rfc3339(record.at_ms),
        "actor": kind,
        "principal": name,
        "key": key,
        "from": source(record.source),
        "act": &*record.act,
        "queue": record.queue.as_ref().map(ToString::to_string),
        "subject": record.subject.as_ref().map(ToString::to_string),
        "detail": &*record.detail,
        "because": &*record.because,
        "hash": hex(&record.hash),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node's copy of the journal.
#[derive(Default)]
struct Copy {
    hashes: BTreeMap<u64, [u8; 32]>,
    /// The first record that does not follow the one before.
    edited: Option<u64>,
}

impl Copy {
    /// Takes the next part; more is to be had if this is true.
    fn take(&mut self, list: &AuditList) -> bool {
        let mut before = match self.hashes.last_key_value() {
            Some((number, hash)) => (*number, *hash),
            None => (list.first - 1, list.before),
        };
        for record in list.records.iter() {
            if !record.follows(before.0, &before.1) {
                self.edited = self.edited.or(Some(record.number));
            }
            before = (record.number, record.hash);
            self.hashes.insert(record.number, record.hash);
        }
        list.upto < list.last && !list.records.is_empty()
    }
}

/// The first number at which a copy differs from what most of the others have.
fn differs(copy: &Copy, all: &[&Copy]) -> Option<u64> {
    let is_alone = |(number, hash): &(&u64, &[u8; 32])| {
        let others: Vec<_> = all.iter().filter_map(|other| other.hashes.get(number)).collect();
        let same = others.iter().filter(|other| **other == *hash).count();
        // One of two that differ cannot be told from the other: both are named.
        others.len() - same >= same
    };
    copy.hashes.iter().find(is_alone).map(|(number, _)| *number)
}

async fn verify(shell: &mut Shell) -> Done {
    let nodes = gather(shell).await?;
    let mut copies = Vec::new();
    for member in nodes.members() {
        let mut copy = Copy::default();
        let mut asked = all(None, None, Consistency::Stale);
        let read = loop {
            let answered: Result<Answered<_>, ClientError> =
                shell.client.ask_node(&member.address, ask::Audit(asked.clone())).await;
            match answered {
                Ok(answered) => {
                    let list = *answered.answer;
                    asked.after = list.upto;
                    if !copy.take(&list) {
                        break Ok(copy);
                    }
                }
                Err(error) => break Err(reason(&member.address, &error)),
            }
        };
        copies.push((member.name.to_string(), read));
    }
    let read: Vec<&Copy> = copies.iter().filter_map(|(_, copy)| copy.as_ref().ok()).collect();
    let mut rows = Vec::new();
    let (mut edited, mut unread) = (false, false);
    for (node, copy) in &copies {
        let (count, broken, error) = match copy {
            Ok(copy) => (copy.hashes.len(), copy.edited.or_else(|| differs(copy, &read)), None),
            Err(why) => (0, None, Some(why.clone())),
        };
        edited |= broken.is_some();
        unread |= error.is_some();
        rows.push((node, count, broken, error));
    }
    if shell.settings.json {
        let nodes: Vec<Value> = rows
            .iter()
            .map(|(node, records, edited, error)| {
                json!({"node": node, "records": records, "edited": edited, "error": error})
            })
            .collect();
        shell.out.document(&json!({"schema": "audit_verify/v1", "sound": !edited, "nodes": nodes}));
    } else {
        for (node, records, edited, error) in &rows {
            let said = match (error, edited) {
                (Some(why), _) => format!("{node}: not read: {why}"),
                (None, Some(number)) => format!("{node}: record {number} was edited, or one before it"),
                (None, None) => format!("{node}: {records} records, each follows the one before"),
            };
            shell.out.add(format!("{said}\n").as_bytes());
        }
    }
    Ok(match (edited, unread) {
        (true, _) => Exit::No,
        (false, true) => Exit::Part,
        (false, false) => Exit::Done,
    })
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::{Bounded, Text};

    use super::*;

    fn journal(details: &[&str]) -> Vec<AuditRecord> {
        let mut before = [0; 32];
        let chained = (1..).zip(details).map(|(number, detail)| {
            let record = AuditRecord {
                number,
                index: number,
                at_ms: number,
                actor: Actor::Nodes,
                source: None,
                act: Text::cut("set_wall"),
                queue: None,
                subject: None,
                detail: Text::cut(*detail),
                because: Text::default(),
                hash: [0; 32],
            };
            before = record.hash_behind(&before);
            AuditRecord { hash: before, ..record }
        });
        chained.collect()
    }

    fn copy(records: Vec<AuditRecord>) -> Copy {
        let last = records.len() as u64;
        let records = Bounded::new(records).expect("few");
        let mut copy = Copy::default();
        copy.take(&AuditList { records, upto: last, last, first: 1, before: [0; 32], cut: 0 });
        copy
    }

    #[test]
    fn the_first_edited_record_is_named() {
        let whole = journal(&["a", "b", "c", "d"]);
        assert_eq!(copy(whole.clone()).edited, None);
        let mut edited = whole.clone();
        edited[2].detail = Text::cut("x");
        assert_eq!(copy(edited).edited, Some(3));
        let mut without = whole.clone();
        without.remove(1);
        assert_eq!(copy(without).edited, Some(3), "the second is gone");
        let mut headless = whole;
        headless.remove(0);
        assert_eq!(copy(headless).edited, Some(2));
    }

    #[test]
    fn a_copy_that_was_made_anew_as_a_whole_contradicts_the_others() {
        let (whole, again) = (copy(journal(&["a", "b", "c"])), copy(journal(&["a", "x", "c"])));
        let shorter = copy(journal(&["a", "b"]));
        assert_eq!(again.edited, None, "by itself it is sound");
        let all = [&whole, &again, &shorter];
        assert_eq!(differs(&again, &all), Some(2));
        assert_eq!(differs(&shorter, &all), None);
    }
}
