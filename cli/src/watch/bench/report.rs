//! What a bench says: figures, percentiles and a picture for people, `bench/v1` for scripts, and what changed since.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use queue_protocol::names::QueueName;
use serde_json::{Value, json};

use super::load::Verified;
use super::usage::Usage;
use crate::failure::exit::Exit;
use crate::failure::{End, Failure};
use crate::grammar::{BenchArgs, BenchKind, milliseconds};
use crate::show::render;

/// Percentiles that are shown, with their names in JSON and for people.
const PERCENTILES: [(f64, &str, &str); 5] = [
    (50.0, "p50", "p50"),
    (90.0, "p90", "p90"),
    (99.0, "p99", "p99"),
    (99.9, "p99_9", "p99.9"),
    (99.99, "p99_99", "p99.99"),
];
/// Width of the longest bar of the picture.
const BAR_WIDTH: u64 = 40;

/// What was asked for.
pub(super) struct Config {
    kind: &'static str,
    clients: u16,
    in_flight: u16,
    worker: bool,
    queues: u16,
    groups: Option<u32>,
    connections: u16,
    size: usize,
    batch: u16,
    rate: Option<u32>,
    nodes: usize,
}

impl Config {
    pub(super) fn of(args: &BenchArgs, nodes: usize, size: usize) -> Self {
        let (clients, in_flight, worker) = (args.clients, args.in_flight, args.worker);
        let (batch, rate) = (args.batch, args.rate);
        let (queues, groups, connections) = (args.queues, args.groups, args.connections);
        let kind = kind(args.kind);
        Self { kind, clients, in_flight, worker, queues, groups, connections, size, batch, rate, nodes }
    }
}

fn kind(kind: BenchKind) -> &'static str {
    match kind {
        BenchKind::Push => "push",
        BenchKind::Pop => "pop",
        BenchKind::Roundtrip => "roundtrip",
    }
}

/// What one node used while it was measured.
pub(super) struct Used {
    address: String,
    pid: u32,
    cpu: Duration,
    resident: u64,
}

/// The difference of two looks at the nodes.
pub(super) fn used(before: &[Usage], after: &[Usage]) -> Vec<Used> {
    let node = |after: &Usage| {
        let before = before.iter().find(|before| before.pid == after.pid)?;
        let cpu = after.cpu.saturating_sub(before.cpu);
        Some(Used { address: after.address.clone(), pid: after.pid, cpu, resident: after.resident })
    };
    after.iter().filter_map(node).collect()
}

/// What came out.
pub(super) struct Result {
    pub(super) config: Config,
    pub(super) messages: u64,
    pub(super) elapsed: Duration,
    pub(super) redirects: u64,
    /// In microseconds, one value a message.
    pub(super) latency: Histogram<u64>,
    pub(super) verified: Option<Verified>,
    /// It was stopped before its end.
    pub(super) stopped: Option<Exit>,
    /// Nodes of this machine.
    pub(super) nodes: Vec<Used>,
    /// Of this process.
    pub(super) own_cpu: Option<Duration>,
}

impl Result {
    fn per_second(&self, value: u64) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(value) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// Processor seconds for a million messages.
    fn per_million(&self, cpu: Duration) -> f64 {
        (cpu.as_secs_f64() * 1e6 / self.messages.max(1) as f64 * 100.0).round() / 100.0
    }

    /// Bars by 1, 2, 5: from, to (exclusive) in microseconds, messages.
    fn bars(&self) -> Vec<(u64, u64, u64)> {
        let mut bars: Vec<(u64, u64, u64)> = Vec::new();
        for value in self.latency.iter_recorded() {
            let micros = value.value_iterated_to();
            let (from, to) = bucket(micros);
            match bars.last_mut() {
                Some(bar) if bar.0 == from => bar.2 += value.count_at_value(),
                _ => bars.push((from, to, value.count_at_value())),
            }
        }
        bars
    }

