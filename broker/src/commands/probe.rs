//! Questions to nodes, asked as a client.

use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::{
    Client, ClientConfig, ClientError, Connection, Dial, LoginDial, TcpDial, TokenSource,
};
use queue_protocol::error::ErrorCode;
use queue_protocol::health;
use queue_protocol::names::SessionId;
use queue_protocol::wire::credentials::Credentials;
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::StatusView;
use tokio::time::Instant;

use super::machine;
use crate::tls::{Tls, TlsMode};

/// What these clients call themselves.
const NAME: &str = concat!("queued/", env!("CARGO_PKG_VERSION"));
/// How long one node may take to say what it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// How nodes are asked that run in this mode of TLS. Nothing is told to them that nobody may hear, so that their certificates
/// are not checked.
pub(crate) fn dial(timeout: Duration, mode: TlsMode) -> Arc<dyn Dial> {
    Tls::probe(Arc::new(TcpDial { timeout }), mode)
}

/// How a client asks: as somebody, or as nobody.
pub(crate) type Login = Option<TokenSource>;

/// A client of these servers; within a runtime. A login is worth nothing to whoever stands between: it is bound to the
/// certificate that is seen.
pub(crate) fn client(servers: Vec<String>, timeout: Duration, mode: TlsMode, login: Login) -> Client {
    let config = ClientConfig { servers, timeout, follow: true, seed: machine::random_seed() };
    let below = dial(timeout, mode);
    let dial = match login {
        Some(source) => Arc::new(LoginDial::over(below, source)),
        None => below,
    };
    Client::named(NAME, config, dial)
}

/// A node that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    /// It answered a ping in this time.
    Answers(Duration),
    /// It greets, and refuses this client: it takes no more, or is stopping. A process that refuses turns.
    Refuses(String),
}

/// Whether a node at `address` is alive. It greets everybody, also where it takes no more clients.
///
/// # Errors
/// Why it is not, for people.
pub(crate) async fn alive(address: &str, timeout: Duration, mode: TlsMode) -> Result<Alive, String> {
    let deadline = Instant::now() + timeout;
    let asking = async {
        let stream =
            dial(timeout, mode).dial(address).await.map_err(|error| format!("{address}: {error}"))?;
        let role = HelloRole::Client { session: SessionId(machine::random_seed()) };
        let hello = Hello::new(None, role, 0, machine::random_bytes()).with(&Credentials::of(NAME));
        match Connection::open(stream, hello).await {
            Ok(connection) => match connection.ping(deadline).await {
                Ok(took) => Ok(Alive::Answers(took)),
                Err(error) => Err(format!("{address} does not answer: {error}")),
            },
            Err(HandshakeError::Refused(error)) => Ok(Alive::Refuses(error.message.to_string())),
            Err(error) => Err(format!("{address}: {error}")),
        }
    };
    let late = |_| format!("{address} does not answer within {timeout:?}");
    tokio::time::timeout_at(deadline, asking).await.map_err(late)?
}

/// Whether clients should be sent to the node at `address`. `login` is used where logins are required.
///
/// # Errors
/// Why not, for people.
pub(crate) async fn ready(
    address: &str,
    timeout: Duration,
    mode: TlsMode,
    login: Login,
) -> Result<(), String> {
    let client = |login| client(vec![address.to_owned()], timeout, mode, login);
    let asked = match client(None).ask_node(address, ask::Status).await {
        Err(ClientError::Incompatible(error)) if error.code == ErrorCode::AuthRequired && login.is_some() => {
            client(login).ask_node(address, ask::Status).await
        }
        asked => asked,
    };
    let status = asked.map_err(|error| format!("{address}: {error}"))?.answer;
    health::ready(&status).map_err(|why| format!("{} at {address} is not ready: {why}", status.name))
}

/// What the node at `address` says of itself; `None` if it does not answer as one of ours.
pub(crate) async fn status(address: &str, mode: TlsMode, login: Login) -> Option<StatusView> {
    let client = client(vec![address.to_owned()], STATUS_TIMEOUT, mode, login);
    Some(*client.ask_node(address, ask::Status).await.ok()?.answer)
}

/// Who answers at `address`, for people; `None` if it is no node.
pub(crate) async fn holder(address: &str) -> Option<String> {
    let client = client(vec![address.to_owned()], STATUS_TIMEOUT, TlsMode::Off, None);
    match client.ask_node(address, ask::Status).await {
        Ok(answered) => {
            let status = answered.answer;
            Some(format!("queued, node {} of cluster {}", status.name, status.cluster))
        }
        Err(ClientError::Refused(_)) => Some("queued".to_owned()),
        Err(ClientError::Incompatible(error))
            if matches!(error.code, ErrorCode::TlsRequired | ErrorCode::AuthRequired) =>
        {
            Some("queued".to_owned())
        }
        Err(_) => None,
    }
}

/// `2.9 ms`
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}
