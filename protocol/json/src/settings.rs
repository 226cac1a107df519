//! Settings of a queue as HTTP reads and shows them: the fields of the protocol, values that are words in small letters.

use queue_protocol::settings::{BOUNDS, QueueSettings, Settings};
use serde_json::{Map, Value, json};

use crate::schema::{Others, Shapes, object};

/// Settings whose values are words: small letters here, as in `queuectl`.
const WORDS: [(&str, &[(&str, &str)]); 3] = [
    ("on_expiry", &[("drop", "Drop"), ("dead", "Dead")]),
    ("on_full", &[("reject", "Reject"), ("drop_oldest", "DropOldest")]),
    ("on_poison", &[("skip", "Skip"), ("block", "Block"), ("park_group", "ParkGroup")]),
];

/// The type of each setting, and its bounds.
///
/// # Panics
/// Never: settings are a document.
fn kinds() -> Vec<(String, String)> {
    let known = serde_json::to_value(Settings::default()).expect("settings are a document");
    let Value::Object(known) = known else { unreachable!("settings are an object") };
    let kind = |(name, value): (String, Value)| {
        let words = WORDS.iter().find(|(known, _)| *known == name).map(|(_, words)| *words);
        let bounds = BOUNDS.iter().find(|(known, ..)| *known == name);
        let kind = match (value, words, bounds) {
            (_, Some(words), _) => {
                format!("={}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"))
            }
            (_, _, Some((_, least, most))) => format!("i({least}..{most})"),
            (Value::Bool(_), ..) => "b".to_owned(),
            (Value::Number(_), ..) => format!("i(0..{})", u64::MAX),
            // The one that is none by default.
            _ => "queue_name~".to_owned(),
        };
        (name, kind)
    };
    known.into_iter().map(kind).collect()
}

/// The schema of [`shown`]; `queue_name` is a shape.
pub fn shown_schema(shapes: Shapes<'_>) -> Value {
    let fields: Vec<String> = kinds().into_iter().map(|(name, kind)| format!("{name}:{kind}")).collect();
    object(&fields.join(" "), Others::Allowed, shapes)
}

/// The schema of what [`read`] takes; `queue_name` is a shape.
pub fn given_schema(shapes: Shapes<'_>) -> Value {
    let field = |(name, kind): (String, String)| format!("{name}?:{}~", kind.trim_end_matches('~'));
    let fields: Vec<String> = kinds().into_iter().map(field).collect();
    let mut schema = object(&fields.join(" "), Others::Refused, shapes);
    let both = json!({"ordered": {"const": true}, "fair": {"const": true}});
    schema["not"] = json!({"properties": both, "required": ["ordered", "fair"]});
    schema
}

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
    fn the_schemas_have_every_setting_and_no_other() {
        let name = |shape: &str| (shape == "queue_name").then(|| json!({"type": "string"}));
        let default = serde_json::to_value(Settings::default()).expect("settings are a document");
        let all: Vec<&String> = default.as_object().expect("an object").keys().collect();
        for schema in [shown_schema(&name), given_schema(&name)] {
            let named: Vec<&String> = schema["properties"].as_object().expect("an object").keys().collect();
            assert_eq!(named, all);
        }
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
