//! The gateway: requests of HTTP as requests of the protocol, sent by its own client to this node, which says who leads.
//!
//! A lease that waits holds its number open, and a session has 1,024 open numbers at most: so whoever waits has a session
//! of its own for as long, out of a pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{Answered, Client, ClientConfig, Dial, LoginDial, TokenSource};
use queue_protocol::names::SessionId;
use queue_protocol::wire::auth::Token;
use queue_protocol::wire::request::{Request, Stamp};
use queue_protocol::wire::requests::Ask;
use tokio::time::Instant;

use super::answers::Failed;
use super::bearer;
use super::serve::Site;
use crate::locked::Locked as _;
use crate::outside::Outside;

/// What its clients call themselves.
const NAME: &str = concat!("queued-http/", env!("CARGO_PKG_VERSION"));
/// From a request to its answer, elections included; what it waits for comes on top.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same of what changes members.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Clients that are kept for those who wait.
const POOL_MAX: usize = 64;
/// Sessions of users that are kept.
const KEPT_MAX: usize = 256;

/// Tokens whose clients are kept.
const TOKENS_MAX: usize = 64;

/// Clients of this node, by the token that they log in with.
pub(super) struct Gateway {
    outside: Outside,
    server: String,
    /// Of those without one.
    nobody: Arc<Clients>,
    own: Mutex<Own>,
}

/// By what a cluster keeps of the token, and when they were used last.
type Own = BTreeMap<[u8; 32], (Arc<Clients>, Instant)>;

/// The clients of one token.
struct Clients {
    token: Option<Arc<Token>>,
    client: Client,
    changes: Client,
    pool: Mutex<Vec<Client>>,
    sessions: Mutex<BTreeMap<SessionId, (Client, Instant)>>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.locked()
}

impl Gateway {
    /// Within the runtime of HTTP. Dials nothing yet.
    pub(super) fn new(site: &Site) -> Self {
        let (outside, server) = (site.consensus.outside().clone(), reached_at(site.at));
        let nobody = Arc::new(Clients::new(&outside, &server, None));
        Self { outside, server, nobody, own: Mutex::default() }
    }

    /// Those of the request that is being answered.
    fn clients(&self) -> Arc<Clients> {
        let Some(token) = bearer::token() else { return Arc::clone(&self.nobody) };
        let mut own = locked(&self.own);
        let known = token.verifier().stored;
        if !own.contains_key(&known) && own.len() >= TOKENS_MAX {
            let oldest = own.iter().min_by_key(|(_, (_, used))| *used).map(|(token, _)| *token);
            oldest.and_then(|oldest| own.remove(&oldest));
        }
        let new = || (Arc::new(Clients::new(&self.outside, &self.server, Some(token))), Instant::now());
        let (clients, used) = own.entry(known).or_insert_with(new);
        *used = Instant::now();
        Arc::clone(clients)
    }

    /// Asks the leader.
    ///
    /// # Errors
    /// As the client's, for HTTP.
    pub(super) async fn ask<A: Ask>(&self, ask: A) -> Result<Answered<A::Answer>, Failed> {
        self.ask_with(ask, Vec::new()).await
    }

    /// The same with contents in its tail.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(super) async fn ask_with<A: Ask>(
        &self,
        ask: A,
        contents: Vec<Bytes>,
    ) -> Result<Answered<A::Answer>, Failed> {
        Ok(self.clients().client.ask_with(ask, contents).await?)
    }

    /// The same whatever the answer is.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(super) async fn call(&self, request: Request, contents: Vec<Bytes>) -> Result<Answered, Failed> {
        Ok(self.clients().client.call(request, contents).await?)
    }

    /// Asks for a change of members.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(super) async fn change<A: Ask>(&self, ask: A) -> Result<Answered<A::Answer>, Failed> {
        Ok(self.clients().changes.ask(ask).await?)
    }

    /// Asks for what may take its time. If this is dropped, the node hears that nobody waits any more.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(super) async fn wait(&self, request: Request) -> Result<Answered, Failed> {
        let clients = self.clients();
        let pooled = locked(&clients.pool).pop();
        let token = clients.token.clone();
        let client = pooled.unwrap_or_else(|| client(&self.outside, &self.server, token, TIMEOUT, None));
        let lent = Lent { clients, client: Some(client) };
        Ok(lent.client().call(request, Vec::new()).await?)
    }

    /// Asks as a user's session, under a number that the user chose.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(super) async fn call_as(
        &self,
        session: SessionId,
        stamp: Stamp,
        request: Request,
        contents: Vec<Bytes>,
    ) -> Result<Answered, Failed> {
        let client = self.client_of(session);
        Ok(client.call_stamped(stamp, request, contents).await?)
    }

    /// An id that no session has.
    pub(super) fn new_session(&self) -> SessionId {
        SessionId(u128::from_le_bytes(self.outside.random_bytes()))
    }

    fn client_of(&self, session: SessionId) -> Client {
        let clients = self.clients();
        let mut sessions = locked(&clients.sessions);
        if !sessions.contains_key(&session) && sessions.len() >= KEPT_MAX {
            let oldest = sessions.iter().min_by_key(|(_, (_, used))| *used).map(|(session, _)| *session);
            oldest.and_then(|oldest| sessions.remove(&oldest));
        }
        let token = clients.token.clone();
        let new = || (client(&self.outside, &self.server, token, TIMEOUT, Some(session)), Instant::now());
        let (client, used) = sessions.entry(session).or_insert_with(new);
        *used = Instant::now();
        client.clone()
    }
}

impl Clients {
    fn new(outside: &Outside, server: &str, token: Option<Arc<Token>>) -> Self {
        let client = |timeout| client(outside, server, token.clone(), timeout, None);
        let (client, changes) = (client(TIMEOUT), client(CHANGE_TIMEOUT));
        Self { token, client, changes, pool: Mutex::default(), sessions: Mutex::default() }
    }
}

/// A client that goes back to the pool.
struct Lent {
    clients: Arc<Clients>,
    client: Option<Client>,
}

impl Lent {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut pool = locked(&self.clients.pool);
        if pool.len() < POOL_MAX {
            pool.extend(self.client.take());
        }
    }
}

fn client(
    outside: &Outside,
    server: &str,
    token: Option<Arc<Token>>,
    timeout: Duration,
    session: Option<SessionId>,
) -> Client {
    let seed = session.map_or_else(|| u128::from_le_bytes(outside.random_bytes()), |session| session.0);
    let config = ClientConfig { servers: vec![server.to_owned()], timeout, follow: true, seed };
    let dial = outside.net.client().unwrap_or_else(|| Arc::clone(&outside.net) as Arc<dyn Dial>);
    let dial = match token {
        Some(token) => Arc::new(LoginDial::over(dial, TokenSource::Given(Token::clone(&token)))),
        None => dial,
    };
    Client::named(NAME, config, dial)
}

/// How this process reaches its own port.
fn reached_at(mut at: std::net::SocketAddr) -> String {
    if at.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match at {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        at.set_ip(loopback);
    }
    at.to_string()
}
