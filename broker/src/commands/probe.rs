//! Questions to nodes, asked as a client.

use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::{Client, ClientConfig, ClientError, TcpDial};
use queue_protocol::request::Request;
use queue_protocol::response::{Answer, StatusView};

use super::machine;

/// How long one node may take to say what it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of these servers; within a runtime.
pub(crate) fn client(servers: Vec<String>, timeout: Duration) -> Client {
    let config = ClientConfig { servers, timeout, follow: true, seed: machine::random_seed() };
    Client::new(config, Arc::new(TcpDial { timeout }))
}

/// What the node at `address` says of itself; `None` if it does not answer as one of ours.
pub(crate) async fn status(address: &str) -> Option<StatusView> {
    let client = client(vec![address.to_owned()], STATUS_TIMEOUT);
    match client.call_node(address, Request::Status).await.ok()?.answer {
        Answer::Status(status) => Some(*status),
        _ => None,
    }
}

/// Who answers at `address`, for people; `None` if it is no node.
pub(crate) async fn holder(address: &str) -> Option<String> {
    let client = client(vec![address.to_owned()], STATUS_TIMEOUT);
    match client.call_node(address, Request::Status).await {
        Ok(answered) => match answered.answer {
            Answer::Status(status) => {
                Some(format!("queued, node {} of cluster {}", status.name, status.cluster))
            }
            _ => Some("queued".to_owned()),
        },
        Err(ClientError::Refused(_)) => Some("queued".to_owned()),
        Err(_) => None,
    }
}

/// `2.9 ms`
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}
