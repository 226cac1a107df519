//! This machine as what is outside of a node, as `queued serve` has it; but a node that fails ends the measurement.

use std::io::Read as _;
use std::sync::Arc;

use queue_broker::clock::SystemClock;
use queue_broker::fs::os::OsDisk;
use queue_broker::outside::{Outside, Tcp, Threads};
use queue_protocol::client::TcpDial;

/// What is outside of a node that serves its clients on `serving`.
pub fn outside(serving: tokio::runtime::Handle) -> Outside {
    Outside {
        disk: Arc::new(OsDisk),
        net: Arc::new(Tcp { dial: TcpDial::default() }),
        clock: Arc::new(SystemClock),
        tasks: Arc::new(Threads { serving }),
        random: Arc::new(fill_random),
        end: Arc::new(|fatal| panic!("a node ended with status {}: {}", fatal.status, fatal.what)),
    }
}

/// Fills `buffer` with random bytes.
pub fn fill_random(buffer: &mut [u8]) {
    let source = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(buffer));
    source.expect("the system has randomness");
}
