//! Prints what the long runs have shown so far, from `tests/ledger.csv`: counts are sums over its lines, measured figures
//! are those of the newest line. Ends with 1 if a run found something or a bound is missed.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// What a suite must show.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// So many, cumulative, all of them `ok`, or with 0 of what was looked for.
    Sum(u64),
    /// The newest result, a number and its unit, is at most this.
    Most(f64, &'static str),
    /// The newest result, a number and its unit, is at least this.
    Least(f64, &'static str),
}

use Bound::{Least, Most, Sum};

/// Suite as the ledger names it, what it counts or measures, bound, how it is run again.
const FIGURES: &[(&str, &str, Bound, &str)] = &[
    ("recovery", "recoveries at crash points", Sum(100_000), RECOVERY),
    ("flips-segment", "bits flipped: segments", Sum(65_536), RECOVERY),
    ("flips-sparse", "bits flipped: sparse files", Sum(65_536), RECOVERY),
    ("flips-snapshot", "bits flipped: snapshots", Sum(65_536), RECOVERY),
    ("flips-identity", "bits flipped: identity", Sum(65_536), RECOVERY),
    ("failing-sync", "syncs that fail, simulated", Sum(200), RECOVERY),
    ("eio", "syncs that fail, real node", Sum(10), "torture eio 20"),
    ("power", "power losses, real nodes", Sum(1_000), "torture power 100"),
    ("kill", "kill -9, real nodes", Sum(1_000), "torture kill 100"),
    ("partition", "partitions and pauses, real nodes", Sum(100), "torture partition 100"),
    ("backlog-restart", "10 M messages: restart, cold cache", Most(20.0, "s"), BACKLOG),
    ("backlog-memory", "10 M messages: resident", Most(256.0, "MiB"), BACKLOG),
    ("backlog-disk", "disk used after acks", Most(10.0, "%"), BACKLOG),
    ("backlog-written", "bytes written per byte, pool warm", Most(1.3, "x"), BACKLOG),
    ("backlog-written-cold", "bytes written per byte, pool growing", Most(2.3, "x"), BACKLOG),
    (
        "snapshot-stall",
        "apply stalled by a snapshot, 10 M messages",
        Most(10.0, "ms"),
        "cargo bench -p benches --bench snapshot",
    ),
    (
        "log-append",
        "append of 64 KiB groups against raw writes",
        Least(80.0, "%"),
        "cargo bench -p benches --bench log",
    ),
    ("queue-model", "commands compared with the model", Sum(10_000_000), "QUEUE_CASES=200000"),
    ("apply-message", "push, lease, ack of a message, 1 M waiting", Most(1.5, "us"), APPLY),
    ("apply-deep", "the same, 10 M waiting", Most(1.5, "us"), APPLY),
    ("memory-batched", "memory of a message pushed with 99 others", Most(4.0, "B"), BOUNDS),
    ("memory-alone", "memory of a message pushed alone", Most(64.0, "B"), BOUNDS),
    ("due-at-once", "1 M messages due: longest entry", Most(10.0, "ms"), BOUNDS),
    ("groups-lease", "lease beside 100,000 groups and a hot one", Most(20.0, "us"), BOUNDS),
    ("fair-share", "1,000 fair deliveries: off a share, in quanta", Most(1.0, "quanta"), "cargo test fair"),
    ("simulation", "seeds of the simulated cluster", Sum(2_000), "SIMULATION_SEEDS=0..2000"),
    ("fuzz-frames", "arbitrary frames", Sum(10_000_000), FUZZ),
    ("fuzz-hello", "arbitrary handshakes", Sum(10_000_000), FUZZ),
    ("fuzz-recovery", "arbitrary data directories", Sum(10_000_000), FUZZ),
    ("fuzz-snapshot", "arbitrary snapshots", Sum(10_000_000), FUZZ),
    ("fuzz-commands", "arbitrary commands", Sum(10_000_000), FUZZ),
    ("replace", "a node of 1 GiB replaced under load", Most(60.0, "s"), "torture replace 1024"),
    ("memory-one-shot", "100,000 clients that push once: left resident", Most(64.0, "MiB"), ORDINARY),
    ("memory-idle-client", "an idle client, resident", Most(16.0, "KiB"), ORDINARY),
    ("memory-idle-clients", "10,000 idle clients, resident", Most(200.0, "MiB"), ORDINARY),
    ("busy-beside-idle", "64 busy clients beside 10,000 idle ones: rate", Least(90.0, "%"), ORDINARY),
    (
        "ordinary-memory",
        "everything hostile at once: a node, resident",
        Most(1_024.0, "MiB"),
        "torture ordinary",
    ),
    ("ordinary-p99", "meanwhile a good client: p99", Most(1_000.0, "ms"), "torture ordinary"),
    ("failover-killed", "no write after kill -9 of the leader: p99", Most(2_500.0, "ms"), FAILOVER),
    ("failover-cut", "no write after a silent partition: p99", Most(3_000.0, "ms"), FAILOVER),
    ("failover-stopped", "no write after a clean stop: p99", Most(200.0, "ms"), FAILOVER),
];

const RECOVERY: &str = "RECOVERY_SEEDS=21 RECOVERY_STRIDE=1 RECOVERY_SYNCS=400";
const BACKLOG: &str = "cargo bench -p benches --bench backlog";
const APPLY: &str = "cargo bench -p benches --bench apply";
const BOUNDS: &str = "cargo bench -p benches --bench bounds";
const FUZZ: &str = "tests/fuzz/replay.rs says how";
const ORDINARY: &str = "QUEUE_TESTS_LONG=1 cargo test -p tests --test processes ordinary::memory";
const FAILOVER: &str = "FAILOVERS=100";

struct Line<'a> {
    suite: &'a str,
    count: u64,
    result: &'a str,
}

