//! `queued store`: what is in a data directory, read while no node uses it. Only `recover` changes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use queue_protocol::wire::peer::LogId;
use serde_json::json;

use super::failure::Failure;
use super::recover::{self, RecoverArgs};
use super::{machine, print};
use crate::fs::os::OsDisk;
use crate::fs::{Disk, DiskError};
use crate::log::{self, Dumped, Finding, Report, Then};
use crate::node::identity::{Found, Identity};
use crate::node::{self, Checked, LOCK_FILE, LOG_DIR, NodeError, log_seed};
use crate::outside::ExitStatus;
use crate::raft::node::overrides::{self, Override};

/// `store …`
#[derive(Subcommand, Debug)]
pub(super) enum StoreCommand {
    /// Read and check every record, and name every damage: exit 65 if there is one
    Verify(VerifyArgs),
    /// Print a line for every record of the log
    Dump(StoreArgs),
    /// Make it the only node of a new cluster, when a majority of the members is lost for good
    Recover(RecoverArgs),
    /// Say where a member is, when so many nodes have new addresses that they do not find each other; in the data directory of
    /// each node that does not find it. It holds until the cluster agrees on an address
    SetAddress(SetAddressArgs),
}

/// `store verify`
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Print only how far the log goes, to find the survivor that has most: the highest term, then the highest index
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// `store set-address`
#[derive(Args, Debug)]
pub(super) struct SetAddressArgs {
    /// The data directory of a node that is stopped
    dir: PathBuf,
    /// Name or number of the member that is somewhere else
    node: String,
    /// Where it is; `none` takes back what was said
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    address: String,
}

fn address(text: &str) -> Result<String, String> {
    match queue_protocol::values::server(text) {
        _ if text == NO_ADDRESS => Ok(text.to_owned()),
        Ok(address) if address.len() <= 256 => Ok(address),
        Ok(_) => Err("longer than 256 bytes".to_owned()),
        Err(why) => Err(format!("{why}, or none")),
    }
}

/// Takes an address back.
const NO_ADDRESS: &str = "none";

