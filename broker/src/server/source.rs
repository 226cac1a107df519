//! Where a connection comes from, as far as places are counted: an IPv4 address, or the first 64 bits of an IPv6 one,
//! which one machine can vary below as it likes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self::of_ip(address.ip())
    }

    pub(super) fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // All of loopback is one machine, and one that dials 127.0.0.1 may listen on ::1.
            ip if ip.is_loopback() => Self(IpAddr::from([127, 0, 0, 1])),
            IpAddr::V4(ip) => Self(ip.into()),
            IpAddr::V6(ip) => Self(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_one_source_whatever_it_calls_itself() {
        let source = |text: &str| Source::of(text.parse().expect("an address")).to_string();
        assert_eq!(source("10.0.0.1:7"), "10.0.0.1");
        assert_eq!(source("[::ffff:10.0.0.1]:7"), "10.0.0.1");
        assert_eq!(source("[2001:db8:1:2:3:4:5:6]:7"), "2001:db8:1:2::/64");
        assert_eq!(source("[2001:db8:1:2::9]:7"), source("[2001:db8:1:2:a::]:1"));
        assert_eq!(source("[::1]:7"), source("127.0.0.9:8"));
    }
}
