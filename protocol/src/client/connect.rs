//! From a list of addresses to a [`Client`]: what does not parse is refused before anything is dialed, and the session is
//! drawn here, so that no program can reuse one.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::{Client, ClientConfig, Dial, Error, LoginDial, TcpDial, TokenSource};
use crate::values::server;
use crate::wire::credentials::CLIENT_NAME_DEFAULT;
use crate::wire::requests::ask;

/// How a client connects; [`Client::connect`] uses the defaults.
///
/// ```no_run
/// # async fn f() -> Result<(), queue_protocol::client::Error> {
/// use std::time::Duration;
/// use queue_protocol::client::ConnectOptions;
///
/// let client = ConnectOptions::new().timeout(Duration::from_secs(30)).connect("mq1,mq2,mq3:7420").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    timeout: Duration,
    name: String,
    token: Option<TokenSource>,
    #[cfg(feature = "tls")]
    trust: Option<super::tls::Trust>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            name: CLIENT_NAME_DEFAULT.to_owned(),
            token: None,
            #[cfg(feature = "tls")]
            trust: None,
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call may take: finding the leader, elections and repeats included. The wait of a lease comes on top.
    /// Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the program calls itself, as `billing/2.3`: `queuectl cluster clients` and `queuectl lease ls` show it. Cut after
    /// 64 bytes. Default: name and version of this crate.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Log in with a token, over TLS or loopback only. Default: no login.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), queue_protocol::client::Error> {
    /// use queue_protocol::client::{ConnectOptions, TokenSource};
    /// use queue_protocol::client::tls::Trust;
    ///
    /// let token = TokenSource::File("/etc/billing/token".into());
    /// let client = ConnectOptions::new().token(token).tls(Trust::System).connect("mq1,mq2").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn token(mut self, token: TokenSource) -> Self {
        self.token = Some(token);
        self
    }

    /// Speak TLS, with those that `trust` says. Default: plain.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), queue_protocol::client::Error> {
    /// use queue_protocol::client::ConnectOptions;
    /// use queue_protocol::client::tls::Trust;
    ///
    /// let trust = Trust::Authorities("/etc/queued/ca.crt".into());
    /// let client = ConnectOptions::new().tls(trust).connect("mq1,mq2").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, trust: super::tls::Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// As [`Client::connect`], with these options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(self, servers: impl AsRef<str>) -> Result<Client, Error> {
        let client = self.connect_lazily(servers)?;
        // Any node answers it: one that follows is reached just as well, and the leader is found with the first call.
        client.ask(ask::Status).await?;
        Ok(client)
    }

    /// A client that dials nothing before its first call: for programs that start before the cluster does. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an address does not parse.
    pub fn connect_lazily(self, servers: impl AsRef<str>) -> Result<Client, Error> {
        let servers = addresses(servers.as_ref())?;
        let config = ClientConfig { servers, timeout: self.timeout, follow: true, seed: seed() };
        Ok(Client::named(&self.name.clone(), config, self.dial()))
    }
}

impl ConnectOptions {
    fn dial(mut self) -> Arc<dyn Dial> {
        let token = self.token.take();
        let below = self.dial_below();
        match token {
            Some(source) => Arc::new(LoginDial::over(below, source)),
            None => below,
        }
    }

    fn dial_below(self) -> Arc<dyn Dial> {
        #[cfg(feature = "tls")]
        if let Some(trust) = self.trust {
            return Arc::new(super::tls::TlsDial::new(trust));
        }
        Arc::new(TcpDial::default())
    }
}

impl Client {
    /// Connects to the cluster that any of these nodes belongs to. `servers` are addresses in a list with commas, tried in
    /// order: `host` or `host:port`, IPv6 hosts in brackets; the port is 7410 unless one is named. One is enough, more find
    /// the cluster while nodes are down. The client follows the leader from there, and opens its own session.
    ///
    /// Clones share the connection and the session: one client per program is enough.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an address does not parse; [`Error::Unavailable`] if no node answered within 5 s;
    /// [`Error::Incompatible`] if something else than a node of this version did.
    pub async fn connect(servers: impl AsRef<str>) -> Result<Self, Error> {
        ConnectOptions::new().connect(servers).await
    }
}

/// Random bits, different for each client: the standard library draws the keys of its hash tables from the system.
fn seed() -> u128 {
    (0..2).fold(0, |bits: u128, half| bits << 64 | u128::from(RandomState::new().hash_one(half)))
}

fn addresses(servers: &str) -> Result<Vec<String>, Error> {
    let parse = |text: &str| {
        let text = text.trim();
        server(text).map_err(|why| Error::Invalid(format!("invalid address {text:?}: {why}")))
    };
    servers.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_default_port_unless_they_name_one() {
        let both = addresses("mq1, mq2:7420").map_err(|error| error.to_string());
        assert_eq!(both, Ok(vec!["mq1:7410".to_owned(), "mq2:7420".to_owned()]));
    }

    #[test]
    fn an_address_that_does_not_parse_is_named_with_the_reason() {
        for (text, why) in [
            ("", "invalid address \"\""),
            ("a,", "invalid address \"\""),
            ("http://mq1:7410", "http://"),
            ("mq1:x", "\"x\""),
            ("a b:1", "invalid address \"a b:1\""),
        ] {
            let refused = addresses(text).expect_err(text);
            assert!(matches!(&refused, Error::Invalid(text) if text.contains(why)), "{text}: {refused}");
        }
    }

    #[test]
    fn no_two_clients_draw_the_same_session() {
        let seeds: std::collections::BTreeSet<u128> = (0..1_000).map(|_| seed()).collect();
        assert_eq!(seeds.len(), 1_000);
    }
}