/// `store verify`, `store dump`
#[derive(Args, Debug)]
pub(super) struct StoreArgs {
    /// The data directory of a node
    dir: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs it; the exit status.
pub(super) fn run(command: &StoreCommand) -> Result<i32, Failure> {
    let (args, last) = match command {
        StoreCommand::Recover(args) => return recover::run(args).map(|()| 0),
        StoreCommand::SetAddress(args) => return set_address(&OsDisk, args).map(|()| 0),
        StoreCommand::Verify(args) => (&args.store, args.last),
        StoreCommand::Dump(args) => (args, false),
    };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let _lock = lock(&*disk, &args.dir).map_err(NodeError::from)??;
    let Checked { found, report } = match command {
        StoreCommand::Verify(_) => node::check(&disk, &args.dir)?,
        _ => {
            let found = Identity::read(&*disk, &args.dir).map_err(NodeError::from)?;
            let (dir, seed) = (args.dir.join(LOG_DIR), log_seed(found.identity.store));
            // A reader that went away is found out at the end, or ends this process quietly.
            let mut printed = Ok(());
            let each = &mut |record: Dumped| {
                if printed.is_ok() {
                    printed = print(&if args.json { record_json(&record) } else { record_line(&record) });
                }
            };
            let report = log::dump(&disk, &dir, seed, each).map_err(NodeError::from)?;
            printed?;
            Checked { found, report }
        }
    };
    match command {
        StoreCommand::Verify(_) if args.json => print(&report_json(&found, &report))?,
        StoreCommand::Verify(_) if last => print(&last_text(&found, &report))?,
        StoreCommand::Verify(_) => print(&report_text(&found, &report))?,
        _ => {
            report.findings.iter().for_each(|finding| super::say(&finding_line(finding)));
        }
    }
    Ok(if report.findings.is_empty() { 0 } else { ExitStatus::Corrupt.code() })
}

/// One line, to be held against those of other survivors.
fn last_text(found: &Found, report: &Report) -> String {
    let identity = &found.identity;
    let upto =
        |id: Option<LogId>| id.map_or_else(|| "nothing".to_owned(), |id| format!("index {}", id.index));
    let term = report.last.map_or(0, |last| last.term);
    let whole = if report.findings.is_empty() { "" } else { "  DAMAGED" };
    format!(
        "{}  cluster {}  last term {term} {}  committed at least {}{whole}\n",
        identity.name,
        identity.cluster,
        upto(report.last),
        upto(report.committed),
    )
}

/// Notes where a member is dialed.
fn set_address(disk: &dyn Disk, args: &SetAddressArgs) -> Result<(), Failure> {
    let _lock = lock(disk, &args.dir).map_err(NodeError::from)??;
    let identity = Identity::read(disk, &args.dir).map_err(NodeError::from)?.identity;
    if *identity.name == *args.node || identity.node.to_string() == args.node {
        let what = format!(
            "{} is the node of this data directory: others are told by --advertise-address",
            args.node
        );
        return Err(
            Failure::new(ExitStatus::Usage, "usage", what).hint("say it in the directories of the others")
        );
    }
    let mut lines = overrides::read(disk, &args.dir).map_err(NodeError::from)?;
    lines.retain(|line| line.node != args.node);
    let is_set = args.address != NO_ADDRESS;
    if is_set {
        lines.push(Override { node: args.node.clone(), address: args.address.clone(), known: None });
    }
    let writing = overrides::write(disk, &args.dir, &lines);
    machine::block_on(writing)?.map_err(NodeError::from)?;
    let (dir, node, address) = (args.dir.display(), &args.node, &args.address);
    print(&if is_set {
        format!("the node of {dir} dials {node} at {address}, until the cluster agrees on an address\n")
    } else {
        format!("the node of {dir} dials {node} where the cluster knows it\n")
    })
}

/// Keeps a node from starting meanwhile. Makes no file: where there is none, no node ever ran.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Result<Option<Box<dyn Send + Sync>>, Failure>, DiskError> {
    let path = dir.join(LOCK_FILE);
    if !disk.exists(&path)? {
        return Ok(Ok(None));
    }
    match disk.lock(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let failure = Failure::new(
                ExitStatus::Directory,
                "locked",
                format!("{} is in use: {}", dir.display(), error.source),
            );
            Ok(Err(failure.hint("stop the node first")))
        }
        locked => Ok(Ok(Some(locked?))),
    }
}

fn report_text(found: &Found, report: &Report) -> String {
    let identity = &found.identity;
    let mut text = format!(
        "node {}, number {} in cluster {}\n{} files with {} bytes, {} prepared files\n\
         {} records, {} entries, {} bodies\n",
        identity.name,
        identity.node,
        identity.cluster,
        report.files,
        report.bytes,
        report.spares,
        report.records,
        report.entries,
        report.bodies,
    );
    if report.torn_bytes > 0 {
        text.push_str(&format!("{} bytes of an unfinished write at the end: harmless\n", report.torn_bytes));
    }
    let mended = report.mended.iter().map(finding_line);
    for what in found.damage.iter().cloned().chain(mended) {
        text.push_str(&format!("mended by the next start, or read by nobody: {what}\n"));
    }
    for finding in &report.findings {
        text.push_str(&format!("DAMAGED: {}\n", finding_line(finding)));
    }
    let refuses = report.findings.iter().any(|finding| finding.then == Then::Refused);
    text.push_str(match report.findings.as_slice() {
        [] => "ok\n",
        _ if refuses => "a node does not start with this\n",
        _ => {
            "a node starts with this, and ends with status 65 when it reads what is damaged, within 7 days\n"
        }
    });
    text
}

fn finding_line(finding: &Finding) -> String {
    let entry = finding.index.map(|index| format!(" (entry {index})")).unwrap_or_default();
    format!("{} at offset {}: {}{entry}", finding.path.display(), finding.offset, finding.what)
}

