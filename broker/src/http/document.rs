//! `/v1/openapi.json`: what can be asked over HTTP, as an OpenAPI document made of the table of routes, and of the rows of
//! the requests that they make.
//!
//! Errors are the `default` answer of each route: their statuses follow from the codes of the protocol.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::Response;
use queue_json::schema::{Others, fields, object, of};
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{KEY_SIZE_MAX, QUEUE_NAME_SIZE_MAX};
use serde_json::{Map, Value, json};

use super::answers::with_type;
use super::flow::LINES;
use super::routes::{JSON, ROUTES, Route, Takes};

/// Objects inside of documents.
const SHAPES: &[(&str, &str)] = &[
    (
        "delivered",
        "id:s attempt:i failures:i priority:i group:s~ pushed_at_ms:i headers:map body?:s body_base64?:s receipt?:receipt lease_ms?:i",
    ),
    ("error", "code:code applied:=no|unknown message:s similar?:s"),
    ("member", "name:s address:s"),
    (
        "peeked",
        "id:s state:=ready|leased|delayed|dead attempts:i failures:i priority:i group:s~ pushed_at_ms:i age_ms:i last_error:s~ headers:map body?:s body_base64?:s",
    ),
    ("slow", "at:t request:s queue:s~ client:s took_us:i code:code~ stages_us:stages"),
    (
        "totals",
        "queues:i ready:i leased:i delayed:i dead:i bytes:i sessions:i pushed_total:i leased_total:i acked_total:i",
    ),
];

/// Of a queue, without its settings.
const FIGURES: &str = "name:queue_name ready:i leased:i delayed:i dead:i bytes:i oldest_ready_ms:i~ pushed_total:i leased_total:i acked_total:i waiting:i full:b blocked:b version:i";

/// What parameters mean.
const PARAMETERS: &[(&str, &str)] = &[
    ("If-Match", "Only if the queue has this version"),
    ("Queue-Create", "Make the queue if there is none"),
    ("Queue-Dedup-Key", "Ignore the message if this key came within the dedup window of the queue"),
    ("Queue-Delay-Ms", "Milliseconds before it can be delivered"),
    ("Queue-Done-Below", "No lower number is repeated any more [default: this number]"),
    ("Queue-Group", "The group of the message"),
    ("Queue-Number", "The number of this request in its session, from 1 and rising"),
    ("Queue-On-Held", "What to do if the unique key is taken [default: reject]"),
    ("Queue-Priority", "Higher is delivered first [default: 4]"),
    ("Queue-Session", "The session that this request belongs to, with Queue-Number"),
    ("Queue-Ttl-Ms", "Time to live in milliseconds [default: that of the queue]"),
    ("Queue-Unique", "One live message of the queue has this key at a time"),
    ("after", "Go on behind this: the last name, or the `next`, of an earlier answer"),
    ("if_empty", "Only if nothing is in it"),
    ("limit", "Most messages of the answer, 256 at most [default: 10]"),
    ("queue", "The name of a queue"),
    ("state", "Messages in this state [default: ready]"),
    (
        "traceparent",
        "The trace that the push belongs to: a header of the message, which goes without if it can be none",
    ),
    ("watch", "Tell changes as server-sent events; milliseconds between two looks [default: 1000]"),
];

const SESSION: &str = "Queue-Session?:session Queue-Number?:i(1..18446744073709551615) \
Queue-Done-Below?:i(1..18446744073709551615)";

fn shape(name: &str) -> Option<Value> {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    Some(match name {
        "address" => text(r"^(([A-Za-z0-9][A-Za-z0-9-]{0,30}\.){0,3}[A-Za-z0-9]{1,30}:[1-9][0-9]{0,3})$"),
        "code" => json!({"type": "string", "enum": codes()}),
        "cursor" => text("^(ready|leased|delayed|dead)/[0-9]{1,2}/[0-9]{1,18}/[0-9]{1,18}$"),
        "key" => text(&format!("^[!-~]{{1,{KEY_SIZE_MAX}}}$")),
        "level" => of("=off|error|warn|info|debug", &shape),
        "queue_name" => text(&format!("^[A-Za-z0-9._][A-Za-z0-9._-]{{0,{}}}$", QUEUE_NAME_SIZE_MAX - 1)),
        "receipt" => text("^[A-Za-z0-9._][A-Za-z0-9._-]{0,127}/[0-9]{1,18}/[0-9]{1,18}$"),
        "session" => text("^[0-9a-f]{32}-[0-9a-f]{32}-[0-9]{1,18}$"),
        "settled" => of("=ok|stale|gone", &shape),
        "version" => text("^\"?[0-9]{1,18}\"?$"),
        // Nothing, or milliseconds.
        "watch" => text("^([1-9][0-9]{2,3})?$"),
        "stages" => json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        "queue" => {
            let mut queue = object(FIGURES, Others::Allowed, &shape);
            queue["properties"]["settings"] = queue_json::settings::shown_schema(&shape);
            queue["required"].as_array_mut().expect("it is a list").push("settings".into());
            queue
        }
        "figures" => object(FIGURES, Others::Allowed, &shape),
        name => object(SHAPES.iter().find(|(known, _)| *known == name)?.1, Others::Allowed, &shape),
    })
}