    pub(super) fn document(&self) -> Value {
        let config = &self.config;
        let mut latency = json!({"min": self.latency.min()});
        let fields = latency.as_object_mut().expect("built as an object");
        for (percentile, name, _) in PERCENTILES {
            fields.insert(name.to_owned(), self.latency.value_at_percentile(percentile).into());
        }
        fields.insert("max".to_owned(), self.latency.max().into());
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                json!({"client": node.address, "pid": node.pid, "cpu_s": node.cpu.as_secs_f64(),
                    "resident_bytes": node.resident})
            })
            .collect();
        let cpu: Duration = self.nodes.iter().map(|node| node.cpu).sum();
        json!({
            "schema": "bench/v1",
            "kind": config.kind,
            "complete": self.stopped.is_none(),
            "config": {"clients": config.clients, "in_flight": config.in_flight,
                "worker": config.worker, "queues": config.queues, "groups": config.groups,
                "connections": config.connections, "size_bytes": config.size,
                "batch": config.batch, "rate": config.rate},
            "server": {"version": env!("CARGO_PKG_VERSION"), "nodes": config.nodes},
            "messages": self.messages,
            "elapsed_ms": render::elapsed_ms(self.elapsed),
            "msgs_per_s": self.per_second(self.messages),
            "bytes_per_s": self.per_second(self.messages * config.size as u64),
            "latency_us": latency,
            "errors": {"redirects": self.redirects},
            "verify": self.verified.map(|found| json!({
                "lost": found.lost, "duplicated": found.duplicated, "out_of_order": found.out_of_order})),
            "processes": nodes,
            "cpu_s_per_million": (!self.nodes.is_empty()).then(|| self.per_million(cpu)),
            "client_cpu_s_per_million": self.own_cpu.map(|cpu| self.per_million(cpu)),
            "histogram_us": self.bars().iter().map(|(from, to, count)| json!([from, to, count])).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let bytes = self.per_second(self.messages * self.config.size as u64);
        let stopped =
            if self.stopped.is_some() { "stopped: this is what was measured until then\n" } else { "" };
        let mut text = stopped.to_owned();
        text.push_str(&format!(
            "messages     {} in {:.2} s        {} msg/s   {}/s\n",
            render::count(self.messages),
            self.elapsed.as_secs_f64(),
            render::count(self.per_second(self.messages)),
            render::size(bytes),
        ));
        let mut shown: Vec<String> = PERCENTILES
            .iter()
            .map(|(percentile, _, name)| {
                format!("{name} {}", took(self.latency.value_at_percentile(*percentile)))
            })
            .collect();
        shown.push(format!("max {}", took(self.latency.max())));
        let (usual, rare) = shown.split_at(3);
        text.push_str(&format!("latency      {}\n{:13}{}\n", usual.join("   "), "", rare.join("   ")));
        let bars = self.bars();
        let most = bars.iter().map(|(_, _, count)| *count).max().unwrap_or(1).max(1);
        for (from, to, count) in bars {
            let share = 100.0 * count as f64 / self.messages.max(1) as f64;
            let range = format!("{} – {}", edge(from), edge(to));
            text.push_str(format!("{range:>19} {count:>9} {share:>6.2}% {}", bar(count, most)).trim_end());
            text.push('\n');
        }
        if let Some(found) = self.verified {
            let (lost, duplicated) = (found.lost, found.duplicated);
            let order = match found.out_of_order {
                None => String::new(),
                Some(0) => ", order kept per sender".to_owned(),
                Some(count) => format!(", {count} out of order"),
            };
            text.push_str(&format!("verify       {lost} lost, {duplicated} duplicated{order}\n"));
        }
        for node in &self.nodes {
            text.push_str(&format!(
                "node         {}  CPU {:.2} s ({:.2} s/million), {} RSS\n",
                node.address,
                node.cpu.as_secs_f64(),
                self.per_million(node.cpu),
                render::size(node.resident),
            ));
        }
        if let Some(cpu) = self.own_cpu {
            let million = self.per_million(cpu);
            text.push_str(&format!("client       CPU {:.2} s ({million:.2} s/million)\n", cpu.as_secs_f64()));
        }
        text
    }
}

