//! The other end of a [`super::link::Link`]: what a proved peer asks of this node. Appends are handed to Raft in
//! the order of their arrival and answered when they are on this disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use openraft::type_config::TypeConfigExt;
use queue_protocol::client::Stream;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::{HEADER_SIZE_MAX, TAIL_SIZE_MAX};
use queue_protocol::names::NodeId;
use queue_protocol::wire::codec::CodecError;
use queue_protocol::wire::frame::{Frame, FrameKind, OutFrame};
use queue_protocol::wire::gather::Gatherer;
use queue_protocol::wire::handshake::Peer;
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{
    Append, AppendResult, AskVote, BootstrapState, EntrySpec, Heartbeat, LogId, PeerCall, PeerPing,
    PeerRequest, PeerResponse, Transfer, VoteResult,
};
use queue_protocol::wire::proof::PeerHello;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;

use super::receive_snapshot::Attempt;
use crate::mutants::{self, Mutant};
use crate::raft::openraft::types::{
    Entry, TypeConfig, from_log_entry, from_log_id, from_vote, to_log_id, to_vote,
};
use crate::raft::{Consensus, Raft};

/// An append may be as large as one entry: contents, their table and the commands.
const APPEND_SIZE_MAX: usize = 2 * TAIL_SIZE_MAX + HEADER_SIZE_MAX;
/// Bytes of appends in pieces that one peer may have here.
const GATHER_SIZE_MAX: usize = 4 * APPEND_SIZE_MAX;
/// A peer pings every second on its connection, and sends a snapshot piece after piece: one that is silent for so long is
/// gone, and its end was lost on the way.
const SILENCE_MAX: Duration = Duration::from_secs(60);

type Answers = mpsc::UnboundedSender<OutFrame>;

/// Serves one peer until its connection ends. Runs where Raft runs.
pub(crate) async fn serve_peer(
    consensus: Arc<Consensus>,
    peer: Peer,
    mut reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: WriteHalf<Box<dyn Stream>>,
) {
    let (proved, peer) = (peer.clone(), peer.hello);
    let ring = Arc::clone(&consensus.me().credentials.ring);
    let mut secrets = ring.changes();
    let mut memberships = consensus.machine().memberships();
    // It may have been removed since it was let in.
    if consensus.gate().check_member(peer.node).is_err() || !ring.lets_in(&proved.secret) {
        return;
    }
    let (answers, queue) = mpsc::unbounded_channel();
    let writing = TypeConfig::spawn(write_answers(writer, queue));
    let _session = consensus.enter(peer);
    let mut gatherer = Gatherer::<Vec<Bytes>>::new(64, APPEND_SIZE_MAX);
    let mut attempt = None;
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(SILENCE_MAX, reader.next()) => next,
            Ok(()) = memberships.changed() => {
                if consensus.gate().check_member(peer.node).is_err() && !mutants::on(Mutant::RemovedStillHeard) {
                    tracing::info!(peer = %peer.node, "a peer was removed, its connection ends");
                    break;
                }
                continue;
            }
            Ok(()) = secrets.changed() => {
                if !ring.lets_in(&proved.secret) {
                    tracing::info!(peer = %peer.node, "a connection ends that was proved with an old secret");
                    break;
                }
                continue;
            }
        };
        let Some(frame) = come(next, peer.node) else { break };
        let mut budget = GATHER_SIZE_MAX.saturating_sub(gatherer.held());
        let done = match gatherer.take(frame, &mut budget) {
            Ok(None) => Ok(()),
            Ok(Some(frame)) => handle(&consensus, &proved, frame, &answers, &mut attempt).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = done {
            tracing::warn!(peer = %peer.node, %error, "a peer is disconnected");
            break;
        }
    }
    drop(answers);
    drop(writing);
    consensus.peer_left(peer.node);
}

/// The frame that came from a peer; `None` if its connection is over.
fn come(next: Result<Result<Option<Frame>, CodecError>, Elapsed>, peer: NodeId) -> Option<Frame> {
    match next {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => {
            tracing::info!(%peer, %error, "a peer's connection broke");
            None
        }
        Err(_) => {
            tracing::info!(%peer, "a peer's connection is silent");
            None
        }
    }
}

