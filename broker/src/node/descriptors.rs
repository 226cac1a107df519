//! How the descriptors of a process are divided. First what must always be there: the log, the snapshots, the runtime and
//! the peers; clients get the rest.
//!
//! ```text
//! limit  [ own | segments kept open | peers | greetings | clients ................ ]
//! ```

use queue_protocol::limits::{HELLO_CONNECTIONS_MAX, PEER_CONNECTIONS_RESERVED};

use crate::mutants::{self, Mutant};
use crate::server::Places;

/// Standard streams, runtime, signals, lock and listener (16); the segment being written, a spare being made, eight
/// sparse files and one more, each with two (22); files being checked and copied, snapshots being written and sent,
/// directories being synced (16); and what only a name lookup or a handler of the system may need.
const OWN: u64 = 64;
/// Segments kept open for reading, if there are descriptors enough.
const OPEN_FILES_MAX: u64 = 64;
const OPEN_FILES_MIN: u64 = 8;
/// All connections of all peers.
const PEERS_MAX: u64 = 8 * PEER_CONNECTIONS_RESERVED as u64;
const PEERS_MIN: u64 = 32;
const GREETINGS_MIN: u64 = 16;

/// Who gets how many descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// Segments kept open for reading.
    pub(super) open_files_max: usize,
    /// How many connections there may be, by role.
    pub(super) places: Places,
}

impl Division {
    /// Divides `limit` descriptors, where `clients` connections of clients are asked for. Without a limit all get what
    /// they may have.
    pub(super) fn of(limit: Option<u64>, clients: usize) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        let open_files = (limit / 16).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX);
        let peers = (limit / 8).clamp(PEERS_MIN, PEERS_MAX);
        let greetings = (limit / 8).clamp(GREETINGS_MIN, HELLO_CONNECTIONS_MAX as u64);
        let left = limit.saturating_sub(OWN + open_files + peers + greetings);
        // A limit too small for all of this is one for a few clients; they must find a node, if not a safe one.
        let left = left.max(limit / 16).max(1);
        let usize_of = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let given = if mutants::on(Mutant::ClientsTakeAllDescriptors) {
            clients
        } else {
            clients.min(usize_of(left))
        };
        Self {
            open_files_max: usize_of(open_files),
            places: Places { clients: given, peers: usize_of(peers), greetings: usize_of(greetings) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_log_and_the_peers_leave() {
        let clients = |limit, asked| Division::of(limit, asked).places.clients;
        assert_eq!(clients(None, 10_000), 10_000);
        assert_eq!(clients(Some(1 << 20), 10_000), 10_000);
        assert_eq!(clients(Some(1_024), 10_000), 640);
        assert_eq!(clients(Some(1_024), 100), 100);
        assert_eq!(clients(Some(256), 10_000), 112);
        assert_eq!(clients(Some(3), 10_000), 1, "a node starts with any limit");
    }

    #[test]
    fn together_they_are_within_the_limit() {
        for limit in 160..20_000 {
            let Division { open_files_max, places: Places { clients, peers, greetings } } =
                Division::of(Some(limit), usize::MAX);
            let sum = OWN + (open_files_max + clients + peers + greetings) as u64;
            assert!(sum <= limit, "{sum} of {limit}");
        }
    }
}
