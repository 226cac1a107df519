//! The handshake of [`crate::hello`] over a stream, for both sides, within its deadline.
//!
//! Each function leaves the reader open for frames of full size when it succeeds. When it fails the connection is
//! of no more use; what the other side should know of it was sent.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::CodecError;
use crate::error::{Error, ErrorCode};
use crate::frame::{Frame, FrameError, FrameKind};
use crate::hello::{
    Accepted, Hello, HelloMessage, HelloRole, PeerHello, Proof, Secret, Side, Transcript, read_hello,
};
use crate::io::{FrameReader, Outbox};
use crate::limits::HELLO_MS_MAX;
use crate::names::{NodeId, StoreId};

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
    fn check(self, there: &PeerHello) -> Result<(), Error> {
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
        let accepted = greet(reader, writer, &hello).await?;
        reader.open();
        Ok(accepted)
    })
    .await
}

/// Opens a connection as a peer, with proof of the secret both ways. `called` is the node that must answer, if
/// known; it is checked before anything is proved to it.
///
/// # Errors
/// [`HandshakeError`]; `Rejected` if the node is another one, or does not prove the secret.
pub async fn peer_handshake<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: Hello,
    secret: &Secret,
    called: Option<Called>,
) -> Result<Accepted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let accepted = greet(reader, writer, &hello).await?;
        if let Some(called) = called {
            called.check(&accepted.node).map_err(HandshakeError::Rejected)?;
        }
        let transcript = Transcript::new(&hello, &accepted).expect("a peer's handshake has a peer's hello");
        send(writer, &HelloMessage::Proof(transcript.prove(secret, Side::Dialer))).await?;
        let proof = proof_of(receive(reader).await?)?;
        transcript.check(secret, Side::Acceptor, &proof).map_err(HandshakeError::Rejected)?;
        reader.open();
        Ok(accepted)
    })
    .await
}

/// Accepts a connection. `answer` checks the hello ([`Hello::check`]) and makes the answer; for a peer, `admit` then
/// decides, once its proof of `secret` holds, whether it may in (its floors). Errors of both are sent before the
/// connection is given up.
///
/// # Errors
/// [`HandshakeError`]; nothing of the hello may be believed.
pub async fn accept<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    secret: &Secret,
    answer: impl FnOnce(&Hello) -> Result<Accepted, Error>,
    admit: impl FnOnce(&Hello) -> Result<(), Error>,
) -> Result<(Hello, Accepted), HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within_deadline(async {
        let outcome = answer_hello(reader, writer, secret, answer, admit).await;
        let tell = match &outcome {
            Err(HandshakeError::Rejected(error)) => Some(error.clone()),
            Err(HandshakeError::Frame(error)) => Some(error.to_wire()),
            _ => None,
        };
        if let Some(error) = tell {
            // The other side may be gone, or talk something else; there is no more to do for it.
            let _ = send(writer, &HelloMessage::Refused(error)).await;
        }
        let accepted = outcome?;
        reader.open();
        Ok(accepted)
    })
    .await
}

async fn answer_hello<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    secret: &Secret,
    answer: impl FnOnce(&Hello) -> Result<Accepted, Error>,
    admit: impl FnOnce(&Hello) -> Result<(), Error>,
) -> Result<(Hello, Accepted), HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let hello = read_hello(&next(reader).await?.header).map_err(HandshakeError::Rejected)?;
    let accepted = answer(&hello).map_err(HandshakeError::Rejected)?;
    send(writer, &HelloMessage::Accepted(Box::new(accepted.clone()))).await?;
    if let HelloRole::Peer(_) = hello.role {
        let transcript = Transcript::new(&hello, &accepted).expect("a peer's hello has a transcript");
        let proof = proof_of(receive(reader).await?)?;
        transcript.check(secret, Side::Dialer, &proof).map_err(HandshakeError::Rejected)?;
        admit(&hello).map_err(HandshakeError::Rejected)?;
        send(writer, &HelloMessage::Proof(transcript.prove(secret, Side::Acceptor))).await?;
    }
    Ok((hello, accepted))
}

/// Says hello and takes the answer.
async fn greet<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    hello: &Hello,
) -> Result<Accepted, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    send(writer, &HelloMessage::Hello(Box::new(hello.clone()))).await?;
    match receive(reader).await? {
        HelloMessage::Accepted(accepted) => {
            accepted.check(hello).map_err(HandshakeError::Rejected)?;
            Ok(*accepted)
        }
        _ => Err(FrameError::Message(FrameKind::Hello).into()),
    }
}

fn proof_of(message: HelloMessage) -> Result<Proof, HandshakeError> {
    match message {
        HelloMessage::Proof(proof) => Ok(proof),
        _ => Err(FrameError::Message(FrameKind::Hello).into()),
    }
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, message: &HelloMessage) -> Result<(), HandshakeError> {
    let mut outbox = Outbox::new();
    outbox.push_message(0, message, &[])?;
    Ok(outbox.write_to(writer).await?)
}

async fn receive<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<HelloMessage, HandshakeError> {
    match next(reader).await?.message()? {
        HelloMessage::Refused(error) => Err(HandshakeError::Refused(error)),
        message => Ok(message),
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
