//! Opening a connection to a peer, proved both ways; and what is asked over one that nobody shares.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::{Dialing, Stream};
use queue_protocol::error::Error;
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::handshake::{Called, HandshakeError, peer_handshake};
use queue_protocol::wire::hello::{Hello, HelloRole, JOINING, PeerId};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{PeerCall, PeerRequest, PeerResponse};
use queue_protocol::wire::proof::{Facts, PeerHello, Seal, Secret, Told, Transcript};
use tokio::io::{ReadHalf, WriteHalf};

use super::admission::Gate;
use super::ring::Ring;
use crate::outside::Outside;
use crate::raft::cluster::levels::Spoken;

/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The request id of what is asked over a connection of its own.
const ASKED_ID: u64 = 1;

/// Who this node is to its peers.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) store: StoreId,
    /// The secrets that count, and what shows which node it is.
    pub(crate) ring: Arc<Ring>,
    /// How often the log was opened, this time included.
    pub(crate) epoch: u32,
    /// The random number of this process.
    pub(crate) boot: u64,
    /// What it speaks, and what the cluster does.
    pub(crate) spoken: Spoken,
}

impl Credentials {
    /// Who this is, without what its log holds.
    pub(crate) fn hello(&self) -> PeerHello {
        let Self { node, store, epoch, boot, .. } = *self;
        PeerHello { epoch, boot, levels: self.spoken.own(), ..PeerHello::nobody(node, store) }
    }

    /// What this node proves itself with, once it may: `facts`, and its identity.
    pub(crate) fn tell(&self, transcript: &Transcript, facts: Facts) -> Told {
        let id = PeerId { node: self.node, store: self.store };
        let identity = self.ring.keys().map(|keys| keys.show(self.cluster, id, transcript));
        Told { facts, identity }
    }
}

/// An open stream to a peer, hello and proofs done.
pub(crate) struct PeerStream {
    pub(crate) reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    pub(crate) writer: WriteHalf<Box<dyn Stream>>,
    pub(crate) hello: PeerHello,
    /// The cluster of the node that answered; 0 if it has none.
    pub(crate) cluster: ClusterId,
    /// Hides keys on it.
    seal: Seal,
    /// What both sides have proved.
    pub(super) secret: Secret,
    /// Its channel is bound to the proof.
    pub(super) is_secured: bool,
    /// The address that was dialed.
    pub(crate) address: String,
}

impl PeerStream {
    /// Asks one thing over a connection that nobody shares, and waits for the answer. There is no deadline here.
    ///
    /// # Errors
    /// The stream failed, or what came is no answer.
    pub(crate) async fn ask(&mut self, request: PeerRequest) -> io::Result<PeerResponse> {
        let mut outbox = Outbox::new();
        outbox
            .push(&OutFrame::new(ASKED_ID, &PeerCall::from(request), Vec::new()))
            .map_err(io::Error::other)?;
        outbox.write_to(&mut self.writer).await?;
        let frame = self.reader.next().await.map_err(io::Error::other)?;
        frame.ok_or(io::ErrorKind::UnexpectedEof)?.message().map_err(io::Error::other)
    }

    /// A key that was hidden in the answer.
    pub(crate) fn unsealed(&self, hidden: [u8; 32]) -> [u8; 32] {
        self.seal.apply(ASKED_ID, hidden)
    }
}

/// A node does not want to hear of us.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{address}: refused: {error}")]
pub(crate) struct RefusedBy {
    address: String,
    pub(crate) error: Error,
}

impl SomebodyElse {
    /// Who it is not, if that is why a connection failed.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// That is why a connection failed.
    pub(crate) fn is(error: &io::Error) -> bool {
        Self::of(error).is_some()
    }
}

impl RefusedBy {
    /// What the refusal says, if that is why a connection failed.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Somebody answers who is not the node that was called, or does not know the secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{address}: {error}")]
pub(crate) struct SomebodyElse {
    address: String,
    pub(crate) error: Error,
}

/// Connects to `address` as a peer; `called` must answer there. A joining node has no gate yet and believes any peer that
/// proves the secret.
pub(crate) async fn dial_peer(
    outside: &Outside,
    me: &Credentials,
    gate: Option<&Gate>,
    address: &str,
    called: Option<Called>,
) -> io::Result<PeerStream> {
    over(outside.net.dial(address), outside, me, gate, address, called).await
}

/// The same over a connection that is being opened.
pub(super) async fn over(
    dialing: Dialing,
    outside: &Outside,
    me: &Credentials,
    gate: Option<&Gate>,
    address: &str,
    called: Option<Called>,
) -> io::Result<PeerStream> {
    let stream = tokio::time::timeout(DIAL_TIMEOUT, dialing)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer")))??;
    let channel = stream.channel();
    let (read, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read);
    let own = gate.map_or_else(|| me.hello(), |gate| gate.floors.hello(me));
    let role = HelloRole::Peer(own.id());
    // Who joins does not know the cluster yet.
    let cluster = (me.node != JOINING).then_some(me.cluster);
    let hello = Hello::new(cluster, role, outside.clock.wall_ms(), outside.random_bytes());
    let tell = |transcript: &Transcript| me.tell(transcript, own.facts());
    let secret = me.ring.proves();
    let proved = peer_handshake(&mut reader, &mut writer, hello, &channel, &secret, called, tell).await;
    let peer = proved.map_err(|error| match error {
        HandshakeError::Io(error) => error,
        HandshakeError::Refused(error) => io::Error::other(RefusedBy { address: address.to_owned(), error }),
        HandshakeError::Rejected(error) => {
            io::Error::other(SomebodyElse { address: address.to_owned(), error })
        }
        other => io::Error::other(format!("{address}: {other}")),
    })?;
    if let Some(gate) = gate {
        let somebody = |error| io::Error::other(SomebodyElse { address: address.to_owned(), error });
        gate.check(me, &peer).map_err(somebody)?;
    }
    Ok(PeerStream {
        reader,
        writer,
        hello: peer.hello,
        cluster: peer.cluster,
        seal: peer.seal,
        secret,
        is_secured: peer.transcript.is_secured(),
        address: address.to_owned(),
    })
}
