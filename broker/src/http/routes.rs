//! The table of what can be asked over HTTP: a row a method and path. From it come the router and what `/v1/openapi.json` says
//! of each (see [`super::document`]).
//!
//! Fields are written in the language of [`queue_json::schema`]; names of shapes are those of [`super::document`].

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::requests::{Ask, Row, ask};

use super::answers::Failed;
use super::serve::App;
use super::{compat, document, flow, guard, health, log, manage, metrics, push, session, take};

/// Types of bodies.
pub(super) const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const OPEN: &str = "application/openmetrics-text";
const PLAIN: &str = "text/plain";

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// A document of these fields, and of no other.
    Fields(&'static str),
    /// A document that has these fields.
    Open(&'static str),
    /// Any JSON object.
    Object,
    /// Settings of a queue.
    Settings,
    /// A message, or lines.
    Contents,
}

/// A method at a path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What it is for.
    pub(super) about: &'static str,
    /// The request of the protocol that it makes.
    pub(super) asks: Option<Row>,
    /// Fields of the query.
    pub(super) query: &'static str,
    /// Headers, beside those of a session.
    pub(super) headers: &'static str,
    pub(super) takes: Takes,
    /// Status, type and fields of what it answers, beside errors.
    pub(super) gives: &'static [(u16, &'static str, &'static str)],
    handler: fn() -> MethodRouter<Arc<App>>,
}

impl Route {
    const fn new(
        method: &'static str,
        path: &'static str,
        about: &'static str,
        gives: &'static [(u16, &'static str, &'static str)],
        handler: fn() -> MethodRouter<Arc<App>>,
    ) -> Self {
        let (query, headers) = ("", "");
        Self { method, path, about, asks: None, query, headers, takes: Takes::Nothing, gives, handler }
    }

    const fn asks<A: Ask>(self) -> Self {
        Self { asks: Some(A::ROW), ..self }
    }

    const fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    const fn headers(self, headers: &'static str) -> Self {
        Self { headers, ..self }
    }

    const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }
}

const QUEUE: &str = "/v1/queues/{queue}";
const MESSAGES: &str = "/v1/queues/{queue}/messages";
const LEASE: &str =
    "max?:i(1..256) wait_ms?:i(0..60000)~ linger_ms?:i(0..60000) lease_ms?:i(1000..43200000)~";
const SETTLED: &[(u16, &str, &str)] = &[(200, JSON, "results:[settled]"), (409, JSON, "results:[settled]")];
const LEVELS: &[(u16, &str, &str)] = &[(200, JSON, "level:level settings:level left_ms:i~")];

