//! How connections are made: TCP in production, a simulated network in tests.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest};
use tokio::net::TcpStream;

use crate::wire::auth::{BadToken, Token};
use crate::wire::proof::Secret;

/// A byte stream to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the other side is known to have closed or reset it, whatever is still unread. Never waits, takes nothing, and
    /// may not be called while somebody waits for bytes.
    fn has_ended(&mut self) -> bool;

    /// What only the two ends of this stream know alike, and nobody between them can make equal on two streams: the exporter
    /// of TLS with the label [`CHANNEL_LABEL`] and no context (RFC 9266); zeros for a stream without TLS.
    fn channel(&self) -> Channel {
        PLAIN_CHANNEL
    }

    /// SHA-256 of the certificate (DER) that the server of this stream sent on it (`tls-server-end-point`, RFC 5929), which
    /// logins are bound to; zeros for a stream without TLS.
    fn end_point(&self) -> Channel {
        PLAIN_CHANNEL
    }
}

/// The binding of a stream to what is said on it.
pub type Channel = [u8; 32];

/// The channel of a stream without TLS.
pub const PLAIN_CHANNEL: Channel = [0; 32];

/// The label under which TLS exports the channel (RFC 9266 §4.2).
pub const CHANNEL_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

impl Stream for TcpStream {
    fn has_ended(&mut self) -> bool {
        // Not a peek: it would see the unread bytes that stand before the end.
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.ready(Interest::READABLE)).poll(&mut context) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

/// A pipe within the process does not tell.
impl Stream for DuplexStream {
    fn has_ended(&mut self) -> bool {
        false
    }
}

/// What a dial gives.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How connections are made: TCP in production, a simulated network in tests.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn dial(&self, address: &str) -> Dialing;

    /// As whom a client logs in over its connections; looked up anew for each, so that a token in a file may change.
    ///
    /// # Errors
    /// It cannot be read, or is not one; for people.
    fn token(&self) -> Result<Option<Token>, String> {
        Ok(None)
    }
}

/// Where a client has its token from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// It was handed over.
    Given(Token),
    /// A file that holds nothing but a token; read anew for each connection.
    File(PathBuf),
    /// The file of the cluster's secret, which opens everything; read anew for each connection.
    Secret(PathBuf),
}

impl TokenSource {
    /// The token.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else; for people, with its path.
    pub fn read(&self) -> Result<Token, String> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::File(path) => text_of(path)?
                .trim()
                .parse()
                .map_err(|error: BadToken| format!("{}: {error}", path.display())),
            Self::Secret(path) => {
                let secret = Secret::from_text(text_of(path)?.trim());
                let secret = secret.ok_or_else(|| format!("{}: it holds no secret", path.display()))?;
                Ok(Token::of_secret(&secret))
            }
        }
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Dials as another does, and logs in.
pub struct LoginDial {
    below: Arc<dyn Dial>,
    source: TokenSource,
}

impl LoginDial {
    /// With this token.
    pub fn over(below: Arc<dyn Dial>, source: TokenSource) -> Self {
        Self { below, source }
    }
}

impl Dial for LoginDial {
    fn dial(&self, address: &str) -> Dialing {
        self.below.dial(address)
    }

    fn token(&self) -> Result<Option<Token>, String> {
        self.source.read().map(Some)
    }
}

/// Dials TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial {
    /// How long a connection may take to be made, name lookup included.
    pub timeout: Duration,
}

impl Default for TcpDial {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2) }
    }
}

impl Dial for TcpDial {
    fn dial(&self, address: &str) -> Dialing {
        let address = address.to_owned();
        let timeout = self.timeout;
        Box::pin(async move {
            let connecting = tokio::time::timeout(timeout, TcpStream::connect(address));
            let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
