//! Documents held against the schemas that `queuectl schema` prints: each that a test sees. Stricter than a reader should be: a
//! field that no schema names is a mistake here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::program::queuectl;

/// Schemas that were asked for; none where there is none of that name.
static KNOWN: Mutex<BTreeMap<String, Option<Value>>> = Mutex::new(BTreeMap::new());

/// Checks each line of `text` that is a document of `queuectl`.
///
/// # Panics
/// If one does not conform, or has no schema.
pub fn check(text: &str) {
    for line in text.lines().filter(|line| line.starts_with("{\"schema\":\"")) {
        let Ok(document) = serde_json::from_str::<Value>(line) else { continue };
        let Some(name) = document["schema"].as_str().map(str::to_owned) else { continue };
        let schema = schema(&name).unwrap_or_else(|| panic!("{name} has no schema: {line}"));
        if let Err(what) = conforms(&document, &schema, &name) {
            panic!("{what} in {line}");
        }
    }
}

fn schema(name: &str) -> Option<Value> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let ask = || {
        let output = queuectl().args(["schema", name]).output().expect("the program runs");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("it is JSON"))
    };
    known.entry(name.to_owned()).or_insert_with(ask).clone()
}

/// What of JSON Schema (draft 2020-12) these schemas use.
pub(crate) fn conforms(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let tried: Vec<_> = choices.iter().map(|choice| conforms(value, choice, at)).collect();
        return if tried.iter().any(Result::is_ok) {
            Ok(())
        } else {
            tried.into_iter().next().unwrap_or(Ok(()))
        };
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Err(format!("{at} is not {constant}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at} is none of {words:?}"));
    }
    let is = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => return Err(format!("{at} has the unknown type {other}")),
    };
    if !is {
        return Err(format!("{at} is no {}: {value}", schema["type"]));
    }
    for (k, item) in value.as_array().into_iter().flatten().enumerate() {
        conforms(item, &schema["items"], &format!("{at}[{k}]"))?;
    }
    let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !fields.contains_key(*name)) {
        return Err(format!("{at} lacks {missing}"));
    }
    for (name, field) in fields {
        match properties.get(name) {
            Some(property) => conforms(field, property, &format!("{at}.{name}"))?,
            None => return Err(format!("no schema names {at}.{name}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_wrong_or_unknown_does_not_conform() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "integer"}, "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "c": {"type": "array", "items": {"enum": ["x", "y"]}}}});
        let told = |value| conforms(&value, &schema, "it").err();
        assert_eq!(told(json!({"a": 1, "b": null, "c": ["x"]})), None);
        assert_eq!(told(json!({"b": "x"})), Some("it lacks a".into()));
        assert_eq!(told(json!({"a": "1"})), Some("it.a is no \"integer\": \"1\"".into()));
        assert!(told(json!({"a": 1, "c": ["x", "z"]})).is_some_and(|what| what.contains("it.c[1]")));
        assert_eq!(told(json!({"a": 1, "d": 1})), Some("no schema names it.d".into()));
    }
}
