//! This machine as what is outside of a node, as `queued serve` has it; but a node that fails ends the measurement.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
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

/// Processor time that a process has used so far, all threads, user and system.
///
/// # Errors
/// There is no such process, or this system does not tell.
pub fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    /// Of the kernel's clock, which Linux shows in hundredths of a second everywhere.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no process is described like that")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// Processor time that the threads which these processes have now used so far, to the nanosecond.
///
/// # Errors
/// There is no such process, or this system does not tell.
pub fn cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().context("a thread without a schedule")?;
            nanos += first.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}
