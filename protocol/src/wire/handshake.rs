//! The handshake of [`crate::wire::hello`] over a stream, for both sides, within its deadline.
//!
//! Each function leaves the reader open for frames of full size when it succeeds. When it fails the connection is
//! of no more use; what the other side should know of it was sent.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, ErrorCode};
use crate::limits::HELLO_MS_MAX;
use crate::names::{ClusterId, NodeId, StoreId};
use crate::wire::auth::{LoginTranscript, Proven, Token};
use crate::wire::codec::CodecError;
use crate::wire::frame::{Frame, FrameError, FrameKind};
use crate::wire::hello::{Accepted, Hello, HelloMessage, HelloRole, PeerId, read_hello};
use crate::wire::io::{FrameReader, Outbox};
use crate::wire::proof::{Exporter, Identity, PeerHello, Proof, Seal, Secret, Side, Told, Transcript};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side closed without a word.
    #[error("the connection was closed during the handshake")]
    Closed,
    /// The other side said nothing, or not enough, in time.
    #[error("the handshake took longer than {HELLO_MS_MAX} ms")]
    Deadline,
    /// The other side sent what is no frame, or not the one that is due.
    #[error("the other side does not speak this protocol: {0}")]
    Frame(#[from] FrameError),
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(Error),
    /// This side refused, and said so.
    #[error("{0}")]
    Rejected(Error),
}

impl From<CodecError> for HandshakeError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Io(error) => Self::Io(error),
            CodecError::Frame(error) => Self::Frame(error),
        }
    }
}

/// Who is called: another node, or the same number on another store, is not talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// Raft's number.
    pub node: NodeId,
    /// Its data directory, if it is known.
    pub store: Option<StoreId>,
}

impl Called {
    /// # Errors
    /// `not_permitted`: `there` is somebody else.
    fn check(self, there: &PeerId) -> Result<(), Error> {
        let what = match self.store.filter(|store| *store != there.store) {
            _ if self.node != there.node => {
                format!("expected node {}, reached node {}", self.node, there.node)
            }
            Some(store) => {
                format!("expected store {store} of node {}, reached store {}", self.node, there.store)
            }
            None => return Ok(()),
        };
        Err(Error::refused(ErrorCode::NotPermitted, what))
    }
}

impl From<NodeId> for Called {
    fn from(node: NodeId) -> Self {
        Self { node, store: None }
    }
}

/// Opens a connection as a client.
///
/// # Errors
/// [`HandshakeError`]; `Rejected` if the node's version or cluster is not the hello's.
pub async fn client_handshake<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: Hello,
) -> Result<Accepted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let (.., accepted) = greet(reader, writer, &hello).await?;
        reader.open();
        Ok(accepted)
    })
    .await
}

/// The same with a login: the hello names the key of `token`. `channel` is [`crate::client::Stream::end_point`].
///
/// # Errors
/// [`HandshakeError`]; `Rejected` also if the node does not know the key, though it says that it does.
pub async fn client_login<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: Hello,
    token: &Token,
    channel: &[u8; 32],
) -> Result<Accepted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let (said, answer, accepted) = greet(reader, writer, &hello).await?;
        let login = LoginTranscript::new(&said, &answer, channel);
        send(writer, &HelloMessage::Login(Box::new(token.prove(&login)))).await?;
        match receive(reader).await?.1 {
            HelloMessage::LoggedIn(shown) if token.knows(&login, &shown) => {}
            HelloMessage::LoggedIn(_) => {
                let what = "what answers does not know the key";
                return Err(HandshakeError::Rejected(Error::refused(ErrorCode::AuthFailed, what)));
            }
            _ => return Err(FrameError::Message(FrameKind::Hello).into()),
        }
        reader.open();
        Ok(accepted)
    })
    .await
}

/// The login of a client that was greeted, as far as it has come. Its frames are small until it is let in.
#[derive(Clone, Debug)]
pub struct Greeting {
    heard: Frame,
    said: Frame,
}

impl Greeting {
    /// What its proof is over; `channel` is [`crate::client::Stream::end_point`].
    pub fn transcript(&self, channel: &[u8; 32]) -> LoginTranscript {
        LoginTranscript::new(&self.heard, &self.said, channel)
    }

