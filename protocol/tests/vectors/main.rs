//! Golden bytes of every message, both ways, and of frames that must be refused.
//!
//! `UPDATE_VECTORS=1 cargo test -p queue-protocol --test vectors` writes `vectors.json` anew. A change of bytes that
//! are there already is a change of the protocol.

mod samples;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::codec::{CodecError, FrameCodec, FrameLimits};
use queue_protocol::wire::frame::{Frame, FrameError, FrameKind, Goodbye, Message, OutFrame};
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::peer::{PeerCall, PeerResponse};
use queue_protocol::wire::request::Call;
use queue_protocol::wire::response::Response;
use serde_json::{Value, json};
use tokio_util::codec::{Decoder, Encoder};

use samples::Sample;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn encoded(frame: &OutFrame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    FrameCodec::default().encode(frame, &mut bytes).unwrap();
    bytes.to_vec()
}

fn codec(kind: FrameKind) -> FrameCodec {
    let mut codec = FrameCodec::default();
    if kind != FrameKind::Hello {
        codec.set_limits(FrameLimits::OPEN);
    }
    codec
}

/// What a reader makes of `bytes` followed by the end of the stream: a frame whose message decodes, nothing, or an
/// error.
fn read(kind: FrameKind, bytes: &[u8]) -> Result<Option<Frame>, CodecError> {
    let mut codec = codec(kind);
    let mut buffer = BytesMut::from(bytes);
    let Some(frame) = codec.decode_eof(&mut buffer)? else { return Ok(None) };
    understand(&frame)?;
    match buffer.is_empty() {
        true => Ok(Some(frame)),
        false => codec.decode_eof(&mut buffer).map(|_| Some(frame)),
    }
}

/// The message of a frame, for people.
fn understand(frame: &Frame) -> Result<String, FrameError> {
    fn shown<M: Message + std::fmt::Debug>(frame: &Frame) -> Result<String, FrameError> {
        frame.message::<M>().map(|message| format!("{message:?}"))
    }
    match frame.kind {
        FrameKind::Hello => shown::<HelloMessage>(frame),
        FrameKind::Request => shown::<Call>(frame),
        FrameKind::Response => shown::<Response>(frame),
        FrameKind::PeerRequest => shown::<PeerCall>(frame),
        FrameKind::PeerResponse => shown::<PeerResponse>(frame),
        FrameKind::Goodbye => shown::<Goodbye>(frame),
        FrameKind::Ping | FrameKind::Pong | FrameKind::Cancel => Ok(String::new()),
    }
}

