//! Cuts a stream of bytes into bodies. No input of its own.

use bytes::{Buf, Bytes, BytesMut};
use queue_protocol::limits::BODY_SIZE_CEILING;

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::show::render;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At a line feed, which is not part of it. A NUL byte is refused: that is no text.
    Lines,
    /// At a NUL byte, which is not part of it.
    Nulls,
    /// At the end.
    Whole,
}

impl Cut {
    /// What one body is called.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Cut::Lines => "line",
            Cut::Nulls | Cut::Whole => "message",
        }
    }
}

/// Holds what is not a whole body yet, at most the largest body and one chunk.
#[derive(Debug)]
pub(crate) struct Splitter {
    cut: Cut,
    bytes: BytesMut,
    /// Bytes at the front known to hold no end.
    searched: usize,
    /// Bodies given so far.
    given: u64,
    ended: bool,
}

impl Splitter {
    /// Before the first byte.
    pub(crate) fn new(cut: Cut) -> Self {
        Self { cut, bytes: BytesMut::new(), searched: 0, given: 0, ended: false }
    }

    /// Adds what was read.
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// There is no more: what is left is a body too, even without an end.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next whole body, `None` if more must be read or nothing is left.
    ///
    /// # Errors
    /// `looks_binary` for a NUL byte in a line, `message_too_big` for a body larger than any server takes.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let end = match self.cut {
            Cut::Whole => None,
            Cut::Lines => self.find(b'\n'),
            Cut::Nulls => self.find(b'\0'),
        };
        let size = end.unwrap_or(self.bytes.len());
        if self.cut == Cut::Lines && self.bytes[..size].contains(&0) {
            let message = format!(
                "line {} contains a NUL byte; refusing to split binary input into lines",
                self.given + 1
            );
            return Err(Failure::new("looks_binary", Exit::BadData, message).hint(
                "`--whole` for one message, `--null` for messages that end with NUL, or `--file FILE`",
            ));
        }
        if size > BODY_SIZE_CEILING {
            let what = format!("{} {}", self.cut.unit(), self.given + 1);
            return Err(too_big(&what, size));
        }
        let body = match end {
            Some(end) => {
                let body = self.bytes.split_to(end).freeze();
                self.bytes.advance(1);
                body
            }
            // The whole of an empty input is an empty body; its last line is none.
            None if self.ended && (!self.bytes.is_empty() || (self.cut == Cut::Whole && self.given == 0)) => {
                self.bytes.split().freeze()
            }
            None => {
                self.searched = self.bytes.len();
                return Ok(None);
            }
        };
        self.searched = 0;
        self.given += 1;
        Ok(Some(body))
    }

    fn find(&self, end: u8) -> Option<usize> {
        let found = self.bytes[self.searched..].iter().position(|byte| *byte == end)?;
        Some(self.searched + found)
    }
}

/// A body that no server takes.
pub(crate) fn too_big(what: &str, size: usize) -> Failure {
    let (size, max) = (render::size(size as u64), render::size(BODY_SIZE_CEILING as u64));
    Failure::new("message_too_big", Exit::BadData, format!("{what} is {size} or more; the limit is {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bodies of `input`, given in chunks of `size` bytes.
    fn split(cut: Cut, input: &[u8], size: usize) -> Result<Vec<String>, Failure> {
        let (mut splitter, mut bodies) = (Splitter::new(cut), Vec::new());
        let mut take = |splitter: &mut Splitter| -> Result<(), Failure> {
            while let Some(body) = splitter.next()? {
                bodies.push(String::from_utf8_lossy(&body).into_owned());
            }
            Ok(())
        };
        for chunk in input.chunks(size) {
            splitter.add(chunk);
            take(&mut splitter)?;
        }
        splitter.end();
        take(&mut splitter)?;
        Ok(bodies)
    }

    #[test]
    fn a_body_is_the_same_however_the_input_arrives() {
        for size in 1..12 {
            let lines = |input: &str| split(Cut::Lines, input.as_bytes(), size).unwrap();
            assert_eq!(lines("a\nbc\n"), ["a", "bc"]);
            assert_eq!(lines("a\nbc"), ["a", "bc"], "the last line needs no end");
            assert_eq!(lines("\n\nx\n"), ["", "", "x"], "an empty line is an empty message");
            assert_eq!(lines("a\r\n"), ["a\r"], "bytes are left as they are");
            assert_eq!(lines(""), [""; 0]);
            assert_eq!(split(Cut::Nulls, b"a\nb\0c\0", size).unwrap(), ["a\nb", "c"]);
            assert_eq!(split(Cut::Whole, b"a\0b\n", size).unwrap(), ["a\0b\n"]);
            assert_eq!(split(Cut::Whole, b"", size).unwrap(), [""]);
        }
    }

    #[test]
    fn a_nul_byte_is_refused_naming_its_line() {
        for size in [1, 3, 100] {
            let failure = split(Cut::Lines, b"one\ntwo\nth\0ree\n", size).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("looks_binary", Exit::BadData));
            assert!(failure.message.starts_with("line 3 contains"), "{}", failure.message);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut splitter = Splitter::new(Cut::Lines);
        let chunk = vec![b'x'; 1 << 20];
        let refused_after = (1..20).find(|_| {
            splitter.add(&chunk);
            splitter.next().is_err()
        });
        assert_eq!(refused_after, Some(9));
    }
}
