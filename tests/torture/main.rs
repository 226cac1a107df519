//! The product under strikes that no test in one process can make. For people, and for `tests/ledger.csv`.
//!
//! | command | what happens |
//! |---|---|
//! | `torture kill CYCLES [SEED]` | SIGKILL to a random node, to the leader, or to all three at once |
//! | `torture power CYCLES [SEED]` | the file systems of all three nodes lose what was not flushed, then SIGKILL to all |
//! | `torture eio CYCLES [SEED]` | a node starts under strace, and one of its first 100 syncs fails: it must end with 74 and answer no more |
//! | `torture partition CYCLES [SEED]` | nodes are cut from each other or from clients, one way or both, lose packets, or are paused by SIGSTOP |
//! | `torture audit [PUSHES]` | nothing; every answer is held against the syncs that cover it, see [`audit`] |
//! | `torture ordinary [MINUTES]` | many clients, most of them hostile, at once, and two kills of the leader; ten minutes by default, see [`ordinary`] |
//! | `torture replace MIB` | a node that holds so much is lost, and replaced with one command; what it took for 1,024 or more goes to the ledger |
//!
//! Strikes fall on one cluster of three real nodes under load, CYCLES times, and after each everything that was
//! acknowledged is accounted for. A cycle fails, and with it the program, if: an acknowledged message is neither there nor
//! acked · an acked one comes back · something comes that nobody pushed, or twice · a receipt is refused before its lease
//! can have ended · answers contradict real time · a node does not start · a term goes back · two nodes lead in one term ·
//! nobody leads again. What failed stays in the directory that is printed at the start. Each hundred cycles, and what is
//! left at the end of ten or more, become a line of the ledger.

mod audit;
mod eio;
mod history;
mod ordinary;
mod partition;
mod power;
mod random;
mod replace;
mod strikes;
mod terms;
mod wire;

use std::process::ExitCode;

use harness::ledger::note;
use tokio::time::Instant;

use self::strikes::{Strike, Torture};

/// Cycles for each line of the ledger.
const LINE_CYCLES: u64 = 100;
/// Fewer at the end of a run are no line.
const LINE_CYCLES_MIN: u64 = 10;

const USAGE: &str = "usage: torture kill|power|eio|partition CYCLES [SEED] · torture audit [PUSHES] · torture ordinary [MINUTES] · torture replace MIB";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    let Ok(numbers) = words.map(|word| word.parse()).collect::<Result<Vec<u64>, _>>() else { return usage() };
    let strike = Strike::ALL.iter().copied().find(|strike| strike.name() == what);
    match (strike, what.as_str(), &numbers[..]) {
        (Some(strike), _, &[cycles]) => strikes(strike, cycles, 1).await,
        (Some(strike), _, &[cycles, seed]) => strikes(strike, cycles, seed).await,
        (None, "audit", &[]) => audit::audit(10_000).await,
        (None, "audit", &[pushes]) => audit::audit(usize::try_from(pushes).unwrap_or(usize::MAX)).await,
        (None, "ordinary", &[]) => ordinary::ordinary(10).await,
        (None, "ordinary", &[minutes]) => ordinary::ordinary(minutes).await,
        (None, "replace", &[mib]) => replace::replace(mib).await,
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    say(USAGE);
    ExitCode::from(2)
}

async fn strikes(strike: Strike, cycles: u64, seed: u64) -> ExitCode {
    let mut torture = match Torture::start(strike, seed).await {
        Ok(torture) => torture,
        Err(missing) => {
            say(&format!("skipped: {missing}"));
            return ExitCode::SUCCESS;
        }
    };
    let began = Instant::now();
    let mut messages = 0;
    for number in 1..=cycles {
        messages += torture.cycle(number).await;
        let left = number % LINE_CYCLES;
        if left == 0 {
            note(strike.name(), &format!("3 nodes seed {seed}"), LINE_CYCLES);
        } else if number == cycles && left >= LINE_CYCLES_MIN {
            note(strike.name(), &format!("3 nodes seed {seed}"), left);
        }
        if number % 10 == 0 || number == cycles {
            let terms = torture.terms();
            say(&format!("{number} cycles, {messages} acknowledged, {terms} terms, {:.0?}", began.elapsed()));
        }
    }
    say(&format!("nothing lost; struck: {}", torture.struck()));
    torture.end();
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "this is for the person who started it")]
fn say(what: &str) {
    eprintln!("torture: {what}");
}
