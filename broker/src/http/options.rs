//! What an operator can choose about HTTP.

use queue_protocol::names::QueueName;

/// How HTTP is served.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// `host:port` to listen on; `None` is off.
    pub listen: Option<String>,
    /// Names under which requests may come, beside addresses and those of this node.
    pub hosts: Vec<String>,
    /// The queue of `/send` and `/receive`.
    pub queue: QueueName,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { listen: None, hosts: Vec::new(), queue: "default".parse().expect("it is a queue name") }
    }
}
