//! `pop`: lease, write, flush, then ack. What the reader did not get is given back without blame. While the reader is slow, what
//! it got is acked as it gets it, and the leases of the rest are renewed.

use std::time::Duration;

use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::names::Receipt;
use queue_protocol::wire::response::Settled;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::PopArgs;
use crate::messages::Taken;
use crate::shell::Shell;
use crate::show::render;
use crate::take;
use crate::take::settle::{self, Settle, Settlement};

/// How long one request of `--follow` waits; then the next one does.
const FOLLOW_WAIT: Duration = Duration::from_secs(60);
/// First and longest pause of `--follow` while the cluster is away, those of a worker.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a slow reader is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: PopArgs) -> Done {
    if !args.discard {
        take::check_output(shell, &args.queue)?;
    }
    shell.out.set_raw(args.raw);
    let mut left = if args.follow { u64::MAX } else { args.count };
    let mut wait = args.wait.unwrap_or(if args.follow { FOLLOW_WAIT } else { Duration::ZERO });
    let linger = args.linger.unwrap_or_default();
    let (mut got, mut outage) = (0, Outage::default());
    while left > 0 {
        let max = u16::try_from(left.min(LEASE_COUNT_MAX as u64)).expect("within the limit of a lease");
        let taken = match take::take(shell, &args.queue, max, wait, linger, None).await {
            Err(End::Failed(failure)) if args.follow && is_away(&failure) => {
                outage.pause(shell, &failure).await?;
                continue;
            }
            taken => taken?,
        };
        outage.end(shell);
        if taken.is_empty() && (!args.follow || args.wait.is_some()) {
            break;
        }
        got += taken.len() as u64;
        left -= taken.len() as u64;
        if !args.follow {
            // The wait is for the first message; then what is there is taken.
            wait = Duration::ZERO;
        }
        if args.discard {
            ack(shell, false, &taken).await?;
        } else {
            print(shell, &args, taken).await?;
        }
    }
    if got == 0 {
        return take::empty(shell, &args.queue).await;
    }
    if args.discard {
        if shell.settings.json {
            shell.out.document(
                &json!({"schema": "pop_discard/v1", "queue": args.queue.as_str(), "messages": got}),
            );
        }
        shell.success(&format!("discarded {} from {}", render::messages(got), args.queue));
    }
    Ok(Exit::Done)
}

/// The cluster cannot do it now and may later.
fn is_away(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Retry | Exit::Unreachable | Exit::Unknown)
}

/// A time in which the cluster cannot be asked: told once at its begin and once at its end.
#[derive(Default)]
struct Outage {
    pause: Option<Duration>,
}

impl Outage {
    /// Waits before the next try.
    ///
    /// # Errors
    /// Quietly if stopped meanwhile.
    async fn pause(&mut self, shell: &Shell, failure: &Failure) -> Result<(), End> {
        let pause = match self.pause {
            Some(pause) => (2 * pause).min(PAUSE.1),
            None => {
                if !shell.settings.quiet {
                    shell.talk.line(&format!("{}; trying again until it works", failure.message));
                }
                PAUSE.0
            }
        };
        self.pause = Some(pause);
        let mut stop = shell.stop.clone();
        tokio::select! {
            biased;
            exit = stop.wait() => Err(End::Quiet(exit)),
            () = sleep(pause) => Ok(()),
        }
    }

    fn end(&mut self, shell: &Shell) {
        if self.pause.take().is_some() && !shell.settings.quiet {
            shell.talk.line("the cluster answers again");
        }
    }
}

