//! Settings of a queue as HTTP reads and shows them: the fields of the protocol, values that are words in small letters.

use queue_protocol::settings::{QueueSettings, Settings};
use serde_json::{Map, Value, json};

/// Settings whose values are words: small letters here, as in `queuectl`.
const WORDS: [(&str, &[(&str, &str)]); 3] = [
    ("on_expiry", &[("drop", "Drop"), ("dead", "Dead")]),
    ("on_full", &[("reject", "Reject"), ("drop_oldest", "DropOldest")]),
    ("on_poison", &[("skip", "Skip"), ("block", "Block"), ("park_group", "ParkGroup")]),
];

/// All settings.
///
/// # Panics
/// Never: settings are a document.
pub fn shown(settings: &Settings) -> Value {
    let mut shown = serde_json::to_value(settings).expect("settings are a document");
    for (key, words) in WORDS {
        let word = words.iter().find(|(_, name)| shown[key] == *name).map(|(word, _)| *word);
        shown[key] = json!(word);
    }
    shown
}

/// Settings as users write them: unknown ones are refused, `null` leaves one as it is.
///
/// # Errors
/// What is wrong, for the user.
///
/// # Panics
/// Never: settings are a document.
pub fn read(mut given: Map<String, Value>) -> Result<QueueSettings, String> {
    let known = serde_json::to_value(Settings::default()).expect("settings are a document");
    if let Some(unknown) = given.keys().find(|key| known.get(key.as_str()).is_none()) {
        return Err(format!("{unknown:?} is no setting of a queue; nothing was changed"));
    }
    for (key, words) in WORDS {
        let Some(value) = given.get_mut(key).filter(|value| !value.is_null()) else { continue };
        let name = words.iter().find(|(word, _)| value == word).map(|(_, name)| *name);
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let name = name.ok_or_else(|| format!("{key} is one of {}", all.join(", ")))?;
        *value = json!(name);
    }
    serde_json::from_value(Value::Object(given)).map_err(|error| format!("{error}; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use queue_protocol::settings::OnFull;

    use super::*;

    fn of(document: &Value) -> Result<QueueSettings, String> {
        read(document.as_object().expect("an object").clone())
    }

    #[test]
    fn settings_are_read_as_they_are_shown() {
        let given = of(&json!({ "on_full": "drop_oldest", "ttl_ms": 7, "dead_to": "graves" }));
        let given = given.expect("they are settings");
        assert_eq!((given.on_full, given.ttl_ms), (Some(OnFull::DropOldest), Some(7)));
        let all = Settings::default().with(&given);
        let shown = shown(&all);
        assert_eq!((&shown["on_full"], &shown["on_expiry"]), (&json!("drop_oldest"), &json!("dead")));
        assert_eq!(Settings::default().with(&of(&shown).expect("they are settings")), all);
        for bad in [json!({ "colour": 1 }), json!({ "on_full": "x" }), json!({ "ttl_ms": -1 })] {
            assert!(of(&bad).is_err(), "{bad}");
        }
    }
}
