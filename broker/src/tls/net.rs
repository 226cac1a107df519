//! Dialing: peers by the mode of this node, clients inside of it with a check of the certificate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use queue_protocol::client::tls::{PlainRefusal, TlsDial, Trust, connect, name_of, pki_types::ServerName};
use queue_protocol::client::{Dial, Dialing, Stream};
use queue_protocol::error::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Tls, TlsMode};
use crate::mutants::{self, Mutant};
use crate::outside::{Binding, Net, Resolving, Tcp};

/// TCP, with TLS as the node's settings say.
pub(crate) struct TlsNet {
    pub(crate) tcp: Arc<Tcp>,
    pub(crate) tls: Arc<Tls>,
}

impl Dial for TlsNet {
    /// Dials a peer, which proves by itself who it is.
    fn dial(&self, address: &str) -> Dialing {
        let (tls, tcp, address) = (Arc::clone(&self.tls), Arc::clone(&self.tcp), address.to_owned());
        Box::pin(async move {
            let mode = tls.mode();
            if mode != TlsMode::Off {
                match secured(tcp.dial(&address).await?, &address).await {
                    // Plain because it said so, never because TLS failed.
                    Err(error) if mode == TlsMode::Optional && is_off(&error) => {}
                    done => return done,
                }
            }
            let stream = tcp.dial(&address).await?;
            Ok(Box::new(UntilRequired { stream, tls }) as Box<dyn Stream>)
        })
    }
}

async fn secured(stream: Box<dyn Stream>, address: &str) -> io::Result<Box<dyn Stream>> {
    // Any name does: the certificate is not looked at.
    let name = name_of(address).or_else(|_| ServerName::try_from("peer").map_err(io::Error::other))?;
    connect(Arc::new(Trust::Anybody.config()?), name, stream).await
}

fn is_off(error: &io::Error) -> bool {
    PlainRefusal::of(error).is_some_and(|refusal| refusal.code == ErrorCode::TlsOff)
}

/// Why a node is not dialed.
const SPOKE_TLS: &str = "it speaks no TLS now and has spoken it before, so it is not dialed in the clear. If its tls.mode was \
                         set to off on purpose: queuectl cluster tls-forget NODE";

impl Net for TlsNet {
    fn dial_as_before(&self, address: &str) -> Dialing {
        if self.tls.mode() == TlsMode::Off || mutants::on(Mutant::TlsForgotten) {
            return self.dial(address);
        }
        let (tcp, address) = (Arc::clone(&self.tcp), address.to_owned());
        Box::pin(async move {
            match secured(tcp.dial(&address).await?, &address).await {
                Err(error) if is_off(&error) => {
                    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{address}: {SPOKE_TLS}")))
                }
                done => done,
            }
        })
    }

    fn resolve(&self, address: &str) -> Resolving {
        self.tcp.resolve(address)
    }

    fn listen(&self, address: &str) -> Binding {
        self.tcp.listen(address)
    }

    fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    fn client(&self) -> Option<Arc<dyn Dial>> {
        Some(Arc::new(ClientDial { tls: Arc::clone(&self.tls), tcp: Arc::clone(&self.tcp) }))
    }
}

/// The dial of a client inside of the node: the gateway of HTTP.
struct ClientDial {
    tls: Arc<Tls>,
    tcp: Arc<Tcp>,
}

impl Dial for ClientDial {
    fn dial(&self, address: &str) -> Dialing {
        let tcp = Arc::clone(&self.tcp);
        let Some(trust) = self.tls.trust() else { return tcp.dial(address) };
        let (address, mode) = (address.to_owned(), self.tls.mode());
        Box::pin(async move {
            match TlsDial::over(Arc::clone(&tcp) as Arc<dyn Dial>, trust).dial(&address).await {
                Err(error) if mode == TlsMode::Optional && is_off(&error) => tcp.dial(&address).await,
                done => done,
            }
        })
    }
}

/// The dial of one who tells nothing and believes little: TLS with anybody, plain with those that speak none.
pub(super) struct ProbeDial {
    pub(super) below: Arc<dyn Dial>,
}

impl Dial for ProbeDial {
    fn dial(&self, address: &str) -> Dialing {
        let (below, address) = (Arc::clone(&self.below), address.to_owned());
        Box::pin(async move {
            match secured(below.dial(&address).await?, &address).await {
                Err(error) if is_off(&error) => below.dial(&address).await,
                done => done,
            }
        })
    }
}

/// A plain stream to a peer, which breaks when this node speaks with nobody in the clear any more. Peers ask each other
/// every second whether they are there, so it need not be woken.
struct UntilRequired {
    stream: Box<dyn Stream>,
    tls: Arc<Tls>,
}

impl UntilRequired {
    fn check(&self) -> io::Result<()> {
        if self.tls.is_required() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl Stream for UntilRequired {
    fn has_ended(&mut self) -> bool {
        self.stream.has_ended()
    }
}

impl AsyncRead for UntilRequired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for UntilRequired {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
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
