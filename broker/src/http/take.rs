//! Taking messages and settling them: `leases`, `pop`, `ack`, `nack`, `renew`, and looking at them.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use queue_protocol::content;
use queue_protocol::limits::{LEASE_COUNT_MAX, TAIL_SIZE_MAX};
use queue_protocol::names::Receipt;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{
    Consistency, Extend, ExtendWhich, Lease, MessageState, Nack, NackKind, Peek, Receipts,
};
use queue_protocol::wire::requests::{Ask, ask};
use queue_protocol::wire::response::{Delivery, MessageView, Settled};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answers::{Failed, json as document};
use super::asked::{Path, Query};
use super::connections::Occupant;
use super::flow::{self, Lines};
use super::intake::DOCUMENT_SIZE_MAX;
use super::push::queue_of;
use super::serve::App;
use super::session::{ask, has_session};

/// Longest that a request waits for messages: proxies end what takes longer.
const HELD_MS_MAX: u32 = 60_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default = "one")]
    max: u16,
    #[serde(default)]
    wait_ms: Option<u32>,
    #[serde(default)]
    linger_ms: u32,
    #[serde(default)]
    lease_ms: Option<u64>,
}

fn one() -> u16 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    receipts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Longer {
    receipts: Vec<String>,
    lease_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    receipts: Vec<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    delay_ms: Option<u64>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
pub(super) struct Look {
    state: Option<String>,
    limit: Option<u16>,
    /// The `next` of an earlier answer.
    after: Option<String>,
}

/// The body as a document; an empty one as an empty document.
pub(super) async fn read<T: DeserializeOwned>(
    app: &App,
    request: HttpRequest,
) -> Result<(HeaderMap, T), Failed> {
    let (head, body) = request.into_parts();
    let taken = app.intake.take(&head.headers, body, DOCUMENT_SIZE_MAX).await?;
    let text: &[u8] = if taken.bytes.is_empty() { b"{}" } else { &taken.bytes };
    let read = serde_json::from_slice(text).map(whole).and_then(serde_json::from_value);
    let read = read.map_err(|error| Failed::bad(format!("the body: {error}; nothing was changed")))?;
    Ok((head.headers, read))
}

/// The same with numbers as whole ones that are, however they are written: 30.0 is 30 to JSON Schema, and to many programs.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                Some(float) => {
                    format!("{float:.0}").parse::<u64>().map_or(Value::Number(number), Value::from)
                }
                None => Value::Number(number),
            }
        }
        Value::Array(values) => values.into_iter().map(whole).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, whole(value))).collect(),
        other => other,
    }
}

async fn taken<A: Ask<Answer = Bounded<Delivery, LEASE_COUNT_MAX>> + 'static>(
    app: Arc<App>,
    occupant: Occupant,
    queue: String,
    request: HttpRequest,
    kind: fn(Lease) -> A,
) -> Result<Response, Failed> {
    let queue = queue_of(&queue)?;
    let (headers, wanted): (_, Wanted) = read(&app, request).await?;
    let lines = flow::wants_lines(&headers);
    if lines && has_session(&headers) {
        return Err(Failed::bad("lines have no number of a session: a lease that was lost ends by itself"));
    }
    let wait_ms = wanted.wait_ms.unwrap_or(0);
    if (wait_ms > HELD_MS_MAX && !lines) || wanted.linger_ms > HELD_MS_MAX {
        return Err(Failed::bad(format!("wait_ms and linger_ms are at most {HELD_MS_MAX}")));
    }
    let lease = Lease {
        queues: Bounded::new(vec![queue]).expect("it is one"),
        max_messages: wanted.max,
        max_bytes: u32::try_from(TAIL_SIZE_MAX).unwrap_or(u32::MAX),
        lease_ms: wanted.lease_ms,
        wait_ms,
        linger_ms: wanted.linger_ms,
    };
    if lines {
        let patience = wanted.wait_ms.map(|ms| Duration::from_millis(ms.into()));
        return Lines::new(app, &occupant, lease, kind, patience)?.answer().await;
    }
    let answered = ask(&app, &headers, kind(lease), Vec::new()).await?;
    let messages = answered.answer.iter().zip(&answered.contents);
    let messages: Result<Vec<Value>, Failed> =
        messages.map(|(delivery, content)| delivered(delivery, content)).collect();
    Ok(document(StatusCode::OK, &json!({ "messages": messages? })))
}

/// Takes messages for a while; waits for one if that is asked.
pub(super) async fn lease(
    State(app): State<Arc<App>>,
    Extension(occupant): Extension<Occupant>,
    Path(queue): Path,
    request: HttpRequest,
) -> Result<Response, Failed> {
    taken(app, occupant, queue, request, ask::Lease).await
}

/// Takes messages for good.
pub(super) async fn pop(
    State(app): State<Arc<App>>,
    Extension(occupant): Extension<Occupant>,
    Path(queue): Path,
    request: HttpRequest,
) -> Result<Response, Failed> {
    taken(app, occupant, queue, request, ask::Pop).await
}

