//! The first bytes of a connection to the port of the protocol: frames, TLS and HTTP are told apart, whatever the node speaks.
//!
//! ```text
//! mode 1 | stream      mode: off, optional, require
//! ```

use std::sync::Arc;

use queue_broker::tls::opening::{Tried, tried};
use queue_broker::tls::{Tls, TlsMode, TlsOptions};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::io::FrameReader;
use queue_protocol::wire::opening::{OPENING_SIZE, Opening};

const MODES: [TlsMode; 3] = [TlsMode::Off, TlsMode::Optional, TlsMode::Require];

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs nothing");
    static TLS: [Arc<Tls>; 3] = MODES.map(|mode| {
        Tls::load(&TlsOptions { mode, ..TlsOptions::default() }).expect("it needs no files")
    });
}

/// Who speaks frames is served with every byte that came, who speaks HTTP is told where to go, who speaks what the node does not
/// is refused by a frame, and nobody in the clear gets in where that is not allowed. True if somebody got in.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((mode, sent)) = input.split_first() else { return false };
    let at = usize::from(*mode) % MODES.len();
    let (mode, tls) = (MODES[at], TLS.with(|tls| Arc::clone(&tls[at])));
    let (tried, answer) = RUNTIME.with(|runtime| runtime.block_on(tried(tls, sent)));
    let opening = sent.first_chunk::<OPENING_SIZE>().map(|bytes| Opening::of(*bytes));
    match tried {
        Tried::Frames(read) => {
            assert_eq!(read, sent);
            assert!(answer.is_empty() && matches!(opening, None | Some(Opening::Frame)));
            assert!(mode != TlsMode::Require || opening.is_none());
            opening.is_some()
        }
        Tried::Secured => {
            assert!(opening == Some(Opening::Tls) && mode != TlsMode::Off);
            true
        }
        Tried::Told => {
            assert!(opening == Some(Opening::Http) && answer.starts_with(b"HTTP/1.1 400 "));
            false
        }
        Tried::Refused(code) => {
            let expected =
                if opening == Some(Opening::Tls) { ErrorCode::TlsOff } else { ErrorCode::TlsRequired };
            assert_eq!(code, expected);
            let frame = super::ready(FrameReader::new(&answer[..]).next()).expect("a frame").expect("one");
            let Ok(HelloMessage::Refused(error)) = frame.message() else { panic!("that is no refusal") };
            assert_eq!(error.code, code);
            false
        }
        Tried::Failed => {
            assert!(opening == Some(Opening::Tls) && mode != TlsMode::Off);
            // The node answers in TLS: a hello of its own or an alert, or nothing.
            assert!(answer.first_chunk().is_none_or(|bytes| Opening::answers_tls(*bytes)), "{answer:?}");
            false
        }
    }
}

/// Frames in the clear, a hello of TLS that breaks off, and HTTP, to each mode.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let hello = [&[22, 3, 1, 0, 4][..], &[1, 0, 0, 0]].concat();
    let frames = super::hello::seeds().into_iter().map(|seed| seed[1..].to_vec());
    let mut seeds: Vec<Vec<u8>> =
        frames.flat_map(|frame| [0, 1].map(|mode| [&[mode][..], &frame].concat())).collect();
    for mode in 0..3 {
        seeds.push([&[mode][..], &hello].concat());
        seeds.push([&[mode][..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    }
    seeds
}
