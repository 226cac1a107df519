//! How values are typed: sizes, durations, times, addresses, headers. One grammar and one limit each, for both programs.
//!
//! Every error says what is wrong and gives an example; it does not name the option, which the caller does.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::{Duration, UNIX_EPOCH};

/// The port that a node listens on, and that is meant where an address names none.
pub const PORT_DEFAULT: u16 = 7410;

/// `30s`, `1m30s`.
///
/// # Errors
/// Not a duration, or one without its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match text.parse::<f64>() {
        Ok(_) => format!("a duration needs a unit, such as {text}ms or {text}s"),
        Err(_) => format!("not a duration such as 30s or 1m30s: {error}"),
    })
}

/// A duration within bounds.
///
/// # Errors
/// As [`duration`], or out of bounds.
pub fn duration_in(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = duration(text)?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let [min, max] = [bounds.start(), bounds.end()].map(|bound| show_duration(*bound));
    Err(format!("must be from {min} to {max}"))
}

/// Two durations, `600ms..1s`, the second longer.
///
/// # Errors
/// As [`duration`], or not two of them in order.
pub fn duration_range(text: &str) -> Result<(Duration, Duration), String> {
    let (min, max) =
        text.split_once("..").ok_or("must be the shortest and the longest time, such as 600ms..1s")?;
    let (min, max) = (duration(min.trim())?, duration(max.trim())?);
    if min < max { Ok((min, max)) } else { Err("the longest time must be longer than the shortest".into()) }
}

/// In days where that is exact, for humantime counts months.
fn show_duration(duration: Duration) -> String {
    const DAY: u64 = 86_400;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds.is_multiple_of(DAY) && duration.subsec_nanos() == 0 => {
            format!("{}d", seconds / DAY)
        }
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// Milliseconds of a duration; what does not fit is as good as for ever.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Units of sizes by how they are written; the first of each size is how it is shown.
const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("k", 1 << 10),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("", 1),
];

/// Bytes, with a unit or without: `64KiB`, `64K`, `64kB`, `65536`.
///
/// # Errors
/// Not a size.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let number: u64 = number.parse().map_err(|_| "not a size such as 64MiB".to_owned())?;
    let Some((_, bytes)) = UNITS.iter().find(|(known, _)| *known == unit) else {
        return Err(format!("unknown unit {unit:?}: B, KiB, MiB, GiB, TiB (or K, M, G, T), kB, MB, GB, TB"));
    };
    number.checked_mul(*bytes).ok_or_else(|| "too large for a size".to_owned())
}

/// Bytes within bounds.
///
/// # Errors
/// As [`size`], or out of bounds.
pub fn size_in(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let size = size(text)?;
    if bounds.contains(&size) {
        return Ok(size);
    }
    Err(format!("must be from {} to {}", show_size(*bounds.start()), show_size(*bounds.end())))
}

fn show_size(size: u64) -> String {
    let exact = UNITS[..5].iter().rev().find(|(_, bytes)| size >= *bytes && size.is_multiple_of(*bytes));
    let (unit, bytes) = exact.unwrap_or(&UNITS[0]);
    format!("{}{unit}", size / bytes)
}

/// A whole number within bounds; `1_000` and `1,000` are 1000.
///
/// # Errors
/// Not a whole number, or out of bounds.
pub fn number_in(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let (min, max) = (*bounds.start(), *bounds.end());
    match text.replace(['_', ','], "").parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ if max == u64::MAX => Err(format!("must be a whole number, {min} or more")),
        _ => Err(format!("must be a whole number from {min} to {max}")),
    }
}

/// Unix milliseconds of a time as RFC 3339 has it, also with an offset: `2026-11-23T14:03:22Z`, `2026-11-23T16:03:22+02:00`. Without
/// one it is UTC; a day is its midnight.
///
/// # Errors
/// Not a time, or one before 1970.
pub fn moment(text: &str) -> Result<u64, String> {
    let expected =
        || format!("not a time such as 2026-11-23T14:03:22Z or 2026-11-23T16:03:22+02:00: {text:?}");
    let is_day = text.len() == "2026-11-23".len();
    let (local, offset_ms) =
        match text.get("2026-11-23T00:00".len()..).and_then(|rest| rest.rfind(['+', '-'])) {
            Some(at) => {
                let (local, offset) = text.split_at("2026-11-23T00:00".len() + at);
                (format!("{local}Z"), offset_ms(offset).ok_or_else(expected)?)
            }
            None if is_day => (format!("{text}T00:00:00Z"), 0),
            None => (text.to_owned(), 0),
        };
    let time = humantime::parse_rfc3339_weak(&local).map_err(|_| expected())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
    milliseconds(since).checked_add_signed(-offset_ms).ok_or_else(|| "before 1970".to_owned())
}

/// `+02:00`, in milliseconds.
fn offset_ms(text: &str) -> Option<i64> {
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two = |part: &str, max: i64| {
        let number: i64 = part.parse().ok()?;
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()) && number <= max).then_some(number)
    };
    let ms = (two(hours, 23)? * 60 + two(minutes, 59)?) * 60_000;
    Some(if text.starts_with('-') { -ms } else { ms })
}