/// Frames that must be refused, with the error.
fn bad_frames() -> Vec<(&'static str, FrameKind, Vec<u8>, FrameError)> {
    /// A frame whose checksum is right for whatever was done to it.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
    let ping = encoded(&OutFrame::bare(7, FrameKind::Ping));
    let with = |at: usize, value: u8| {
        let mut bytes = ping.clone();
        bytes[at] = value;
        sealed(bytes)
    };
    let call = samples::frame_of(&samples::status());
    let with_header = |header: &[u8]| {
        encoded(&OutFrame { header: Bytes::copy_from_slice(header), tail: Vec::new(), ..call.clone() })
    };
    let open = FrameKind::Ping;
    let mut tail_on_goodbye = encoded(&samples::frame_of(&samples::goodbye()));
    let header_size = tail_on_goodbye.len() - 24;
    tail_on_goodbye.push(0);
    tail_on_goodbye[0] += 1;
    tail_on_goodbye[16] = u8::try_from(header_size).unwrap();
    vec![
        (
            "http",
            FrameKind::Hello,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            FrameError::TooBig { size: 0x2054_4547 + 4, max: 4096 },
        ),
        (
            "hello_too_big",
            FrameKind::Hello,
            4093_u32.to_le_bytes().to_vec(),
            FrameError::TooBig { size: 4097, max: 4096 },
        ),
        (
            "frame_too_big",
            open,
            8_650_773_u32.to_le_bytes().to_vec(),
            FrameError::TooBig { size: 8_650_777, max: 8_650_776 },
        ),
        (
            "frame_of_all_ones",
            open,
            vec![0xff; 24],
            FrameError::TooBig { size: 0x1_0000_0003, max: 8_650_776 },
        ),
        (
            "too_small",
            open,
            sealed([&19_u32.to_le_bytes()[..], &[0; 20]].concat()),
            FrameError::TooSmall { size: 19 },
        ),
        (
            "header_too_big",
            open,
            {
                let mut head = vec![0; 24];
                head[..4].copy_from_slice(&(20 + 262_145_u32).to_le_bytes());
                head[16..20].copy_from_slice(&262_145_u32.to_le_bytes());
                head
            },
            FrameError::TooBig { size: 262_145, max: 262_144 },
        ),
        (
            "tail_too_big",
            open,
            {
                let mut head = vec![0; 24];
                head[..4].copy_from_slice(&(20 + 8_388_609_u32).to_le_bytes());
                head
            },
            FrameError::TooBig { size: 8_388_609, max: 8_388_608 },
        ),
        ("header_beyond_frame", open, with(16, 1), FrameError::HeaderSize { header_size: 1, size: 20 }),
        (
            "checksum",
            open,
            {
                let mut bytes = ping.clone();
                bytes[4] ^= 1;
                bytes
            },
            FrameError::Checksum,
        ),
        ("kind_0", open, with(20, 0), FrameError::Kind(0)),
        ("kind_10", open, with(20, 10), FrameError::Kind(10)),
        ("flag_without_meaning", open, with(21, 2), FrameError::Flags(2)),
        ("more_on_a_ping", open, with(21, 1), FrameError::Flags(1)),
        ("reserved_not_zero", open, with(23, 1), FrameError::Zero(0x100)),
        (
            "ping_with_tail",
            open,
            sealed([&21_u32.to_le_bytes()[..], &ping[4..], &[0]].concat()),
            FrameError::NotEmpty(FrameKind::Ping),
        ),
        ("goodbye_with_tail", open, sealed(tail_on_goodbye), FrameError::NotEmpty(FrameKind::Goodbye)),
        ("empty_request", open, with_header(&[]), FrameError::Message(FrameKind::Request)),
        ("unknown_request", open, with_header(&[0, 1, 0, 0, 99]), FrameError::Message(FrameKind::Request)),
        ("trailing", open, with_header(&[&call.header[..], &[0]].concat()), FrameError::Trailing(1)),
        (
            "too_many_queues",
            open,
            with_header(&[&[0, 1, 0, 0, 1, 17][..], &b"\x01a".repeat(17)].concat()),
            FrameError::Message(FrameKind::Request),
        ),
        (
            "bad_queue_name",
            open,
            with_header(b"\x00\x01\x00\x00\x01\x01\x01/\x01\x01\x00\x00"),
            FrameError::Message(FrameKind::Request),
        ),
        (
            "list_longer_than_the_frame",
            open,
            with_header(&[0, 1, 0, 0, 0, 1, b'q', 0, 0xe7, 0x07]),
            FrameError::Message(FrameKind::Request),
        ),
        (
            "node_of_33_bits",
            open,
            with_header(&[0, 1, 0, 0, 13, 1, 0x80, 0x80, 0x80, 0x80, 0x10]),
            FrameError::Message(FrameKind::Request),
        ),
        ("truncated_head", open, ping[..23].to_vec(), FrameError::Truncated),
        ("truncated_size", open, ping[..3].to_vec(), FrameError::Truncated),
    ]
}

fn generated() -> Value {
    let good: Vec<_> = samples::all()
        .into_iter()
        .map(|Sample { name, frame, .. }| {
            let bytes = encoded(&frame);
            let kind = format!("{:?}", frame.kind);
            let message = match frame.header.is_empty() {
                true => String::new(),
                false => understand(&read(frame.kind, &bytes).unwrap().unwrap()).unwrap(),
            };
            json!({ "name": name, "kind": kind, "message": message, "bytes": hex(&bytes) })
        })
        .collect();
    let bad: Vec<_> = bad_frames()
        .into_iter()
        .map(|(name, kind, bytes, error)| {
            let phase = if kind == FrameKind::Hello { "hello" } else { "open" };
            json!({ "name": name, "phase": phase, "bytes": hex(&bytes), "error": format!("{error:?}") })
        })
        .collect();
    json!({ "version": queue_protocol::wire::hello::VERSION, "frames": good, "bad_frames": bad })
}

