//! `ADDRESSES` of a data directory: where members are dialed, as `queued store set-address` says, when the cluster cannot
//! agree on it because its nodes do not find each other. It stands beside the log and is in no log, vote or snapshot.
//!
//! A line for each member, fields with one blank between them:
//!
//! ```text
//! NODE HOST:PORT [KNOWN]
//! ```
//!
//! `NODE` is a name or a number. `KNOWN` is the address that the cluster had for it, added when a node first starts with
//! the line: once the membership has another one, the line has done its work and is removed.
//!
//! A node that joins is told where the others are, and keeps it here, each with `KNOWN` as it is: until its log names them
//! it says to these where it is, should it be elsewhere than it was.

use std::path::Path;

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::Announcement;

use crate::fs::{Disk, DiskError, Open, remove_file, replace_file};
use crate::raft::Consensus;

/// Name of the file in the data directory.
pub(crate) const ADDRESSES_FILE: &str = "ADDRESSES";
/// Bytes that are read of it: more lines than a cluster has members.
const SIZE_MAX: usize = 64 << 10;

/// One line of the file: where a member is to be dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// The member, by name or number.
    pub(crate) node: String,
    /// Where it is dialed.
    pub(crate) address: String,
    /// The address that this one stands for.
    pub(crate) known: Option<String>,
}

impl Override {
    /// Where a member is, as a node was told when it joined.
    pub(crate) fn of_joined(said: &Announcement) -> Self {
        let address = said.address.to_string();
        Self { node: said.node.to_string(), known: Some(address.clone()), address }
    }

    /// It says nothing but what was known.
    fn changes_nothing(&self) -> bool {
        self.known.as_ref() == Some(&self.address)
    }
}

/// The file as it is; no lines if there is none, or none that is one.
///
/// # Errors
/// The disk failed.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Vec<Override>, DiskError> {
    let file = match disk.open(&dir.join(ADDRESSES_FILE), Open::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(SIZE_MAX).min(SIZE_MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(decode).collect())
}

/// Replaces the file, or removes it if there is no line; durable on return.
///
/// # Errors
/// The disk failed; see [`replace_file`].
pub(crate) async fn write(disk: &dyn Disk, dir: &Path, lines: &[Override]) -> Result<(), DiskError> {
    let line = |line: &Override| {
        let known = line.known.iter().map(|known| format!(" {known}"));
        format!("{} {}{}\n", line.node, line.address, known.collect::<String>())
    };
    let text: String = lines.iter().map(line).collect();
    if text.is_empty() {
        return remove_file(disk, dir, ADDRESSES_FILE).await;
    }
    replace_file(disk, dir, ADDRESSES_FILE, Open::Create, text.as_bytes()).await
}

fn decode(line: &str) -> Option<Override> {
    let mut fields = line.split(' ').map(str::to_owned);
    let (node, address, known) = (fields.next()?, fields.next()?, fields.next());
    (fields.next().is_none() && !node.is_empty()).then_some(Override { node, address, known })
}

impl Consensus {
    /// Dials members where the operator says from now on.
    pub(in crate::raft) async fn take_overrides(&self) {
        let lines = match read(&*self.outside.disk, &self.me.data_dir) {
            Ok(lines) if lines.is_empty() => return,
            Ok(lines) => lines,
            Err(error) => return tracing::warn!(%error, "what was said of addresses is not read"),
        };
        for line in lines {
            let (members, _) = self.members();
            let number = line.node.parse::<u64>().ok();
            let is_meant = |(node, member): &(&u64, &crate::raft::openraft::types::Member)| {
                member.name == line.node || Some(**node) == number
            };
            if line.changes_nothing() {
                continue;
            }
            let Some((node, member)) = members.iter().find(is_meant) else {
                tracing::warn!(node = line.node, "no member has that name or number: its address is not set");
                continue;
            };
            let known = Some(line.known.unwrap_or_else(|| member.address.clone()));
            tracing::info!(
                node = member.name,
                address = line.address,
                "dialed there until the cluster knows better"
            );
            self.addresses.overrides().insert(NodeId(*node), Override { known, ..line });
        }
        self.note_overrides().await;
    }

    /// The others, as this node was told when it joined: for one whose log names no member yet.
    pub(in crate::raft) fn told_at_join(&self) -> Vec<(NodeId, String)> {
        let lines = read(&*self.outside.disk, &self.me.data_dir).unwrap_or_default();
        let told = lines.into_iter().filter(Override::changes_nothing);
        told.filter_map(|line| Some((NodeId(line.node.parse().ok()?), line.address))).collect()
    }

    async fn note_overrides(&self) {
        if let Err(error) = self.keep_overrides().await {
            tracing::warn!(%error, "what is known of addresses is not noted");
            self.end_for(&error, &error);
        }
    }

    async fn keep_overrides(&self) -> Result<(), DiskError> {
        let lines: Vec<Override> = self.addresses.overrides().values().cloned().collect();
        write(&*self.outside.disk, &self.me.data_dir, &lines).await
    }

    /// Forgets what the membership has overtaken.
    pub(in crate::raft) async fn drop_overtaken(&self) {
        let overtaken = {
            let mut overrides = self.addresses.overrides();
            let before = overrides.len();
            overrides.retain(|node, line| {
                let known = self.addresses.newest(*node).map(|member| member.address);
                known.is_some() && known == line.known
            });
            before != overrides.len()
        };
        if overtaken {
            self.note_overrides().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::fs::sim::{SimDisk, SimOptions};

    #[test]
    fn lines_are_written_and_read_back_and_what_is_no_line_is_left_out() {
        let disk = SimDisk::new(SimOptions::default());
        let dir = Path::new("");
        assert_eq!(read(&disk, dir).unwrap(), []);
        let line = |node: &str, known: Option<&str>| Override {
            node: node.to_owned(),
            address: "10.0.0.7:7410".to_owned(),
            known: known.map(str::to_owned),
        };
        let lines = [line("n3", None), line("2", Some("10.0.0.2:7410"))];
        write(&disk, dir, &lines).now_or_never().unwrap().unwrap();
        assert_eq!(
            disk.bytes(Path::new(ADDRESSES_FILE)).unwrap(),
            b"n3 10.0.0.7:7410\n2 10.0.0.7:7410 10.0.0.2:7410\n"
        );
        assert_eq!(read(&disk, dir).unwrap(), lines);
        write(&disk, dir, &[]).now_or_never().unwrap().unwrap();
        assert!(!disk.exists(Path::new(ADDRESSES_FILE)).unwrap());
        for text in ["", "n3", " 10.0.0.7:7410", "n3 a b c"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