fn codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}

/// The schema of fields; `*:shape` is the shape itself.
fn schema(fields: &str) -> Value {
    match fields.strip_prefix("*:") {
        Some(name) => of(name, &shape),
        None => object(fields, Others::Allowed, &shape),
    }
}

fn parameters(place: &str, list: &str) -> Vec<Value> {
    let one = |(name, required, schema): (&str, bool, Value)| {
        let about = PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, about)| *about);
        let about = about.unwrap_or_else(|| panic!("nothing is said of {name}"));
        json!({"name": name, "in": place, "required": required, "description": about, "schema": schema})
    };
    fields(list, &shape).map(one).collect()
}

fn takes(takes: Takes) -> Option<Value> {
    let json =
        |schema: Value, required: bool| json!({"required": required, "content": {JSON: {"schema": schema}}});
    Some(match takes {
        Takes::Nothing => return None,
        Takes::Fields(list) => {
            let schema = object(list, Others::Refused, &shape);
            let required = schema["required"].as_array().is_some_and(|required| !required.is_empty());
            json(schema, required)
        }
        Takes::Open(list) => json(object(list, Others::Allowed, &shape), true),
        Takes::Object => json(json!({"type": "object"}), true),
        Takes::Settings => json(queue_json::settings::given_schema(&shape), false),
        Takes::Contents => json!({"required": false, "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "text/plain": {"schema": {"type": "string"}},
            LINES: {"schema": {"type": "string"}},
        }}),
    })
}

fn answers(route: &Route) -> Value {
    let mut answers = Map::new();
    for (status, kind, fields) in route.gives {
        let about = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let entry = answers.entry(status.to_string()).or_insert_with(|| json!({"content": {}}));
        entry["description"] = about.unwrap_or_default().into();
        entry["content"][*kind]["schema"] = match *kind {
            JSON if *status == StatusCode::CONFLICT => json!({"anyOf": [schema(fields), error()]}),
            JSON if *status == StatusCode::SERVICE_UNAVAILABLE => {
                json!({"anyOf": [schema(fields), error()]})
            }
            JSON => schema(fields),
            _ => json!({"type": "string"}),
        };
    }
    answers.insert("default".into(), json!({"$ref": "#/components/responses/error"}));
    answers.into()
}

fn error() -> Value {
    object("error:error", Others::Allowed, &shape)
}

fn operation(route: &Route) -> Value {
    let mut all = Vec::new();
    if route.path.contains("{queue}") {
        all.extend(parameters("path", "queue:queue_name"));
    }
    all.extend(parameters("query", route.query));
    all.extend(parameters("header", route.headers));
    if route.asks.is_some_and(|row| row.class.is_stamped()) {
        all.extend(parameters("header", SESSION));
    }
    let id: String =
        route.path.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let mut operation = json!({
        "operationId": format!("{}{id}", route.method.to_ascii_lowercase()),
        "summary": route.about,
        "parameters": all,
        "responses": answers(route),
    });
    if let Some(row) = route.asks {
        operation["description"] = format!("The request {} of the protocol.{}", row.name, row.about).into();
    }
    if let Some(body) = takes(route.takes) {
        operation["requestBody"] = body;
    }
    operation
}

/// The document.
///
/// # Panics
/// If the table of routes is not one.
pub fn openapi() -> Value {
    let mut paths = json!({});
    for route in ROUTES {
        paths[route.path][route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "queued",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A durable work queue, replicated by Raft",
            "license": {"name": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {"responses": {"error": {
            "description": "It was not done (`applied` is `no`), or nobody knows (`unknown`, status 504)",
            "content": {JSON: {"schema": error()}},
        }}},
    })
}

/// Answers with it.
pub(super) async fn show() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| openapi().to_string() + "\n");
    let mut response = with_type(StatusCode::OK, JSON, TEXT.as_str().into());
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("max-age=60"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_an_operation_and_every_parameter_is_one_of_some() {
        let document = openapi();
        let mut used = BTreeSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert!(operation["responses"].as_object().is_some_and(|answers| answers.len() > 1));
            let all = operation["parameters"].as_array().expect("a list");
            used.extend(all.iter().filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned));
        }
        let said: BTreeSet<String> = PARAMETERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(used, said);
        let ids: BTreeSet<String> = document["paths"]
            .as_object()
            .expect("an object")
            .values()
            .flat_map(|methods| methods.as_object().expect("an object").values())
            .map(|operation| operation["operationId"].to_string())
            .collect();
        assert_eq!(ids.len(), ROUTES.len());
    }
}
