//! What only this program asks of values; how sizes, durations and addresses are written is in [`queue_protocol::values`].

use std::net::IpAddr;

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
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
