//! The secrets of a member on its disk, while the cluster's secret is rotated and otherwise. Beside `SECRET` and `ADMISSION`
//! (`secret.rs`, `keys.rs`), which are of the generation that `IDENTITY` names:
//!
//! | file | what | while |
//! |---|---|---|
//! | `SECRET.next` | the next generation: number, secret, private half of the admission key | it is not used yet |
//! | `SECRET.old` | the generation before: number, secret | it still lets others in |
//!
//! Each is one line: hex digits of the number (little-endian) and of the keys behind it, a hyphen, CRC32C of their bytes in 8 hex digits.
//!
//! A switch goes step by step, and a crash between two is mended at the next start, before anything is told:
//!
//! ```text
//! SECRET.old ──► IDENTITY names the next generation ──► ADMISSION ──► SECRET ──► SECRET.next goes
//!                from here on SECRET.next is the one that counts
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use queue_protocol::wire::proof::Secret;

use super::identity::{Identity, IdentityError};
use super::secret::{self, SecretError};
use super::{NodeError, keys};
use crate::fs::{Disk, DiskError, Open, remove_file, replace_file};
use crate::raft::{Generation, Keeping, Kept, Key, Old, Vault};

/// Name of the file of the next generation.
pub(super) const NEXT_FILE: &str = "SECRET.next";
/// Name of the file of the generation before.
pub(super) const OLD_FILE: &str = "SECRET.old";

const NUMBER_SIZE: usize = 4;
const KEY_SIZE: usize = 32;
const NEXT_SIZE: usize = NUMBER_SIZE + 2 * KEY_SIZE;
const OLD_SIZE: usize = NUMBER_SIZE + KEY_SIZE;

fn next_bytes(next: &Generation) -> [u8; NEXT_SIZE] {
    let mut bytes = [0; NEXT_SIZE];
    bytes[..NUMBER_SIZE].copy_from_slice(&next.number.to_le_bytes());
    bytes[NUMBER_SIZE..OLD_SIZE].copy_from_slice(&next.secret.0);
    bytes[OLD_SIZE..].copy_from_slice(&next.admission.private());
    bytes
}

fn old_bytes(old: &Old) -> [u8; OLD_SIZE] {
    let mut bytes = [0; OLD_SIZE];
    bytes[..NUMBER_SIZE].copy_from_slice(&old.number.to_le_bytes());
    bytes[NUMBER_SIZE..].copy_from_slice(&old.secret.0);
    bytes
}

fn number_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("it begins with a number"))
}

fn key_at(bytes: &[u8], at: usize) -> [u8; KEY_SIZE] {
    *bytes[at..].first_chunk().expect("it holds a key there")
}

