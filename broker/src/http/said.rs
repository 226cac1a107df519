//! What the headers of a request say of the messages it pushes.

use axum::http::HeaderMap;
use queue_protocol::content::Headers;
use queue_protocol::limits::PRIORITY_MAX;
use queue_protocol::names::Key;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{Due, PushOptions, Unique, UniqueHeld};

use super::answers::Failed;

/// Begins the name of each header that goes with the message.
const OWN: &str = "queue-header-";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failed> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let what = || Failed::bad(format!("{name} is no text; nothing was stored"));
    std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| what())
}

fn number(headers: &HeaderMap, name: &str, max: u64) -> Result<Option<u64>, Failed> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number <= max);
    let what = || Failed::bad(format!("{name} is a whole number up to {max}; nothing was stored"));
    number.map(Some).ok_or_else(what)
}

fn key(headers: &HeaderMap, name: &str) -> Result<Option<Key>, Failed> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| Failed::bad(format!("{name}: {error}; nothing was stored")))
}

/// How the messages are to be treated.
///
/// # Errors
/// 400
pub(super) fn options(headers: &HeaderMap) -> Result<PushOptions, Failed> {
    let priority = number(headers, "queue-priority", PRIORITY_MAX.into())?;
    let due = number(headers, "queue-delay-ms", u64::MAX)?.map_or(Due::Now, Due::AfterMs);
    let held = match text(headers, "queue-on-held")? {
        None | Some("reject") => UniqueHeld::Reject,
        Some("keep") => UniqueHeld::Keep,
        Some("replace") => UniqueHeld::Replace,
        Some(_) => {
            return Err(Failed::bad("queue-on-held is reject, keep or replace; nothing was stored"));
        }
    };
    let plain = PushOptions::default();
    Ok(PushOptions {
        priority: priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(plain.priority),
        due,
        ttl_ms: number(headers, "queue-ttl-ms", u64::MAX)?,
        dedup_key: key(headers, "queue-dedup-key")?,
        unique: key(headers, "queue-unique")?.map(|key| Unique { key, held }),
        group: key(headers, "queue-group")?,
    })
}

/// The queue is made if there is none.
///
/// # Errors
/// 400
pub(super) fn create(headers: &HeaderMap) -> Result<bool, Failed> {
    match text(headers, "queue-create")? {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Failed::bad("queue-create is true or false; nothing was stored")),
    }
}

/// Headers of the messages: those whose names begin with `Queue-Header-`, and those of a trace by its convention: one that
/// cannot be a message's header is left out, as whoever reads it begins another trace.
///
/// # Errors
/// 400
pub(super) fn own(headers: &HeaderMap) -> Result<Headers, Failed> {
    let bad = |error: String| Failed::bad(format!("{error}; nothing was stored"));
    let mut all = Vec::new();
    for (name, value) in headers {
        let (name, is_of_trace) = match name.as_str() {
            traced @ ("traceparent" | "tracestate") => (traced, true),
            other => match other.strip_prefix(OWN) {
                Some(name) if !name.is_empty() => (name, false),
                _ => continue,
            },
        };
        let text = std::str::from_utf8(value.as_bytes()).map_err(|error| error.to_string());
        let pair = text.and_then(|value| match (Text::new(name), Text::new(value)) {
            (Ok(name), Ok(text)) if !is_of_trace || !value.is_empty() => Ok((name, text)),
            _ => Err(format!("header {name} is too long")),
        });
        match pair {
            Ok(pair) => all.push(pair),
            Err(_) if is_of_trace => {}
            Err(error) => return Err(bad(error)),
        }
    }
    Bounded::new(all).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use queue_protocol::limits::HEADERS_SIZE_MAX;

    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header's value"));
        }
        map
    }

    #[test]
    fn headers_say_how_a_message_is_treated() {
        let headers = of(&[
            ("queue-priority", "31"),
            ("queue-delay-ms", "5"),
            ("queue-group", "g"),
            ("queue-dedup-key", "d"),
            ("queue-unique", "u"),
            ("queue-on-held", "keep"),
            ("queue-header-content-type", "text/plain"),
            ("traceparent", "00-1-2-01"),
            ("accept", "*/*"),
        ]);
        let options = options(&headers).expect("they are right");
        assert_eq!((options.priority, options.due, options.ttl_ms), (31, Due::AfterMs(5), None));
        assert_eq!(options.unique.map(|unique| unique.held), Some(UniqueHeld::Keep));
        assert_eq!(options.group.as_ref().map(Key::as_str), Some("g"));
        let own = own(&headers).expect("they are few");
        let names: Vec<&str> = own.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["content-type", "traceparent"]);
    }

    #[test]
    fn a_trace_that_is_none_is_left_out_and_the_message_is_stored() {
        let long = "x".repeat(HEADERS_SIZE_MAX + 1);
        let bytes = |value: &[u8]| HeaderValue::from_bytes(value).expect("a header's value");
        for value in [bytes(b""), bytes(b"\xff"), bytes(long.as_bytes())] {
            let mut headers = of(&[("queue-header-kind", "png")]);
            headers.append("traceparent", value);
            let own = own(&headers).expect("it is taken");
            let names: Vec<&str> = own.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, ["kind"]);
        }
        assert!(own(&of(&[("queue-header-kind", &long)])).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for pair in [
            ("queue-priority", "32"),
            ("queue-priority", "-1"),
            ("queue-delay-ms", "1s"),
            ("queue-group", ""),
            ("queue-on-held", "x"),
        ] {
            assert!(options(&of(&[pair])).is_err(), "{pair:?}");
        }
        assert!(create(&of(&[("queue-create", "yes")])).is_err());
    }
}
