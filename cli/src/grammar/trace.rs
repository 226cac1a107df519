//! Traces across messages (W3C Trace Context): the headers `traceparent` and `tracestate` go with a message, and by OpenTelemetry's
//! convention for processes they are the variables of the same names. `push` takes them from its environment, `work` gives them to
//! its handler. Nothing else is done with them.

use std::ffi::OsString;

/// Headers, and the variables they are in the environment of a process.
pub(crate) const CARRIED: [(&str, &str); 2] = [("traceparent", "TRACEPARENT"), ("tracestate", "TRACESTATE")];
/// Most of a `tracestate` that must be passed on (section 3.3.1.5).
const STATE_SIZE_MAX: usize = 512;

/// Headers with those of the trace that this process is part of, unless one of them is given.
pub(crate) fn with(
    mut headers: Vec<(String, String)>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<(String, String)> {
    let is_given =
        |(name, _): &(String, String)| CARRIED.iter().any(|(carried, _)| name.eq_ignore_ascii_case(carried));
    let text = |name| variable(name).and_then(|value| value.into_string().ok());
    if headers.iter().any(is_given) {
        return headers;
    }
    let [(parent, parent_variable), (state, state_variable)] = CARRIED;
    // One that is malformed is no trace: it is left out, as the standard has it.
    let Some(value) = text(parent_variable).filter(|value| is_parent(value)) else { return headers };
    headers.push((parent.to_owned(), value));
    let value = text(state_variable).filter(|value| (1..=STATE_SIZE_MAX).contains(&value.len()));
    headers.extend(value.map(|value| (state.to_owned(), value)));
    headers
}

/// `00-32 hex-16 hex-2 hex` (section 3.2); a later version may have more behind it.
fn is_parent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |size: usize| {
        let part = parts.next().filter(|part| part.len() == size);
        part.filter(|part| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    let is_some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let (Some(version), Some(trace), Some(span), Some(_flags)) = (hex(2), hex(32), hex(16), hex(2)) else {
        return false;
    };
    version != "ff" && is_some(trace) && is_some(span) && (version != "00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_of_the_environment_goes_along_unless_one_is_given() {
        let variable = |name: &str| match name {
            "TRACEPARENT" => Some(PARENT.into()),
            "TRACESTATE" => Some("a=b".into()),
            _ => None,
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = [pair("k", "v"), pair("traceparent", PARENT), pair("tracestate", "a=b")];
        assert_eq!(with(vec![pair("k", "v")], variable), both);
        let given = vec![pair("TraceParent", "mine")];
        assert_eq!(with(given.clone(), variable), given);
        assert!(with(Vec::new(), |name| (name == "TRACESTATE").then(|| "a=b".into())).is_empty());
    }

    #[test]
    fn what_is_no_parent_is_left_out() {
        assert!(is_parent(PARENT) && is_parent(&format!("01{}-more", &PARENT[2..])));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_parent(bad), "{bad}");
        }
    }
}
