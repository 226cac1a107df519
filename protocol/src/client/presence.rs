//! The presence of a client whose session is bound: while it lasts some node that leads has a request that says that the
//! client is there; when it ends, or the process does, what the session has leased goes back after the grace.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::{Client, ClientError};
use crate::error::ErrorCode;
use crate::values::milliseconds;
use crate::wire::request::BindSession;
use crate::wire::requests::ask;

/// A session is unbound within this time or not at all.
const UNBIND_MAX: Duration = Duration::from_secs(1);
/// Between two tries to be heard, in milliseconds: well below the shortest grace.
const PAUSE_MS: (u64, u64) = (10, 320);
/// Who was heard for so long begins anew with its pauses.
const HEARD_MIN: Duration = Duration::from_secs(1);

/// Says that the client is there, until it is dropped: then its absence begins.
#[must_use = "dropped, the client counts as gone"]
pub struct Presence {
    client: Client,
    attending: AbortHandle,
}

impl Client {
    /// Binds the session to this process: whatever it leases goes back without blame, and its claims pass on, once the
    /// leader has not heard of this client for `grace`, 1 s to 12 h. Follows the leader, and binds the session again
    /// that comes after one that expired. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Client::call`]; refused if the grace is out of its range.
    pub async fn bind(&self, grace: Duration) -> Result<Presence, ClientError> {
        let grace_ms = milliseconds(grace);
        self.set_grace(Some(grace_ms)).await?;
        let attending = tokio::spawn(attend(self.clone(), grace_ms)).abort_handle();
        Ok(Presence { client: self.clone(), attending })
    }

    async fn set_grace(&self, grace_ms: Option<u64>) -> Result<(), ClientError> {
        self.ask(ask::BindSession(BindSession { grace_ms })).await.map(drop)
    }
}

impl Presence {
    /// Unbinds the session, if the leader is at hand: what it has leased runs on to its end. Otherwise it goes back after
    /// the grace.
    pub async fn end(self) {
        // First, for it would bind the session again.
        self.attending.abort();
        // What is not unbound now is released: nothing is lost by that.
        let _ = timeout(UNBIND_MAX, self.client.set_grace(None)).await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.attending.abort();
    }
}

/// Says that the client is there, for ever.
async fn attend(client: Client, grace_ms: u64) {
    let mut backoff = Backoff::new(PAUSE_MS.0, PAUSE_MS.1);
    loop {
        let begin = Instant::now();
        let ended = client.ask(ask::Attend).await;
        if begin.elapsed() >= HEARD_MIN {
            backoff = Backoff::new(PAUSE_MS.0, PAUSE_MS.1);
        }
        let not_bound = |error: &ClientError| matches!(error, ClientError::Refused(error) if error.code == ErrorCode::SessionNotBound);
        if ended.as_ref().is_err_and(not_bound) {
            // The session expired, and another one has taken its place or will. If that is not known, the next answer says so.
            let _ = client.set_grace(Some(grace_ms)).await;
        }
        sleep(backoff.next(client.jitter(), Duration::ZERO)).await;
    }
}