/// The bucket of a value: 1, 2 or 5 times a power of ten, to the next.
fn bucket(micros: u64) -> (u64, u64) {
    let mut from = 1;
    loop {
        for (step, next) in [(1, 2), (2, 5), (5, 10)] {
            if micros < from * next {
                return (from * step, from * next);
            }
        }
        from *= 10;
    }
}

fn edge(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{} s", micros / 1_000_000),
    }
}

fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// A bar in eighths of a character.
fn bar(count: u64, most: u64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count * BAR_WIDTH * 8).div_ceil(most);
    let (whole, part) = (eighths / 8, eighths % 8);
    let whole = usize::try_from(whole).expect("no wider than the picture");
    "█".repeat(whole) + PARTS[usize::try_from(part).expect("below 8")]
}

/// The lines before anything happens.
pub(super) fn headline(args: &BenchArgs, nodes: usize, queue: &QueueName) -> [String; 2] {
    let rate = args.rate.map(|rate| format!("  {}/s", render::count(rate.into()))).unwrap_or_default();
    let mut shape = String::new();
    if args.queues > 1 {
        shape.push_str(&format!("  {} queues", args.queues));
    }
    if let Some(groups) = args.groups {
        shape.push_str(&format!("  {} groups", render::count(groups.into())));
    }
    if args.connections > 0 {
        shape.push_str(&format!("  {} idle connections", args.connections));
    }
    let first = format!(
        "{}  {nodes} nodes  {} clients × {} in flight  {}  batch {}{shape}{rate}",
        kind(args.kind),
        args.clients,
        args.in_flight,
        render::size(args.size as u64),
        args.batch,
    );
    let queue = if args.queues > 1 { format!("queues {queue} and on") } else { format!("queue {queue}") };
    [first, format!("{queue}, removed afterwards; Ctrl-C shows what was measured")]
}

/// The line while it runs.
pub(super) fn progress(args: &BenchArgs, done: u64, elapsed: Duration, latency: &Histogram<u64>) -> String {
    const WIDTH: u64 = 20;
    let rate = done * 1_000 / milliseconds(elapsed).max(1);
    let share = match (args.duration, args.count) {
        (Some(duration), _) => 100 * milliseconds(elapsed) / milliseconds(duration).max(1),
        (None, count) => 100 * done / count.unwrap_or(super::COUNT_DEFAULT),
    };
    let share = share.min(100);
    let full = usize::try_from(share * WIDTH / 100).expect("no wider than the bar");
    let width = usize::try_from(WIDTH).expect("a small number");
    let line =
        format!("[{}{}] {share}%  {}/s", "█".repeat(full), "░".repeat(width - full), render::count(rate));
    if latency.is_empty() {
        return line;
    }
    let [p50, p99] = [50.0, 99.0].map(|percentile| took(latency.value_at_percentile(percentile)));
    format!("{line}  p50 {p50}  p99 {p99}")
}

/// Writes a result for later.
///
/// # Errors
/// `io`.
pub(super) fn save(path: &Path, document: &Value) -> std::result::Result<(), End> {
    std::fs::write(path, format!("{document}\n"))
        .map_err(|error| Failure::io(format!("cannot write {}: {error}", path.display())).into())
}

/// Reads a result that was saved.
///
/// # Errors
/// `io`, or `bad_input` if it is none.
pub(super) fn load(path: &Path) -> std::result::Result<Value, End> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(format!("cannot read {}: {error}", path.display())))?;
    let document =
        serde_json::from_str::<Value>(&text).ok().filter(|document| document["schema"] == "bench/v1");
    document.ok_or_else(|| {
        let what = format!("{} is no result of `queuectl bench --save`", path.display());
        Failure::new("bad_input", Exit::BadData, what).into()
    })
}

