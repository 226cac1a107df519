//! What a seed decides before anything happens: how many nodes, how they are set, how their disks are.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use queue_broker::fs::rng::Rng;
use queue_broker::fs::sim::{Latency, SimOptions, Unit};
use queue_broker::log::LogOptions;
use queue_broker::node::NodeOptions;
use queue_broker::raft::{RaftOptions, Witness};
use queue_broker::server::ServerOptions;

/// The port of every node.
pub(crate) const PORT: u16 = 7410;
/// Room of a disk that nobody fills.
pub(crate) const CAPACITY: u64 = 1 << 30;
/// Pushes are refused when less is free.
pub(crate) const DISK_RESERVE: u64 = 1 << 20;

/// Chance, out of the seed.
pub(crate) struct Dice(Rng);

impl Dice {
    /// The stream `name` of a seed; others do not disturb it.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        Self(Rng::new(Rng::new(seed).next_u64() ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// One of `range`, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.below(range.end - range.start)
    }

    /// So many milliseconds.
    pub(crate) fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// True `times` out of `of` times.
    pub(crate) fn chance(&mut self, times: u64, of: u64) -> bool {
        self.0.chance(times, of)
    }

    /// One of them, if there is one.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.0.below(from.len() as u64)).expect("less than its length");
        from.get(at).cloned()
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Nodes at the beginning.
    pub(crate) nodes: u64,
    /// Faults before peace.
    pub(crate) faults: u64,
    /// Usual pause between the beginnings of two faults.
    pub(crate) pause_ms: u64,
    pub(crate) heartbeat: Duration,
    election: (Duration, Duration),
    snapshot_entries: u64,
    keep_bytes: u64,
    segment_size: u64,
    unit: Unit,
    pub(crate) latency: Latency,
    /// Workers at each of the two places where clients are.
    pub(crate) workers: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let heartbeat = dice.pick(&[50, 80, 150]).expect("one of three");
        let disk_ms = dice.within(1..20);
        Self {
            seed,
            nodes: if dice.chance(1, 5) { 5 } else { 3 },
            faults: dice.within(32..46),
            pause_ms: dice.within(150..600),
            heartbeat: Duration::from_millis(heartbeat),
            election: (Duration::from_millis(4 * heartbeat), Duration::from_millis(7 * heartbeat)),
            snapshot_entries: dice.within(30..300),
            keep_bytes: dice.within(0..48 << 10),
            segment_size: 16_384 << dice.within(0..3),
            unit: if dice.chance(1, 2) { Unit::Page } else { Unit::Sector },
            latency: Latency {
                min: Duration::from_millis(1),
                max: Duration::from_millis(1 + disk_ms),
                stalls_per_mille: 5,
                stall: Duration::from_millis(150),
            },
            workers: dice.within(2..5),
        }
    }

    /// The disk of machine number `number`.
    pub(crate) fn disk(&self, number: u64) -> SimOptions {
        let seed = Dice::new(self.seed, 100 + number).next();
        SimOptions { seed, unit: self.unit, capacity: CAPACITY, latency: self.latency }
    }

    /// For so long a leader takes it that it leads without a quorum.
    pub(crate) fn leader_lease_ms(&self) -> u64 {
        u64::try_from(self.election.1.as_millis()).expect("seconds")
    }

    /// The settings of the node on machine `name`.
    pub(crate) fn options(&self, name: &str, witness: Witness) -> NodeOptions {
        NodeOptions {
            data_dir: PathBuf::from("data"),
            listen: format!("0.0.0.0:{PORT}"),
            advertise: Some(address(&place(name))),
            name: Some(name.to_owned()),
            raft: RaftOptions {
                heartbeat: self.heartbeat,
                election_min: self.election.0,
                election_max: self.election.1,
                snapshot_entries: self.snapshot_entries,
                keep_bytes: self.keep_bytes,
                disk_reserve: Some(DISK_RESERVE),
                witness,
                hash_every: 16,
                ..RaftOptions::default()
            },
            server: ServerOptions::default(),
            log: LogOptions {
                segment_size: self.segment_size,
                scrub_period: Duration::from_secs(20),
                ..LogOptions::new(0)
            },
            grace: Duration::from_secs(1),
            descriptors: None,
        }
    }
}

/// The name under which others know the machine `name` at first.
pub(crate) fn place(name: &str) -> String {
    format!("at-{name}")
}

/// Where the node on machine `name` is reached.
pub(crate) fn address(name: &str) -> String {
    format!("{name}:{PORT}")
}
