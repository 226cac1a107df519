//! Queues: list, look, make, change, remove; and the totals.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::QueueName;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{AlterQueue, Consistency, CreateQueue, Queues, RemoveQueue};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::QueueView;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answers::{Failed, json as document};
use super::asked::{Path, Query};
use super::connections::Occupant;
use super::flow;
use super::push::queue_of;
use super::serve::App;
use super::session::ask;
use super::take::read;

/// Milliseconds between two looks at what is watched.
const WATCH_MS: u64 = 1_000;
const WATCH_MS_RANGE: RangeInclusive<u64> = 100..=60_000;

/// Where a listing goes on.
#[derive(Deserialize)]
pub(super) struct After {
    after: Option<String>,
}

/// What a removal asks for.
#[derive(Deserialize)]
pub(super) struct Only {
    #[serde(default)]
    if_empty: bool,
}

/// One page of queues, by name.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(after): Query<After>,
) -> Result<Response, Failed> {
    let after = after.after.as_deref().map(queue_of).transpose()?;
    let views = queues(&app, Queues { only: None, after, consistency: Consistency::Linearizable }).await?;
    let shown: Vec<Value> = views.iter().map(queue_json::queue::resource).collect();
    Ok(document(StatusCode::OK, &json!({ "queues": shown })))
}

/// One queue.
pub(super) async fn look(State(app): State<Arc<App>>, Path(queue): Path) -> Result<Response, Failed> {
    let only = Some(queue_of(&queue)?);
    let views = queues(&app, Queues { only, after: None, consistency: Consistency::Linearizable }).await?;
    let view = views.first().ok_or_else(|| Failed::bad("there is no such queue"))?;
    let mut response = document(StatusCode::OK, &queue_json::queue::resource(view));
    if let Ok(version) = format!("\"{}\"", view.version).parse() {
        response.headers_mut().insert(header::ETAG, version);
    }
    Ok(response)
}

async fn queues(app: &App, queues: Queues) -> Result<Vec<QueueView>, Failed> {
    Ok(app.gateway.ask(ask::Queues(queues)).await?.answer.into_vec())
}

/// The figures of a queue, without its settings.
fn figures(view: &QueueView) -> Value {
    let mut figures = queue_json::queue::resource(view);
    if let Some(fields) = figures.as_object_mut() {
        fields.remove("settings");
    }
    figures
}

fn settings(given: Map<String, Value>) -> Result<QueueSettings, Failed> {
    queue_json::settings::read(given).map_err(Failed::bad)
}

/// Makes a queue; 200 if it is there with these settings already.
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Path(queue): Path,
    request: HttpRequest,
) -> Result<Response, Failed> {
    let queue = queue_of(&queue)?;
    let (headers, given): (_, Map<String, Value>) = read(&app, request).await?;
    let create = CreateQueue { queue, settings: settings(given)?, if_not_exists: true };
    let new = ask(&app, &headers, ask::CreateQueue(Box::new(create)), Vec::new()).await?.answer;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(document(status, &json!({ "created": new })))
}

/// Changes settings; with `If-Match` only those of that version.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path(queue): Path,
    request: HttpRequest,
) -> Result<Response, Failed> {
    let queue = queue_of(&queue)?;
    let (headers, given): (_, Map<String, Value>) = read(&app, request).await?;
    let if_version = version(&headers)?;
    let alter = AlterQueue { queue, change: settings(given)?, if_version };
    let version = ask(&app, &headers, ask::AlterQueue(Box::new(alter)), Vec::new()).await?.answer;
    Ok(document(StatusCode::OK, &json!({ "version": version })))
}

fn version(headers: &HeaderMap) -> Result<Option<u64>, Failed> {
    let Some(text) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let number = text.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    let what = || Failed::bad("if-match is the version of a queue; nothing was changed");
    number.map(Some).ok_or_else(what)
}

/// Removes a queue with everything in it.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(queue): Path,
    Query(only): Query<Only>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let remove = RemoveQueue { queue: queue_of(&queue)?, if_exists: false, if_empty: only.if_empty };
    let count = ask(&app, &headers, ask::RemoveQueue(remove), Vec::new()).await?.answer;
    Ok(document(StatusCode::OK, &json!({ "messages": count })))
}

/// What can be watched.
pub(super) enum Watched {
    /// The figures of a queue.
    Queue(QueueName),
    /// The totals of the cluster.
    Totals,
}

/// How often it is looked: `watch`, or `watch=MILLISECONDS`.
#[derive(Deserialize)]
pub(super) struct Watch {
    watch: Option<String>,
}

impl Watched {
    /// As the leader has it.
    ///
    /// # Errors
    /// As the gateway's.
    pub(super) async fn look(&self, app: &App) -> Result<Value, Failed> {
        let Self::Queue(queue) = self else { return all(app).await };
        let only = Some(queue.clone());
        let views = queues(app, Queues { only, after: None, consistency: Consistency::Linearizable }).await?;
        let none = || Failed::of(StatusCode::NOT_FOUND, ErrorCode::QueueNotFound, "there is no such queue");
        views.first().map(figures).ok_or_else(none)
    }

    /// Once, or as often as it changes.
    async fn answer(self, app: Arc<App>, occupant: &Occupant, watch: Watch) -> Result<Response, Failed> {
        let every = match watch.watch.as_deref() {
            None => return Ok(document(StatusCode::OK, &self.look(&app).await?)),
            Some("") => Some(WATCH_MS),
            Some(text) => text.parse().ok(),
        };
        let every = every.filter(|every| WATCH_MS_RANGE.contains(every)).ok_or_else(|| {
            let (least, most) = (WATCH_MS_RANGE.start(), WATCH_MS_RANGE.end());
            Failed::bad(format!("watch is {least} to {most}: milliseconds between two looks"))
        })?;
        flow::watch(app, occupant, self, Duration::from_millis(every)).await
    }
}

/// The figures of one queue, once or watched.
pub(super) async fn stats(
    State(app): State<Arc<App>>,
    Extension(occupant): Extension<Occupant>,
    Path(queue): Path,
    Query(watch): Query<Watch>,
) -> Result<Response, Failed> {
    Watched::Queue(queue_of(&queue)?).answer(app, &occupant, watch).await
}

/// Totals of the cluster, once or watched.
pub(super) async fn totals(
    State(app): State<Arc<App>>,
    Extension(occupant): Extension<Occupant>,
    Query(watch): Query<Watch>,
) -> Result<Response, Failed> {
    Watched::Totals.answer(app, &occupant, watch).await
}

async fn all(app: &App) -> Result<Value, Failed> {
    Ok(Value::Object(queue_json::stats::totals(&app.gateway.ask(ask::Stats).await?.answer)))
}
