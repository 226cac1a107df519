//! openraft's network: its calls become peer messages on the [`Link`] to the node they are for.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::peer::{
    Append, AppendResult, AskVote, EntrySpec, Heartbeat, PeerRequest, PeerResponse, Transfer, Vote,
    VoteResult,
};
use queue_protocol::wire::response::WriteStage;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::types;
use super::types::{
    Entry, Member, RaftLogId, RaftVote, TypeConfig, from_log_id, from_vote, to_log_entry, to_log_id, to_vote,
};
use crate::locked::Locked as _;
use crate::log::Log;
use crate::outside::Outside;
use crate::raft::group::machine::SnapshotData;
use crate::raft::node::addresses::Addresses;
use crate::raft::node::admission::Gate;
use crate::raft::node::dial::Credentials;
use crate::raft::node::link::{Lane, Link};
use crate::raft::node::send_snapshot;
use crate::stages::Stages;

type RpcError = RPCError<TypeConfig>;
type AppendItem = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// Appends sent and not answered, per follower.
const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// An append that is not answered in this time (a stalled disk is slow, a dead peer silent) ends the stream.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes clients for openraft; they share one link a node.
#[derive(Clone)]
pub(crate) struct Network {
    outside: Outside,
    me: Credentials,
    log: Log,
    gate: Gate,
    addresses: Arc<Addresses>,
    links: Arc<Mutex<BTreeMap<u64, Arc<Link>>>>,
    /// Entries up to here are to be purged, whoever still reads them.
    released: Arc<watch::Sender<u64>>,
}

impl Network {
    pub(crate) fn new(
        outside: Outside,
        me: Credentials,
        log: Log,
        gate: Gate,
        addresses: Arc<Addresses>,
    ) -> Self {
        Self { outside, me, log, gate, addresses, links: Arc::default(), released: Arc::default() }
    }

    /// Ends the streams to followers that lack entries up to `upto`: what is in flight is not purged.
    pub(crate) fn release(&self, upto: u64) {
        let raised = self.released.send_if_modified(|released| {
            let raised = upto > *released;
            *released = upto.max(*released);
            raised
        });
        if raised {
            tracing::info!(upto, "the log is purged for want of room: followers that lack it get a snapshot");
        }
    }

    /// The link to a node, wherever it is.
    pub(crate) fn link(&self, node: u64, member: &Member) -> Arc<Link> {
        let mut links = self.links.locked();
        if let Some(link) = links.get(&node) {
            return Arc::clone(link);
        }
        let link = Link::new(
            self.outside.clone(),
            self.me.clone(),
            self.gate.clone(),
            Arc::clone(&self.addresses),
            NodeId(node),
            member.clone(),
        );
        let link = Arc::new(link);
        links.insert(node, Arc::clone(&link));
        link
    }

    /// Ends the connections to nodes that were removed.
    pub(crate) async fn end(&self, is_removed: impl Fn(NodeId) -> bool) {
        for link in self.links_of(is_removed) {
            link.end().await;
        }
    }

    /// The links to these nodes.
    pub(crate) fn links_of(&self, is_meant: impl Fn(NodeId) -> bool) -> Vec<Arc<Link>> {
        let links = self.links.locked();
        let meant = links.iter().filter(|(node, _)| is_meant(NodeId(**node)));
        meant.map(|(_, link)| Arc::clone(link)).collect()
    }

