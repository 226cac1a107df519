//! `pop`: lease, write, flush, then ack. What the reader did not get is given back without blame.

use std::time::Duration;

use queue_protocol::limits::LEASE_COUNT_MAX;

use crate::clock;
use crate::errors::{Done, End, Failure};
use crate::exit::Exit;
use crate::grammar::PopArgs;
use crate::message::Taken;
use crate::settle::{self, Settle, Settlement};
use crate::shell::Shell;
use crate::take;

/// How long one request of `--follow` waits; then the next one does.
const FOLLOW_WAIT: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: PopArgs) -> Done {
    let mut left = if args.follow { u64::MAX } else { args.count };
    let mut wait = if args.follow { FOLLOW_WAIT } else { args.wait.unwrap_or_default() };
    let linger = args.linger.unwrap_or_default();
    let mut got_any = false;
    while left > 0 {
        let max = u16::try_from(left.min(LEASE_COUNT_MAX as u64)).expect("within the limit of a lease");
        let taken = take::take(shell, &args.queue, max, wait, linger, None).await?;
        if taken.is_empty() && !args.follow {
            break;
        }
        got_any |= !taken.is_empty();
        left -= taken.len() as u64;
        if !args.follow {
            // The wait is for the first message; then what is there is taken.
            wait = Duration::ZERO;
        }
        print(shell, &args, taken).await?;
    }
    if got_any { Ok(Exit::Done) } else { take::empty(shell, &args.queue).await }
}

/// Writes the messages and settles them.
async fn print(shell: &mut Shell, args: &PopArgs, taken: Vec<Taken>) -> Result<(), End> {
    let mut ends = Vec::with_capacity(taken.len());
    for message in &taken {
        if shell.settings.json {
            let until = clock::unix_ms_in(Duration::from_millis(message.delivery.lease_ms));
            shell.out.document(&message.document(until));
        } else {
            shell.out.add(&message.body);
            shell.out.add(if args.null { b"\0" } else { b"\n" });
        }
        ends.push(shell.out.pending());
    }
    let mut stop = shell.stop.clone();
    let flushed = tokio::select! {
        biased;
        flushed = shell.out.flush() => flushed,
        exit = stop.wait() => Err(End::Quiet(exit)),
    };
    let printed = match flushed {
        Ok(()) => taken.len(),
        Err(_) => ends.partition_point(|end| *end <= shell.out.written()),
    };
    let acked = ack(shell, &taken[..printed]).await;
    take::release(shell, &taken[printed..]).await;
    flushed?;
    acked
}

/// Settles what was printed.
async fn ack(shell: &Shell, printed: &[Taken]) -> Result<(), End> {
    let receipts = printed.iter().map(Taken::receipt).collect();
    let settlements = settle::settle(&shell.client, &Settle::Ack, receipts).await;
    let failed: Vec<&Settlement> = settlements.iter().filter(|settlement| !settlement.is_done()).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let message = match failed.as_slice() {
        [one] => format!("message {} was printed, but its ack is not confirmed", one.receipt.id),
        all => format!("{} messages were printed, but their acks are not confirmed", all.len()),
    };
    let mut failure = Failure::new("not_confirmed", Exit::Unknown, message).fact(first.why());
    failure = failure.fact("what is not acked is delivered again when its lease ends");
    for settlement in failed {
        failure = failure.detail(&settlement.receipt.to_string(), settlement.why());
    }
    Err(failure.into())
}
