//! Frames in and out of streams: limits, memory, pieces, and what a short write leaves.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use queue_protocol::limits::{HEADER_SIZE_MAX, TAIL_SIZE_MAX};
use queue_protocol::wire::codec::{CodecError, FrameCodec, FrameLimits};
use queue_protocol::wire::frame::{Flags, Frame, FrameError, FrameKind, OutFrame};
use queue_protocol::wire::gather::{Gatherer, OPEN_SIZE};
use queue_protocol::wire::io::{FrameReader, Outbox, READ_SIZE, RESERVE_STEP, REST_SIZE};
use queue_protocol::wire::lent::Lender;
use queue_protocol::wire::request::{Call, Request};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_util::codec::{Decoder, Encoder};

fn open() -> FrameCodec {
    let mut codec = FrameCodec::default();
    codec.set_limits(FrameLimits::OPEN);
    codec
}

fn request(id: u64, tail: Vec<Bytes>) -> OutFrame {
    OutFrame::new(id, &Call::new(None, 1, Request::Status), tail)
}

fn received(frame: &OutFrame) -> Frame {
    let mut bytes = BytesMut::new();
    open().encode(frame, &mut bytes).unwrap();
    open().decode(&mut bytes).unwrap().unwrap()
}

fn piece(byte: u8, size: usize) -> Bytes {
    Bytes::from(vec![byte; size])
}