    /// A node was let in: it is there.
    pub(crate) fn came(&self, node: NodeId) {
        self.links_of(|other| other == node).iter().for_each(|link| link.dial_at_once());
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerClient {
        let (link, log) = (self.link(target, node), self.log.clone());
        PeerClient { link, log, traffic: Traffic::Entries, released: self.released.subscribe() }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> PeerClient {
        PeerClient { traffic: Traffic::Heartbeats, ..self.new_client(target, node).await }
    }
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Entries,
    Heartbeats,
}

/// Speaks to one node for openraft.
pub(crate) struct PeerClient {
    link: Arc<Link>,
    log: Log,
    traffic: Traffic,
    released: watch::Receiver<u64>,
}

fn unreachable(error: &io::Error) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn unexpected(response: &PeerResponse) -> io::Error {
    io::Error::other(match response {
        PeerResponse::Failed(error) => error.to_string(),
        other => format!("unexpected answer {other:?}"),
    })
}

/// An append as a message and its tail: commands, table and bodies of every entry, nothing copied but the tables.
fn encode_append(request: AppendEntriesRequest<TypeConfig>) -> (PeerRequest, Vec<Bytes>) {
    let mut tail = Vec::new();
    let entries = request.entries.into_iter().map(|entry| encode_entry(entry, &mut tail)).collect();
    let append = Append {
        vote: from_vote(&request.vote),
        prev: request.prev_log_id.as_ref().map(from_log_id),
        commit: request.leader_commit.as_ref().map(from_log_id),
        entries: Bounded::new(entries).expect("openraft is configured to send no more at once"),
    };
    (PeerRequest::Append(append), tail)
}

fn encode_entry(entry: Entry, tail: &mut Vec<Bytes>) -> EntrySpec {
    let entry = to_log_entry(entry);
    let mut table = BytesMut::with_capacity(entry.table.len() * 8);
    let mut bodies_size = 0;
    for spec in entry.table.iter() {
        table.put_u32_le(spec.size);
        table.put_u32_le(spec.crc32c);
        bodies_size += spec.size;
    }
    let fits = |count: usize| u32::try_from(count).expect("an entry is smaller than a frame");
    let spec = EntrySpec {
        id: entry.id,
        kind: entry.kind,
        commands_size: fits(entry.commands.len()),
        bodies_count: fits(entry.table.len()),
        bodies_size,
    };
    tail.push(entry.commands);
    tail.push(table.freeze());
    tail.extend(entry.contents.unwrap_or_default().iter().cloned());
    spec
}

fn append_result(
    result: AppendResult,
    prev: Option<RaftLogId>,
    last: Option<RaftLogId>,
) -> StreamAppendResult<TypeConfig> {
    append_response(result, last).into_stream_result(prev.or_else(|| conflict_at(result)), last)
}

fn conflict_at(result: AppendResult) -> Option<RaftLogId> {
    if let AppendResult::Conflict(at) = result { Some(to_log_id(at)) } else { None }
}

fn append_response(result: AppendResult, last: Option<RaftLogId>) -> AppendEntriesResponse<TypeConfig> {
    match result {
        AppendResult::Durable(upto) if upto.map(to_log_id) == last => AppendEntriesResponse::Success,
        AppendResult::Durable(upto) => AppendEntriesResponse::PartialSuccess(upto.map(to_log_id)),
        AppendResult::Conflict(_) => AppendEntriesResponse::Conflict,
        AppendResult::HigherVote(vote) => AppendEntriesResponse::HigherVote(to_vote(vote)),
    }
}

fn vote_response(result: VoteResult) -> VoteResponse<TypeConfig> {
    VoteResponse {
        vote: to_vote(result.vote),
        vote_granted: result.granted,
        last_log_id: result.last.map(to_log_id),
    }
}

struct InFlight {
    vote: Vote,
    prev: Option<RaftLogId>,
    last: Option<RaftLogId>,
    answer: oneshot::Receiver<PeerResponse>,
    sent: Instant,
}

/// An answer does not come in time, or must not be waited for any more.
struct GivenUp;

impl InFlight {
    /// The answer, or why it is not waited for: it takes too long, or what comes before it is to be purged.
    async fn answer(
        &mut self,
        released: &mut watch::Receiver<u64>,
    ) -> Result<Result<PeerResponse, oneshot::error::RecvError>, GivenUp> {
        let prev = self.prev.map_or(0, |id| id.index);
        tokio::select! {
            biased;
            answer = &mut self.answer => Ok(answer),
            Ok(_) = released.wait_for(|upto| prev < *upto) => Err(GivenUp),
            () = tokio::time::sleep_until(self.sent + APPEND_TIMEOUT) => Err(GivenUp),
        }
    }
}

/// One session of streamed appends: requests go out as they come, answers come back in order.
pub(crate) struct AppendStream<S> {
    link: Arc<Link>,
    input: Option<S>,
    open: Option<Arc<crate::raft::node::link::Open>>,
    in_flight: VecDeque<InFlight>,
    stages: Stages,
    released: watch::Receiver<u64>,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> AppendStream<S> {
    async fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> io::Result<()> {
        let open = match &self.open {
            Some(open) => Arc::clone(open),
            None => self.open.insert(self.link.open().await?).clone(),
        };
        let vote = from_vote(&request.vote);
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let (message, tail) = encode_append(request);
        let answer = open.send(Lane::Append, message, tail);
        self.in_flight.push_back(InFlight { vote, prev, last, answer, sent: Instant::now() });
        Ok(())
    }

    /// The next answer. A request is taken before anything is dialed: openraft waits out its back-off there.
    async fn next(mut self) -> Option<(AppendItem, Option<Self>)> {
        loop {
            let may_send = self.in_flight.len() < APPENDS_IN_FLIGHT_MAX;
            let arrived = match (&mut self.input, self.in_flight.front_mut()) {
                (None, None) => return None,
                (Some(input), None) => Either::Left(input.next().await),
                (Some(input), Some(first)) if may_send => {
                    let answer = first.answer(&mut self.released);
                    match select(input.next(), std::pin::pin!(answer)).await {
                        Either::Left((request, _)) => Either::Left(request),
                        Either::Right((answer, _)) => Either::Right(answer),
                    }
                }
                (_, Some(first)) => Either::Right(first.answer(&mut self.released).await),
            };
            match arrived {
                Either::Left(None) => self.input = None,
                Either::Left(Some(request)) => {
                    if let Err(error) = self.send(request).await {
                        return Some((Err(unreachable(&error)), None));
                    }
                }
                Either::Right(answer) => {
                    let first = self.in_flight.pop_front()?;
                    let item = match answer {
                        Ok(Ok(PeerResponse::Append(result))) => {
                            if let Some(Err(error)) = self.open.as_ref().map(|open| self.link.check(open)) {
                                return Some((Err(unreachable(&error)), None));
                            }
                            self.link.acknowledged(&result, first.vote);
                            if first.prev != first.last {
                                let entries = types::entries(first.prev, first.last);
                                self.stages.record_of(WriteStage::Replicate, entries, first.sent.elapsed());
                            }
                            Ok(append_result(result, first.prev, first.last))
                        }
                        Ok(Ok(other)) => Err(RPCError::Network(NetworkError::new(&unexpected(&other)))),
                        Ok(Err(_)) => Err(RPCError::Network(NetworkError::new(&io::Error::from(
                            io::ErrorKind::ConnectionReset,
                        )))),
                        Err(GivenUp) => {
                            // It takes bytes and says nothing: what is queued for it must not pile up.
                            if let Some(open) = &self.open {
                                open.close();
                            }
                            Err(RPCError::Network(NetworkError::new(&io::Error::from(
                                io::ErrorKind::TimedOut,
                            ))))
                        }
                    };
                    let goes_on = matches!(item, Ok(Ok(_)));
                    return Some((item, goes_on.then_some(self)));
                }
            }
        }
    }
}

impl PeerClient {
    async fn ask(
        &self,
        request: PeerRequest,
        tail: Vec<Bytes>,
        within: Duration,
    ) -> Result<PeerResponse, RpcError> {
        self.link.ask(Lane::Urgent, request, tail, within).await.map_err(|error| unreachable(&error))
    }

    /// Sends a heartbeat past all appends. It waits for no disk, so its answer says nothing of what is durable.
    async fn heartbeat(&self, request: AppendEntriesRequest<TypeConfig>, within: Duration) -> AppendItem {
        let vote = from_vote(&request.vote);
        let prev = request.prev_log_id;
        let heartbeat = Heartbeat {
            vote,
            prev: prev.as_ref().map(from_log_id),
            commit: request.leader_commit.as_ref().map(from_log_id),
        };
        match self.ask(PeerRequest::Heartbeat(heartbeat), Vec::new(), within).await? {
            PeerResponse::Seen(seen) if seen == vote => Ok(Ok(prev)),
            PeerResponse::Append(result) => Ok(append_result(result, prev, prev)),
            other => Err(RPCError::Network(NetworkError::new(&unexpected(&other)))),
        }
    }

    async fn ask_vote(
        &self,
        rpc: &VoteRequest<TypeConfig>,
        kind: fn(AskVote) -> PeerRequest,
        within: Duration,
    ) -> Result<VoteResult, RpcError> {
        let ask = AskVote {
            vote: from_vote(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(from_log_id),
            by_transfer: rpc.leadership_transfer,
        };
        match self.ask(kind(ask), Vec::new(), within).await? {
            PeerResponse::Vote(result) => Ok(result),
            other => Err(unreachable(&unexpected(&other))),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let vote = from_vote(&request.vote);
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let (message, tail) = encode_append(request);
        match self.ask(message, tail, option.soft_ttl()).await? {
            PeerResponse::Append(result) => {
                self.link.acknowledged(&result, vote);
                Ok(append_response(result, last))
            }
            other => Err(unreachable(&unexpected(&other))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendItem>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.traffic == Traffic::Heartbeats {
            let client = &*self;
            let answers = input.then(move |request| client.heartbeat(request, option.soft_ttl()));
            return Box::pin(async move { Ok(Box::pin(answers) as BoxStream<'s, AppendItem>) });
        }
        let stream = AppendStream {
            link: Arc::clone(&self.link),
            input: Some(input),
            open: None,
            in_flight: VecDeque::new(),
            stages: self.log.stages().clone(),
            released: self.released.clone(),
        };
        let answers =
            futures_util::stream::unfold(Some(stream), |stream| async move { stream?.next().await });
        Box::pin(async move { Ok(Box::pin(answers) as BoxStream<'s, AppendItem>) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let result = self.ask_vote(&rpc, PeerRequest::Vote, option.soft_ttl()).await?;
        if result.granted {
            self.link.granted(from_vote(&rpc.vote));
        }
        Ok(vote_response(result))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(&rpc, PeerRequest::PreVote, option.soft_ttl()).await.map(vote_response)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Local(pinned) = snapshot.snapshot else {
            return Err(StreamingError::Unreachable(Unreachable::new(&io::Error::other(
                "not published yet",
            ))));
        };
        let meta = types::encode_meta(&snapshot.meta);
        let sending = send_snapshot::send(&self.link, &self.log, from_vote(&vote), meta, &pinned);
        match select(std::pin::pin!(sending), std::pin::pin!(cancel)).await {
            Either::Left((Ok(vote), _)) => {
                let (term, index) = (vote.term, pinned.file.last.index);
                tracing::info!(term, index, to = self.link.address(), "a snapshot is sent");
                Ok(SnapshotResponse { vote: to_vote(vote) })
            }
            Either::Left((Err(error), _)) => {
                tracing::warn!(to = self.link.address(), %error, "sending a snapshot failed, it begins again");
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let transfer = Transfer {
            from: from_vote(request.from_leader()),
            to: NodeId(*request.to_node_id()),
            last: request.last_log_id().map(from_log_id),
        };
        let (term, index) = (transfer.from.term, transfer.last.map_or(0, |last| last.index));
        tracing::info!(term, index, to = self.link.address(), "leadership is handed over");
        match self.ask(PeerRequest::TransferLeader(transfer), Vec::new(), option.soft_ttl()).await? {
            PeerResponse::Seen(_) => Ok(Ok(())),
            other => Err(unreachable(&unexpected(&other))),
        }
    }
}
