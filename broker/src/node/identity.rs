//! Who this data directory is: `IDENTITY` and `IDENTITY.copy`, two files with the same bytes.
//!
//! 172 bytes, little-endian; whatever the format, its number and the checksum stay where they are:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `QUEUE-ID` |
//! | 8 | 4 | format | 1 |
//! | 12 | 4 | revision | 1, and one more with each change; of two valid files the higher one counts |
//! | 16 | 16 | cluster | 0 until joined |
//! | 32 | 16 | store | chosen at random when the directory is formatted |
//! | 48 | 8 | node | 0 until joined |
//! | 56 | 1 | name size | bytes of the name, 0 to 64 |
//! | 57 | 1 | flags | bit 0: removed from its cluster; bit 1: its format is not finished |
//! | 58 | 2 | draft | 1; until the first release the formats of a directory change in place, each time under the next draft |
//! | 60 | 64 | name | UTF-8, then zeros |
//! | 124 | 32 | admission | public half of the key that certifies the cluster's nodes; 0 until joined |
//! | 156 | 4 | generation | which admission key that is; 0 until joined |
//! | 160 | 8 | assigned | the entry that assigned the number; 0 in the node that made the cluster |
//! | 168 | 4 | checksum | CRC32C of all before |
//!
//! A change makes `IDENTITY` durable first and the copy then, so that at every moment one of them is whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BufMut as _};
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::wire::bounded::Text;

use crate::fs::{Disk, DiskError, Open, remove_tmp, replace_file};
use crate::raft::Admission;

/// Name of the file in the data directory.
pub const IDENTITY_FILE: &str = "IDENTITY";
/// Name of the file that holds the same.
pub const IDENTITY_COPY_FILE: &str = "IDENTITY.copy";

const MAGIC: &[u8; 8] = b"QUEUE-ID";
const FORMAT: u32 = 1;
/// Which draft of the format; goes up with every change of a format on disk until the first release.
const DRAFT: u16 = 7;
const SIZE: usize = 172;
const NAME_SIZE_MAX: usize = 64;
const CHECKSUM_AT: usize = 168;
/// Bits of the flags.
const REMOVED: u8 = 1;
const FORMING: u8 = 2;
const _: () = assert!(8 + 4 + 4 + 16 + 16 + 8 + 1 + 1 + 2 + NAME_SIZE_MAX + 32 + 4 + 8 == CHECKSUM_AT);
const _: () = assert!(CHECKSUM_AT + 4 == SIZE);

/// A data directory's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; 0 until joined.
    pub cluster: ClusterId,
    /// The node as Raft numbers it; 0 until joined.
    pub node: NodeId,
    /// The data directory, chosen at random when it was formatted.
    pub store: StoreId,
    /// The node's unique name; empty until the cluster gives one, if none was asked for.
    pub name: Text<NAME_SIZE_MAX>,
    /// The key that certifies the cluster's nodes; `None` until joined.
    pub admission: Option<Admission>,
    /// The entry that assigned the number; 0 in the node that made the cluster.
    pub assigned: u64,
    /// It was a member and is none any more; it never starts again.
    pub removed: bool,
    /// Its format is not finished: a repeated `init` or `join` goes on, and nothing else was ever stored here.
    pub forming: bool,
}

/// What the data directory says of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The node and its cluster.
    pub identity: Identity,
    /// How often it was written.
    pub revision: u32,
    /// What is wrong with one of the two files, the other being whole; [`Identity::write`] mends it.
    pub damage: Option<String>,
}

/// Why a data directory has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// An operation of the disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Neither file is there: the directory was never formatted.
    #[error("{} is not formatted: it has no {IDENTITY_FILE}", dir.display())]
    Missing {
        /// The data directory that has no identity.
        dir: PathBuf,
    },
    /// No file is whole.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file that is damaged.
        path: PathBuf,
        /// Offset of the damage in bytes.
        offset: usize,
        /// What is wrong, in words.
        what: &'static str,
    },
    /// The files are whole, and somebody else's.
    #[error("{} is not ours: {what}", path.display())]
    Foreign {
        /// The file that belongs to another node or cluster.
        path: PathBuf,
        /// What this program makes of it, in words.
        what: String,
    },
}

impl Identity {
    /// Whether it is formatted and has a number in a cluster.
    pub fn is_joined(&self) -> bool {
        self.node != NodeId(0) && !self.forming
    }