async fn write_answers(mut writer: WriteHalf<Box<dyn Stream>>, mut queue: mpsc::UnboundedReceiver<OutFrame>) {
    let mut outbox = Outbox::new();
    while let Some(frame) = queue.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            outbox.push(&frame).expect("answers to peers are small");
            next = queue.try_recv().ok();
        }
        if outbox.write_to(&mut writer).await.is_err() {
            return;
        }
    }
}

fn answer(answers: &Answers, id: u64, response: &PeerResponse) {
    // A closed channel means that the connection is gone, and with it whoever asked.
    let _ = answers.send(OutFrame::new(id, response, Vec::new()));
}

/// Answers one request, or starts to. An error ends the connection.
async fn handle(
    consensus: &Arc<Consensus>,
    proved: &Peer,
    frame: OutFrame,
    answers: &Answers,
    attempt: &mut Option<Attempt>,
) -> io::Result<()> {
    let (peer, seal) = (proved.hello, proved.seal);
    let id = frame.request_id;
    if frame.kind == FrameKind::Ping {
        let _ = answers.send(OutFrame::bare(id, FrameKind::Pong));
        return Ok(());
    }
    let call: PeerCall = frame.message().map_err(io::Error::other)?;
    may_ask(consensus, &peer, &call)?;
    let request = call.request;
    let raft = consensus.raft().clone();
    if let PeerRequest::Append(_) | PeerRequest::Heartbeat(_) | PeerRequest::SnapshotPart(_) = &request {
        consensus.hear_leader(peer.node);
    }
    match request {
        PeerRequest::Append(append) => handle_append(&raft, id, append, frame.tail, answers).await?,
        PeerRequest::Heartbeat(heartbeat) => spawn_heartbeat(raft, id, heartbeat, answers.clone()),
        PeerRequest::Vote(ask) => spawn_vote(raft, id, ask, false, answers.clone()),
        PeerRequest::PreVote(ask) => spawn_vote(raft, id, ask, true, answers.clone()),
        PeerRequest::TransferLeader(transfer) => spawn_transfer(raft, id, transfer, answers.clone()),
        PeerRequest::Ping(ping) => answer(answers, id, &pong(consensus, &peer, ping)),
        PeerRequest::Join(join) => {
            let (consensus, answers) = (Arc::clone(consensus), answers.clone());
            TypeConfig::spawn(async move {
                let response = match consensus.join(join, peer.store, |key| seal.apply(id, key)).await {
                    Ok(joined) => PeerResponse::Joined(joined),
                    Err(error) => PeerResponse::Failed(error),
                };
                answer(&answers, id, &response);
            });
        }
        PeerRequest::Bootstrap(ask) => {
            let holder = consensus.holder_of(&ask, peer.store);
            answer(answers, id, &PeerResponse::Bootstrap(BootstrapState::Member { holder }));
        }
        PeerRequest::Announce(said) => {
            consensus.addresses.hear(&peer, &said);
            answer(answers, id, &PeerResponse::Noted);
        }
        PeerRequest::AskHeld => answer(answers, id, &PeerResponse::Held(consensus.secrets_held())),
        PeerRequest::AskSecret(ask) => {
            let given = consensus.give_secret(proved, ask);
            answer(answers, id, &given.map_or_else(PeerResponse::Failed, PeerResponse::Secret));
        }
        PeerRequest::Invite(_) => return Err(io::Error::other("this node is a member already")),
        PeerRequest::SnapshotBegin(_) | PeerRequest::SnapshotPart(_) | PeerRequest::SnapshotEnd => {
            let response = take_snapshot(consensus, request, frame.tail, attempt).await?;
            answer(answers, id, &response);
        }
    }
    Ok(())
}

fn pong(consensus: &Consensus, peer: &PeerHello, ping: PeerPing) -> PeerResponse {
    match consensus.gate().check_member(peer.node) {
        Ok(()) => {
            consensus.hear(peer.node, ping);
            PeerResponse::Pong(consensus.own_ping())
        }
        Err(removed) => PeerResponse::Failed(removed),
    }
}