/// What changed since a result was saved.
pub(super) fn compare(base: &Value, now: &Value, path: &Path) -> String {
    let name = path.file_name().map_or_else(|| "base".into(), |name| name.to_string_lossy());
    let number = |document: &Value, pointer: &str| document.pointer(pointer).and_then(Value::as_f64);
    let rows = [
        ("msg/s", "/msgs_per_s"),
        ("p50 µs", "/latency_us/p50"),
        ("p99 µs", "/latency_us/p99"),
        ("CPU s a million", "/cpu_s_per_million"),
    ];
    let mut text = format!("{:<16} {name:>14} {:>12} {:>10}\n", "", "now", "change");
    for (title, pointer) in rows {
        if let (Some(base), Some(now)) = (number(base, pointer), number(now, pointer)) {
            let change = if base == 0.0 { 0.0 } else { 100.0 * (now - base) / base };
            text.push_str(&format!("{title:<16} {base:>14} {now:>12} {change:>+8.1} %\n"));
        }
    }
    if base["config"] != now["config"] || base["kind"] != now["kind"] {
        text.push_str("the two were not asked for the same\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_go_by_one_two_and_five() {
        let buckets = [1, 2, 4, 5, 9, 10, 199, 200, 1_999].map(bucket);
        let expected =
            [(1, 2), (2, 5), (2, 5), (5, 10), (5, 10), (10, 20), (100, 200), (200, 500), (1_000, 2_000)];
        assert_eq!(buckets, expected);
    }

    #[test]
    fn the_longest_bar_is_as_wide_as_the_picture_and_the_shortest_is_seen() {
        assert_eq!(bar(10, 10), "█".repeat(40));
        assert_eq!((bar(1, 1_000_000).as_str(), bar(5, 10).chars().count()), ("▏", 20));
    }

    #[test]
    fn everything_fits_80_columns() {
        use clap::Parser;
        let words =
            ["queuectl", "bench", "push", "--clients", "1000", "--in-flight", "1000", "--rate", "1000000"];
        let cli = crate::grammar::Cli::try_parse_from(words).expect("it is a command");
        let Some(crate::grammar::Top::Cmd(crate::grammar::Cmd::Bench(args))) = cli.command else { panic!() };
        let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order");
        for micros in [1, 99_999, 999_999, 9_999_999, 99_999_999] {
            latency.record(micros).expect("it is within the bounds");
        }
        let queue: QueueName = "bench.19a2b3c4d5e".parse().expect("a name");
        let mut text = headline(&args, 99, &queue).join("\n") + "\n";
        text.push_str(&progress(&args, 99_999_999, Duration::from_secs(99), &latency));
        let config = Config::of(&args, 99, 1 << 20);
        let used = Used {
            address: "192.168.100.100:17410".to_owned(),
            pid: 4_194_304,
            cpu: Duration::from_secs(9_999),
            resident: 512 << 20,
        };
        let result = Result {
            config,
            messages: 99_999_999,
            elapsed: Duration::from_secs(999),
            redirects: 0,
            latency,
            verified: Some(Verified { lost: 0, duplicated: 0, out_of_order: Some(0) }),
            stopped: Some(Exit::Interrupted),
            nodes: vec![used],
            own_cpu: Some(Duration::from_secs(9_999)),
        };
        text.push('\n');
        text.push_str(&result.text());
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        assert!(text.contains("p50") && text.starts_with("push  99 nodes"), "{text}");
        assert_eq!(result.document()["complete"], false);
    }

    #[test]
    fn a_comparison_says_what_changed_and_whether_it_is_fair() {
        let result = |rate: u64, clients: u64| {
            json!({"schema": "bench/v1", "kind": "push", "config": {"clients": clients}, "msgs_per_s": rate,
                "latency_us": {"p50": 10, "p99": 20}})
        };
        let text = compare(&result(1_000, 1), &result(1_100, 2), Path::new("/x/base.json"));
        assert!(
            text.contains("base.json") && text.contains("+10.0 %") && text.contains("not asked"),
            "{text}"
        );
    }
}