/// `host:port` of a text that may leave out the port: [`PORT_DEFAULT`] then. IPv6 hosts stand in brackets, except alone.
///
/// # Errors
/// No host, a scheme, a port that is none.
pub fn address(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected HOST or HOST:PORT, such as mq1.example.net:7410 or [::1]:7410";
    if text.trim().is_empty() {
        return Err(format!("empty: {EXPECTED}"));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("the address has a scheme, {scheme}://: {EXPECTED}"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{PORT_DEFAULT}"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()) && port.is_none() {
        return Err(format!("a port without a host: {EXPECTED}"));
    }
    if !is_host(host) {
        return Err(EXPECTED.to_owned());
    }
    match port.map(|port| (port, port.parse::<u16>())) {
        None => Ok(format!("{host}:{PORT_DEFAULT}")),
        Some((_, Ok(_))) => Ok(text.to_owned()),
        Some((port, Err(_))) => Err(format!("{port:?} is not a port: 1 to 65535")),
    }
}

/// The same of a node that is to be reached, so port 0 is none.
///
/// # Errors
/// As [`address`].
pub fn server(text: &str) -> Result<String, String> {
    let address = address(text.trim())?;
    if address.ends_with(":0") { Err("\"0\" is not a port: 1 to 65535".to_owned()) } else { Ok(address) }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        }
    }
}

/// Name and value of a header, `NAME=VALUE`.
///
/// # Errors
/// No name, or no `=`.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// The first name that stands twice among headers.
pub fn repeated(headers: &[(String, String)]) -> Option<&str> {
    let names = headers.iter().map(|(name, _)| name.as_str());
    names
        .enumerate()
        .find_map(|(at, name)| headers[..at].iter().any(|(before, _)| before == name).then_some(name))
}

/// Whether a queue, a schedule or a node may be called so as far as its first character goes: `-x` would look like an option.
pub fn may_begin_name(name: &str) -> bool {
    !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_grammar_and_bounds() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("64M", 64 << 20),
            ("64 M", 64 << 20),
            ("1 kB", 1_000),
            ("1K", 1_024),
            ("7B", 7),
            ("64", 64),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["MiB", "-1MiB", "1.5MiB", "99999999999999GiB", "", "1 acre", "1m"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size_in("1B", 64 << 10..=3 << 30), Err("must be from 64KiB to 3GiB".into()));
    }

    #[test]
    fn a_duration_without_a_unit_says_so() {
        assert!(duration("30").unwrap_err().contains("30s"));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration_range("600ms..1s"), Ok((Duration::from_millis(600), Duration::from_secs(1))));
        let year = Duration::ZERO..=Duration::from_secs(366 * 86_400);
        assert_eq!(duration_in("367d", year), Err("must be from 0s to 366d".into()));
    }

    #[test]
    fn a_moment_is_a_day_or_a_time_in_utc_or_with_an_offset() {
        assert_eq!(moment("2001-01-01"), Ok(978_307_200_000));
        assert_eq!(moment("2001-01-01T00:00:01Z"), Ok(978_307_201_000));
        assert_eq!(moment("2001-01-01 00:00:01"), Ok(978_307_201_000));
        assert_eq!(moment("2001-01-01T02:00:01+02:00"), Ok(978_307_201_000));
        assert_eq!(moment("2000-12-31T18:30:01.250-05:30"), Ok(978_307_201_250));
        for bad in [
            "",
            "tomorrow",
            "1969-01-01",
            "1970-01-01T00:00:00+02:00",
            "2001-13-01",
            "2001-01-01T25:00:00Z",
            "2001-01-01T02:00:01+2",
            "2001-01-01T02:00:01+24:00",
            "2001-01-01T02:00:01+02:00Z",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_the_default_port_unless_they_name_one() {
        for (text, whole) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:7411", "[::1]:7411"),
            ("mq-1.example.net:65535", "mq-1.example.net:65535"),
            ("mq1", "mq1:7410"),
            ("10.0.0.1", "10.0.0.1:7410"),
            ("[::1]", "[::1]:7410"),
            ("::1", "[::1]:7410"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(whole));
        }
        for text in
            ["", " ", "x:", ":1", "[x]:1", "a b:1", "x:65536", "7410", "http://mq1:7410", "a/b", "a:b:1"]
        {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address("http://mq1").unwrap_err().contains("scheme"));
        assert!(server("mq1:0").is_err());
        assert_eq!(server(" mq1 ").as_deref(), Ok("mq1:7410"));
    }

    #[test]
    fn a_header_that_stands_twice_is_named() {
        let headers = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| header(&format!("{name}=x")).unwrap()).collect()
        };
        assert_eq!(repeated(&headers(&["a", "b", "c"])), None);
        assert_eq!(repeated(&headers(&["a", "b", "a"])), Some("a"));
    }
}
