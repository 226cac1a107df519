//! Peers that are not ours: what a data directory holds, or less, in the hands of somebody else, who says to a node
//! whatever a test wants.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use queue_broker::fs::os::OsDisk;
use queue_broker::node::identity::Identity as Directory;
use queue_broker::node::{keys, secret};
use queue_protocol::client::tls::{TlsDial, Trust};
use queue_protocol::client::{Dial, Stream, TcpDial};
use queue_protocol::names::ClusterId;
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::handshake::{HandshakeError, Peer, peer_handshake};
use queue_protocol::wire::hello::{Hello, HelloRole, PeerId};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{PeerCall, PeerRequest, PeerResponse};
use queue_protocol::wire::proof::{Certificate, Facts, Identity, Secret, Signature, Told, Transcript};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::cluster::random;

/// How long a node may take to answer, or to end a connection.
const LIMIT: Duration = Duration::from_secs(10);

/// What somebody knows, and says that it is.
#[derive(Clone)]
pub struct Impostor {
    /// Of the cluster.
    pub cluster: ClusterId,
    /// Who it says that it is.
    pub id: PeerId,
    /// The cluster's, or another one.
    pub secret: Secret,
    /// The node's key.
    pub key: SigningKey,
    /// What signs its certificate.
    pub admission: SigningKey,
    /// The entry that its certificate names.
    pub index: u64,
    /// Which admission key its certificate names.
    pub generation: u32,
    /// What it says of its log.
    pub facts: Facts,
    /// Whether it shows which node it is.
    pub shows: bool,
}

impl Impostor {
    /// With all that the data directory of a member holds. The next start of it, with all of its log.
    ///
    /// # Panics
    /// If it is not the directory of a member.
    pub fn of(dir: &Path, facts: Facts) -> Self {
        let identity = Directory::read(&OsDisk, dir).expect("a member's directory").identity;
        let read = |name| secret::read_file(&OsDisk, &dir.join(name)).expect("a key").0;
        Self {
            cluster: identity.cluster,
            id: PeerId { node: identity.node, store: identity.store },
            secret: Secret(read(secret::SECRET_FILE)),
            key: SigningKey::from_bytes(&read(keys::NODE_KEY_FILE)),
            admission: SigningKey::from_bytes(&read(keys::ADMISSION_FILE)),
            index: identity.assigned,
            generation: identity.admission.expect("it has joined").generation,
            facts,
            shows: true,
        }
    }

    fn tell(&self, transcript: &Transcript) -> Told {
        let (facts, key) = (self.facts, self.key.verifying_key().to_bytes());
        let (index, generation) = (self.index, self.generation);
        let unsigned = Certificate { key, index, generation, signature: Signature::new([0; 64]) };
        let signed = self.admission.sign(&unsigned.signed(self.cluster, self.id));
        let certificate = Certificate { signature: Signature::new(signed.to_bytes()), ..unsigned };
        let signature = Signature::new(self.key.sign(transcript.bytes()).to_bytes());
        let identity = self.shows.then_some(Identity { signature, certificate });
        Told { facts, identity }
    }

    /// Dials a node as that peer.
    ///
    /// # Errors
    /// What the node refused it with, or how the connection ended.
    pub async fn dial(&self, address: &str) -> Result<Line, String> {
        self.over(&TcpDial::default(), address).await
    }

    /// The same over TLS, whoever answers.
    ///
    /// # Errors
    /// As [`Impostor::dial`].
    pub async fn dial_secured(&self, address: &str) -> Result<Line, String> {
        self.over(&TlsDial::new(Trust::Anybody), address).await
    }

    async fn over(&self, dial: &dyn Dial, address: &str) -> Result<Line, String> {
        let stream = dial.dial(address).await.map_err(|error| error.to_string())?;
        self.speak(stream).await
    }

    /// Greets whoever is at the other end, as that peer.
    ///
    /// # Errors
    /// As [`Impostor::dial`].
    pub async fn speak(&self, stream: Box<dyn Stream>) -> Result<Line, String> {
        let channel = stream.channel();
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read);
        let hello = Hello::new(Some(self.cluster), HelloRole::Peer(self.id), 0, random());
        let tell = |transcript: &Transcript| self.tell(transcript);
        let proved =
            peer_handshake(&mut reader, &mut writer, hello, &channel, &self.secret, None, tell).await;
        match proved {
            Ok(peer) => Ok(Line { peer, reader, writer, next_id: 1 }),
            Err(HandshakeError::Refused(error)) => Err(format!("{}: {}", error.code.as_str(), error.message)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A connection that a node has let in.
pub struct Line {
    /// The node at its other end.
    pub peer: Peer,
    reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: WriteHalf<Box<dyn Stream>>,
    next_id: u64,
}

impl Line {
    /// Asks.
    ///
    /// # Errors
    /// The node has ended the connection, or did not answer in time.
    pub async fn ask(&mut self, request: &PeerRequest, tail: Vec<Bytes>) -> Result<PeerResponse, String> {
        self.call(&request.clone().into(), tail).await
    }

    /// Asks with all that surrounds a request.
    ///
    /// # Errors
    /// As [`Line::ask`].
    pub async fn call(&mut self, call: &PeerCall, tail: Vec<Bytes>) -> Result<PeerResponse, String> {
        let mut outbox = Outbox::new();
        outbox.push(&OutFrame::new(self.next_id, call, tail)).expect("it is within the limits");
        self.next_id += 1;
        outbox.write_to(&mut self.writer).await.map_err(|error| error.to_string())?;
        let answer = timeout(LIMIT, self.reader.next()).await.map_err(|_| "no answer in time".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        let frame = answer.ok_or_else(|| "the connection ended".to_owned())?;
        frame.message().map_err(|error| error.to_string())
    }

    /// Whether the node ends the connection, by itself, within `within`.
    pub async fn ends(&mut self, within: Duration) -> bool {
        !matches!(timeout(within, self.reader.next()).await, Err(_) | Ok(Ok(Some(_))))
    }
}