/// A message that was taken.
///
/// # Errors
/// Its content does not decode.
pub(super) fn delivered(delivery: &Delivery, content: &Bytes) -> Result<Value, Failed> {
    let (headers, body) = content::decode(content).map_err(|error| Failed::bad(error.to_string()))?;
    Ok(queue_json::message::delivered(delivery, &headers, &body))
}

/// All receipts of a request are of one queue.
fn receipts(texts: &[String]) -> Result<Receipts, Failed> {
    let parsed: Result<Vec<Receipt>, _> = texts.iter().map(|text| text.parse()).collect();
    let parsed = parsed.map_err(|error: queue_protocol::names::BadReceipt| Failed::bad(error.to_string()))?;
    let Some(first) = parsed.first() else { return Err(Failed::bad("receipts names none")) };
    if parsed.iter().any(|receipt| receipt.queue != first.queue) {
        return Err(Failed::bad("the receipts of a request are of one queue; nothing was changed"));
    }
    let pairs = parsed.iter().map(|receipt| (receipt.id, receipt.token)).collect();
    let receipts = Bounded::new(pairs).map_err(|error| Failed::bad(error.to_string()))?;
    Ok(Receipts { queue: first.queue.clone(), receipts })
}

/// 200 if all were settled, else 409 with what became of each.
fn settled(settled: &[Settled]) -> Response {
    let all = settled.iter().all(|one| *one == Settled::Ok);
    let status = if all { StatusCode::OK } else { StatusCode::CONFLICT };
    let results: Vec<&str> = settled.iter().map(|one| queue_json::words::settled(*one)).collect();
    document(status, &json!({ "results": results }))
}

/// Settles leases for good.
pub(super) async fn ack(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (headers, which): (_, Done) = read(&app, request).await?;
    let ack = ask::Ack(receipts(&which.receipts)?);
    Ok(settled(&ask(&app, &headers, ack, Vec::new()).await?.answer))
}

/// Gives leases back.
pub(super) async fn nack(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (headers, which): (_, Back) = read(&app, request).await?;
    let leases = receipts(&which.receipts)?;
    let error = Text::cut(which.error);
    let kind = match which.kind.as_deref() {
        None | Some("fail") => NackKind::Fail { delay_ms: which.delay_ms, error },
        Some("release") => NackKind::Release { delay_ms: which.delay_ms.unwrap_or(0) },
        Some("reject") => NackKind::Reject { reason: error },
        Some(_) => return Err(Failed::bad("kind is fail, release or reject; nothing was changed")),
    };
    let nack = ask::Nack(Nack { leases, kind });
    Ok(settled(&ask(&app, &headers, nack, Vec::new()).await?.answer))
}

/// Makes leases longer.
pub(super) async fn renew(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (headers, which): (_, Longer) = read(&app, request).await?;
    let leases = ExtendWhich::Receipts(receipts(&which.receipts)?);
    let extend = ask::Extend(Extend { leases, lease_ms: which.lease_ms });
    Ok(settled(&ask(&app, &headers, extend, Vec::new()).await?.answer.results))
}

/// Shows messages without changing anything.
pub(super) async fn peek(
    State(app): State<Arc<App>>,
    Path(queue): Path,
    Query(look): Query<Look>,
) -> Result<Response, Failed> {
    let state = match look.state.as_deref() {
        None => MessageState::Ready,
        Some(word) => queue_json::words::state_of(word)
            .ok_or_else(|| Failed::bad("state is ready, leased, delayed or dead"))?,
    };
    let after = match look.after.as_deref().map(str::parse) {
        None => None,
        Some(Ok(cursor)) => Some(cursor),
        Some(Err(_)) => return Err(Failed::bad("after is the `next` of an earlier answer")),
    };
    let peek = Peek {
        queue: queue_of(&queue)?,
        state: Some(state),
        id: None,
        max_messages: look.limit.unwrap_or(10),
        max_bytes: 1 << 20,
        after,
        consistency: Consistency::Linearizable,
    };
    let answered = app.gateway.ask(ask::Peek(peek)).await?;
    let page = &answered.answer;
    let shown: Result<Vec<Value>, Failed> =
        page.messages.iter().zip(&answered.contents).map(|(view, content)| shown(view, content)).collect();
    Ok(document(
        StatusCode::OK,
        &json!({ "messages": shown?, "next": page.next.as_ref().map(ToString::to_string) }),
    ))
}

fn shown(view: &MessageView, content: &Bytes) -> Result<Value, Failed> {
    let (headers, body) = content::decode(content).map_err(|error| Failed::bad(error.to_string()))?;
    Ok(queue_json::message::peeked(view, &headers, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        let read = |text: &str| whole(serde_json::from_str(text).expect("it is JSON")).to_string();
        assert_eq!(read("{\"a\":[30.0,1e3,0.0,-0.0]}"), "{\"a\":[30,1000,0,-0.0]}");
        assert_eq!(read("[1.5,-2.0,1e300,7]"), "[1.5,-2.0,1e+300,7]");
    }
}