/// Whether a peer may ask that at all.
fn may_ask(consensus: &Consensus, peer: &PeerHello, call: &PeerCall) -> io::Result<()> {
    let PeerCall { group, request } = call;
    if *group != 0 {
        return Err(io::Error::other(format!("it asks about group {group}, and there is one, 0")));
    }
    if let Some(full) = consensus.refuse_peers() {
        return Err(io::Error::other(full.message.to_string()));
    }
    if !consensus.floors().is_current(peer) {
        return Err(io::Error::other("another process of this node has taken its place"));
    }
    let joining = peer.node == queue_protocol::wire::hello::JOINING;
    if joining && !matches!(request, PeerRequest::Join(_) | PeerRequest::Bootstrap(_)) {
        return Err(io::Error::other("a node that is no member yet may only ask to join"));
    }
    consensus.floors().bounds().request(peer.node, request).map_err(io::Error::other)
}

/// Takes one message of a snapshot in; what it is answered with.
async fn take_snapshot(
    consensus: &Arc<Consensus>,
    request: PeerRequest,
    tail: Vec<Bytes>,
    attempt: &mut Option<Attempt>,
) -> io::Result<PeerResponse> {
    let reception = consensus.reception();
    match request {
        PeerRequest::SnapshotBegin(begin) => {
            let (began, from) = reception.begin(consensus.machine(), consensus.log(), begin, joined(tail))?;
            TypeConfig::spawn(Arc::clone(reception).expire(began));
            *attempt = Some(began);
            Ok(PeerResponse::SnapshotFrom(from))
        }
        PeerRequest::SnapshotPart(part) => {
            let attempt = attempt.ok_or_else(|| io::Error::other("a part of no snapshot"))?;
            let taken = reception.part(attempt, part, joined(tail)).await;
            taken.map_err(|why| consensus.not_taken(why))?;
            Ok(PeerResponse::PartTaken)
        }
        _ => {
            let attempt = attempt.take().ok_or_else(|| io::Error::other("the end of no snapshot"))?;
            let installed = reception.install(attempt, consensus.raft()).await;
            installed.map_err(|why| consensus.not_taken(why))
        }
    }
}

/// What is left of a tail that came in pieces.
struct Rest(VecDeque<Bytes>);

impl Rest {
    /// The next `size` bytes, as they are cut.
    fn split_to(&mut self, size: usize) -> io::Result<Vec<Bytes>> {
        let mut parts = Vec::new();
        let mut missing = size;
        while missing > 0 {
            let mut piece = self.0.pop_front().ok_or_else(|| io::Error::other("a tail is too short"))?;
            let part = piece.split_to(missing.min(piece.len()));
            missing -= part.len();
            parts.push(part);
            if !piece.is_empty() {
                self.0.push_front(piece);
            }
        }
        Ok(parts)
    }
}

/// In one piece; copied only if it is not yet.
fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() > 1 { parts.concat().into() } else { parts.pop().unwrap_or_default() }
}

/// Takes one entry's bytes off the tail of an append.
fn decode_entry(spec: &EntrySpec, rest: &mut Rest) -> io::Result<Entry> {
    let commands = joined(rest.split_to(spec.commands_size as usize)?);
    let mut rows = joined(rest.split_to(spec.bodies_count as usize * 8)?);
    let mut table = Vec::with_capacity(spec.bodies_count as usize);
    let mut bodies_size = 0;
    while rows.has_remaining() {
        let row = ContentSpec { size: rows.get_u32_le(), crc32c: rows.get_u32_le() };
        bodies_size += u64::from(row.size);
        table.push(row);
    }
    if bodies_size != u64::from(spec.bodies_size) {
        return Err(io::Error::other("an append's body table does not fit its bodies"));
    }
    let contents = rest.split_to(spec.bodies_size as usize)?;
    let entry = crate::log::Entry {
        id: spec.id,
        kind: spec.kind,
        commands,
        table: table.into(),
        contents: Some(contents.into()),
    };
    from_log_entry(entry).map_err(io::Error::other)
}

