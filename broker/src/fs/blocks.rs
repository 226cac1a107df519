//! Writes past the system's cache. The disk takes whole blocks from memory that starts on one; what lies elsewhere is
//! copied there first, which costs less than a page of the cache for every block.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::OFlags;

use super::BLOCK_SIZE;
use super::os::write_all;

use crate::locked::Locked as _;

/// Bytes of one write, at most, of what is copied.
const STAGING_SIZE_MAX: usize = 1 << 20;

/// A file's whole blocks.
pub(super) struct Blocks {
    file: File,
    staging: Mutex<Vec<u8>>,
}

/// Whether these are whole blocks.
pub(super) fn whole(slices: &[IoSlice<'_>], offset: u64) -> bool {
    let size = slices.iter().map(|slice| slice.len()).sum::<usize>();
    offset.is_multiple_of(BLOCK_SIZE as u64) && size.is_multiple_of(BLOCK_SIZE)
}

impl Blocks {
    /// Opens them for writing; `None` where the file system has no such way.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open");
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => Ok(Some(Self { file, staging: Mutex::default() })),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes all of `slices`, [`whole`] blocks together.
    pub(super) fn write(&self, slices: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        if slices.iter().all(|slice| starts_on_block(slice) && slice.len().is_multiple_of(BLOCK_SIZE)) {
            return write_all(&self.file, &mut slices.to_vec(), offset);
        }
        let mut left = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut pieces = slices.iter().map(|slice| &**slice);
        let mut piece: &[u8] = &[];
        let mut bytes = self.staging.locked();
        while left > 0 {
            let staging = staging(&mut bytes, left.min(STAGING_SIZE_MAX));
            let mut filled = 0;
            while filled < staging.len() {
                if piece.is_empty() {
                    piece = pieces.next().expect("what is left lies in pieces");
                }
                let count = piece.len().min(staging.len() - filled);
                let (taken, rest) = piece.split_at(count);
                staging[filled..][..count].copy_from_slice(taken);
                filled += count;
                piece = rest;
            }
            write_all(&self.file, &mut [IoSlice::new(staging)], offset)?;
            offset += filled as u64;
            left -= filled;
        }
        Ok(())
    }
}

fn starts_on_block(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(BLOCK_SIZE) == 0
}

/// `size` bytes that start on a block, in `bytes`, which grow if they are too few.
fn staging(bytes: &mut Vec<u8>, size: usize) -> &mut [u8] {
    if bytes.len() < size + BLOCK_SIZE {
        *bytes = vec![0; size.next_power_of_two() + BLOCK_SIZE];
    }
    let start = bytes.as_ptr().align_offset(BLOCK_SIZE);
    &mut bytes[start..start + size]
}