/// All of it.
pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "GET",
        "/livez",
        "Whether the process runs, whatever its cluster does",
        &[(200, JSON, "alive:b"), (503, JSON, "alive:b reasons:[s]")],
        || get(health::livez),
    ),
    Route::new(
        "GET",
        "/readyz",
        "Whether clients should be sent to this node",
        &[(200, JSON, "ready:b name:s reasons:[s]"), (503, JSON, "ready:b name:s reasons:[s]")],
        || get(health::readyz),
    ),
    Route::new(
        "GET",
        "/leader",
        "Who leads as far as this node knows; 200 at the leader",
        &[(200, JSON, "leads:b term:i leader:member~"), (503, JSON, "leads:b term:i leader:member~")],
        || get(health::leader),
    ),
    Route::new(
        "GET",
        "/metrics",
        "Metrics of this node, for Prometheus",
        &[(200, PLAIN, ""), (200, OPEN, "")],
        || get(metrics::metrics),
    ),
    Route::new("POST", "/send", "Stores a JSON object in the queue `http.queue`", &[(201, JSON, "id:s")], || {
        post(compat::send)
    })
    .asks::<ask::Push>()
    .takes(Takes::Object),
    Route::new("GET", "/recieve", "The same as /receive", &[(200, JSON, "Data:any")], || {
        get(compat::receive)
    })
    .asks::<ask::Pop>(),
    Route::new(
        "GET",
        "/receive",
        "Takes a message of the queue `http.queue` for good; `Data` is empty if there is none",
        &[(200, JSON, "Data:any")],
        || get(compat::receive),
    )
    .asks::<ask::Pop>(),
    Route::new("GET", "/stats", "Raft's statistics of this node", &[(200, JSON, "*:map")], || {
        get(compat::stats)
    })
    .asks::<ask::Status>(),
    Route::new(
        "POST",
        "/join",
        "Takes in a node that waits at an address with `queued join`",
        &[(201, JSON, "id:s number:i address:s voter:b")],
        || post(compat::join),
    )
    .asks::<ask::ChangeMembers>()
    .takes(Takes::Open("address:address")),
    Route::new("GET", "/v1/openapi.json", "This document", &[(200, JSON, "openapi:s info:any servers:any paths:any components:any")], || {
        get(document::show)
    }),
    Route::new(
        "POST",
        "/v1/sessions",
        "Begins a session: its requests count once, by their numbers",
        &[(201, JSON, "session:s first_within_s:i")],
        || post(session::begin),
    ),
    Route::new("GET", "/v1/queues", "Lists queues by name", &[(200, JSON, "queues:[queue]")], || {
        get(manage::list)
    })
    .asks::<ask::Queues>()
    .query("after?:queue_name"),
    Route::new("GET", QUEUE, "Shows a queue; the `ETag` is its version", &[(200, JSON, "*:queue")], || {
        get(manage::look)
    })
    .asks::<ask::Queues>(),
    Route::new(
        "PUT",
        QUEUE,
        "Makes a queue; 200 if there is one of that name already, which stays as it is",
        &[(201, JSON, "created:b"), (200, JSON, "created:b")],
        || put(manage::make),
    )
    .asks::<ask::CreateQueue>()
    .takes(Takes::Settings),
    Route::new("PATCH", QUEUE, "Changes settings of a queue", &[(200, JSON, "version:i")], || {
        patch(manage::change)
    })
    .asks::<ask::AlterQueue>()
    .headers("If-Match?:version")
    .takes(Takes::Settings),
    Route::new("DELETE", QUEUE, "Removes a queue with its messages", &[(200, JSON, "messages:i")], || {
        delete(manage::remove)
    })
    .asks::<ask::RemoveQueue>()
    .query("if_empty?:b"),
    Route::new("GET", MESSAGES, "Shows messages", &[(200, JSON, "messages:[peeked] next:s~")], || {
        get(take::peek)
    })
    .asks::<ask::Peek>()
    .query("state?:=ready|leased|delayed|dead limit?:i(0..65535) after?:cursor"),
    Route::new(
        "POST",
        MESSAGES,
        "Pushes the body as one message, or each line of `application/x-ndjson` as one",
        &[
            (201, JSON, "id:s"),
            (200, JSON, "id:s duplicate:b"),
            (200, flow::LINES, "id?:s duplicate?:b error?:error"),
        ],
        || post(push::push),
    )
    .asks::<ask::Push>()
    .headers(
        "Queue-Create?:b Queue-Priority?:i(0..31) Queue-Delay-Ms?:i(0..31622400000) Queue-Ttl-Ms?:i(1..31622400000) \
         Queue-Group?:key Queue-Dedup-Key?:key Queue-Unique?:key Queue-On-Held?:=reject|keep|replace traceparent?:s",
    )
    .takes(Takes::Contents),
    Route::new(
        "POST",
        "/v1/queues/{queue}/leases",
        "Leases messages; waits for the first if that is asked",
        &[(200, JSON, "messages:[delivered]"), (200, flow::LINES, "")],
        || post(take::lease),
    )
    .asks::<ask::Lease>()
    .takes(Takes::Fields(LEASE)),
    Route::new(
        "POST",
        "/v1/queues/{queue}/pop",
        "Takes messages for good; waits for the first if that is asked",
        &[(200, JSON, "messages:[delivered]"), (200, flow::LINES, "")],
        || post(take::pop),
    )
    .asks::<ask::Pop>()
    .takes(Takes::Fields(LEASE)),
    Route::new(
        "GET",
        "/v1/queues/{queue}/stats",
        "The figures of a queue, once or whenever they change",
        &[(200, JSON, "*:figures"), (200, EVENTS, "")],
        || get(manage::stats),
    )
    .asks::<ask::Queues>()
    .query("watch?:watch"),
    Route::new("POST", "/v1/ack", "Settles leases of one queue for good", SETTLED, || post(take::ack))
        .asks::<ask::Ack>()
        .takes(Takes::Fields("receipts:[receipt](1..1000)")),
    Route::new("POST", "/v1/nack", "Gives leased messages of one queue back", SETTLED, || post(take::nack))
        .asks::<ask::Nack>()
        .takes(Takes::Fields(
            "receipts:[receipt](1..1000) kind?:=fail|release|reject delay_ms?:i(0..31622400000)~ error?:s",
        )),
    Route::new("POST", "/v1/renew", "Makes leases of one queue longer", SETTLED, || post(take::renew))
        .asks::<ask::Extend>()
        .takes(Takes::Fields("receipts:[receipt](1..1000) lease_ms:i(1000..43200000)")),
    Route::new(
        "GET",
        "/v1/stats",
        "Totals of the cluster, once or whenever they change",
        &[(200, JSON, "*:totals"), (200, EVENTS, "")],
        || get(manage::totals),
    )
    .asks::<ask::Stats>()
    .query("watch?:watch"),
    Route::new("GET", "/v1/log", "Which log lines this node writes", LEVELS, || get(log::look)),
    Route::new("PUT", "/v1/log", "Writes other log lines for a while", LEVELS, || put(log::choose))
        .takes(Takes::Fields("level:level for_ms?:i(1..86400000)"))
        .asks::<ask::SetLog>(),
    Route::new(
        "GET",
        "/v1/slow",
        "Requests that took this node long, newest first, with the stages that each passed",
        &[(200, JSON, "threshold_ms:i total:i requests:[slow]")],
        || get(log::slow),
    )
    .asks::<ask::Slow>(),
    Route::new("DELETE", "/v1/log", "Goes back to the log lines of the settings", LEVELS, || {
        delete(log::go_back)
    }),
];

/// All routes, behind the guard.
pub(super) fn router(app: Arc<App>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
        .method_not_allowed_fallback(method)
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn nothing() -> Response {
    let what = "there is nothing at this path; /v1/openapi.json lists what there is";
    Failed::of(StatusCode::NOT_FOUND, ErrorCode::BadRequest, what).into_response()
}

async fn method() -> Response {
    let what = "this path does not take that method";
    Failed::of(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, what).into_response()
}
