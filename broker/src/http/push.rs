//! `POST /v1/queues/{queue}/messages`: a body is one message; lines of NDJSON are one message each, as they come, with a
//! line of answer each.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use queue_protocol::content::{self, ContentSpec, Headers};
use queue_protocol::limits::PUSH_COUNT_MAX;
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Push, PushMessage, PushOptions};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::PushOutcome;
use serde_json::json;
use tokio::sync::mpsc;

use super::answers::{Failed, json as document, with_type};
use super::asked::Path;
use super::bearer;
use super::connections::Occupant;
use super::intake::BODY_TIMEOUT;
use super::serve::App;
use super::session::{ask, has_session};
use super::{flow, said};

/// Bytes of one request that lines are put together to.
const BATCH_SIZE: usize = 1 << 20;
/// Answers that wait for a reader before no more lines are read.
const ANSWERS_MAX: usize = 4;

/// A queue's name out of a path.
pub(super) fn queue_of(name: &str) -> Result<QueueName, Failed> {
    name.parse().map_err(|error: queue_protocol::names::BadQueueName| Failed::bad(error.to_string()))
}

/// Stores one message, or one a line.
pub(super) async fn push(
    State(app): State<Arc<App>>,
    Path(queue): Path,
    Extension(occupant): Extension<Occupant>,
    request: HttpRequest,
) -> Result<Response, Failed> {
    let queue = queue_of(&queue)?;
    let (head, body) = request.into_parts();
    let headers = head.headers;
    let to = To {
        queue,
        create: said::create(&headers)?,
        options: said::options(&headers)?,
        headers: said::own(&headers)?,
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.starts_with(flow::LINES) {
        return lines(app, to, &headers, body, occupant).await;
    }
    let taken = app.intake.take(&headers, body, app.intake.message_size_max).await?;
    let (row, content) = to.message(&taken.bytes, None)?;
    let answered = ask(&app, &headers, to.push(vec![row]), vec![content]).await?;
    match answered.answer.first() {
        Some(PushOutcome::Stored { first_id, .. }) => {
            Ok(document(StatusCode::CREATED, &json!({ "id": first_id.to_string() })))
        }
        Some(PushOutcome::Duplicate { id }) => {
            Ok(document(StatusCode::OK, &json!({ "id": id.to_string(), "duplicate": true })))
        }
        Some(PushOutcome::Refused { code, .. }) => Err(Failed::refused(*code)),
        None => Err(Failed::bad("nothing was stored")),
    }
}

/// Where messages go, and how.
struct To {
    queue: QueueName,
    create: bool,
    options: PushOptions,
    headers: Headers,
}

impl To {
    /// A message; one of several has the number of its line behind its dedup key.
    fn message(&self, body: &[u8], line: Option<u64>) -> Result<(PushMessage, Bytes), Failed> {
        let content = content::encode(&self.headers, body).map_err(|error| Failed::bad(error.to_string()))?;
        let mut options = self.options.clone();
        if let (Some(key), Some(line)) = (&options.dedup_key, line) {
            let key = format!("{}/{line}", key.as_str()).parse();
            options.dedup_key = Some(key.map_err(|_| Failed::bad("queue-dedup-key is too long for lines"))?);
        }
        Ok((PushMessage { content: ContentSpec::of(&content), options }, content))
    }

    fn push(&self, rows: Vec<PushMessage>) -> ask::Push {
        ask::Push(Push {
            queue: self.queue.clone(),
            create: self.create,
            atomic: false,
            messages: Bounded::new(rows).expect("no more are put together"),
        })
    }
}

async fn lines(
    app: Arc<App>,
    to: To,
    headers: &HeaderMap,
    body: Body,
    occupant: Occupant,
) -> Result<Response, Failed> {
    if has_session(headers) {
        return Err(Failed::bad("lines have no number of a session: Queue-Dedup-Key makes them repeatable"));
    }
    let room = app.intake.room(2 * BATCH_SIZE).await?;
    let (answers, told) = mpsc::channel(ANSWERS_MAX);
    let feed =
        Feed { app, to, rest: BytesMut::new(), line: 0, rows: Vec::new(), contents: Vec::new(), size: 0 };
    tokio::spawn(bearer::carry(async move {
        let _busy = occupant.busy();
        if let Err(failed) = feed.run(body.into_data_stream(), &answers).await {
            // Whoever asked may be gone.
            let _ = answers.send(Bytes::from(format!("{}\n", failed.document()))).await;
        }
        drop(room);
    }));
    let told = stream::unfold(told, |mut told| async move {
        let bytes = told.recv().await?;
        Some((Ok::<_, Infallible>(bytes), told))
    });
    Ok(with_type(StatusCode::OK, flow::LINES, Body::from_stream(told)))
}

/// Lines on their way.
struct Feed {
    app: Arc<App>,
    to: To,
    /// What came after the last end of a line.
    rest: BytesMut,
    line: u64,
    rows: Vec<PushMessage>,
    contents: Vec<Bytes>,
    size: usize,
}

impl Feed {
    async fn run(mut self, mut body: BodyDataStream, answers: &mpsc::Sender<Bytes>) -> Result<(), Failed> {
        loop {
            let chunk = match body.next().now_or_never() {
                Some(chunk) => chunk,
                None => {
                    // Nothing more is here: what is goes now.
                    self.flush(answers).await?;
                    let chunk = tokio::time::timeout(BODY_TIMEOUT, body.next()).await;
                    chunk.map_err(|_| Failed::bad(format!("no more came within {BODY_TIMEOUT:?}")))?
                }
            };
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|error| Failed::bad(format!("the lines broke off: {error}")))?;
            self.rest.extend_from_slice(&chunk);
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                self.take(&line[..end], answers).await?;
            }
            if self.rest.len() > self.app.intake.message_size_max {
                return Err(Failed::bad(format!("line {} is too long for a message", self.line + 1)));
            }
        }
        let last = self.rest.split();
        self.take(&last, answers).await?;
        self.flush(answers).await
    }

    async fn take(&mut self, line: &[u8], answers: &mpsc::Sender<Bytes>) -> Result<(), Failed> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(());
        }
        self.line += 1;
        let (row, content) = self.to.message(line, Some(self.line))?;
        self.size += content.len();
        self.rows.push(row);
        self.contents.push(content);
        if self.rows.len() == PUSH_COUNT_MAX || self.size >= BATCH_SIZE {
            self.flush(answers).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, answers: &mpsc::Sender<Bytes>) -> Result<(), Failed> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (rows, contents) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.contents));
        self.size = 0;
        let answered = self.app.gateway.ask_with(self.to.push(rows), contents).await?;
        let text: String = answered.answer.iter().map(outcome).collect();
        let gone = |_| Failed::bad("nobody reads the answers");
        answers.send(text.into()).await.map_err(gone)
    }
}

/// A line for each message of a run.
fn outcome(outcome: &PushOutcome) -> String {
    match outcome {
        PushOutcome::Stored { first_id, count } => {
            let ids = first_id.0..first_id.0 + u64::from(*count);
            ids.map(|id| format!("{{\"id\":\"{id}\"}}\n")).collect()
        }
        PushOutcome::Duplicate { id } => format!("{{\"id\":\"{id}\",\"duplicate\":true}}\n"),
        PushOutcome::Refused { code, count } => {
            let line = format!("{}\n", Failed::refused(*code).document());
            line.repeat(*count as usize)
        }
    }
}