fn record_line(record: &Dumped) -> String {
    let file = record.path.file_name().unwrap_or_default().display();
    let id = record.id.map(|id| format!(" {}/{}", id.term, id.index)).unwrap_or_default();
    let bodies = if record.bodies > 0 { format!(" {} bodies", record.bodies) } else { String::new() };
    let note = if record.note.is_empty() { String::new() } else { format!(" {}", record.note) };
    format!(
        "{file} {:>10} {:>8} #{} synced #{} opening {} {}{id}{bodies}{note}\n",
        record.offset,
        record.size,
        record.sequence,
        record.durable,
        record.epoch,
        format!("{:?}", record.kind).to_lowercase(),
    )
}

fn record_json(record: &Dumped) -> String {
    let document = json!({
        "schema": "record/v1",
        "file": record.path.display().to_string(),
        "offset_bytes": record.offset,
        "size_bytes": record.size,
        "kind": format!("{:?}", record.kind).to_lowercase(),
        "sequence": record.sequence.to_string(),
        "durable": record.durable.to_string(),
        "epoch": record.epoch,
        "term": record.id.map(|id| id.term.to_string()),
        "index": record.id.map(|id| id.index.to_string()),
        "bodies": record.bodies,
        "note": record.note,
    });
    format!("{document}\n")
}

fn report_json(found: &Found, report: &Report) -> String {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "file": finding.path.display().to_string(),
                "offset_bytes": finding.offset,
                "index": finding.index.map(|index| index.to_string()),
                "what": finding.what,
                "node": match finding.then {
                    Then::Refused => "does not start",
                    Then::Met => "ends when it reads it",
                },
            })
        })
        .collect();
    let document = json!({
        "schema": "store/v1",
        "node": found.identity.name.to_string(),
        "cluster_id": found.identity.cluster.to_string(),
        "ok": findings.is_empty(),
        "identity_damage": found.damage,
        "mended": report.mended.iter().map(finding_line).collect::<Vec<_>>(),
        "files": report.files,
        "spares": report.spares,
        "records": report.records,
        "entries": report.entries,
        "bodies": report.bodies,
        "size_bytes": report.bytes,
        "torn_bytes": report.torn_bytes,
        "last_term": report.last.map(|last| last.term.to_string()),
        "last_index": report.last.map(|last| last.index.to_string()),
        "committed_index": report.committed.map(|committed| committed.index.to_string()),
        "findings": findings,
    });
    format!("{document}\n")
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::{ClusterId, NodeId, StoreId};
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn found(damage: Option<&str>) -> Found {
        let identity = Identity {
            cluster: ClusterId(16),
            node: NodeId(1),
            store: StoreId(1),
            name: Text::cut("n1"),
            admission: None,
            assigned: 0,
            removed: false,
            forming: false,
        };
        Found { identity, revision: 1, damage: damage.map(ToOwned::to_owned) }
    }

    #[test]
    fn a_damage_is_named_with_its_place() {
        let finding = Finding {
            path: "d/log/1.log".into(),
            offset: 4096,
            index: Some(7),
            what: "bad checksum".into(),
            then: Then::Met,
        };
        let damaged = Report { findings: vec![finding], ..Report::default() };
        let text = report_text(&found(None), &damaged);
        assert!(text.contains("\nDAMAGED: d/log/1.log at offset 4096: bad checksum (entry 7)\n"), "{text}");
        assert!(text.contains("starts with this, and ends"), "{text}");
        assert!(report_json(&found(None), &damaged).contains("\"ok\":false"));
        let whole = Report::default();
        assert!(report_text(&found(None), &whole).ends_with("\nok\n"));
        let mended = report_text(&found(Some("IDENTITY is gone")), &whole);
        assert!(mended.ends_with("read by nobody: IDENTITY is gone\nok\n"), "{mended}");
        assert!(report_json(&found(None), &whole).contains("\"ok\":true"));
    }

    #[test]
    fn a_directory_in_use_or_of_nobody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let verify = StoreCommand::Verify(VerifyArgs {
            last: false,
            store: StoreArgs { dir: dir.path().to_owned(), json: false },
        });
        assert_eq!(run(&verify).unwrap_err().code, "not_formatted");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
        let _held = OsDisk.lock(&dir.path().join(LOCK_FILE)).unwrap();
        let refused = run(&verify).unwrap_err();
        assert_eq!((refused.status, refused.code), (ExitStatus::Directory, "locked"));
    }
}
