//! What clients did and were told, and the check of it against what the replicas applied.
//!
//! ```text
//! clients ──► History ──┐
//!                       ├──► check: order in real time, answers equal to the model's, bodies as pushed
//! nodes ────► Replicas ─┘    meanwhile: equal entries, replies and states at equal indices
//! ```
//!
//! No search for an order is needed: every answer names its place in the log, so the order is a claim to be checked.

mod answers;
mod check;
mod clocks;
mod leases;
mod replicas;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use queue_protocol::client::{Answered, Client, ClientError};
use queue_protocol::names::SessionId;
use queue_protocol::wire::request::Request;

pub use self::check::{Checked, check};
pub use self::clocks::{Clocks, TimeTaken};
pub use self::replicas::{Applied, Replicas, Tally};

/// What a client knows of an operation's end.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Answered.
    Ok(Box<Answered>),
    /// Surely not done.
    Fail(String),
    /// May have been done, or may still be.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Whose; a client that renewed its session has others beside this one.
    pub session: SessionId,
    /// What was asked.
    pub request: Request,
    /// Tail of a push.
    pub contents: Vec<Bytes>,
    /// Before the call, in the one order of all calls and returns.
    pub invoked: u64,
    /// After the return.
    pub completed: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// Everything that clients did. Clones are the same history.
#[derive(Clone, Default)]
pub struct History {
    clock: Arc<AtomicU64>,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl History {
    /// Calls, and writes down what came of it.
    pub async fn call(
        &self,
        client: &Client,
        session: SessionId,
        request: Request,
        contents: Vec<Bytes>,
    ) -> Result<Answered, ClientError> {
        let invoked = self.clock.fetch_add(1, Ordering::Relaxed);
        let result = client.call(request.clone(), contents.clone()).await;
        let completed = self.clock.fetch_add(1, Ordering::Relaxed);
        let outcome = match &result {
            Ok(answered) => Outcome::Ok(Box::new(answered.clone())),
            Err(ClientError::Unknown { .. }) => Outcome::Unknown,
            Err(error) => Outcome::Fail(error.to_string()),
        };
        self.lock().push(Operation { session, request, contents, invoked, completed, outcome });
        result
    }

    /// What was written down, in order of completion.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
