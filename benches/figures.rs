//! The table of what is promised about speed: reached, at least, aim, each row in pairs with the roofline.
//!
//! ```text
//! cargo build --release && cargo bench -p benches --bench figures -- [--pairs 5] [--seconds 5] [--only WORDS] [--long]
//! ```
//!
//! It starts `queued dev` and runs itself within, so that `queuectl bench` finds the cluster. A row of large entries
//! runs for ten seconds before it is measured: until what the log keeps for late followers is full, every byte is written
//! twice, once as a zero. `--long` adds the rows that take minutes: a minute with
//! consumers, ten million messages waiting, 100,000 queues. `--only around` is start, rest and one push.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, bail};
use benches::deep::Pushers;
use benches::figures::{Pair, ROWS, Row, median, report, verdict};
use benches::machine::cpu;
use benches::many;
use benches::roofline::load::{self, Measured};
use benches::roofline::node;
use serde_json::Value;
use tokio::time::Instant;

/// Where the run within finds when the run outside began, in milliseconds of the uptime.
const BEGAN: &str = "FIGURES_BEGAN_AT_MS";
/// One-shot pushes of which the middle one counts.
const ONE_SHOTS: usize = 21;
/// So long a row of large entries runs before it is measured.
const FILL: &str = "10s";
/// Messages that wait in the deep queue.
const DEEP_COUNT: u64 = 10_000_000;
/// So long nothing is done while it is measured what that costs.
const IDLE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
struct Settings {
    pairs: usize,
    seconds: u64,
    only: String,
    long: bool,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [first, path, followers @ ..] = &words[..]
        && first == "roofline-node"
    {
        return node::run(Path::new(path), followers);
    }
    let mut settings = Settings { pairs: 1, seconds: 2, only: String::new(), long: false };
    let mut within = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--long" {
            settings.long = true;
            continue;
        }
        let value = rest.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--pairs" => settings.pairs = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--only" => settings.only.clone_from(value),
            "--within" => within = Some(value.parse::<usize>()?),
            other => bail!("no such word: {other}; there are --pairs, --seconds, --only and --long"),
        }
    }
    match within {
        Some(nodes) => inside(nodes, &settings),
        None => [3, 1]
            .into_iter()
            .filter(|nodes| *nodes == 3 || has_rows(*nodes, &settings))
            .try_for_each(|nodes| outside(nodes, &words)),
    }
}

fn rows(nodes: usize, settings: &Settings) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.nodes == nodes && row.name.contains(&settings.only))
}

fn has_rows(nodes: usize, settings: &Settings) -> bool {
    rows(nodes, settings).next().is_some()
}

/// The programs that were built beside this one.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let dir = here.parent().and_then(Path::parent).context("a bench lies below the programs")?;
    let path = dir.join(name);
    anyhow::ensure!(
        path.exists(),
        "{} is missing: `cargo build` with the profile of the bench makes it",
        path.display()
    );
    Ok(path)
}

/// Milliseconds since the machine was started: the same for all processes.
fn uptime_ms() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().context("the system tells its uptime")?.parse::<f64>()?;
    Ok(seconds * 1e3)
}

/// Starts a cluster around a run of this program.
fn outside(nodes: usize, words: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new(program("queued")?);
    command.args(["dev", "--any-port", "--quiet", "--nodes", &nodes.to_string(), "--"]);
    command.arg(std::env::current_exe()?).args(["--within", &nodes.to_string()]).args(words);
    let ended = command.env(BEGAN, uptime_ms()?.to_string()).status()?;
    anyhow::ensure!(ended.success(), "the run within a cluster of {nodes} failed");
    Ok(())
}