/// Hands the append to Raft before the next one is read; the answer follows when it is durable.
pub(crate) async fn handle_append(
    raft: &Raft,
    id: u64,
    append: Append,
    tail: Vec<Bytes>,
    answers: &Answers,
) -> io::Result<()> {
    let mut rest = Rest(tail.into());
    let entries: io::Result<Vec<Entry>> =
        append.entries.iter().map(|spec| decode_entry(spec, &mut rest)).collect();
    let request = AppendEntriesRequest::<TypeConfig> {
        vote: to_vote(append.vote),
        prev_log_id: append.prev.map(to_log_id),
        entries: entries?,
        leader_commit: append.commit.map(to_log_id),
    };
    if rest.0.iter().any(|piece| !piece.is_empty()) {
        return Err(io::Error::other("an append's tail is longer than its entries"));
    }
    let last = append.entries.last().map(|spec| spec.id).or(append.prev);
    let prev = append.prev;
    let (raft, answers) = (raft.clone(), answers.clone());
    let mut appending = Box::pin(async move {
        // If Raft has stopped, the process ends.
        let Ok(response) = raft.append_entries(request).await else { return };
        if let Some(result) = append_result(&response, prev, last) {
            answer(&answers, id, &PeerResponse::Append(result));
        }
    });
    // The first poll puts the request into Raft's queue: that is what keeps the order.
    if futures_util::poll!(&mut appending).is_pending() {
        TypeConfig::spawn(appending);
    }
    Ok(())
}

/// What to answer; `None` for what cannot be.
fn append_result(
    response: &AppendEntriesResponse<TypeConfig>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Option<AppendResult> {
    Some(match response {
        AppendEntriesResponse::Success => AppendResult::Durable(last),
        AppendEntriesResponse::PartialSuccess(upto) => AppendResult::Durable(upto.as_ref().map(from_log_id)),
        AppendEntriesResponse::Conflict => AppendResult::Conflict(prev?),
        AppendEntriesResponse::HigherVote(vote) => AppendResult::HigherVote(from_vote(vote)),
    })
}

/// Answers as soon as Raft has taken the heartbeat in and follows its leader. Raft's own answer may wait for a slow disk
/// to take earlier entries; a leader that waits for it would think that nobody hears it.
fn spawn_heartbeat(raft: Raft, id: u64, heartbeat: Heartbeat, answers: Answers) {
    let Heartbeat { vote, prev, commit } = heartbeat;
    TypeConfig::spawn(async move {
        let request = AppendEntriesRequest::<TypeConfig> {
            vote: to_vote(vote),
            prev_log_id: prev.map(to_log_id),
            entries: Vec::new(),
            leader_commit: commit.map(to_log_id),
        };
        let mut appending = std::pin::pin!(raft.append_entries(request));
        let mut appended = futures_util::poll!(&mut appending);
        if appended.is_pending() {
            // Behind the heartbeat in Raft's queue: the vote it leaves, whatever is durable.
            let Ok(follows) = raft.with_raft_state(|state| from_vote(state.vote_ref())).await else { return };
            appended = futures_util::poll!(&mut appending);
            if appended.is_pending() && follows == vote {
                return answer(&answers, id, &PeerResponse::Seen(follows));
            }
        }
        let response = match appended {
            Poll::Ready(response) => response,
            Poll::Pending => appending.await,
        };
        if let Some(result) = response.ok().and_then(|response| append_result(&response, prev, prev)) {
            answer(&answers, id, &PeerResponse::Append(result));
        }
    });
}

fn spawn_vote(raft: Raft, id: u64, ask: AskVote, pre: bool, answers: Answers) {
    TypeConfig::spawn(async move {
        let request = VoteRequest::<TypeConfig> {
            vote: to_vote(ask.vote),
            last_log_id: ask.last.map(to_log_id),
            leadership_transfer: ask.by_transfer,
        };
        let result = if pre { raft.pre_vote(request).await } else { raft.vote(request).await };
        if let Ok(response) = result {
            let result = VoteResult {
                vote: from_vote(&response.vote),
                granted: response.vote_granted,
                last: response.last_log_id.as_ref().map(from_log_id),
            };
            answer(&answers, id, &PeerResponse::Vote(result));
        }
    });
}

fn spawn_transfer(raft: Raft, id: u64, transfer: Transfer, answers: Answers) {
    TypeConfig::spawn(async move {
        let from = to_vote(transfer.from);
        let NodeId(to) = transfer.to;
        let request = TransferLeaderRequest::new(from, to, transfer.last.map(to_log_id));
        let response = match raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => PeerResponse::Seen(transfer.from),
            Ok(Err(error)) => PeerResponse::Failed(Error::again(ErrorCode::NoLeader, error.to_string())),
            Err(_) => return,
        };
        answer(&answers, id, &response);
    });
}