/// The file, written anew before it is read if that is asked for.
fn kept() -> &'static Value {
    static KEPT: OnceLock<Value> = OnceLock::new();
    KEPT.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors.json");
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&generated()).unwrap() + "\n").unwrap();
        }
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
    })
}

#[test]
fn the_bytes_are_those_of_the_file() {
    let (generated, kept) = (generated(), kept());
    for list in ["frames", "bad_frames"] {
        let (new, old) = (generated[list].as_array().unwrap(), kept[list].as_array().unwrap());
        for (new, old) in new.iter().zip(old) {
            assert_eq!(new, old, "bytes changed; UPDATE_VECTORS=1 writes them anew if that is meant");
        }
        assert_eq!(new.len(), old.len(), "{list}: UPDATE_VECTORS=1 adds what is missing");
    }
}

#[test]
fn the_file_decodes_to_the_messages() {
    let samples = samples::all();
    for (kept, sample) in kept()["frames"].as_array().unwrap().iter().zip(&samples) {
        let bytes = unhex(kept["bytes"].as_str().unwrap());
        let frame = read(sample.frame.kind, &bytes).unwrap().unwrap();
        (sample.check)(&frame);
        assert_eq!(frame.tail, sample.frame.tail.concat(), "{}", sample.name);
        assert_eq!((frame.request_id, frame.flags), (sample.frame.request_id, sample.frame.flags));
    }
}

#[test]
fn no_variant_is_missing() {
    let names: BTreeSet<_> = samples::all().into_iter().map(|sample| sample.name).collect();
    for variant in samples::variants() {
        let covered = names.iter().any(|name| name == &variant || name.starts_with(&format!("{variant}/")));
        assert!(covered, "no vector for {variant}");
    }
    assert_eq!(names.len(), samples::all().len(), "two vectors have one name");
}

#[test]
fn bad_frames_are_refused_for_the_reason_given() {
    for (name, kind, bytes, expected) in bad_frames() {
        match read(kind, &bytes) {
            Err(CodecError::Frame(error)) => assert_eq!(error, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for Sample { name, frame, .. } in samples::all() {
        let bytes = encoded(&frame);
        for end in 1..bytes.len() {
            let outcome = read(frame.kind, &bytes[..end]);
            assert!(matches!(outcome, Err(CodecError::Frame(FrameError::Truncated))), "{name} cut at {end}");
        }
        assert!(read(frame.kind, &[]).unwrap().is_none());
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for Sample { name, frame, .. } in samples::all() {
        let mut bytes = encoded(&frame);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(frame.kind, &bytes).is_err(), "{name} with bit {bit} flipped");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_header_with_any_byte_changed_never_panics() {
    for Sample { frame, .. } in samples::all() {
        for at in 0..frame.header.len().min(200) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut header = frame.header.to_vec();
                header[at] = value;
                let changed = OutFrame { header: header.into(), ..frame.clone() };
                // Any outcome will do but a panic.
                let _ = read(frame.kind, &encoded(&changed));
            }
        }
    }
}

#[test]
fn the_book_lists_every_error_code_and_its_example_is_a_vector() {
    let book = include_str!("../../PROTOCOL.md");
    for code in ErrorCode::ALL {
        let row = format!("| {} | {} |", code.number(), code.as_str());
        assert!(book.contains(&row), "no row {row}");
    }
    let example = book.lines().find(|line| line.starts_with("45000000 62addcfa")).unwrap();
    let head: String = example.split("  ").next().unwrap().split_whitespace().collect();
    let hello = samples::all().into_iter().find(|sample| sample.name == "hello/hello/client").unwrap();
    assert!(hex(&encoded(&hello.frame)).starts_with(&head), "{head}");
}
