//! The table of what can be asked.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use queue_protocol::error::ErrorCode;

use super::answers::Failed;
use super::serve::App;
use super::{compat, guard, health, log, manage, metrics, push, session, take};

/// All routes, behind the guard.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/leader", get(health::leader))
        .route("/metrics", get(metrics::metrics))
        .route("/send", post(compat::send))
        .route("/recieve", get(compat::receive))
        .route("/receive", get(compat::receive))
        .route("/stats", get(compat::stats))
        .route("/join", post(compat::join))
        .route("/v1/sessions", post(session::begin))
        .route("/v1/queues", get(manage::list))
        .route(
            "/v1/queues/{queue}",
            get(manage::look).put(manage::make).patch(manage::change).delete(manage::remove),
        )
        .route("/v1/queues/{queue}/messages", get(take::peek).post(push::push))
        .route("/v1/queues/{queue}/leases", post(take::lease))
        .route("/v1/queues/{queue}/pop", post(take::pop))
        .route("/v1/queues/{queue}/stats", get(manage::stats))
        .route("/v1/ack", post(take::ack))
        .route("/v1/nack", post(take::nack))
        .route("/v1/renew", post(take::renew))
        .route("/v1/stats", get(manage::totals))
        .route("/v1/log", get(log::look).put(log::choose).delete(log::go_back))
        .method_not_allowed_fallback(method)
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn nothing() -> Response {
    let what = "there is nothing at this path; README, section HTTP, lists what there is";
    Failed::of(StatusCode::NOT_FOUND, ErrorCode::BadRequest, what).into_response()
}

async fn method() -> Response {
    let what = "this path does not take that method";
    Failed::of(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, what).into_response()
}
