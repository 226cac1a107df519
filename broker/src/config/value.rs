//! How values are written.

use std::net::IpAddr;
use std::time::Duration;

/// `30s`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match text.parse::<f64>() {
        Ok(_) => format!("a duration needs a unit, such as {text}ms or {text}s"),
        Err(_) => format!("not a duration: {error}"),
    })
}

/// A duration from `min` to `max`.
pub(super) fn duration_in(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (min..=max).contains(&duration) {
        return Ok(duration);
    }
    let [min, max] = [min, max].map(humantime::format_duration);
    Err(format!("must be from {min} to {max}"))
}

/// Two durations, `600ms..1s`, the second longer.
pub(super) fn duration_range(text: &str) -> Result<(Duration, Duration), String> {
    let (min, max) =
        text.split_once("..").ok_or("must be the shortest and the longest time, such as 600ms..1s")?;
    let (min, max) = (duration(min.trim())?, duration(max.trim())?);
    if min < max { Ok((min, max)) } else { Err("the longest time must be longer than the shortest".into()) }
}

/// Milliseconds of a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Bytes from `min` to `max`, `64MiB`.
pub(super) fn size_in(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, bytes) = unit.ok_or("a size needs a unit: B, KiB, MiB, GiB, kB, MB or GB, such as 64MiB")?;
    let number: u64 = number.trim().parse().map_err(|_| "not a size; such as 64MiB".to_owned())?;
    match number.checked_mul(*bytes) {
        Some(size) if (min..=max).contains(&size) => Ok(size),
        _ => Err(format!("must be from {} to {}", show_size(min), show_size(max))),
    }
}

fn show_size(size: u64) -> String {
    let (unit, bytes) = UNITS[..3]
        .iter()
        .rev()
        .find(|(_, bytes)| size >= *bytes && size.is_multiple_of(*bytes))
        .unwrap_or(&UNITS[7]);
    format!("{}{unit}", size / bytes)
}

/// A whole number from `min` to `max`.
pub(super) fn number_in(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ if max == u64::MAX => Err(format!("must be a whole number, {min} or more")),
        _ => Err(format!("must be a whole number from {min} to {max}")),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

/// `host:port`, IPv6 hosts in brackets.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').filter(|(host, _)| is_host(host));
    let (_, port) = parts.ok_or("must be HOST:PORT, such as 127.0.0.1:7410 or [::1]:7410")?;
    let _: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    Ok(text.to_owned())
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        }
    }
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine.
    Loopback,
    /// All addresses of this machine: no address to send others to.
    Wildcard,
    /// Others too.
    Beyond,
}

/// Who can reach `address`, which is a valid one.
pub(super) fn reach(address: &str) -> Reach {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Reach::Wildcard,
        Ok(ip) if ip.is_loopback() => Reach::Loopback,
        Err(_) if host == "localhost" => Reach::Loopback,
        _ => Reach::Beyond,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        let size = |text| size_in(text, 1, 1 << 40);
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1 kB"), Ok(1_000));
        assert_eq!(size("7B"), Ok(7));
        for text in ["64", "MiB", "-1MiB", "1.5MiB", "99999999999999GiB", "0B", ""] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size_in("1B", 64 << 10, 3 << 30), Err("must be from 64KiB to 3GiB".into()));
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in ["127.0.0.1:0", "[::1]:7410", "mq-1.example.net:65535"] {
            assert_eq!(address(text).as_deref(), Ok(text));
        }
        for text in ["", "x", "x:", ":1", "::1:7410", "[x]:1", "a b:1", "x:65536", "[::1]"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_says_so() {
        assert!(duration("30").unwrap_err().contains("30s"));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration_range("600ms..1s"), Ok((Duration::from_millis(600), Duration::from_secs(1))));
    }
}
