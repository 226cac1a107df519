//! How tests dial nodes: plain, or by TLS with nodes that an authority vouches for, and plain with those that say that they
//! speak none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::tls::{PlainRefusal, TlsDial, Trust};
use queue_protocol::client::{Client, ClientConfig, Dial, Dialing, TcpDial};
use queue_protocol::error::ErrorCode;

use crate::raw::random_session;

/// The dial of those that trust the authority of this file; plain without one.
pub fn trusting(authority: Option<PathBuf>) -> Arc<dyn Dial> {
    match authority {
        Some(file) => Arc::new(SecuredFirst(Arc::new(TlsDial::new(Trust::Authorities(file))))),
        None => Arc::new(TcpDial::default()),
    }
}

/// A client of these servers with a session of its own.
pub fn client_over(dial: Arc<dyn Dial>, servers: Vec<String>, timeout: Duration) -> Client {
    let config = ClientConfig { servers, timeout, follow: true, seed: random_session().0 };
    Client::new(config, dial)
}

struct SecuredFirst(Arc<TlsDial>);

impl Dial for SecuredFirst {
    fn dial(&self, address: &str) -> Dialing {
        let (secured, address) = (Arc::clone(&self.0), address.to_owned());
        Box::pin(async move {
            match secured.dial(&address).await {
                Err(error) if PlainRefusal::of(&error).is_some_and(|said| said.code == ErrorCode::TlsOff) => {
                    TcpDial::default().dial(&address).await
                }
                done => done,
            }
        })
    }
}
