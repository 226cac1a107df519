//! `/livez`, `/readyz`, `/leader`: for those who start processes, and for those who send clients.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use queue_protocol::health;
use queue_protocol::wire::response::StatusView;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answers::json as document;
use super::serve::App;
use crate::raft::Consensus;

/// Raft's thread must turn within this time.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

type Ask = oneshot::Sender<()>;

/// Asks the thread of Raft whether it turns.
pub(super) struct Pulse(mpsc::Sender<Ask>);

/// Answers on the thread of Raft.
pub(super) async fn beat(mut asked: mpsc::Receiver<Ask>) {
    while let Some(ask) = asked.recv().await {
        // Whoever asked may not wait any more.
        let _ = ask.send(());
    }
}

impl Pulse {
    /// As the two ends of a channel.
    pub(super) fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self(asks)
    }

    /// How long a turn took; `None` if it took too long.
    pub(super) async fn turn(&self) -> Option<Duration> {
        let began = Instant::now();
        let turn = async {
            let (answer, answered) = oneshot::channel();
            self.0.send(answer).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(TURN_TIMEOUT, turn).await.ok()??;
        Some(began.elapsed())
    }
}

/// Whether the process turns, whatever its cluster does.
pub(super) async fn livez(State(app): State<Arc<App>>) -> Response {
    match app.pulse.turn().await {
        Some(_) => document(StatusCode::OK, &json!({ "alive": true })),
        None => {
            let reasons = [format!("the thread of Raft has not turned for {} s", TURN_TIMEOUT.as_secs())];
            document(StatusCode::SERVICE_UNAVAILABLE, &json!({ "alive": false, "reasons": reasons }))
        }
    }
}

/// Whether clients should be sent here: the same as `queued healthcheck --ready`.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let mut reasons = Vec::new();
    if *app.stop.borrow() {
        reasons.push("it is stopping".to_owned());
    }
    if app.pulse.turn().await.is_none() {
        reasons.push(format!("the thread of Raft has not turned for {} s", TURN_TIMEOUT.as_secs()));
    } else if let Err(why) = health::ready(&app.site.consensus.status()) {
        reasons.push(why);
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    document(status, &json!({ "ready": ready, "name": app.site.consensus.me().name, "reasons": reasons }))
}

/// Whether this node leads with a majority, and serves. One that no majority answers believes for long that it leads.
pub(super) fn leads(consensus: &Consensus, status: &StatusView) -> bool {
    consensus.ready().is_some() && status.leader.as_ref().is_some_and(|leader| leader.node == status.node)
}

/// Who leads, as far as this node knows. 200 at the leader itself, 503 elsewhere: for a load balancer.
pub(super) async fn leader(State(app): State<Arc<App>>) -> Response {
    let status = app.site.consensus.status();
    let leader = status.leader.as_ref();
    let leads = leads(&app.site.consensus, &status);
    let code = if leads { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    document(
        code,
        &json!({
            "leads": leads,
            "term": status.term,
            "leader": leader.map(|leader| json!({ "name": *leader.name, "address": *leader.address })),
        }),
    )
}
