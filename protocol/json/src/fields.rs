//! Documents as lists of fields.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// A field by its name, and where its value comes from.
pub(crate) type Field<T> = (&'static str, fn(&T) -> Value);

/// The document that has these fields, in this order.
///
/// # Panics
/// If no field has one of the names.
pub(crate) fn pick<T>(fields: &[Field<T>], names: &[&str], of: &T) -> Map<String, Value> {
    let value = |name: &str| {
        let field = fields.iter().find(|(field, _)| *field == name);
        (name.to_owned(), field.expect("a document lists fields that there are").1(of))
    };
    names.iter().map(|name| value(name)).collect()
}

/// Bytes as text.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The text under `name`, or what is no text in base64 under `name_base64`.
pub(crate) fn add_bytes(document: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => document.insert(name.to_owned(), text.into()),
        Err(_) => document.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}