/// Writes the messages and settles them as they are written.
async fn print(shell: &mut Shell, args: &PopArgs, taken: Vec<Taken>) -> Result<(), End> {
    let mut ends = Vec::with_capacity(taken.len());
    for message in &taken {
        if shell.settings.json {
            shell.out.document(&message.popped());
        } else {
            shell.out.add(&message.body);
            shell.out.add(if args.null { b"\0" } else { b"\n" });
        }
        ends.push(shell.out.pending());
    }
    let mut flushing = shell.out.begin_flush();
    let mut stop = shell.stop.clone();
    let mut leases = Leases::of(&taken);
    let (mut settled, mut acked) = (0, Ok(()));
    let flushed = loop {
        tokio::select! {
            biased;
            flushed = flushing.done() => break flushed,
            exit = stop.wait() => break Err(End::Quiet(exit)),
            () = sleep(LOOK.min(leases.every)) => {
                let printed = ends.partition_point(|end| *end <= flushing.written());
                acked = acked.and(ack(shell, args.follow, &taken[settled..printed]).await);
                settled = printed;
                leases.renew(shell, &taken[settled..]).await;
            }
        }
    };
    let printed = match flushed {
        Ok(()) => taken.len(),
        Err(_) => ends.partition_point(|end| *end <= flushing.written()),
    };
    acked = acked.and(ack(shell, args.follow, &taken[settled..printed]).await);
    take::release(shell, &taken[printed..]).await;
    flushed?;
    acked
}

/// The leases of messages that wait to be written.
struct Leases {
    /// Renewed this often, a third of the shortest.
    every: Duration,
    length_ms: u64,
    renew_at: Instant,
}

impl Leases {
    fn of(taken: &[Taken]) -> Self {
        let length_ms = taken.iter().map(|message| message.delivery.lease_ms).min().unwrap_or(u64::MAX);
        let now = Instant::now();
        let left = taken.iter().map(|message| message.until.saturating_duration_since(now)).min();
        let every = Duration::from_millis(length_ms / 3).max(Duration::from_millis(1));
        Self { every, length_ms, renew_at: now + left.unwrap_or_default() / 3 }
    }

    /// Renews them if it is time. What fails is tried again at the next look.
    async fn renew(&mut self, shell: &Shell, waiting: &[Taken]) {
        if waiting.is_empty() || Instant::now() < self.renew_at {
            return;
        }
        let sent = Instant::now();
        let receipts = waiting.iter().map(Taken::receipt).collect();
        let settlements = settle::settle(&shell.client, &Settle::Extend(self.length_ms), receipts).await;
        if settlements.iter().all(|settlement| settlement.result.is_ok()) {
            self.renew_at = sent + self.every;
        }
    }
}

/// Settles what was printed; a patient caller waits for a cluster that is away.
async fn ack(shell: &Shell, patient: bool, printed: &[Taken]) -> Result<(), End> {
    if printed.is_empty() {
        return Ok(());
    }
    let mut receipts: Vec<Receipt> = printed.iter().map(Taken::receipt).collect();
    let (mut failed, mut in_doubt, mut outage) = (Vec::new(), false, Outage::default());
    loop {
        let settlements = settle::settle(&shell.client, &Settle::Ack, std::mem::take(&mut receipts)).await;
        let mut away = None;
        for settlement in settlements {
            match &settlement.result {
                Ok(Settled::Ok) => {}
                // An ack before that was not answered did it.
                Ok(Settled::Gone) if in_doubt => {}
                Err(failure) if patient && is_away(failure) => {
                    in_doubt |= failure.exit == Exit::Unknown;
                    away = Some(failure.clone());
                    receipts.push(settlement.receipt);
                }
                _ => failed.push(settlement),
            }
        }
        let Some(failure) = away else {
            outage.end(shell);
            return not_confirmed(failed);
        };
        if let Err(stopped) = outage.pause(shell, &failure).await {
            failed.extend(
                receipts.into_iter().map(|receipt| Settlement { receipt, result: Err(failure.clone()) }),
            );
            return not_confirmed(failed).and(Err(stopped));
        }
    }
}

fn not_confirmed(failed: Vec<Settlement>) -> Result<(), End> {
    let Some(first) = failed.first() else { return Ok(()) };
    let message = match failed.as_slice() {
        [one] => format!("message {} was printed, but its ack is not confirmed", one.receipt.id),
        all => format!("{} messages were printed, but their acks are not confirmed", all.len()),
    };
    let mut failure = Failure::new("not_confirmed", Exit::Unknown, message).fact(first.why());
    failure = failure.fact("what is not acked is delivered again when its lease ends");
    for settlement in &failed {
        failure = failure.detail(&settlement.receipt.to_string(), settlement.why());
    }
    Err(failure.into())
}
