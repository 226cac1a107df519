//! The calls of the program that this one follows: `/send`, `/recieve` (spelt so), `/stats`, `/join`, at every node.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use queue_protocol::content;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::TAIL_SIZE_MAX;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::membership::{MemberChange, Standing};
use queue_protocol::wire::request::{Lease, Push, PushMessage};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{PushOutcome, Role, StatusView};
use serde::Deserialize;
use serde_json::json;

use super::answers::{Failed, json as document, with_type};
use super::intake::DOCUMENT_SIZE_MAX;
use super::serve::App;
use super::session::ask;

/// The version of Raft's log and snapshots that `/stats` tells of.
const RAFT_VERSION: &str = "1";

/// Stores a JSON object as it was sent.
pub(super) async fn send(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (head, body) = request.into_parts();
    let taken = app.intake.take(&head.headers, body, app.intake.message_size_max).await?;
    if !is_object(&taken.bytes) {
        return Err(Failed::bad("the body must be a JSON object; nothing was stored"));
    }
    let content =
        content::encode(&Bounded::default(), &taken.bytes).map_err(|error| Failed::bad(error.to_string()))?;
    let push = Push {
        queue: app.options.queue.clone(),
        create: true,
        atomic: true,
        messages: Bounded::new(vec![PushMessage::plain(&content)]).expect("it is one"),
    };
    let answered = ask(&app, &head.headers, ask::Push(push), vec![content]).await?;
    match answered.answer.first() {
        Some(PushOutcome::Stored { first_id: id, .. } | PushOutcome::Duplicate { id }) => {
            Ok(document(StatusCode::CREATED, &json!({ "id": id.to_string() })))
        }
        Some(PushOutcome::Refused { code, .. }) => Err(Failed::refused(*code)),
        None => Err(Failed::bad("nothing was stored")),
    }
}

/// Takes a message for good; without one, `Data` is empty.
pub(super) async fn receive(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failed> {
    let pop = Lease {
        queues: Bounded::new(vec![app.options.queue.clone()]).expect("it is one"),
        max_messages: 1,
        max_bytes: u32::try_from(TAIL_SIZE_MAX).unwrap_or(u32::MAX),
        lease_ms: None,
        wait_ms: 0,
        linger_ms: 0,
    };
    let answered = match ask(&app, &headers, ask::Pop(pop), Vec::new()).await {
        Ok(answered) => answered,
        // Nothing was sent yet, so nothing is there.
        Err(failed) if failed.code() == ErrorCode::QueueNotFound => return Ok(data(b"{}".to_vec())),
        Err(failed) => return Err(failed),
    };
    let Some(content) = answered.contents.first() else { return Ok(data(b"{}".to_vec())) };
    let (_, body) = content::decode(content).map_err(|error| Failed::bad(error.to_string()))?;
    Ok(data(shown(&body)))
}

/// `{"Data":...}`
fn data(value: Vec<u8>) -> Response {
    let mut text = b"{\"Data\":".to_vec();
    text.extend(value);
    text.extend(b"}\n");
    with_type(StatusCode::OK, "application/json", Body::from(text))
}

/// A body as a JSON value: what is one, without the spaces between its parts; other text as a string, other bytes in base64.
fn shown(body: &Bytes) -> Vec<u8> {
    match std::str::from_utf8(body) {
        Ok(_) if is_json(body) => compact(body),
        Ok(text) => json!(text).to_string().into_bytes(),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(body) }).to_string().into_bytes(),
    }
}

fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') && is_json(text)
}

/// Valid JSON without the white space outside of its strings.
fn compact(text: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            return true;
        }
        in_string = *byte == b'"';
        !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
    };
    text.iter().copied().filter(keep).collect()
}

/// What Raft says of itself here: a flat map of texts, by name.
pub(super) async fn stats(State(app): State<Arc<App>>) -> Response {
    let consensus = &app.site.consensus;
    let (status, terms) = (consensus.status(), consensus.terms());
    let map = flat(&status, &terms);
    document(StatusCode::OK, &map)
}

