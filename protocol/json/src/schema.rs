//! JSON Schemas (draft 2020-12) of documents, out of a list of fields a document.
//!
//! A field is `name:type`, with `?` behind a name that may be missing. Types: `s` text, `i` integer, `n` number, `b` truth, `t`
//! time (RFC 3339), `any`, `map` of texts, `[x]` list of x, `=a|b` one of these words, or the name of a shape; `~` behind a
//! type allows null. `i(1..9)` is an integer within bounds, `s(1..9)` a text of so many characters, `[x](1..9)` a list of so
//! many.

use serde_json::{Map, Value, json};

/// Whether an object may have fields that its schema does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// It may: a later version has more.
    Allowed,
    /// It is refused.
    Refused,
}

/// What a name that is no type of the language stands for.
pub type Shapes<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// An object of these fields.
///
/// # Panics
/// If the list is none.
pub fn object(fields: &str, others: Others, shapes: Shapes<'_>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, needed, schema) in self::fields(fields, shapes) {
        if needed {
            required.push(Value::from(name));
        }
        properties.insert(name.to_owned(), schema);
    }
    let mut object = json!({"type": "object", "properties": properties, "required": required});
    if others == Others::Refused {
        object["additionalProperties"] = false.into();
    }
    object
}

/// Each field: its name, whether it must be there, and its schema.
///
/// # Panics
/// As [`object`].
pub fn fields<'a>(
    fields: &'a str,
    shapes: Shapes<'a>,
) -> impl Iterator<Item = (&'a str, bool, Value)> + use<'a> {
    fields.split_whitespace().map(move |field| {
        let (name, kind) = field.split_once(':').expect("a field is a name and a type");
        let bare = name.strip_suffix('?');
        (bare.unwrap_or(name), bare.is_none(), of(kind, shapes))
    })
}

/// The schema of a type.
///
/// # Panics
/// As [`object`].
pub fn of(kind: &str, shapes: Shapes<'_>) -> Value {
    if let Some(kind) = kind.strip_suffix('~') {
        return json!({"anyOf": [of(kind, shapes), {"type": "null"}]});
    }
    if let Some((kind, bounds)) = kind.strip_suffix(')').and_then(|kind| kind.rsplit_once('(')) {
        let (least, most) = bounds.split_once("..").expect("bounds are two numbers");
        let number = |text: &str| text.parse::<u64>().expect("a bound is a number");
        let mut schema = of(kind, shapes);
        let (min, max) = match schema["type"].as_str() {
            Some("string") => ("minLength", "maxLength"),
            Some("array") => ("minItems", "maxItems"),
            _ => ("minimum", "maximum"),
        };
        (schema[min], schema[max]) = (number(least).into(), number(most).into());
        return schema;
    }
    if let Some(item) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({"type": "array", "items": of(item, shapes)});
    }
    if let Some(words) = kind.strip_prefix('=') {
        return json!({"type": "string", "enum": words.split('|').collect::<Vec<_>>()});
    }
    match kind {
        "s" => json!({"type": "string"}),
        "t" => json!({"type": "string", "format": "date-time"}),
        "i" => json!({"type": "integer"}),
        "n" => json!({"type": "number"}),
        "b" => json!({"type": "boolean"}),
        "any" => json!({}),
        "map" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        shape => shapes(shape).unwrap_or_else(|| panic!("no shape {shape}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_a_schema() {
        let shapes = |name: &str| (name == "leaf").then(|| object("x:b", Others::Allowed, &|_| None));
        let schema = object("a:i(1..9) b?:s(0..3)~ c:[leaf](1..2) d:=x|y", Others::Refused, &shapes);
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "required": ["a", "c", "d"],
                "additionalProperties": false,
                "properties": {
                    "a": {"type": "integer", "minimum": 1, "maximum": 9},
                    "b": {"anyOf": [{"type": "string", "minLength": 0, "maxLength": 3}, {"type": "null"}]},
                    "c": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 2,
                        "items": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
                    },
                    "d": {"type": "string", "enum": ["x", "y"]},
                },
            })
        );
    }
}