/// Keys in a file that need not be there.
fn read<const N: usize>(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Option<[u8; N]>, SecretError> {
    match secret::read_bytes::<N>(disk, &dir.join(name)) {
        Err(SecretError::Disk(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Ok((bytes, true)) => Ok(Some(bytes)),
        Ok((_, false)) => Err(SecretError::NoSecret { path: dir.join(name) }),
        Err(error) => Err(error),
    }
}

async fn write(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    replace_file(disk, dir, name, Open::Create, secret::encode(bytes).as_bytes()).await
}

/// What a member has, with a switch that was cut short gone through with.
///
/// # Errors
/// 66: a file is missing, damaged or not what the identity names. 74: the disk failed.
pub(super) async fn open(disk: &dyn Disk, dir: &Path, identity: &Identity) -> Result<Kept, NodeError> {
    let next = read::<NEXT_SIZE>(disk, dir, NEXT_FILE)?.map(|bytes| Generation {
        number: number_of(&bytes),
        secret: Secret(key_at(&bytes, NUMBER_SIZE)),
        admission: Key::new(key_at(&bytes, OLD_SIZE)),
    });
    if let Some(next) = next.as_ref().filter(|next| identity.admission == Some(next.named())) {
        finish_switch(disk, dir, next).await?;
    }
    let kept = keys::of_member(disk, dir, identity)?;
    let current = Generation {
        number: kept.generation,
        secret: secret::read(disk, dir)?,
        admission: kept.admission.clone(),
    };
    let old = read::<OLD_SIZE>(disk, dir, OLD_FILE)?
        .map(|bytes| Old { number: number_of(&bytes), secret: Secret(key_at(&bytes, NUMBER_SIZE)) });
    // One that was written and not made the old one any more.
    let old = old.filter(|old| old.number < current.number);
    let next = next.filter(|next| next.number > current.number);
    Ok(Kept { node: kept.node, index: kept.index, current, old, next })
}

/// What is wrong with what a member has, file by file.
///
/// # Errors
/// The disk failed.
pub(super) fn damages(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
) -> Result<Vec<(PathBuf, String)>, DiskError> {
    let mut damages = Vec::new();
    let mut note = |name: &str, error: SecretError| match error {
        SecretError::Disk(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        error => {
            damages.push((dir.join(name), error.to_string()));
            Ok(())
        }
    };
    secret::read(disk, dir).map(drop).or_else(|error| note(secret::SECRET_FILE, error))?;
    read::<OLD_SIZE>(disk, dir, OLD_FILE).map(drop).or_else(|error| note(OLD_FILE, error))?;
    let mut is_switching = false;
    match read::<NEXT_SIZE>(disk, dir, NEXT_FILE) {
        Ok(next) => {
            let public = |bytes: &[u8]| Key::new(key_at(bytes, OLD_SIZE)).public();
            let named = identity.admission.map(|named| named.key);
            is_switching = next.is_some_and(|bytes| Some(public(&bytes)) == named);
        }
        Err(error) => note(NEXT_FILE, error)?,
    }
    // In the middle of a switch the next generation is the one that counts.
    if identity.is_joined()
        && !is_switching
        && let Err(error) = keys::of_member(disk, dir, identity)
    {
        damages.push((dir.join(keys::ADMISSION_FILE), error.what));
    }
    Ok(damages)
}

/// What is left to do when the identity names the next generation.
async fn finish_switch(disk: &dyn Disk, dir: &Path, next: &Generation) -> Result<(), DiskError> {
    keys::write(disk, dir, keys::ADMISSION_FILE, &next.admission).await?;
    secret::write(disk, dir, &next.secret).await?;
    remove_file(disk, dir, NEXT_FILE).await
}

/// Leaves nothing of a rotation in a directory that begins a cluster of its own.
///
/// # Errors
/// The disk failed.
pub(super) async fn forget_rotation(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    remove_file(disk, dir, NEXT_FILE).await?;
    remove_file(disk, dir, OLD_FILE).await
}

/// The data directory of a running member.
pub(super) struct DirVault {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

impl DirVault {
    async fn go_over(&self, next: &Generation, old: &Old) -> Result<(), DiskError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        write(disk, dir, OLD_FILE, &old_bytes(old)).await?;
        match Identity::read(disk, dir) {
            Ok(found) => {
                let identity = Identity { admission: Some(next.named()), ..found.identity };
                identity.write(disk, dir, found.revision).await?;
            }
            Err(IdentityError::Disk(error)) => return Err(error),
            // It was whole when this node started: the next start says what is wrong with it.
            Err(error) => {
                let source = std::io::Error::other(error.to_string());
                return Err(DiskError { op: "read", path: dir.to_owned(), source });
            }
        }
        finish_switch(disk, dir, next).await
    }
}

impl Vault for DirVault {
    fn keep_next<'a>(&'a self, next: &'a Generation) -> Keeping<'a> {
        Box::pin(async move { write(&*self.disk, &self.dir, NEXT_FILE, &next_bytes(next)).await })
    }

    fn switch<'a>(&'a self, next: &'a Generation, old: &'a Old) -> Keeping<'a> {
        Box::pin(self.go_over(next, old))
    }

    fn drop_old(&self) -> Keeping<'_> {
        Box::pin(remove_file(&*self.disk, &self.dir, OLD_FILE))
    }

    fn drop_next(&self) -> Keeping<'_> {
        Box::pin(remove_file(&*self.disk, &self.dir, NEXT_FILE))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use queue_protocol::names::{ClusterId, NodeId, StoreId};
    use queue_protocol::wire::bounded::Text;

    use super::*;
    use crate::fs::sim::{SimDisk, SimOptions};

    fn generation(number: u8) -> Generation {
        Generation { number: number.into(), secret: Secret([number; 32]), admission: Key::new([number; 32]) }
    }

    /// A member at generation 1 that has the second one.
    fn member(seed: u64) -> SimDisk {
        let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
        let dir = Path::new("");
        let identity = Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            store: StoreId(1),
            name: Text::cut("n1"),
            admission: Some(generation(1).named()),
            assigned: 0,
            removed: false,
            forming: false,
        };
        let written = async {
            secret::write(&disk, dir, &generation(1).secret).await?;
            keys::write(&disk, dir, keys::NODE_KEY_FILE, &Key::new([9; 32])).await?;
            keys::write(&disk, dir, keys::ADMISSION_FILE, &generation(1).admission).await?;
            identity.write(&disk, dir, 0).await?;
            write(&disk, dir, NEXT_FILE, &next_bytes(&generation(2))).await
        };
        written.now_or_never().expect("it never waits").expect("the disk works");
        disk
    }

    fn opened(disk: &SimDisk) -> Kept {
        let found = Identity::open(disk, Path::new("")).now_or_never().unwrap().expect("it is whole");
        open(disk, Path::new(""), &found.identity).now_or_never().unwrap().expect("it is whole")
    }

    fn numbers(kept: &Kept) -> (u32, Option<u32>, Option<u32>) {
        let number = |of: &Generation| of.number;
        (kept.current.number, kept.old.as_ref().map(|old| old.number), kept.next.as_ref().map(number))
    }

    /// A vault on the disk as it is after its power went.
    fn vault(disk: &SimDisk) -> DirVault {
        DirVault { disk: Arc::new(disk.clone()), dir: PathBuf::new() }
    }

    #[test]
    fn a_switch_that_is_cut_short_anywhere_left_the_generation_before_or_the_next_one_whole() {
        let (mut before, mut after) = (0, 0);
        for (k, seed) in (0..40).flat_map(|k| (0..4).map(move |seed| (k, seed))) {
            let disk = member(seed);
            let old = Old { number: 1, secret: generation(1).secret };
            disk.off_after(k);
            let next = generation(2);
            let done = vault(&disk).switch(&next, &old).now_or_never().unwrap().is_ok();
            disk.crash(seed);
            for start in 0..2 {
                let kept = opened(&disk);
                let secret = kept.current.secret.0;
                assert_eq!(kept.current.admission.private(), secret, "both are of one generation");
                match numbers(&kept) {
                    (1, None, Some(2)) if !done => before += 1,
                    (2, Some(1), None) => after += 1,
                    other => panic!("after {k} with seed {seed}, start {start}: {other:?}"),
                }
            }
        }
        assert!(before > 20 && after > 20, "{before} and {after}");
    }

    #[test]
    fn the_old_secret_goes_and_so_does_a_next_one_that_nobody_wants() {
        let disk = member(1);
        assert_eq!(numbers(&opened(&disk)), (1, None, Some(2)));
        vault(&disk).drop_next().now_or_never().unwrap().expect("the disk works");
        vault(&disk).drop_next().now_or_never().unwrap().expect("it is gone already");
        assert_eq!(numbers(&opened(&disk)), (1, None, None));
        vault(&disk).keep_next(&generation(3)).now_or_never().unwrap().expect("the disk works");
        let old = Old { number: 1, secret: generation(1).secret };
        vault(&disk).switch(&generation(3), &old).now_or_never().unwrap().expect("the disk works");
        assert_eq!(numbers(&opened(&disk)), (3, Some(1), None));
        vault(&disk).drop_old().now_or_never().unwrap().expect("the disk works");
        assert_eq!(numbers(&opened(&disk)), (3, None, None));
        assert_eq!(secret::read(&disk, Path::new("")).expect("it is whole"), generation(3).secret);
    }

    #[test]
    fn a_flipped_bit_is_damage_and_no_other_secret() {
        let disk = member(1);
        let digits = disk.bytes(Path::new(NEXT_FILE)).expect("it was written").len();
        for bit in 0..8 * digits as u64 {
            let disk = member(1);
            disk.flip(Path::new(NEXT_FILE), bit).expect("it is within the file");
            // A letter may be of the other case.
            if let Ok(Some(bytes)) = read::<NEXT_SIZE>(&disk, Path::new(""), NEXT_FILE) {
                assert_eq!(bytes, next_bytes(&generation(2)), "bit {bit}");
            }
        }
    }
}
