//! A snapshot on its way to a peer, over a connection of its own: the live bodies the peer does not have, then the
//! state. In bounded memory; if it breaks, the next one goes on from what the peer has by then.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::limits::BULK_FRAME_SIZE_MAX;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::{Frame, OutFrame};
use queue_protocol::wire::io::Outbox;
use queue_protocol::wire::peer::{
    PeerCall, PeerRequest, PeerResponse, SnapshotBegin, SnapshotFrom, SnapshotPart, Vote,
};

use super::dial::PeerStream;
use super::link::Link;
use crate::log::{LiveBodies, Log};
use crate::raft::group::machine::Pinned;

/// Parts sent and not acknowledged.
const PARTS_IN_FLIGHT_MAX: usize = 8;
/// Bodies in one part.
const PART_BODIES_MAX: usize = 1_024;
/// Silence after which the transfer has failed; an install may take long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

struct Sender<'a> {
    link: &'a Link,
    stream: PeerStream,
    next_id: u64,
    in_flight: VecDeque<u64>,
}

impl Sender<'_> {
    async fn send(&mut self, request: PeerRequest, tail: Vec<Bytes>) -> io::Result<()> {
        let mut outbox = Outbox::new();
        for frame in OutFrame::new(self.next_id, &PeerCall::from(request), tail).cut(BULK_FRAME_SIZE_MAX) {
            outbox.push(&frame).map_err(io::Error::other)?;
        }
        self.in_flight.push_back(self.next_id);
        self.next_id += 1;
        outbox.write_to(&mut self.stream.writer).await
    }

    /// The next answer, in the order of the requests.
    async fn answer(&mut self) -> io::Result<PeerResponse> {
        let reading = tokio::time::timeout(ANSWER_TIMEOUT, self.stream.reader.next());
        let frame: Frame = match reading.await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if self.in_flight.pop_front() != Some(frame.request_id) {
            return Err(io::Error::other("an answer out of turn"));
        }
        let answer = frame.message().map_err(io::Error::other)?;
        self.link.bounds().response(&answer).map_err(io::Error::other)?;
        Ok(answer)
    }

    async fn ask(&mut self, request: PeerRequest, tail: Vec<Bytes>) -> io::Result<PeerResponse> {
        self.drain(0).await?;
        self.send(request, tail).await?;
        self.answer().await
    }

    async fn part(&mut self, part: SnapshotPart, tail: Vec<Bytes>) -> io::Result<()> {
        self.drain(PARTS_IN_FLIGHT_MAX - 1).await?;
        self.send(PeerRequest::SnapshotPart(part), tail).await
    }

    async fn drain(&mut self, left: usize) -> io::Result<()> {
        while self.in_flight.len() > left {
            match self.answer().await? {
                PeerResponse::PartTaken => {}
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }
}

fn unexpected(response: &PeerResponse) -> io::Error {
    io::Error::other(format!("unexpected answer {response:?}"))
}

/// Sends `pinned` and waits until it is installed. Gives the vote of the node that took it.
pub(crate) async fn send(
    link: &Link,
    log: &Log,
    vote: Vote,
    meta: Vec<u8>,
    pinned: &Pinned,
) -> io::Result<Vote> {
    let mut sender = Sender { link, stream: link.dial().await?, next_id: 0, in_flight: VecDeque::new() };
    let state_size = pinned.file.state_size;
    let begin = SnapshotBegin { vote, last: Some(pinned.file.last), state_size };
    let begun = sender.ask(PeerRequest::SnapshotBegin(begin), vec![meta.into()]).await?;
    let from = match begun {
        PeerResponse::SnapshotFrom(from) => from,
        other => return Err(unexpected(&other)),
    };
    for (index, ordinals) in missing(&pinned.live, &from) {
        let ordinals: Vec<u32> = ordinals.collect();
        for ordinals in ordinals.chunks(PART_BODIES_MAX) {
            send_bodies(&mut sender, log, index, ordinals).await?;
        }
    }
    let mut offset = from.state;
    while offset < state_size {
        let mut part = Vec::new();
        pinned.file.read_part(offset, &mut part).map_err(io::Error::other)?;
        offset += part.len() as u64;
        sender.part(SnapshotPart::State, vec![part.into()]).await?;
    }
    match sender.ask(PeerRequest::SnapshotEnd, Vec::new()).await? {
        PeerResponse::Seen(vote) => Ok(vote),
        other => Err(unexpected(&other)),
    }
}

/// The live bodies that the peer has neither applied nor staged.
fn missing<'a>(
    live: &'a LiveBodies,
    from: &SnapshotFrom,
) -> impl Iterator<Item = (u64, Range<u32>)> + use<'a> {
    let applied = from.applied.map_or(0, |applied| applied.index);
    let staged = from.staged;
    let above = live[live.partition_point(|(index, _)| *index <= applied)..].iter();
    above.filter_map(move |(index, ordinals)| {
        let start = match staged {
            Some((last, _)) if *index < last => return None,
            Some((last, ordinal)) if *index == last => ordinals.start.max(ordinal.saturating_add(1)),
            _ => ordinals.start,
        };
        (start < ordinals.end).then_some((*index, start..ordinals.end))
    })
}

async fn send_bodies(sender: &mut Sender<'_>, log: &Log, index: u64, ordinals: &[u32]) -> io::Result<()> {
    let bodies = log.read_bodies(index, ordinals).map_err(io::Error::other)?;
    let id = log.body_id(index).map_err(io::Error::other)?;
    let mut rows: Vec<(u32, ContentSpec)> = Vec::new();
    let mut tail = Vec::new();
    let mut size = 0;
    for (ordinal, (spec, content)) in ordinals.iter().zip(bodies) {
        if size + content.len() > BULK_FRAME_SIZE_MAX && !rows.is_empty() {
            let bodies = Bounded::new(std::mem::take(&mut rows)).expect("chunks are smaller");
            sender.part(SnapshotPart::Bodies { id, bodies }, std::mem::take(&mut tail)).await?;
            size = 0;
        }
        size += content.len();
        rows.push((*ordinal, spec));
        tail.push(content);
    }
    let bodies = Bounded::new(rows).expect("chunks are smaller");
    sender.part(SnapshotPart::Bodies { id, bodies }, tail).await
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::NodeId;
    use queue_protocol::wire::peer::LogId;

    use super::*;

    #[test]
    fn only_what_is_neither_applied_nor_staged_is_sent() {
        let live = vec![(3, 0..2), (5, 0..4), (5, 6..9), (8, 0..1)];
        let applied = |index| Some(LogId { term: 1, leader: NodeId(1), index });
        let sent = |applied, staged| {
            let from = SnapshotFrom { applied, staged, state: 0 };
            missing(&live, &from).collect::<Vec<_>>()
        };
        assert_eq!(sent(None, None), live);
        assert_eq!(sent(applied(3), None), live[1..]);
        assert_eq!(sent(applied(3), Some((5, 1))), [(5, 2..4), (5, 6..9), (8, 0..1)]);
        assert_eq!(sent(applied(3), Some((5, 7))), [(5, 8..9), (8, 0..1)]);
        assert_eq!(sent(applied(3), Some((6, 0))), [(8, 0..1)], "another snapshot than was staged of");
        assert_eq!(sent(None, Some((8, 0))), []);
        assert_eq!(sent(applied(9), None), []);
    }
}
