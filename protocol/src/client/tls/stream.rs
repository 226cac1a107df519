//! A stream under TLS, for both ends, and the socket below it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::trust::Untrusted;
use crate::client::{CHANNEL_LABEL, Channel, PLAIN_CHANNEL, Stream};
use crate::error::Error;
use crate::wire::frame::FrameKind;
use crate::wire::hello::HelloMessage;
use crate::wire::io::FrameReader;
use crate::wire::opening::{OPENING_SIZE, Opening};

/// Room for reads of a stream on which much arrives: TLS itself asks for 4 KiB at a time.
const WIDE_SIZE: usize = 64 << 10;

/// A node answered a hello of TLS in the clear, with this refusal. Inside of an [`io::Error`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlainRefusal(pub Error);

impl PlainRefusal {
    /// What the refusal says, if that is why a dial failed.
    pub fn of(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref::<Self>().map(|refused| &refused.0)
    }
}

/// Speaks TLS as the one who was called. `ahead` was read from the stream already; `end_point` is the SHA-256 of the first
/// certificate of `config`, [`end_point_of`].
///
/// # Errors
/// The handshake failed, or the stream did. There is no deadline here.
pub async fn accept(
    config: Arc<ServerConfig>,
    stream: Box<dyn Stream>,
    ahead: &[u8],
    end_point: Channel,
) -> io::Result<Box<dyn Stream>> {
    let wire = Wire { stream, ahead: BytesMut::from(ahead), wide: false, opening: false };
    let stream = TlsAcceptor::from(config).accept(wire).await?;
    Ok(Box::new(Secured::new(stream.into(), end_point)?))
}

/// What logins are bound to over a server that shows this certificate.
pub fn end_point_of(certificate: &CertificateDer<'_>) -> Channel {
    Sha256::digest(certificate).into()
}

/// Speaks TLS as the one who called.
///
/// # Errors
/// The inner error is [`Untrusted`] if the other end is not to be trusted, and [`PlainRefusal`] if it speaks no TLS and says
/// so. There is no deadline here.
pub async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
) -> io::Result<Box<dyn Stream>> {
    let wire = Wire { stream, ahead: BytesMut::new(), wide: false, opening: true };
    match TlsConnector::from(config).connect(name, wire).into_fallible().await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let end_point = shown.map(end_point_of).ok_or(io::ErrorKind::InvalidData)?;
            Ok(Box::new(Secured::new(stream.into(), end_point)?))
        }
        Err((_, wire)) if wire.is_plain() => Err(wire.refusal().await),
        Err((error, _)) => Err(Untrusted::unwrapped(error)),
    }
}

/// The socket below TLS. Where reads fill their room it reads widely, and keeps nothing as soon as nothing comes.
struct Wire {
    stream: Box<dyn Stream>,
    /// Read and not handed to TLS yet.
    ahead: BytesMut,
    wide: bool,
    /// The first bytes have not come yet: it is looked whether they are TLS.
    opening: bool,
}

impl Wire {
    /// It ended, or failed, before it was TLS, or is something else.
    fn is_plain(&self) -> bool {
        let opening = self.ahead.first_chunk::<OPENING_SIZE>();
        self.opening && opening.is_some_and(|opening| !Opening::answers_tls(*opening))
    }

    /// What a node says that speaks no TLS.
    async fn refusal(self) -> io::Error {
        let mut reader = FrameReader::after(&self.ahead, self.stream);
        let said = match reader.next().await {
            Ok(Some(frame)) if frame.kind == FrameKind::Hello => frame.message::<HelloMessage>().ok(),
            _ => None,
        };
        match said {
            Some(HelloMessage::Refused(error)) => io::Error::other(PlainRefusal(error)),
            _ => io::Error::new(
                io::ErrorKind::InvalidData,
                "what answers speaks neither TLS nor this protocol",
            ),
        }
    }

    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.ahead.reserve(WIDE_SIZE);
        pin!(self.stream.read_buf(&mut self.ahead)).poll(context)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.opening {
            if self.ahead.len() >= OPENING_SIZE {
                if self.is_plain() {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                self.opening = false;
            } else if ready!(self.poll_ahead(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if self.ahead.is_empty() && self.wide {
            match self.poll_ahead(context) {
                Poll::Ready(read) => drop(read?),
                Poll::Pending => {
                    (self.ahead, self.wide) = (BytesMut::new(), false);
                    return Poll::Pending;
                }
            }
            if self.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        self.ahead = BytesMut::new();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.wide = buffer.remaining() == 0 && buffer.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream under TLS. Boxed inside: its state is larger than that of a socket.
struct Secured {
    stream: Box<TlsStream<Wire>>,
    channel: Channel,
    end_point: Channel,
}

impl Secured {
    fn new(stream: TlsStream<Wire>, end_point: Channel) -> io::Result<Self> {
        let room = PLAIN_CHANNEL;
        let exported = match &stream {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(room, CHANNEL_LABEL, None),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(room, CHANNEL_LABEL, None),
        };
        Ok(Self { stream: Box::new(stream), channel: exported.map_err(io::Error::other)?, end_point })
    }
}

impl Stream for Secured {
    fn has_ended(&mut self) -> bool {
        let wire = match &mut *self.stream {
            TlsStream::Client(stream) => stream.get_mut().0,
            TlsStream::Server(stream) => stream.get_mut().0,
        };
        wire.stream.has_ended()
    }

    fn channel(&self) -> Channel {
        self.channel
    }

    fn end_point(&self) -> Channel {
        self.end_point
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut *self.stream).poll_read(context, buffer)) {
            // A process that was killed says no goodbye of TLS. Frames have a size, so that nothing can be cut unseen.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}
