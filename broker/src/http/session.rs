//! Exactly once over HTTP: a request that names a session and a number counts once, however often and wherever it is
//! repeated, and each repeat gets the first answer.
//!
//! `POST /v1/sessions` gives the name of a session: cluster, id, and the index of the log that it opens under. The user
//! numbers the requests. As the protocol has it, a number is below all that are still to be repeated, unless
//! `Queue-Done-Below` says otherwise.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use queue_protocol::client::Answered;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::SESSION_INDEX_MS_MAX;
use queue_protocol::names::{ClusterId, SessionId};
use queue_protocol::wire::request::{Request, Stamp};
use queue_protocol::wire::requests::{Ask, ask};
use serde_json::json;

use super::answers::{Failed, json as document};
use super::serve::App;
use crate::mutants::{self, Mutant};

const SESSION: &str = "queue-session";
const NUMBER: &str = "queue-number";
const DONE_BELOW: &str = "queue-done-below";

/// The name of a session as users have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    cluster: ClusterId,
    session: SessionId,
    index: u64,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.cluster, self.session, self.index)
    }
}

impl FromStr for Name {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut id = || parts.next().filter(|part| part.len() == 32);
        let (cluster, session) = (id().ok_or(())?, id().ok_or(())?);
        let hex = |part| u128::from_str_radix(part, 16).map_err(|_| ());
        let index = parts.next().ok_or(())?.parse().map_err(|_| ())?;
        let name = Self { cluster: ClusterId(hex(cluster)?), session: SessionId(hex(session)?), index };
        if parts.next().is_none() { Ok(name) } else { Err(()) }
    }
}

/// The session and stamp that a request names, if it does.
fn stamped(headers: &HeaderMap) -> Result<Option<(Name, Stamp)>, Failed> {
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => value.to_str().map(Some).map_err(|_| Failed::bad(format!("{name} is no text"))),
    };
    let number = |name: &str| match text(name)? {
        None => Ok(None),
        Some(text) => {
            let number = text.parse::<u64>().ok().filter(|number| *number > 0);
            let what = || Failed::bad(format!("{name} is a number, 1 or more; nothing was changed"));
            number.map(Some).ok_or_else(what)
        }
    };
    let Some(name) = text(SESSION)? else {
        return match number(NUMBER)?.or(number(DONE_BELOW)?) {
            None => Ok(None),
            Some(_) => Err(Failed::bad("a number needs its session: Queue-Session; nothing was changed")),
        };
    };
    let what = "Queue-Session is none that POST /v1/sessions gave; nothing was changed";
    let name: Name = name.parse().map_err(|()| Failed::bad(what))?;
    let Some(number_is) = number(NUMBER)? else {
        return Err(Failed::bad(
            "a request of a session needs its number: Queue-Number; nothing was changed",
        ));
    };
    let done_below = number(DONE_BELOW)?.unwrap_or(number_is);
    Ok(Some((name, Stamp { number: number_is, done_below, index: name.index })))
}

/// Asks the leader: under the session and number of these headers, if they name some.
///
/// # Errors
/// As the gateway's; 421 if the session is one of another cluster.
pub(super) async fn ask<A: Ask>(
    app: &App,
    headers: &HeaderMap,
    ask: A,
    contents: Vec<Bytes>,
) -> Result<Answered<A::Answer>, Failed> {
    let request: Request = ask.into();
    let answered = match stamped(headers)? {
        None if request.wait_ms() > 0 => app.gateway.wait(request).await,
        None => app.gateway.call(request, contents).await,
        Some((name, _)) if name.cluster != app.site.consensus.me().credentials.cluster => {
            let what = "this session belongs to another cluster; nothing was changed";
            Err(Failed::of(StatusCode::MISDIRECTED_REQUEST, ErrorCode::WrongCluster, what))
        }
        Some(_) if mutants::on(Mutant::HttpSessionIgnored) => app.gateway.call(request, contents).await,
        Some((name, stamp)) => app.gateway.call_as(name.session, stamp, request, contents).await,
    };
    Ok(answered?.to::<A>())
}

/// Whether the request names a session.
pub(super) fn has_session(headers: &HeaderMap) -> bool {
    headers.contains_key(SESSION)
}

/// A session that begins now.
pub(super) async fn begin(State(app): State<Arc<App>>) -> Result<Response, Failed> {
    // The index of an entry that the leader has applied.
    let answered = app.gateway.ask(ask::Stats).await?;
    let cluster = app.site.consensus.me().credentials.cluster;
    let name = Name { cluster, session: app.gateway.new_session(), index: answered.at.index };
    let first_within_s = SESSION_INDEX_MS_MAX / 1_000;
    Ok(document(
        StatusCode::CREATED,
        &json!({ "session": name.to_string(), "first_within_s": first_within_s }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Result<Option<(Name, Stamp)>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header's value"));
        }
        stamped(&map).map_err(|failed| failed.document()["error"]["message"].to_string())
    }

    #[test]
    fn a_request_names_session_and_number_or_neither() {
        let name = Name { cluster: ClusterId(1), session: SessionId(u128::MAX), index: 7 };
        let text = name.to_string();
        assert_eq!(text.parse(), Ok(name));
        assert_eq!(of(&[]), Ok(None));
        let stamp = |number, done_below| Stamp { number, done_below, index: 7 };
        assert_eq!(of(&[(SESSION, &text), (NUMBER, "3")]), Ok(Some((name, stamp(3, 3)))));
        let window = of(&[(SESSION, &text), (NUMBER, "3"), (DONE_BELOW, "2")]);
        assert_eq!(window, Ok(Some((name, stamp(3, 2)))));
        for bad in [
            &[(SESSION, text.as_str())][..],
            &[(NUMBER, "3")],
            &[(DONE_BELOW, "3")],
            &[(SESSION, &text), (NUMBER, "0")],
            &[(SESSION, &text), (NUMBER, "x")],
            &[(SESSION, "1-2-3"), (NUMBER, "3")],
            &[(SESSION, &format!("{text}-1")), (NUMBER, "3")],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
