//! Who holds a message, and what clients call themselves.

use queue_protocol::names::SessionId;
use queue_protocol::wire::clients::LeaseHolder;
use serde_json::{Value, json};

use crate::show::clock;
use crate::show::render;

/// Characters of a session that are shown.
const SESSION_SHOWN: usize = 8;

/// Program and version of what a client calls itself.
pub(crate) fn program_of(client: &str) -> (String, String) {
    let known =
        |text: &str| if text.is_empty() { "?".to_owned() } else { render::preview(text.as_bytes(), 64) };
    match client.split_once('/') {
        Some((program, version)) => (known(program), known(version)),
        None => (known(client), "?".to_owned()),
    }
}

/// As much of a session as tells it from others.
pub(crate) fn session(session: SessionId) -> String {
    let text = session.to_string();
    text.get(..SESSION_SHOWN).unwrap_or(&text).to_owned()
}

/// What the holder of a lease calls itself, if that is known.
pub(crate) fn name_of(holder: &LeaseHolder) -> String {
    match (&holder.session, &holder.heard) {
        (None, _) => "the broker".to_owned(),
        (Some(_), None) => "not heard yet".to_owned(),
        (Some(_), Some(heard)) => {
            let name = shown_name(&heard.client);
            if heard.connected { name } else { format!("{name} (gone)") }
        }
    }
}

/// What a client calls itself, for people.
pub(crate) fn shown_name(client: &str) -> String {
    match client {
        "" => "unnamed".to_owned(),
        name => render::preview(name.as_bytes(), 64),
    }
}

/// Who holds a message and since when, for people.
pub(crate) fn holds(holder: &LeaseHolder) -> String {
    let since = format!("since {} ({} ago)", clock::rfc3339(holder.since_ms), render::age(holder.held_ms));
    let at = holder.heard.as_ref().map_or_else(String::new, |heard| format!(" at {}", heard.address));
    let of = holder.session.map_or_else(String::new, |id| format!(", session {}", session(id)));
    format!("{}{at}{of}, {since}", name_of(holder))
}

/// The same for scripts.
pub(crate) fn holder(holder: &LeaseHolder) -> Value {
    let heard = holder.heard.as_ref().map(|heard| {
        let (program, version) = program_of(&heard.client);
        json!({
            "program": program,
            "version": version,
            "address": &*heard.address,
            "connected": heard.connected,
        })
    });
    json!({
        "session": holder.session.map(|session| session.to_string()),
        "since": clock::rfc3339(holder.since_ms),
        "held_ms": holder.held_ms,
        "client": heard,
    })
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Text;
    use queue_protocol::wire::clients::Heard;

    use super::*;

    #[test]
    fn a_client_is_its_program_and_its_version() {
        let shown = |text| program_of(text);
        assert_eq!(shown("queuectl/0.1.0"), ("queuectl".into(), "0.1.0".into()));
        assert_eq!(shown("billing"), ("billing".into(), "?".into()));
        assert_eq!(shown(""), ("?".into(), "?".into()));
        assert_eq!(shown("a\u{1b}[2J/1"), ("a\\u{1b}[2J".into(), "1".into()), "it steers no terminal");
    }

    #[test]
    fn a_holder_is_named_if_it_was_heard() {
        let heard = |connected| {
            Some(Heard { client: Text::cut("worker/2"), address: Text::cut("10.0.0.9:5"), connected })
        };
        let holder = |heard| LeaseHolder { session: Some(SessionId(7)), since_ms: 0, held_ms: 4_000, heard };
        assert_eq!(name_of(&holder(heard(true))), "worker/2");
        assert_eq!(name_of(&holder(heard(false))), "worker/2 (gone)");
        assert_eq!(name_of(&holder(None)), "not heard yet");
        assert_eq!(name_of(&LeaseHolder { session: None, ..holder(None) }), "the broker");
        let text = holds(&holder(heard(true)));
        assert_eq!(
            text,
            "worker/2 at 10.0.0.9:5, session 00000000, since 1970-01-01T00:00:00.000Z (4.0s ago)"
        );
    }
}
