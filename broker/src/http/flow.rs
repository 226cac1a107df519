//! Answers that go on: messages as lines while they come (NDJSON), and a read that is watched (server-sent events).
//!
//! There are [`FLOWS_MAX`] at a time at most, so that others have connections, too. Nothing is asked for before its reader
//! has room for it. When the reader goes, what waits for it at the leader is called back; when the node stops, the answer
//! ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Lease, Request};
use queue_protocol::wire::requests::Ask;
use queue_protocol::wire::response::Delivery;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::answers::{Failed, with_type};
use super::bearer;
use super::connections::{Busy, Occupant};
use super::manage::Watched;
use super::serve::App;
use super::take::delivered;

/// The type of lines.
pub(super) const LINES: &str = "application/x-ndjson";
/// Silence after which an empty line or a comment is sent: proxies end what is silent for a minute.
const BEAT: Duration = Duration::from_secs(15);

/// Answers that go on, at a time: half of all connections.
const FLOWS_MAX: usize = 128;

/// Places for answers that go on.
pub(super) struct Flows(Arc<Semaphore>);

impl Default for Flows {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FLOWS_MAX)))
    }
}

/// One of them; its connection is busy as long.
struct Place {
    _permit: OwnedSemaphorePermit,
    _busy: Busy,
}

impl Flows {
    fn enter(&self, occupant: &Occupant) -> Result<Place, Failed> {
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let what = format!("{FLOWS_MAX} answers go on already; nothing was changed");
            Failed::of(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded, what)
        })?;
        Ok(Place { _permit: permit, _busy: occupant.busy() })
    }
}

/// Whether the answer is to be lines.
pub(super) fn wants_lines(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().map(str::trim) == Some(LINES))
}

/// What asks for messages again and again.
pub(super) struct Lines<A> {
    app: Arc<App>,
    /// What is asked for each time; how long it waits is set anew.
    pub(super) lease: Lease,
    /// Lease or pop.
    pub(super) kind: fn(Lease) -> A,
    /// It ends after so long without a message; `None` goes on.
    pub(super) patience: Option<Duration>,
    /// Of the last message.
    since: Instant,
    _place: Place,
}

impl<A: Ask<Answer = Bounded<Delivery, LEASE_COUNT_MAX>> + 'static> Lines<A> {
    /// Over the connection of this occupant.
    ///
    /// # Errors
    /// There is no place.
    pub(super) fn new(
        app: Arc<App>,
        occupant: &Occupant,
        lease: Lease,
        kind: fn(Lease) -> A,
        patience: Option<Duration>,
    ) -> Result<Self, Failed> {
        let place = app.flows.enter(occupant)?;
        Ok(Self { app, lease, kind, patience, since: Instant::now(), _place: place })
    }

    /// What is there now, and then what comes.
    ///
    /// # Errors
    /// The first question fails; what fails later is the last line.
    pub(super) async fn answer(mut self) -> Result<Response, Failed> {
        let first = self.ask(Duration::ZERO).await?;
        let lines = stream::unfold((Some(first), Some(self)), |(first, lines)| async move {
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok::<_, Infallible>(first), (None, lines)));
            }
            let mut lines = lines?;
            let (bytes, goes_on) = lines.next().await?;
            Some((Ok(bytes), (None, goes_on.then_some(lines))))
        });
        Ok(with_type(StatusCode::OK, LINES, Body::from_stream(bearer::carried(lines))))
    }

    /// The next lines, and whether there may be more; `None` at the end.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let left = match self.patience {
            None => BEAT,
            Some(patience) => patience.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())?,
        };
        let mut stop = self.app.stop.clone();
        let asked = tokio::select! {
            asked = self.ask(left.min(BEAT)) => asked,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        Some(match asked {
            Ok(lines) if lines.is_empty() => (Bytes::from_static(b"\n"), true),
            Ok(lines) => (lines, true),
            Err(failed) => (line(&failed.document()), false),
        })
    }

    async fn ask(&mut self, wait: Duration) -> Result<Bytes, Failed> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request: Request = (self.kind)(Lease { wait_ms, ..self.lease.clone() }).into();
        let gateway = &self.app.gateway;
        let answered =
            if wait_ms == 0 { gateway.call(request, Vec::new()).await } else { gateway.wait(request).await };
        let answered = answered?.to::<A>();
        let mut lines = BytesMut::new();
        for (delivery, content) in answered.answer.iter().zip(&answered.contents) {
            lines.put(line(&delivered(delivery, content)?));
        }
        if !lines.is_empty() {
            self.since = Instant::now();
        }
        Ok(lines.freeze())
    }
}

/// A document and the end of its line.
fn line(document: &Value) -> Bytes {
    let mut line = document.to_string();
    line.push('\n');
    line.into()
}

/// A read that is repeated, and told when it changes.
struct Watch {
    app: Arc<App>,
    what: Watched,
    every: Duration,
    /// What was told last, and when anything was.
    told: Result<Value, String>,
    since: Instant,
    _place: Place,
}

/// Tells what there is now, and then every change that is seen when it is looked every so often.
///
/// # Errors
/// The first look fails; what fails later is told as an event.
pub(super) async fn watch(
    app: Arc<App>,
    occupant: &Occupant,
    what: Watched,
    every: Duration,
) -> Result<Response, Failed> {
    let place = app.flows.enter(occupant)?;
    let first = what.look(&app).await?;
    let begin = event("stats", &first);
    let watch = Watch { app, what, every, told: Ok(first), since: Instant::now(), _place: place };
    let events = stream::unfold((Some(begin), watch), |(first, mut watch)| async move {
        match first {
            Some(first) => Some((Ok::<_, Infallible>(first), (None, watch))),
            None => watch.next().await.map(|bytes| (Ok(bytes), (None, watch))),
        }
    });
    Ok(with_type(StatusCode::OK, "text/event-stream", Body::from_stream(bearer::carried(events))))
}

impl Watch {
    /// The next event, or a comment if there was none for a while; `None` when the node stops.
    async fn next(&mut self) -> Option<Bytes> {
        let mut stop = self.app.stop.clone();
        loop {
            tokio::select! {
                () = sleep(self.every) => {}
                _ = stop.wait_for(|stop| *stop) => return None,
            }
            let (seen, bytes) = match self.what.look(&self.app).await {
                Ok(seen) => (Ok(seen.clone()), event("stats", &seen)),
                // The text may say how long it was tried, which is no news.
                Err(failed) => {
                    (Err(failed.code().as_str().to_owned()), event("error", &failed.document()["error"]))
                }
            };
            if seen != self.told {
                (self.told, self.since) = (seen, Instant::now());
                return Some(bytes);
            }
            if self.since.elapsed() >= BEAT {
                self.since = Instant::now();
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }
}

/// An event of one line of data (HTML standard, section 9.2).
fn event(name: &str, document: &Value) -> Bytes {
    format!("event: {name}\ndata: {document}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_those_who_ask_for_them() {
        let wants = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, value.parse().expect("a value"));
            }
            wants_lines(&headers)
        };
        assert!(wants(&["application/x-ndjson"]) && wants(&["text/html, application/x-ndjson;q=0.5"]));
        assert!(wants(&["*/*", "application/x-ndjson"]));
        assert!(!wants(&[]) && !wants(&["*/*"]) && !wants(&["application/json"]));
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let event = event("stats", &serde_json::json!({ "name": "a\nb" }));
        assert_eq!(&event[..], b"event: stats\ndata: {\"name\":\"a\\nb\"}\n\n");
    }
}
