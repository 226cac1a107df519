//! What the user hands over: headers and a body, as one run of bytes that is checksummed once at the edge.
//!
//! ```text
//! content = headers (postcard list of string pairs, one zero byte when there are none) ++ body
//! ```
//!
//! A content travels in the tail of a frame, lies in the log as it is, and reaches the consumer unchanged;
//! the broker keeps neither headers nor body in memory.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::limits::{HEADERS_COUNT_MAX, HEADERS_SIZE_MAX};
use crate::wire::bounded::{Bounded, Text};

/// Headers of a message, in the order given.
pub type Headers = Bounded<(Text<HEADERS_SIZE_MAX>, Text<HEADERS_SIZE_MAX>), HEADERS_COUNT_MAX>;

/// Size and checksum of one content; the row of a body table on the wire and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentSpec {
    /// Bytes of headers and body together.
    pub size: u32,
    /// CRC32C of those bytes, made by the client that pushed them.
    pub crc32c: u32,
}

/// Why bytes are not a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadContent {
    /// The checksum differs: the bytes changed on their way.
    #[error("the content's checksum does not match")]
    Checksum,
    /// The header section does not decode, or exceeds its limit.
    #[error("the content's headers do not decode")]
    Headers,
}

/// Encodes headers and body.
///
/// # Errors
/// [`BadContent::Headers`] if the headers exceed 4 KiB encoded.
pub fn encode(headers: &Headers, body: &[u8]) -> Result<Bytes, BadContent> {
    let head = postcard::to_allocvec(headers).map_err(|_| BadContent::Headers)?;
    if head.len() > HEADERS_SIZE_MAX {
        return Err(BadContent::Headers);
    }
    let mut bytes = BytesMut::with_capacity(head.len() + body.len());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(body);
    Ok(bytes.freeze())
}

impl ContentSpec {
    /// Measures `content`.
    pub fn of(content: &[u8]) -> Self {
        let size = u32::try_from(content.len()).expect("a content is smaller than a frame");
        Self { size, crc32c: crc32c::crc32c(content) }
    }

    /// Checks `content` against size and checksum.
    ///
    /// # Errors
    /// [`BadContent::Checksum`] if either differs.
    pub fn verify(&self, content: &[u8]) -> Result<(), BadContent> {
        if *self == Self::of(content) { Ok(()) } else { Err(BadContent::Checksum) }
    }
}

/// Splits a content into headers and body; the body shares the bytes.
///
/// # Errors
/// [`BadContent::Headers`] if the header section does not decode or exceeds 4 KiB.
pub fn decode(content: &Bytes) -> Result<(Headers, Bytes), BadContent> {
    if content.first() == Some(&0) {
        return Ok((Headers::default(), content.slice(1..)));
    }
    let (headers, rest) = postcard::take_from_bytes::<Headers>(content).map_err(|_| BadContent::Headers)?;
    let head_size = content.len() - rest.len();
    if head_size > HEADERS_SIZE_MAX {
        return Err(BadContent::Headers);
    }
    Ok((headers, content.slice(head_size..)))
}
