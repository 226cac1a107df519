//! Who asks over a connection: its session and where it comes from. The stamps of its requests are made here.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use queue_protocol::error::Error;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::credentials::CLIENT_NAME_SIZE_MAX;
use queue_protocol::wire::request::Stamp;
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::requests::Request;

use super::dispatch::bad;
use super::source;
use crate::mutants::{self, Mutant};
use crate::queue::command::{Opening, SessionStamp, Source};
use crate::queue::{By, KeyNumber};
use crate::raft::Consensus;

/// The client of one connection.
pub(crate) struct Caller {
    /// What its requests with a stamp belong to.
    pub(super) session: SessionId,
    source: Source,
    /// Where it comes from, for people.
    pub(super) from: source::Source,
    /// It speaks TLS.
    pub(super) is_secured: bool,
    /// The same with its port.
    pub(super) address: SocketAddr,
    /// The key that it is logged in by; 0 is the cluster's secret.
    pub(super) login: Option<KeyNumber>,
    /// The change of rights up to which it was seen that it may stay.
    pub(super) admitted: AtomicU64,
    /// The look at used keys for which its key was noted last.
    pub(super) noted: AtomicU64,
    /// What its program calls itself.
    pub(super) client: Text<CLIENT_NAME_SIZE_MAX>,
    /// The index under which the session was seen to be open. It never opens again, so whatever is asked from then on needs
    /// no more than its number.
    open: OnceLock<u64>,
}

impl Caller {
    pub(super) fn new(
        session: SessionId,
        from: SocketAddr,
        client: Text<CLIENT_NAME_SIZE_MAX>,
        is_secured: bool,
        login: Option<KeyNumber>,
    ) -> Self {
        Self {
            session,
            source: source_of(from.ip()),
            from: source::Source::of(from),
            address: from,
            client,
            is_secured,
            login,
            admitted: AtomicU64::new(0),
            noted: AtomicU64::new(0),
            open: OnceLock::new(),
        }
    }

    /// The stamp of a command, with what opens the session if the state does not know it.
    ///
    /// # Errors
    /// Refused if the number is below its window, or the session is open under another index: two clients have one id, or
    /// one has renewed its index.
    pub(super) fn stamp(
        &self,
        stamp: Stamp,
        request: &Request,
        by: Option<By>,
        consensus: &Consensus,
    ) -> Result<SessionStamp, Error> {
        if stamp.number < stamp.done_below {
            return Err(bad("the stamp's number is below its window"));
        }
        let index =
            if mutants::on(Mutant::IndexRenewed) { consensus.read(|_, index| index) } else { stamp.index };
        let opening = match self.index(consensus) {
            Some(open) if open != index => {
                return Err(bad(format!("session {} opened under index {open}, not {index}", self.session)));
            }
            Some(_) => None,
            None => Some(Opening { index, source: self.source }),
        };
        let Stamp { number, done_below, .. } = stamp;
        let request = RequestHash::of(request);
        Ok(SessionStamp { session: self.session, number, done_below, opening, request, by })
    }

    /// The index under which the session is open, or was.
    fn index(&self, consensus: &Consensus) -> Option<u64> {
        if let Some(index) = self.open.get() {
            return Some(*index);
        }
        let index = consensus.read(|state, _| state.session_index(self.session))?;
        Some(*self.open.get_or_init(|| index))
    }
}

/// Of an IPv6 address the lower half is the host's own choice.
fn source_of(address: IpAddr) -> Source {
    let address = match address {
        IpAddr::V4(address) => return Source(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => address,
    };
    let mut octets = address.octets();
    if address.to_ipv4_mapped().is_none() {
        octets[8..].fill(0);
    }
    Source(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_half_of_an_ipv6_address() {
        let source = |address: &str| source_of(address.parse().expect("an address"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:8000::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
    }
}