fn lines(text: &str) -> Option<Vec<Line<'_>>> {
    let line = |line| {
        let fields: Vec<&str> = str::split(line, ',').collect();
        let [_date, _commit, suite, _setting, count, result] = fields[..] else { return None };
        Some(Line { suite, count: count.parse().ok()?, result })
    };
    text.lines().skip(1).map(line).collect()
}

/// What is there of one figure, and whether that is enough.
fn reached(lines: &[Line<'_>], suite: &str, bound: Bound) -> (String, bool) {
    let of_suite: Vec<&Line<'_>> = lines.iter().filter(|line| line.suite == suite).collect();
    let newest = |unit| -> Option<f64> { of_suite.last()?.result.strip_suffix(unit)?.trim().parse().ok() };
    let measured = |unit, within: &dyn Fn(f64) -> bool| match newest(unit) {
        None => ("-".to_owned(), false),
        Some(value) => (format!("{value} {unit}"), within(value)),
    };
    match bound {
        Sum(least) => {
            let failed = of_suite
                .iter()
                .filter(|line| !(line.result == "ok" || line.result.starts_with("0 ")))
                .count();
            let sum: u64 = of_suite.iter().map(|line| line.count).sum();
            let text =
                if failed == 0 { sum.to_string() } else { format!("{sum} and {failed} found something") };
            (text, sum >= least && failed == 0)
        }
        Most(bound, unit) => measured(unit, &|value| value <= bound),
        Least(bound, unit) => measured(unit, &|value| value >= bound),
    }
}

fn main() -> ExitCode {
    let ledger = concat!(env!("CARGO_MANIFEST_DIR"), "/ledger.csv");
    let text = std::fs::read_to_string(ledger).expect("the ledger is beside the tests");
    let lines = lines(&text).expect("every line is date,commit,suite,setting,count,result");
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["what", "bound", "reached", "", "again with"]);
    let mut missed = 0;
    for (suite, what, bound, again) in FIGURES {
        let (reached, enough) = reached(&lines, suite, *bound);
        let bound = match bound {
            Sum(least) => format!(">= {least}"),
            Most(bound, unit) => format!("<= {bound} {unit}"),
            Least(bound, unit) => format!(">= {bound} {unit}"),
        };
        missed += usize::from(!enough);
        table.add_row([*what, &bound, &reached, if enough { "ok" } else { "missed" }, again]);
    }
    println!("{table}");
    println!("{} of {} figures reached", FIGURES.len() - missed, FIGURES.len());
    ExitCode::from(u8::from(missed > 0))
}