fn long_runs() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn a_size_beyond_the_limit_is_refused_with_its_four_bytes() {
    let limit = u32::try_from(20 + HEADER_SIZE_MAX + TAIL_SIZE_MAX).unwrap();
    for (codec, limit) in [(FrameCodec::default(), 4_092), (open(), limit)] {
        for size in [limit + 1, u32::MAX] {
            let outcome = codec.clone().decode(&mut BytesMut::from(&size.to_le_bytes()[..]));
            assert!(matches!(outcome, Err(CodecError::Frame(FrameError::TooBig { .. }))), "{outcome:?}");
        }
        let outcome = codec.clone().decode(&mut BytesMut::from(&limit.to_le_bytes()[..]));
        assert!(matches!(outcome, Ok(None)), "{outcome:?}");
        let outcome = codec.clone().decode(&mut BytesMut::from(&limit.to_le_bytes()[..3]));
        assert!(matches!(outcome, Ok(None)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_claim_allocates_no_more_than_a_step() {
    let size = u32::try_from(20 + TAIL_SIZE_MAX).unwrap();
    let head = [size.to_le_bytes(), [0; 4], [0; 4], [0; 4], [0; 4], [2, 0, 0, 0]].concat();
    let (mut near, far) = duplex(1 << 20);
    let mut reader = FrameReader::new(far);
    reader.open();
    near.write_all(&head).await.unwrap();
    let mut sent = head.len();
    let mut look = async |near: &mut tokio::io::DuplexStream, more: usize| {
        near.write_all(&vec![0; more]).await.unwrap();
        sent += more;
        while reader.unfinished() < sent {
            let wanted = reader.wanted();
            let before = reader.capacity();
            assert!(reader.fill().await.unwrap());
            assert!(before == 0 || reader.capacity() <= before.max(before + wanted), "more than it wanted");
        }
        assert!(reader.next_buffered().unwrap().is_none());
        reader.capacity()
    };
    assert!(look(&mut near, 0).await <= REST_SIZE, "for a head");
    assert!(look(&mut near, 2_000).await <= REST_SIZE, "for 2,000 bytes");
    assert!(look(&mut near, 10_000).await <= RESERVE_STEP + 3 * REST_SIZE, "for 12,000 bytes");
    assert!(look(&mut near, 1 << 20).await <= 2 * (1 << 20) + RESERVE_STEP, "for a MiB");
}

#[test]
fn a_header_or_tail_beyond_its_limit_is_not_sent() {
    let big = request(1, vec![piece(1, TAIL_SIZE_MAX), piece(1, 1)]);
    let mut outbox = Outbox::new();
    assert!(matches!(outbox.push(&big), Err(FrameError::TooBig { .. })));
    let call = Call::new(None, 1, Request::Status);
    assert!(matches!(outbox.push_message(1, &call, &big.tail), Err(FrameError::TooBig { .. })));
    assert!(outbox.is_empty());
    let header = piece(0, HEADER_SIZE_MAX + 1);
    assert!(open().encode(&OutFrame { header, ..request(1, Vec::new()) }, &mut BytesMut::new()).is_err());
}

#[test]
fn the_largest_frame_passes() {
    let frame = request(1, vec![piece(9, TAIL_SIZE_MAX)]);
    assert_eq!(received(&frame).tail.len(), TAIL_SIZE_MAX);
}

/// Reads all `frames` off a stream that has them at once.
async fn read(frames: &[OutFrame]) -> (FrameReader<tokio::io::DuplexStream>, Vec<Frame>) {
    read_with(&Lender::new(0), frames).await
}

async fn read_with(
    lender: &Arc<Lender>,
    frames: &[OutFrame],
) -> (FrameReader<tokio::io::DuplexStream>, Vec<Frame>) {
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| open().encode(frame, &mut bytes).unwrap());
    let (mut near, far) = duplex(bytes.len());
    near.write_all(&bytes).await.unwrap();
    let mut reader = FrameReader::new(far);
    reader.open();
    reader.lend_by(Arc::clone(lender));
    let mut read = Vec::new();
    for _ in frames {
        read.push(reader.next().await.unwrap().unwrap());
    }
    (reader, read)
}

#[tokio::test]
async fn a_small_frame_does_not_keep_what_was_read_with_it() {
    let sizes = [1, 500, 16 << 10, 3, 60 << 10, 100];
    let frames: Vec<_> = (1..).zip(sizes).map(|(id, size)| request(id, vec![piece(7, size)])).collect();
    let (reader, read) = read(&frames).await;
    for (frame, sent) in read.iter().zip(&frames) {
        assert_eq!(*frame, received(sent));
        // Alone in its memory: it becomes a vector without a copy.
        assert!(frame.tail.is_unique(), "{} bytes are shared", frame.tail.len());
    }
    assert!(reader.capacity() <= READ_SIZE, "{} bytes", reader.capacity());
}

/// What frames of these sizes of tail share, and whether they are as they were sent.
async fn lent(lender: &Arc<Lender>, sizes: &[usize]) -> (usize, Vec<Frame>) {
    let frames: Vec<_> = (1..).zip(sizes).map(|(id, size)| request(id, vec![piece(7, *size)])).collect();
    let (reader, read) = read_with(lender, &frames).await;
    assert_eq!(reader.unfinished(), 0);
    for (frame, sent) in read.iter().zip(&frames) {
        assert_eq!(*frame, received(sent));
    }
    drop(reader);
    (lender.size(), read)
}

#[tokio::test]
async fn a_buffer_full_of_bodies_is_theirs_and_is_counted_while_one_of_them_is_kept() {
    let lender = Lender::new(1 << 20);
    let (size, mut read) = lent(&lender, &[1_000; 300]).await;
    assert!((250_000..400_000).contains(&size), "{size} bytes are lent for 300,000");
    // The first reads are small, and fill their buffers all the same.
    read.truncate(1);
    assert!((1..=READ_SIZE).contains(&lender.size()), "{} bytes are kept by one body", lender.size());
    drop(read);
    assert_eq!(lender.size(), 0);
}

#[tokio::test]
async fn a_buffer_with_few_bodies_is_not_lent() {
    let lender = Lender::new(1 << 20);
    let few: Vec<usize> = (0..3_000).map(|at| if at % 10 == 0 { 200 } else { 0 }).collect();
    let (size, read) = lent(&lender, &few).await;
    assert_eq!(size, 0);
    assert!(read.iter().all(|frame| frame.tail.is_empty() || frame.tail.is_unique()));
    // Nor one that has hardly been filled: the read at rest.
    assert_eq!(lent(&lender, &[300]).await.0, 0);
}

#[tokio::test]
async fn no_more_is_lent_than_the_bound() {
    let lender = Lender::new(2 * READ_SIZE);
    let (size, read) = lent(&lender, &[1_000; 600]).await;
    assert!((READ_SIZE..=2 * READ_SIZE).contains(&size), "{size} bytes are lent");
    // The others were copied, each for itself.
    assert!(read.iter().filter(|frame| frame.tail.is_unique()).count() > 300);
    drop(read);
    assert_eq!(lender.size(), 0);
}

#[tokio::test]
async fn a_large_frame_is_read_into_memory_of_its_size() {
    let sizes = [100 << 10, 100 << 10, 1, TAIL_SIZE_MAX, 700 << 10];
    let frames: Vec<_> = (1..).zip(sizes).map(|(id, size)| request(id, vec![piece(7, size)])).collect();
    let (reader, read) = read(&frames).await;
    for (frame, sent) in read.into_iter().zip(&frames) {
        assert_eq!(frame, received(sent));
        let size = frame.tail.len();
        drop(frame.header);
        let kept = Vec::from(frame.tail).capacity();
        assert!(kept <= size + 100, "{kept} bytes are kept for {size}");
    }
    assert_eq!(reader.unfinished(), 0);
}

#[tokio::test]
async fn a_large_header_is_not_kept_for_a_small_tail() {
    let header = piece(0, 200 << 10);
    let frame = OutFrame { header, ..request(1, vec![piece(7, 1_000)]) };
    let (_, read) = read(&[frame]).await;
    let Frame { header, tail, .. } = read.into_iter().next().unwrap();
    assert!(header.is_unique() && tail.is_unique(), "they share memory");
    assert_eq!((header.len(), tail.len()), (200 << 10, 1_000));
}

#[tokio::test]
async fn a_reader_that_rests_has_no_buffer() {
    let frames: Vec<_> = (1..100).map(|id| request(id, vec![piece(7, 3_000)])).collect();
    let (mut reader, _) = read(&frames).await;
    assert!(reader.capacity() > REST_SIZE, "it was busy");
    reader.rest();
    assert_eq!(reader.capacity(), 0);

    let mut bytes = BytesMut::new();
    open().encode(&request(1, vec![piece(1, 50_000)]), &mut bytes).unwrap();
    let (mut near, far) = duplex(1 << 20);
    let mut reader = FrameReader::new(far);
    reader.open();
    for part in bytes.chunks(9_000) {
        near.write_all(part).await.unwrap();
        assert!(reader.fill().await.unwrap());
        reader.rest();
        assert_eq!(reader.capacity(), reader.unfinished(), "what is unfinished is kept");
    }
    while reader.next_buffered().unwrap().is_none() {
        assert!(reader.fill().await.unwrap());
    }
}

#[test]
fn a_cut_frame_is_whole_again_whatever_comes_between() {
    let frame = request(3, vec![piece(1, 1_000), Bytes::new(), piece(2, 700), piece(3, 300)]);
    let mut gatherer = Gatherer::<BytesMut>::new(4, 10_000);
    let mut budget = 10_000;
    let pieces = frame.clone().cut(256);
    assert_eq!(pieces.len(), 8);
    let last = pieces.len() - 1;
    for (at, piece) in pieces.iter().enumerate() {
        assert!(piece.tail.concat().len() <= 256);
        assert_eq!(piece.flags.more(), at < last);
        let other = received(&request(4, Vec::new()));
        assert_eq!(gatherer.take(other.clone(), &mut budget), Ok(Some(other)));
        let whole = gatherer.take(received(piece), &mut budget).unwrap();
        assert_eq!(whole.is_some(), at == last);
        if let Some(whole) = whole {
            assert_eq!((whole.header, whole.tail.to_vec()), (frame.header.clone(), frame.tail.concat()));
            assert_eq!(whole.flags, Flags::NONE);
        }
    }
    assert_eq!((gatherer.held(), budget), (0, 8_000 - OPEN_SIZE - frame.header.len()));
}

#[test]
fn pieces_are_granted_before_they_are_kept() {
    let pieces = request(3, vec![piece(1, 1_000)]).cut(400);
    let mut gatherer = Gatherer::<BytesMut>::new(4, 10_000);
    let mut budget = OPEN_SIZE + 500;
    assert_eq!(gatherer.take(received(&pieces[0]), &mut budget), Ok(None));
    assert_eq!(gatherer.take(received(&pieces[1]), &mut budget), Err(FrameError::NotGranted));
    assert_eq!(gatherer.held(), OPEN_SIZE + pieces[0].header.len() + 400);
}

#[test]
fn pieces_beyond_the_bound_or_of_another_frame_are_refused() {
    let pieces = request(3, vec![piece(1, 1_000)]).cut(400);
    let mut budget = usize::MAX;
    let mut small = Gatherer::<BytesMut>::new(4, 700);
    assert_eq!(small.take(received(&pieces[0]), &mut budget), Ok(None));
    let beyond = small.take(received(&pieces[1]), &mut budget);
    assert_eq!(beyond, Err(FrameError::TooBig { size: 800, max: 700 }));

    let mut gatherer = Gatherer::<BytesMut>::new(1, 10_000);
    assert_eq!(gatherer.take(received(&pieces[0]), &mut budget), Ok(None));
    assert_eq!(gatherer.take(received(&pieces[0]), &mut budget), Err(FrameError::Pieces), "a second header");
    let response = OutFrame { kind: FrameKind::Response, ..pieces[1].clone() };
    assert_eq!(gatherer.take(received(&response), &mut budget), Err(FrameError::Pieces), "another kind");
    let second = OutFrame { request_id: 4, ..pieces[0].clone() };
    assert_eq!(gatherer.take(received(&second), &mut budget), Err(FrameError::Pieces), "too many open");
}

#[tokio::test]
async fn what_a_narrow_stream_takes_in_bits_arrives_whole() {
    let frames: Vec<_> =
        (0..20).map(|id| request(id, vec![piece(1, 100), piece(2, 600), piece(3, 3_000)])).collect();
    let (mut near, far) = duplex(97);
    let mut outbox = Outbox::new();
    for frame in &frames {
        outbox.push(frame).unwrap();
    }
    assert_eq!(outbox.size(), frames.iter().map(OutFrame::size).sum::<usize>());
    let mut reader = FrameReader::new(far);
    reader.open();
    let send = async {
        outbox.write_to(&mut near).await.unwrap();
        assert!(outbox.is_empty());
        near.shutdown().await.unwrap();
    };
    let receive = async {
        for frame in &frames {
            assert_eq!(reader.next().await.unwrap().unwrap(), received(frame));
        }
        assert!(reader.next().await.unwrap().is_none());
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_cancelled_write_goes_on_where_it_stopped() {
    let frame = request(1, vec![piece(5, 10_000)]);
    let (mut near, far) = duplex(1_000);
    let mut outbox = Outbox::new();
    outbox.push(&frame).unwrap();
    tokio::select! {
        biased;
        _ = outbox.write_to(&mut near) => panic!("it cannot fit"),
        () = std::future::ready(()) => {}
    }
    outbox.push(&request(2, Vec::new())).unwrap();
    let mut reader = FrameReader::new(far);
    reader.open();
    let (_, first) = tokio::join!(outbox.write_to(&mut near), reader.next());
    assert_eq!(first.unwrap().unwrap(), received(&frame));
    assert_eq!(reader.next().await.unwrap().unwrap().request_id, 2);
}

#[tokio::test]
async fn the_size_of_a_frame_is_known_before_it_is_there() {
    let (mut near, far) = duplex(1 << 20);
    let mut bytes = BytesMut::new();
    open().encode(&request(1, vec![piece(1, 500_000)]), &mut bytes).unwrap();
    near.write_all(&bytes[..100]).await.unwrap();
    let mut reader = FrameReader::new(far);
    reader.open();
    assert_eq!(reader.incoming_size(), 0);
    assert!(reader.fill().await.unwrap());
    assert_eq!(reader.incoming_size(), bytes.len());
    near.write_all(&bytes[100..]).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().size(), bytes.len());
    assert_eq!(reader.incoming_size(), 0);
}

#[tokio::test]
async fn the_end_of_the_stream_inside_a_frame_is_an_error() {
    let (mut near, far) = duplex(1_000);
    near.write_all(&[24, 0, 0, 0, 1]).await.unwrap();
    drop(near);
    let outcome = FrameReader::new(far).next().await;
    assert!(matches!(outcome, Err(CodecError::Frame(FrameError::Truncated))), "{outcome:?}");
}

#[tokio::test]
async fn before_the_hello_a_reader_holds_no_more_than_a_hello() {
    let (mut near, far) = duplex(1 << 20);
    let flood = vec![0_u8; 1 << 19];
    near.write_all(&[&4_092_u32.to_le_bytes()[..], &flood].concat()).await.unwrap();
    let mut reader = FrameReader::new(far);
    assert!(reader.next().await.is_err(), "zeros are no frame");
    assert!(reader.capacity() <= 16 << 10, "{} bytes", reader.capacity());
}

proptest! {
    #![proptest_config(long_runs())]

    #[test]
    fn any_bytes_decode_to_an_error_or_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = FrameCodec::default().decode_eof(&mut BytesMut::from(&bytes[..]));
        let header = Bytes::from(bytes);
        let frame = received(&OutFrame { header, ..request(1, Vec::new()) });
        let _ = frame.message::<Call>();
    }

    #[test]
    fn an_outbox_writes_what_the_codec_writes(sizes in prop::collection::vec(0..2_000_usize, 0..20)) {
        let frames: Vec<_> = sizes
            .chunks(3)
            .zip(1..)
            .map(|(sizes, id)| request(id, sizes.iter().map(|size| piece(9, *size)).collect()))
            .collect();
        let mut expected = BytesMut::new();
        let mut outbox = Outbox::new();
        for frame in &frames {
            open().encode(frame, &mut expected).unwrap();
            match frame.request_id % 2 {
                0 => outbox.push(frame).unwrap(),
                _ => outbox.push_message(frame.request_id, &frame.message::<Call>().unwrap(), &frame.tail).unwrap(),
            }
        }
        let mut written = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(outbox.write_to(&mut written)).unwrap();
        prop_assert_eq!(written, expected.to_vec());
    }

    #[test]
    fn frames_arrive_however_the_stream_is_cut(size in 0..5_000_usize, step in 1..700_usize) {
        let frames = [request(1, vec![piece(1, size)]), request(2, Vec::new()), request(3, vec![piece(2, 9)])];
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| open().encode(frame, &mut bytes).unwrap());
        let (mut codec, mut buffer, mut arrived) = (open(), BytesMut::new(), Vec::new());
        for part in bytes.chunks(step) {
            buffer.extend_from_slice(part);
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                arrived.push(frame);
            }
        }
        prop_assert_eq!(arrived, frames.iter().map(received).collect::<Vec<_>>());
    }
}
