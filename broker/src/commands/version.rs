//! `queued version`.

use queue_protocol::wire::hello::Versions;

use super::failure::Failure;
use super::print;

/// Prints the versions of program and protocol.
pub(super) fn run() -> Result<(), Failure> {
    let Versions { min, max } = Versions::OURS;
    let protocol = if min == max { max.to_string() } else { format!("{min} to {max}") };
    let zones = crate::recurrence::zone_data();
    print(&format!("queued {}, protocol {protocol}, time zones {zones}\n", env!("CARGO_PKG_VERSION")))
}
