//! What the first three bytes of a connection say about who speaks: the port of the protocol is one for plain frames, TLS,
//! and whoever takes it for a web server.
//!
//! | opening | bytes |
//! |---|---|
//! | a frame of the hello, at most [`HELLO_FRAME_SIZE_MAX`] | its size, little-endian: the third byte is 0 |
//! | a record of TLS | content type, then 3 and 1 to 4: the third byte is 1 to 4 |
//! | a request of HTTP | a method: the third byte is a letter |
//!
//! So the third byte alone tells them apart. What is none of them is left to the reader of frames, which says what is wrong.

use crate::limits::HELLO_FRAME_SIZE_MAX;

/// Bytes that tell.
pub const OPENING_SIZE: usize = 3;

const METHODS: [&[u8; OPENING_SIZE]; 10] =
    [b"GET", b"HEA", b"POS", b"PUT", b"PAT", b"DEL", b"OPT", b"TRA", b"CON", b"PRI"];
/// Content type of a record with a handshake message (RFC 8446 §5.1).
const RECORD_HANDSHAKE: u8 = 22;
/// Content type of a record with an alert.
const RECORD_ALERT: u8 = 21;
const RECORD_MAJOR: u8 = 3;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Somebody who speaks this protocol in the clear, or nothing that is known.
    Frame,
    /// A client of TLS.
    Tls,
    /// A client of HTTP.
    Http,
}

impl Opening {
    /// What a connection that begins so is.
    pub const fn of(bytes: [u8; OPENING_SIZE]) -> Self {
        if is_record(bytes, RECORD_HANDSHAKE) {
            return Self::Tls;
        }
        let mut at = 0;
        while at < METHODS.len() {
            let [a, b, c] = *METHODS[at];
            if bytes[0] == a && bytes[1] == b && bytes[2] == c {
                return Self::Http;
            }
            at += 1;
        }
        Self::Frame
    }

    /// Whether a server that was sent a hello of TLS answers with TLS; else it answers with a frame.
    pub const fn answers_tls(bytes: [u8; OPENING_SIZE]) -> bool {
        is_record(bytes, RECORD_HANDSHAKE) || is_record(bytes, RECORD_ALERT)
    }
}

const fn is_record([kind, major, minor]: [u8; OPENING_SIZE], wanted: u8) -> bool {
    kind == wanted && major == RECORD_MAJOR && minor >= 1 && minor <= 4
}

/// A hello has a third byte of 0, which no record and no method has.
const _: () = {
    assert!(HELLO_FRAME_SIZE_MAX < 1 << 16);
    let mut at = 0;
    while at < METHODS.len() {
        assert!(METHODS[at][2].is_ascii_uppercase());
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_opening_is_two_things() {
        let mut counts = [0_u32; 3];
        for number in 0_u32..1 << 24 {
            let [a, b, c, _] = number.to_le_bytes();
            let bytes = [a, b, c];
            let may_be_hello = number as usize <= HELLO_FRAME_SIZE_MAX;
            let is_record = a == 0x16 && b == 3 && (1..=4).contains(&c);
            let is_method = METHODS.contains(&&bytes);
            assert!(u8::from(may_be_hello) + u8::from(is_record) + u8::from(is_method) <= 1, "{bytes:?}");
            let opening = Opening::of(bytes);
            let expected = match (is_record, is_method) {
                (true, _) => Opening::Tls,
                (_, true) => Opening::Http,
                _ => Opening::Frame,
            };
            assert_eq!(opening, expected, "{bytes:?}");
            assert!(!(may_be_hello && Opening::answers_tls(bytes)), "{bytes:?}");
            counts[opening as usize] += 1;
        }
        assert_eq!(counts, [(1 << 24) - 14, 4, 10]);
    }
}
