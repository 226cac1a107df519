//! The least that a replicated append can cost on this machine: frames, a CRC on every hop, one write and one sync a
//! group, answers when a group is on two disks of three. Three processes of plain threads, no Raft, no queue. What
//! separates the broker from this is its own doing.
//!
//! ```text
//! head: u32 size of what follows the head, u32 CRC32C of it, u64 number      all little-endian
//! client -> leader:    head, body                              answered by the last number on two disks, 8 bytes
//! leader -> follower:  head, a group of such frames            answered by its number, 8 bytes
//! ```

pub mod load;
pub mod node;

use std::io::{self, Read, Write};

/// Bytes of a head.
pub const HEAD_SIZE: usize = 16;
/// A read from a socket may give so many bytes.
const READ_SIZE: usize = 256 << 10;
/// A claimed size beyond this is no frame.
const FRAME_SIZE_MAX: usize = 64 << 20;

/// The head of a frame around `body`.
fn head(number: u64, body: &[u8]) -> [u8; HEAD_SIZE] {
    let size = u32::try_from(body.len()).expect("a frame is below 4 GiB");
    let mut head = [0; HEAD_SIZE];
    head[..4].copy_from_slice(&size.to_le_bytes());
    head[4..8].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    head[8..].copy_from_slice(&number.to_le_bytes());
    head
}

/// Number and body of the frame that `bytes` begin with; `None` if it is not there yet.
fn frame(bytes: &[u8]) -> io::Result<Option<(u64, &[u8])>> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_SIZE>() else { return Ok(None) };
    let field = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let size = field(0) as usize;
    if size > FRAME_SIZE_MAX {
        return Err(io::Error::other("a frame is too large"));
    }
    let Some(body) = rest.get(..size) else { return Ok(None) };
    if crc32c::crc32c(body) != field(4) {
        return Err(io::Error::other("a frame does not match its checksum"));
    }
    Ok(Some((u64::from_le_bytes(head[8..].try_into().expect("eight bytes")), body)))
}

/// What was read from a socket and not taken yet.
struct Buffer {
    bytes: Vec<u8>,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; READ_SIZE], end: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Reads once; `false` at the end of the stream.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        if self.bytes.len() - self.end < READ_SIZE {
            self.bytes.resize(self.bytes.len() + READ_SIZE, 0);
        }
        let count = from.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count > 0)
    }

    /// Drops the first bytes.
    fn take(&mut self, count: usize) {
        self.bytes.copy_within(count..self.end, 0);
        self.end -= count;
    }
}

/// Reads answers for good; tells the newest of each read.
fn answers(mut from: impl Read, mut tell: impl FnMut(u64)) -> io::Result<()> {
    let mut buffer = Buffer::new();
    while buffer.fill(&mut from)? {
        let whole = buffer.end - buffer.end % 8;
        if let Some(last) = buffer.filled()[..whole].last_chunk::<8>() {
            tell(u64::from_le_bytes(*last));
        }
        buffer.take(whole);
    }
    Ok(())
}

fn answer(mut to: impl Write, number: u64) -> io::Result<()> {
    to.write_all(&number.to_le_bytes())
}