    /// Takes what the client shows. There is no deadline here.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn proven<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
    ) -> Result<Proven, HandshakeError> {
        match receive(reader).await?.1 {
            HelloMessage::Login(proven) => Ok(*proven),
            _ => Err(FrameError::Message(FrameKind::Hello).into()),
        }
    }

    /// Lets it in, or refuses it. There is no deadline here.
    ///
    /// # Errors
    /// `Rejected` with what it was told, or the stream failed.
    pub async fn answer<R, W>(
        self,
        reader: &mut FrameReader<R>,
        writer: &mut W,
        shown: Result<[u8; 32], Error>,
    ) -> Result<(), HandshakeError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match shown {
            Ok(shown) => send(writer, &HelloMessage::LoggedIn(shown)).await?,
            Err(error) => {
                // It may be gone; there is no more to do for it.
                let _ = send(writer, &HelloMessage::Refused(error.clone())).await;
                return Err(HandshakeError::Rejected(error));
            }
        };
        reader.open();
        Ok(())
    }
}

/// A peer that proved the secret. Which node it is it has shown if its identity is valid, which the caller checks.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it says of itself.
    pub hello: PeerHello,
    /// Of the node that was called.
    pub cluster: ClusterId,
    /// What shows which node it is; none of one that is joining.
    pub identity: Option<Identity>,
    /// What its identity signs. [`Transcript::of`] the other side is what this side signs.
    pub transcript: Transcript,
    /// Hides keys on this connection.
    pub seal: Seal,
    /// The secret that both sides have proved: of several that count, the one that the dialer chose.
    pub secret: Secret,
}

impl Peer {
    /// # Errors
    /// `not_permitted`: it does not know the secret, or others changed its words.
    fn check(
        transcript: Transcript,
        secret: &Secret,
        cluster: ClusterId,
        id: PeerId,
        proof: Proof,
    ) -> Result<Self, HandshakeError> {
        transcript.check(secret, &proof).map_err(HandshakeError::Rejected)?;
        let hello = PeerHello::new(id, proof.facts);
        let (seal, secret) = (transcript.seal(secret), secret.clone());
        Ok(Self { hello, cluster, identity: proof.identity, transcript, seal, secret })
    }
}

/// A connection that was accepted.
#[derive(Clone, Debug)]
pub struct Greeted {
    /// What the dialer said first.
    pub hello: Hello,
    /// What it proved, if it is a peer.
    pub peer: Option<Peer>,
    /// If it is a client that wants to log in: it is not let in before [`Greeting::answer`].
    pub login: Option<Greeting>,
}

/// Opens a connection as a peer, with proof of the secret both ways. `called` is the node that must answer, if
/// known; it is checked before anything is proved to it. `tell` says, for a transcript to sign, what this side is.
///
/// # Errors
/// [`HandshakeError`]; `Rejected` if the node is another one, or does not prove the secret.
pub async fn peer_handshake<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: Hello,
    exporter: &Exporter,
    secret: &Secret,
    called: Option<Called>,
    tell: impl FnOnce(&Transcript) -> Told,
) -> Result<Peer, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let (said, answer, accepted) = greet(reader, writer, &hello).await?;
        if let Some(called) = called {
            called.check(&accepted.node).map_err(HandshakeError::Rejected)?;
        }
        let transcript = Transcript::new(&said, &answer, exporter, Side::Dialer);
        let proof = transcript.prove(secret, tell(&transcript));
        send(writer, &HelloMessage::Proof(Box::new(proof))).await?;
        let proof = proof_of(receive(reader).await?.1)?;
        let theirs = transcript.of(Side::Acceptor);
        let peer = Peer::check(theirs, secret, accepted.cluster, accepted.node, proof)?;
        reader.open();
        Ok(peer)
    })
    .await
}

