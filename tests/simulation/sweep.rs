//! Many seeds: each in a process of its own, as many at a time as there are cores; what they say, together.

use std::ops::Range;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use queue_broker::mutants::{Mutant, VARIABLE};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::chaos::{self, Covered};
use crate::{SEED, TEST};

/// Real time that one seed may take.
const SEED_MAX: Duration = Duration::from_secs(300);

/// What a process said of its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) seed: u64,
    pub(crate) covered: Covered,
    pub(crate) trace: String,
    /// Why it failed.
    pub(crate) violation: Option<String>,
    /// It came to an end by itself.
    pub(crate) ended: bool,
    /// Losses that its verdicts spoke of, as it printed them.
    pub(crate) losses: Vec<String>,
}

/// Runs a seed in this process and says what came of it.
pub(crate) fn here(seed: u64) {
    tell(seed, chaos::run(seed), &repeat(seed));
}

/// Says what came of a seed; `repeat` is what to type to see it again.
#[expect(clippy::print_stdout, reason = "whoever started this process reads it")]
pub(crate) fn tell(seed: u64, report: chaos::Report, repeat: &str) {
    println!("\ncovered {}", report.covered);
    println!("trace {:016x}", report.trace);
    match report.violation {
        None => println!("seed {seed} held"),
        Some(what) => panic!("seed {seed}: {what}\nto repeat it: {repeat}"),
    }
}

/// What to type to see a seed again.
pub(crate) fn repeat(seed: u64) -> String {
    let mutant = std::env::var(VARIABLE).map(|name| format!("{VARIABLE}={name} ")).unwrap_or_default();
    format!(
        "{mutant}{SEED}={seed} SIMULATION_TRACE=1 cargo test -p tests --test simulation -- --exact {TEST} --nocapture"
    )
}

/// Runs a seed in a process of its own, with a planted bug if one is named.
pub(crate) async fn elsewhere(seed: u64, mutant: Option<Mutant>) -> Said {
    let env: Vec<(&str, String)> = mutant.iter().map(|mutant| (VARIABLE, mutant.name().to_owned())).collect();
    elsewhere_as(TEST, seed, &env).await
}

/// Runs `test` with a seed, and this environment, in a process of its own.
pub(crate) async fn elsewhere_as(test: &str, seed: u64, env: &[(&str, String)]) -> Said {
    let myself = std::env::current_exe().expect("it runs");
    let mut command = Command::new(myself);
    command.args(["--exact", test, "--nocapture"]).env(SEED, seed.to_string()).env_remove(VARIABLE);
    command.envs(env.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(SEED_MAX, command.output()).await else {
        let violation = Some(format!("it did not end within {SEED_MAX:?}"));
        let (covered, trace, losses) = (Covered::default(), String::new(), Vec::new());
        return Said { seed, covered, trace, violation, ended: false, losses };
    };
    let output = output.expect("it runs once more");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = |begin: &str| out.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
    let covered = Covered::parse(line("covered "));
    let trace = line("trace ").to_owned();
    let held = output.status.success()
        && !line(&format!("seed {seed} held")).contains("failed")
        && !trace.is_empty();
    let losses = out.lines().filter_map(|line| line.strip_prefix("loss ")).map(str::to_owned).collect();
    Said { seed, covered, trace, violation: (!held).then(|| why(seed, &err)), ended: true, losses }
}

/// The line that says why a process failed.
fn why(seed: u64, err: &str) -> String {
    let mark = format!("seed {seed}: ");
    let said = err.lines().find_map(|line| line.strip_prefix(&mark).map(str::to_owned));
    let panicked = || {
        let mut lines = err.lines().skip_while(|line| !line.contains("panicked at"));
        let two: Vec<&str> = lines.by_ref().take(2).map(str::trim).collect();
        (!two.is_empty()).then(|| two.join(" "))
    };
    said.or_else(panicked).unwrap_or_else(|| err.lines().last().unwrap_or("it said nothing").to_owned())
}

/// Runs `todo`, as many at a time as there are cores; what came of each, in their order.
pub(crate) async fn together<K, F>(todo: impl IntoIterator<Item = (K, F)>) -> Vec<(K, F::Output)>
where
    K: Send + 'static,
    F: Future<Output: Send> + Send + 'static,
{
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let places = Arc::new(Semaphore::new(cores));
    let run = |(key, work): (K, F)| {
        let places = Arc::clone(&places);
        tokio::spawn(async move {
            let _place = places.acquire_owned().await.expect("it is never closed");
            (key, work.await)
        })
    };
    let running: Vec<_> = todo.into_iter().map(run).collect();
    let mut done = Vec::new();
    for one in running {
        done.push(one.await.expect("no seed panics here"));
    }
    done
}

/// Runs all seeds of a range; the violations, and what was covered by how many seeds.
#[expect(clippy::print_stdout, reason = "a sweep says how it goes")]
pub(crate) async fn sweep(seeds: Range<u64>) -> (Vec<Said>, Covered) {
    let (mut failed, mut covered) = (Vec::new(), Covered::default());
    let one = |seed| async move {
        let said = elsewhere(seed, None).await;
        if let Some(what) = &said.violation {
            println!("seed {seed}: {what}\n  {}", repeat(seed));
        }
        said
    };
    for (_, said) in together(seeds.map(|seed| (seed, one(seed)))).await {
        covered.merge(&said.covered);
        if said.violation.is_some() {
            failed.push(said);
        }
    }
    (failed, covered)
}