fn inside(nodes: usize, settings: &Settings) -> anyhow::Result<()> {
    let ready = uptime_ms()? - std::env::var(BEGAN)?.parse::<f64>()?;
    let dir = tempfile::tempdir()?;
    println!("cluster of {nodes}, {} pairs of {} s\n", settings.pairs, settings.seconds);
    if nodes == 3 && "around".contains(&settings.only) {
        around(ready)?;
    }
    let (mut loaded, mut failed) = (Vec::new(), 0);
    for row in rows(nodes, settings) {
        match pairs(row, settings, dir.path(), &mut loaded) {
            Ok(pairs) => println!("{}", report(row, &pairs)),
            Err(error) => {
                failed += 1;
                println!("FAILED   {}\n  {error}\n", row.name);
            }
        }
    }
    if nodes == 3 {
        let most = loaded.iter().copied().max().unwrap_or_default();
        println!("resident of a node after these: {:.0} MiB at most\n", mib(most));
        let more: [(&str, &dyn Fn() -> anyhow::Result<()>); 3] = [
            ("a minute with consumers", &minute),
            ("a deep queue", &|| deep(settings)),
            ("many queues", &many_queues),
        ];
        for (name, measure) in more.iter().filter(|(name, _)| settings.long && name.contains(&settings.only))
        {
            if let Err(error) = measure() {
                failed += 1;
                println!("FAILED   {name}\n  {error:#}\n");
            }
        }
        print!("{}", text(ctl(&["stats", "--stages"])?)?);
        println!();
    }
    anyhow::ensure!(failed == 0, "{failed} rows were not measured");
    Ok(())
}

/// Measures a row, with its roofline before, between and after; adds what the nodes have resident to `loaded`.
fn pairs(row: &Row, settings: &Settings, dir: &Path, loaded: &mut Vec<u64>) -> anyhow::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    if row.fills {
        let words: Vec<&str> =
            row.bench.iter().chain(&["--warmup", "0s", "--duration", FILL]).copied().collect();
        run_bench(&words)?;
    }
    let seconds = Duration::from_secs(settings.seconds);
    let roofline = || row.roofline.map(|workload| load::measure(dir, workload, seconds)).transpose();
    let mut before = roofline()?;
    for _ in 0..settings.pairs {
        let (ours, resident) = bench(row, settings.seconds)?;
        let after = roofline()?;
        pairs.push(Pair { ours, roofs: before.zip(after).map(<[Measured; 2]>::from) });
        before = after;
        loaded.extend(resident);
    }
    Ok(pairs)
}