/// Accepts a connection. `answer` checks the hello ([`Hello::check`]) and makes the answer; for a peer, `admit` then
/// decides, once its proof of one of `secrets` holds, whether it may in (its identity, its floors), and says what this side
/// is. Errors of both are sent before the connection is given up. This side proves the secret that the dialer proved.
///
/// # Errors
/// [`HandshakeError`]; nothing of the hello may be believed.
pub async fn accept<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    exporter: &Exporter,
    secrets: &(impl AsRef<[Secret]> + ?Sized),
    answer: impl FnOnce(&Hello) -> Result<Accepted, Error>,
    admit: impl FnOnce(&Peer) -> Result<Told, Error>,
) -> Result<Greeted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let outcome = answer_hello(reader, writer, exporter, secrets.as_ref(), answer, admit).await;
        let tell = match &outcome {
            Err(HandshakeError::Rejected(error)) => Some(error.clone()),
            Err(HandshakeError::Frame(error)) => Some(error.to_wire()),
            _ => None,
        };
        if let Some(error) = tell {
            // The other side may be gone, or talk something else; there is no more to do for it.
            let _ = send(writer, &HelloMessage::Refused(error)).await;
        }
        let greeted = outcome?;
        if greeted.login.is_none() {
            reader.open();
        }
        Ok(greeted)
    })
    .await
}

async fn answer_hello<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    exporter: &Exporter,
    secrets: &[Secret],
    answer: impl FnOnce(&Hello) -> Result<Accepted, Error>,
    admit: impl FnOnce(&Peer) -> Result<Told, Error>,
) -> Result<Greeted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let heard = next(reader).await?;
    let hello = read_hello(&heard.header).map_err(HandshakeError::Rejected)?;
    let accepted = answer(&hello).map_err(HandshakeError::Rejected)?;
    let cluster = accepted.cluster;
    let said = send(writer, &HelloMessage::Accepted(Box::new(accepted))).await?;
    let HelloRole::Peer(id) = hello.role else {
        let logs_in = hello.client().is_ok_and(|client| client.login.is_some());
        let login = logs_in.then_some(Greeting { heard, said });
        return Ok(Greeted { hello, peer: None, login });
    };
    let transcript = Transcript::new(&heard, &said, exporter, Side::Dialer);
    let proof = proof_of(receive(reader).await?.1)?;
    let proved = secrets.iter().find(|secret| transcript.check(secret, &proof).is_ok());
    // Of none it is said what the first one says.
    let secret = proved.or(secrets.first()).expect("there is a secret");
    let peer = Peer::check(transcript, secret, cluster, id, proof)?;
    let told = admit(&peer).map_err(HandshakeError::Rejected)?;
    let proof = transcript.of(Side::Acceptor).prove(secret, told);
    send(writer, &HelloMessage::Proof(Box::new(proof))).await?;
    Ok(Greeted { hello, peer: Some(peer), login: None })
}

/// Says hello and takes the answer: both frames, and what the answer says.
async fn greet<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: &Hello,
) -> Result<(Frame, Frame, Accepted), HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let said = send(writer, &HelloMessage::Hello(Box::new(hello.clone()))).await?;
    match receive(reader).await? {
        (answer, HelloMessage::Accepted(accepted)) => {
            accepted.check(hello).map_err(HandshakeError::Rejected)?;
            Ok((said, answer, *accepted))
        }
        _ => Err(FrameError::Message(FrameKind::Hello).into()),
    }
}

fn proof_of(message: HelloMessage) -> Result<Proof, HandshakeError> {
    match message {
        HelloMessage::Proof(proof) => Ok(*proof),
        _ => Err(FrameError::Message(FrameKind::Hello).into()),
    }
}

/// Sends a step of the handshake, and gives the frame that carried it.
async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    message: &HelloMessage,
) -> Result<Frame, HandshakeError> {
    let frame = Frame::of(0, message);
    let mut outbox = Outbox::new();
    outbox.push_message(frame.request_id, message, &[])?;
    outbox.write_to(writer).await?;
    Ok(frame)
}

async fn receive<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
) -> Result<(Frame, HelloMessage), HandshakeError> {
    let frame = next(reader).await?;
    match frame.message()? {
        HelloMessage::Refused(error) => Err(HandshakeError::Refused(error)),
        message => Ok((frame, message)),
    }
}

/// The next frame, which must be one of the handshake.
async fn next<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Frame, HandshakeError> {
    let frame = reader.next().await?.ok_or(HandshakeError::Closed)?;
    if frame.kind == FrameKind::Hello {
        Ok(frame)
    } else {
        Err(FrameError::Unexpected { expected: FrameKind::Hello, got: frame.kind }.into())
    }
}

async fn within_deadline<T>(
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    match tokio::time::timeout(Duration::from_millis(HELLO_MS_MAX), handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(HandshakeError::Deadline),
    }
}
