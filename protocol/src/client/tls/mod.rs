//! TLS 1.3, by rustls with ring: the dial of a client, and the streams of both ends.
//!
//! A dial fails for two kinds of reasons that must not be mixed: the other end is not reached, or it is not to be trusted
//! ([`Untrusted`]). Nothing here falls back to plain; who may do without TLS is the caller's decision, and only because the
//! other end said so ([`PlainRefusal`]).

mod stream;
mod trust;

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
pub use rustls::{ClientConfig, ServerConfig, pki_types};

pub use self::stream::{PlainRefusal, accept, connect, end_point_of};
pub use self::trust::{ALPN, Pin, Trust, Untrusted, certificates, provider};
use super::{Dial, Dialing, TcpDial};

/// Dials over TLS.
pub struct TlsDial {
    below: Arc<dyn Dial>,
    trust: Trust,
}

impl TlsDial {
    /// Over TCP, to those that `trust` says.
    pub fn new(trust: Trust) -> Self {
        Self::over(Arc::new(TcpDial::default()), trust)
    }

    /// Over what `below` dials.
    pub fn over(below: Arc<dyn Dial>, trust: Trust) -> Self {
        Self { below, trust }
    }
}

impl Dial for TlsDial {
    fn dial(&self, address: &str) -> Dialing {
        let (dialing, config, name) = (self.below.dial(address), self.trust.config(), name_of(address));
        Box::pin(async move { connect(Arc::new(config?), name?, dialing.await?).await })
    }
}

/// The name that a certificate of the server at `address`, `host:port`, must have.
///
/// # Errors
/// The host is neither a name nor an address.
pub fn name_of(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of a server")))
}