/// What is measured around the workloads: start, memory at rest, one push by a program of its own.
fn around(ready: f64) -> anyhow::Result<()> {
    one("`queued dev` ready", ready, "ms", [2_000.0, 700.0]);
    let idle = run_bench(&["push", "--count", "1", "--warmup", "0s"])?;
    let most = resident(&idle).into_iter().max().unwrap_or_default();
    one("resident, idle, a node", mib(most), "MiB", [12.0, 10.0]);
    let nodes = pids(&idle);
    one("processor time of an idle node", idle_time(&nodes)?, "µs/s", [600.0, 400.0]);
    let mut took = Vec::new();
    for _ in 0..ONE_SHOTS {
        let begin = Instant::now();
        text(ctl(&["push", "figures", "x", "--create"])?)?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    one("one-shot `queuectl push`, whole process", median(&took), "ms", [15.0, 6.0]);
    println!();
    Ok(())
}

/// Microseconds of processor time that one of these nodes takes in a second in which nothing is asked.
#[tokio::main(flavor = "current_thread")]
async fn idle_time(nodes: &[u32]) -> anyhow::Result<f64> {
    let before = cpu(nodes)?;
    tokio::time::sleep(IDLE).await;
    Ok((cpu(nodes)? - before).as_secs_f64() * 1e6 / IDLE.as_secs_f64() / nodes.len() as f64)
}

/// As many queues as there may be.
#[tokio::main(flavor = "current_thread")]
async fn many_queues() -> anyhow::Result<()> {
    let nodes = pids(&run_bench(&["push", "--count", "1", "--warmup", "0s"])?);
    let servers = std::env::var("QUEUECTL_SERVERS").context("it runs within `queued dev`")?;
    let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
    let client = benches::client(&servers, Duration::from_secs(60));
    let [few, most] = many::create(&client, &nodes).await?.map(|each| each.as_secs_f64() * 1e3);
    one("processor time of three nodes for a queue made among 100", few, "ms", [2.0, 1.0]);
    one("the same among 100,000", most, "ms", [2.0, 1.0]);
    let dir = tempfile::tempdir()?;
    let took = many::restart(dir.path()).await?;
    one("a node that was killed answers again, with 100,000 queues", took.as_secs_f64(), "s", [1.5, 1.0]);
    println!();
    Ok(())
}

/// A figure that must not exceed the first of two limits, and aims at the second.
fn one(name: &str, measured: f64, unit: &str, [least, aim]: [f64; 2]) {
    let verdict = verdict(measured <= least, measured <= aim);
    println!("{verdict:<8} {name}: {measured:.2} {unit}; at most {least:.2}, aim {aim:.2}");
}

/// Memory after a minute of the second workload, with consumers that keep up.
fn minute() -> anyhow::Result<()> {
    let words = ["roundtrip", "--clients", "8", "--in-flight", "8", "--duration", "60s"];
    let most = resident(&run_bench(&words)?).into_iter().max().unwrap_or_default();
    one("resident, a minute of 64 in flight and consumers, a node", mib(most), "MiB", [150.0, 80.0]);
    Ok(())
}

/// The same pushes into an empty queue and into a deep one of the same nodes, in turn, each first in every other pair.
#[tokio::main(flavor = "current_thread")]
async fn deep(settings: &Settings) -> anyhow::Result<()> {
    let pushers = Pushers::new(&std::env::var("QUEUECTL_SERVERS").context("it runs within `queued dev`")?);
    let [full, empty] = ["figures.deep", "figures.empty"].map(|name| name.parse().expect("a queue's name"));
    pushers.fill(&full, DEEP_COUNT).await?;
    let duration = Duration::from_secs(settings.seconds);
    pushers.rate(&full, duration).await?;
    let mut shares = Vec::new();
    for pair in 1..=settings.pairs {
        let [mut within, mut beside] = [0.0; 2];
        for deep in [pair % 2 == 0, pair % 2 != 0] {
            let (queue, rate) = if deep { (&full, &mut within) } else { (&empty, &mut beside) };
            *rate = pushers.rate(queue, duration).await?;
        }
        pushers.remove(&empty).await?;
        println!(
            "  pair {pair}    {within:.0}/s with {DEEP_COUNT} waiting, {beside:.0}/s into an empty queue"
        );
        shares.push(within / beside);
    }
    pushers.remove(&full).await?;
    // Less is better, as in the other rows of one figure.
    let share = median(&shares);
    one("an empty queue's rate over that with 10 million waiting", 1.0 / share, "x", [1.0 / 0.9, 1.0]);
    println!();
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ctl(words: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(program("queuectl")?).args(words).output()?)
}

fn text(output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("queuectl failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn run_bench(words: &[&str]) -> anyhow::Result<Value> {
    let all: Vec<&str> = ["bench"].iter().chain(words).chain(&["--json", "--quiet"]).copied().collect();
    Ok(serde_json::from_str(&text(ctl(&all)?)?)?)
}

fn resident(document: &Value) -> Vec<u64> {
    let processes = document["processes"].as_array().into_iter().flatten();
    processes.filter_map(|process| process["resident_bytes"].as_u64()).collect()
}

/// The nodes' processes.
fn pids(document: &Value) -> Vec<u32> {
    let processes = document["processes"].as_array().into_iter().flatten();
    processes.filter_map(|process| u32::try_from(process["pid"].as_u64()?).ok()).collect()
}

/// Runs a row against the cluster; also what the nodes have resident afterwards.
fn bench(row: &Row, seconds: u64) -> anyhow::Result<(Measured, Vec<u64>)> {
    let duration = format!("{seconds}s");
    // What is taken must be there before.
    let count = (seconds * 100_000).to_string();
    let length =
        if row.bench.first() == Some(&"pop") { ["--count", &count] } else { ["--duration", &duration] };
    let words: Vec<&str> = row.bench.iter().copied().chain(length).collect();
    let document = run_bench(&words)?;
    let number = |at: &str| {
        document
            .pointer(at)
            .and_then(Value::as_f64)
            .with_context(|| format!("{at} is no number in {document}"))
    };
    let measured = Measured {
        rate: number("/msgs_per_s")?,
        p50_us: number("/latency_us/p50")?,
        p99_us: number("/latency_us/p99")?,
        cpu: number("/cpu_s_per_million")?,
    };
    Ok((measured, resident(&document)))
}