    /// Makes this the identity of a data directory, in both files, durable on return. `revision` is the one found,
    /// 0 if none.
    ///
    /// # Errors
    ///
    /// The disk failed; the old identity or the new one is then whole in at least one file.
    pub async fn write(&self, disk: &dyn Disk, dir: &Path, revision: u32) -> Result<(), DiskError> {
        let bytes = self.encode(revision.saturating_add(1));
        for name in [IDENTITY_FILE, IDENTITY_COPY_FILE] {
            replace_file(disk, dir, name, Open::Create, &bytes).await?;
        }
        Ok(())
    }

    /// Reads the identity of a data directory; changes nothing.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Missing`] if neither file is there. [`IdentityError::Foreign`] if one is of a format this
    /// version does not know or the two are of different directories. Otherwise, if neither is whole or they
    /// contradict each other, what is wrong with the first.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Found, IdentityError> {
        let read = |name| match read_file(disk, dir, name) {
            Err(error @ IdentityError::Foreign { .. }) => Err(error),
            one => Ok(one),
        };
        match (read(IDENTITY_FILE)?, read(IDENTITY_COPY_FILE)?) {
            (Ok(first), Ok(second)) => newer(first, second, dir),
            (Ok((identity, revision)), Err(error)) | (Err(error), Ok((identity, revision))) => {
                Ok(Found { identity, revision, damage: Some(error.to_string()) })
            }
            (Err(IdentityError::Missing { .. }), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    /// [`Identity::read`] for a node that starts: removes every `*.tmp` of the data directory, and if one file was
    /// damaged makes both whole again.
    ///
    /// # Errors
    ///
    /// As [`Identity::read`], or the disk failed.
    pub async fn open(disk: &dyn Disk, dir: &Path) -> Result<Found, IdentityError> {
        if !disk.exists(dir)? {
            return Err(IdentityError::Missing { dir: dir.to_owned() });
        }
        remove_tmp(disk, dir).await?;
        let mut found = Self::read(disk, dir)?;
        if found.damage.is_some() {
            found.identity.write(disk, dir, found.revision).await?;
            found.revision = found.revision.saturating_add(1);
        }
        Ok(found)
    }

    /// Notes in a data directory that its node was removed from its cluster, durable on return.
    ///
    /// # Errors
    ///
    /// As [`Identity::read`], or the disk failed.
    pub async fn mark_removed(disk: &dyn Disk, dir: &Path) -> Result<(), IdentityError> {
        let found = Self::read(disk, dir)?;
        let removed = Self { removed: true, ..found.identity };
        Ok(removed.write(disk, dir, found.revision).await?)
    }

    /// Whether this is the node that is meant; `None` means any.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Foreign`] if it is another.
    pub fn expect(
        &self,
        dir: &Path,
        cluster: Option<ClusterId>,
        name: Option<&str>,
    ) -> Result<(), IdentityError> {
        let foreign = |what| Err(IdentityError::Foreign { path: dir.to_owned(), what });
        match (cluster, name) {
            (Some(cluster), _) if cluster != self.cluster => {
                foreign(format!("it belongs to cluster {}, not {cluster}", self.cluster))
            }
            (_, Some(name)) if *name != *self.name => {
                foreign(format!("it is node {:?}, not {name:?}", &*self.name))
            }
            _ => Ok(()),
        }
    }

    fn encode(&self, revision: u32) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut rest = &mut bytes[..];
        rest.put_slice(MAGIC);
        rest.put_u32_le(FORMAT);
        rest.put_u32_le(revision);
        rest.put_u128_le(self.cluster.0);
        rest.put_u128_le(self.store.0);
        rest.put_u64_le(self.node.0);
        rest.put_u8(u8::try_from(self.name.len()).expect("a name has at most 64 bytes"));
        rest.put_u8(if self.removed { REMOVED } else { 0 } | if self.forming { FORMING } else { 0 });
        rest.put_u16_le(DRAFT);
        let (name, mut rest) = rest.split_at_mut(NAME_SIZE_MAX);
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let Admission { generation, key } =
            self.admission.unwrap_or(Admission { generation: 0, key: [0; 32] });
        rest.put_slice(&key);
        rest.put_u32_le(generation);
        rest.put_u64_le(self.assigned);
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// What is wrong with the bytes of a file.
enum Wrong {
    Corrupt { offset: usize, what: &'static str },
    Format(u32),
    Draft(u16),
}

fn decode(bytes: &[u8]) -> Result<(Identity, u32), Wrong> {
    let corrupt = |offset, what| Err(Wrong::Corrupt { offset, what });
    let Ok(bytes) = <&[u8; SIZE]>::try_from(bytes) else {
        return corrupt(bytes.len().min(SIZE), "it does not have 172 bytes");
    };
    if !bytes.starts_with(MAGIC) {
        return corrupt(0, "it does not begin like an identity");
    }
    let (mut rest, mut checksum) = bytes.split_at(CHECKSUM_AT);
    if crc32c::crc32c(rest) != checksum.get_u32_le() {
        return corrupt(CHECKSUM_AT, "the checksum does not match");
    }
    rest.advance(MAGIC.len());
    let format = rest.get_u32_le();
    if format != FORMAT {
        return Err(Wrong::Format(format));
    }
    let revision = rest.get_u32_le();
    let cluster = ClusterId(rest.get_u128_le());
    let store = StoreId(rest.get_u128_le());
    let Ok(node) = NodeId::try_from(rest.get_u64_le()) else {
        return corrupt(48, "no node has such a number");
    };
    let name_size = usize::from(rest.get_u8());
    let flags = rest.get_u8();
    let draft = rest.get_u16_le();
    if draft != DRAFT {
        return Err(Wrong::Draft(draft));
    }
    let (name, mut rest) = rest.split_at(NAME_SIZE_MAX);
    let mut key = [0; 32];
    rest.copy_to_slice(&mut key);
    let (generation, assigned) = (rest.get_u32_le(), rest.get_u64_le());
    let admission = (generation > 0).then_some(Admission { generation, key });
    let Some((name, padding)) = name.split_at_checked(name_size) else {
        return corrupt(56, "the name is too long");
    };
    if flags & !(REMOVED | FORMING) != 0 || padding.iter().any(|byte| *byte != 0) {
        return corrupt(57, "what should be zero is not");
    }
    match str::from_utf8(name).ok().and_then(|name| Text::new(name).ok()) {
        Some(name) => {
            let (removed, forming) = (flags & REMOVED != 0, flags & FORMING != 0);
            let identity = Identity { cluster, node, store, name, admission, assigned, removed, forming };
            Ok((identity, revision))
        }
        None => corrupt(60, "the name is no text"),
    }
}

fn read_file(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(Identity, u32), IdentityError> {
    let path = dir.join(name);
    let file = match disk.open(&path, Open::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(IdentityError::Missing { dir: dir.to_owned() });
        }
        opened => opened?,
    };
    let mut bytes = [0; SIZE + 1];
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(bytes.len());
    file.read_at(&mut bytes[..size], 0)?;
    decode(&bytes[..size]).map_err(|wrong| match wrong {
        Wrong::Corrupt { offset, what } => IdentityError::Corrupt { path, offset, what },
        Wrong::Format(format) => {
            let what = format!("it has format {format}, this version reads format {FORMAT}");
            IdentityError::Foreign { path, what }
        }
        Wrong::Draft(draft) => {
            let what = format!(
                "a build before the first release wrote it in draft {draft} of the format, and this build reads draft {DRAFT} \
                 only: nothing was changed, and a new directory is needed"
            );
            IdentityError::Foreign { path, what }
        }
    })
}

/// Of two whole files the one that counts.
fn newer(first: (Identity, u32), second: (Identity, u32), dir: &Path) -> Result<Found, IdentityError> {
    let path = dir.join(IDENTITY_COPY_FILE);
    if first.0.store != second.0.store {
        let what = format!("it is of store {}, {IDENTITY_FILE} of store {}", second.0.store, first.0.store);
        return Err(IdentityError::Foreign { path, what });
    }
    if first.1 == second.1 && first.0 != second.0 {
        return Err(IdentityError::Corrupt { path, offset: 0, what: "it contradicts IDENTITY" });
    }
    let damage = (first.1 != second.1).then(|| "one identity file is older than the other".to_owned());
    let (identity, revision) = if first.1 >= second.1 { first } else { second };
    Ok(Found { identity, revision, damage })
}

#[cfg(test)]
mod tests;
