//! The keys of a node on disk, each written as the secret is (`secret.rs`), for its owner only:
//!
//! | file | what | who has it |
//! |---|---|---|
//! | `NODE-KEY` | the private half of the node's own key, Ed25519 | this node alone |
//! | `ADMISSION` | the private half of the key that certifies nodes | every member, never a backup or the log |

use std::path::Path;

use queue_protocol::wire::proof::Secret;

use super::NodeError;
use super::identity::Identity;
use super::secret::{self, SecretError};
use crate::fs::{Disk, DiskError};
use crate::outside::ExitStatus;
use crate::raft::{Admission, Key, Keys};

/// Name of the file of the node's own key.
pub const NODE_KEY_FILE: &str = "NODE-KEY";
/// Name of the file of the admission key.
pub const ADMISSION_FILE: &str = "ADMISSION";

/// Writes a key into a data directory, durable on return, replacing what was there.
///
/// # Errors
/// The disk failed.
pub(super) async fn write(disk: &dyn Disk, dir: &Path, file: &str, key: &Key) -> Result<(), DiskError> {
    secret::write_as(disk, dir, file, &Secret(key.private())).await
}

/// The keys of a member's data directory.
///
/// # Errors
/// 66: one is missing or is not a key, or the admission key is not the one that the identity names.
pub(super) fn of_member(disk: &dyn Disk, dir: &Path, identity: &Identity) -> Result<Keys, NodeError> {
    let (node, admission) = (read(disk, dir, NODE_KEY_FILE)?, read(disk, dir, ADMISSION_FILE)?);
    let known = identity.admission.filter(|known| known.key == admission.public());
    let Some(Admission { generation, .. }) = known else {
        let what =
            format!("{} is not the admission key of this node's cluster", dir.join(ADMISSION_FILE).display());
        return Err(NodeError::new(ExitStatus::Directory, "secret", what));
    };
    Ok(Keys { node, admission, generation, index: identity.assigned })
}

/// Reads a key of a data directory.
///
/// # Errors
/// [`SecretError`]: there is none, or the file holds something else.
pub(super) fn read(disk: &dyn Disk, dir: &Path, file: &str) -> Result<Key, SecretError> {
    Ok(Key::new(secret::read_file(disk, &dir.join(file))?.0))
}
