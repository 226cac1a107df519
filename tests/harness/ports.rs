//! Ports that nobody listens on, and that the system does not give to outgoing connections: so a node that is down
//! finds its own free when it comes back.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux gives out by itself.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback address that is free and was not given before in this process.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    // Another test process at the same time begins elsewhere.
    let process = u16::try_from(std::process::id() % 199).expect("less than 199") * 100;
    for _ in 0..COUNT {
        let port = FIRST + process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between {FIRST} and {}", FIRST + COUNT);
}