fn flat(status: &StatusView, terms: &crate::raft::Terms) -> BTreeMap<&'static str, String> {
    let member = |member: &queue_protocol::wire::response::MemberView| {
        let suffrage = if member.voter { "Voter" } else { "Nonvoter" };
        format!("{{Suffrage:{suffrage} ID:{} Address:{}}}", &*member.name, &*member.address)
    };
    let members: Vec<String> = status.members.iter().map(member).collect();
    let others = status.members.iter().filter(|member| member.voter && member.node != status.node).count();
    let state = match status.role {
        Role::Leader => "Leader",
        Role::Candidate => "Candidate",
        Role::Follower => "Follower",
        Role::Learner => "Learner",
    };
    let heard = status.leader.as_ref().and_then(|leader| {
        let contact = status.health.contacts.iter().find(|contact| contact.node == leader.node);
        contact?.heard_ms
    });
    let contact = match (status.role, heard) {
        (Role::Leader, _) => "0".to_owned(),
        (_, Some(ms)) => format!("{ms}ms"),
        (_, None) => "never".to_owned(),
    };
    BTreeMap::from([
        ("applied_index", status.applied_index.to_string()),
        ("commit_index", status.commit_index.to_string()),
        ("fsm_pending", status.commit_index.saturating_sub(status.applied_index).to_string()),
        ("last_contact", contact),
        ("last_log_index", status.last_index.to_string()),
        ("last_log_term", terms.last_term.to_string()),
        ("last_snapshot_index", status.snapshot_index.to_string()),
        ("last_snapshot_term", terms.snapshot_term.to_string()),
        ("latest_configuration", format!("[{}]", members.join(" "))),
        ("latest_configuration_index", terms.configuration_index.to_string()),
        ("num_peers", others.to_string()),
        ("protocol_version", queue_protocol::wire::hello::VERSION.to_string()),
        ("protocol_version_max", queue_protocol::wire::hello::Versions::OURS.max.to_string()),
        ("protocol_version_min", queue_protocol::wire::hello::Versions::OURS.min.to_string()),
        ("snapshot_version_max", RAFT_VERSION.to_owned()),
        ("snapshot_version_min", RAFT_VERSION.to_owned()),
        ("state", state.to_owned()),
        ("term", status.term.to_string()),
    ])
}

/// Whatever else is said of the node: it has chosen its name itself.
#[derive(Deserialize)]
struct Joining {
    #[serde(alias = "addr", alias = "raft_address")]
    address: String,
}

/// Takes in a node that waits for it: `queued join` without `--at`.
pub(super) async fn join(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (head, body) = request.into_parts();
    let taken = app.intake.take(&head.headers, body, DOCUMENT_SIZE_MAX).await?;
    let Joining { address } = serde_json::from_slice(&taken.bytes).map_err(|error| {
        let what = "the body must be {\"address\": \"HOST:PORT\"}: where `queued join` waits";
        Failed::bad(format!("{what}: {error}"))
    })?;
    let address = queue_protocol::values::server(&address).map_err(Failed::bad)?;
    let change = MemberChange::Add { address: Text::cut(address), standing: Standing::Voter };
    let member = app.gateway.change(ask::ChangeMembers(change)).await?.answer;
    let member = json!({
        "id": *member.name,
        "number": member.node.0,
        "address": *member.address,
        "voter": member.voter,
    });
    Ok(document(StatusCode::CREATED, &member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_comes_back_as_it_was_sent_without_its_spaces() {
        let sent = "{\n \"z\": 1.0e5, \"a\" : [ true , null ],\t\"s\": \"a \\\" {b}  \\\\\", \"z\": -0 }\r\n";
        let kept = "{\"z\":1.0e5,\"a\":[true,null],\"s\":\"a \\\" {b}  \\\\\",\"z\":-0}";
        assert!(is_object(sent.as_bytes()));
        assert_eq!(String::from_utf8(compact(sent.as_bytes())).unwrap(), kept);
    }

    #[test]
    fn what_is_no_object_is_not_taken() {
        for text in ["", "[]", "1", "\"{}\"", "{", "{}{}", "{\"a\":}", "x"] {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
        assert!(!is_object(b"{\"a\":\"\xff\"}"));
        assert!(is_object(b" {} "));
    }

    #[test]
    fn any_body_is_shown() {
        let shown = |body: &'static [u8]| String::from_utf8(shown(&Bytes::from_static(body))).unwrap();
        assert_eq!(shown(b"{ \"a\": 1 }"), "{\"a\":1}");
        assert_eq!(shown(b"plain \"text\""), "\"plain \\\"text\\\"\"");
        assert_eq!(shown(b"\xff\x00"), "{\"base64\":\"/wA=\"}");
        assert_eq!(shown(b""), "\"\"");
    }
}
