//! `ack`, `nack`, `extend` and `release`: what becomes of leases, by receipt.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use queue_json::words;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::limits::RECEIPTS_COUNT_MAX;
use queue_protocol::names::{QueueName, Receipt};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::request::{Extend, ExtendWhich, Nack, NackKind, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Settled;
use serde_json::json;
use tokio::time::Instant;

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::receipt::ReceiptWord;
use crate::grammar::{AckArgs, ExtendArgs, NackArgs, ReleaseArgs, milliseconds};
use crate::messages;
use crate::messages::peek;
use crate::shell::{Mode, Shell};
use crate::show::clock;
use crate::show::render;

/// What is done to leases.
#[derive(Clone, Debug)]
pub(crate) enum Settle {
    /// Settled for good.
    Ack,
    /// Given back.
    Nack(NackKind),
    /// Made this long from now, in milliseconds.
    Extend(u64),
    /// The same of one, with how far the work has come.
    Save(u64, Checkpoint),
}

impl Settle {
    /// One result a receipt.
    async fn ask(&self, client: &Client, leases: Receipts) -> Result<Vec<Settled>, ClientError> {
        let results = match self {
            Settle::Ack => client.ask(ask::Ack(leases)).await?.answer,
            Settle::Nack(kind) => client.ask(ask::Nack(Nack { leases, kind: kind.clone() })).await?.answer,
            Settle::Save(lease_ms, checkpoint) => {
                let (id, token) = *leases.receipts.first().expect("it is for one");
                let (queue, lease_ms, checkpoint) = (leases.queue, *lease_ms, checkpoint.clone());
                let save = SaveCheckpoint { queue, id, token, lease_ms, checkpoint };
                client.ask(ask::SaveCheckpoint(save)).await?.answer.results
            }
            Settle::Extend(lease_ms) => {
                let extend = Extend { leases: ExtendWhich::Receipts(leases), lease_ms: *lease_ms };
                client.ask(ask::Extend(extend)).await?.answer.results
            }
        };
        Ok(results.into_vec())
    }

    fn schema(&self) -> &'static str {
        match self {
            Settle::Ack => "ack/v1",
            Settle::Nack(_) => "nack/v1",
            Settle::Extend(_) | Settle::Save(..) => "extend/v1",
        }
    }

    fn past(&self) -> &'static str {
        match self {
            Settle::Ack => "acked",
            Settle::Nack(NackKind::Release { .. }) => "released",
            Settle::Nack(NackKind::Fail { .. }) => "nacked",
            Settle::Nack(NackKind::Reject { .. }) => "rejected",
            Settle::Extend(_) | Settle::Save(..) => "extended",
        }
    }
}

/// What became of one receipt.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    /// Which.
    pub(crate) receipt: Receipt,
    /// What; or why that is not known or not done.
    pub(crate) result: Result<Settled, Failure>,
}

impl Settlement {
    /// As it was asked.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.result, Ok(Settled::Ok))
    }

    /// What became of it, for a person.
    pub(crate) fn why(&self) -> String {
        match &self.result {
            Ok(Settled::Ok) => format!("message {} is settled", self.receipt.id),
            Ok(Settled::Stale) => {
                format!(
                    "the lease ended or was settled; message {} is still in {}",
                    self.receipt.id, self.receipt.queue
                )
            }
            Ok(Settled::Gone) => format!("message {} is gone: acked or removed before", self.receipt.id),
            Err(failure) => failure.message.clone(),
        }
    }

    fn word(&self) -> &'static str {
        match &self.result {
            Ok(settled) => words::settled(*settled),
            Err(failure) => failure.code,
        }
    }
}

/// Settles leases, one request for each queue; the answer is in the order of `receipts`, queue by queue.
pub(crate) async fn settle(client: &Client, settle: &Settle, receipts: Vec<Receipt>) -> Vec<Settlement> {
    let mut queues: Vec<(QueueName, Vec<Receipt>)> = Vec::new();
    for receipt in receipts {
        match queues.iter_mut().find(|(queue, _)| *queue == receipt.queue) {
            Some((_, of_queue)) => of_queue.push(receipt),
            None => queues.push((receipt.queue.clone(), vec![receipt])),
        }
    }
    let mut settlements = Vec::new();
    for (queue, receipts) in queues {
        for part in receipts.chunks(RECEIPTS_COUNT_MAX) {
            let results = settle_part(client, settle, &queue, part).await;
            settlements.extend(
                part.iter()
                    .zip(results)
                    .map(|(receipt, result)| Settlement { receipt: receipt.clone(), result }),
            );
        }
    }
    settlements
}

async fn settle_part(
    client: &Client,
    settle: &Settle,
    queue: &QueueName,
    part: &[Receipt],
) -> Vec<Result<Settled, Failure>> {
    let pairs = part.iter().map(|receipt| (receipt.id, receipt.token)).collect();
    let receipts = Bounded::new(pairs).expect("a part is within the limit");
    let asked = settle.ask(client, Receipts { queue: queue.clone(), receipts }).await;
    let failed = |failure: Failure| vec![Err(failure); part.len()];
    let results = match asked {
        Ok(results) => results,
        Err(error) => return failed(Failure::of(error, Some(queue))),
    };
    if results.len() == part.len() {
        results.into_iter().map(Ok).collect()
    } else {
        failed(Failure::new("protocol", Exit::Protocol, "the node did not answer for every receipt"))
    }
}

/// Runs `ack`.
pub(crate) async fn ack(shell: &mut Shell, args: AckArgs) -> Done {
    run(shell, Settle::Ack, "ack", args.receipts).await
}

/// Runs `nack`.
pub(crate) async fn nack(shell: &mut Shell, args: NackArgs) -> Done {
    let delay_ms = args.delay.map(milliseconds);
    let text = Text::new(args.reason.unwrap_or_default())
        .map_err(|error| Failure::usage(format!("--reason is too long: {error} bytes")))?;
    let kind = if args.release {
        NackKind::Release { delay_ms: delay_ms.unwrap_or(0) }
    } else if args.reject {
        NackKind::Reject { reason: text }
    } else {
        NackKind::Fail { delay_ms, error: text }
    };
    run(shell, Settle::Nack(kind), "nack", args.receipts).await
}

/// Runs `release`.
pub(crate) async fn release(shell: &mut Shell, args: ReleaseArgs) -> Done {
    let kind = NackKind::Release { delay_ms: args.delay.map_or(0, milliseconds) };
    run(shell, Settle::Nack(kind), "nack", args.receipts).await
}

/// Runs `extend`.
pub(crate) async fn extend(shell: &mut Shell, args: ExtendArgs) -> Done {
    let what = match args.checkpoint {
        None => Settle::Extend(milliseconds(args.length)),
        Some(text) => {
            let checkpoint = Checkpoint::new(text.into_vec()).map_err(|error| {
                Failure::new("message_too_big", Exit::BadData, format!("the checkpoint: {error}"))
            })?;
            Settle::Save(milliseconds(args.length), checkpoint)
        }
    };
    if matches!(what, Settle::Save(..)) && args.receipts.len() != 1 {
        return Err(Failure::usage("a checkpoint is of one message: name its receipt").into());
    }
    run(shell, what, "extend", args.receipts).await
}

async fn run(shell: &mut Shell, what: Settle, word: &str, words: Vec<ReceiptWord>) -> Done {
    let receipts = resolve(shell, word, words)?;
    let sent = Instant::now();
    let settlements = settle(&shell.client, &what, receipts).await;
    for settlement in &settlements {
        match (&what, &settlement.result) {
            (Settle::Extend(length) | Settle::Save(length, _), Ok(Settled::Ok)) => {
                // It is counted from some time in between.
                let until = sent + Duration::from_millis(*length);
                shell.held.extend(&settlement.receipt, until);
            }
            (_, Ok(_)) => shell.held.remove(&settlement.receipt),
            (_, Err(_)) => {}
        }
    }
    let done = conclude(shell, &what, &settlements);
    let delay_ms = match &what {
        Settle::Nack(NackKind::Release { delay_ms }) => *delay_ms,
        Settle::Nack(NackKind::Fail { delay_ms, .. }) => delay_ms.unwrap_or(0),
        _ => 0,
    };
    if delay_ms > 0 && !shell.settings.quiet && !shell.settings.json {
        tell_expiry(shell, &settlements).await;
    }
    done
}

/// Says which of the messages that were given back expire before their delay is over: they are never delivered again.
async fn tell_expiry(shell: &Shell, settlements: &[Settlement]) {
    /// More are not looked at.
    const LOOKED_COUNT_MAX: usize = 16;
    for Settlement { receipt, .. } in
        settlements.iter().filter(|found| found.is_done()).take(LOOKED_COUNT_MAX)
    {
        // It may have gone on meanwhile, and whoever gave it back has been answered.
        let Ok(seen) = peek::look(shell, &receipt.queue, None, Some(receipt.id), 1).await else { return };
        if let Some(at) = seen.first().and_then(|seen| messages::expires_first(&seen.view)) {
            let at = clock::rfc3339(at);
            shell
                .talk
                .line(&format!("note: message {} expires before its delay is over, at {at}", receipt.id));
        }
    }
}

fn resolve(shell: &Shell, word: &str, words: Vec<ReceiptWord>) -> Result<Vec<Receipt>, End> {
    if words.is_empty() {
        if shell.mode != Mode::Interactive {
            return Err(Failure::usage("no receipt given")
                .fact(format!("queuectl {word} QUEUE/ID/TOKEN    as `lease` prints it"))
                .into());
        }
        if shell.held.leases().is_empty() {
            return Err(Failure::usage("nothing is leased here").hint("`queuectl lease QUEUE`").into());
        }
        return Ok(shell.held.leases().iter().map(|lease| lease.receipt.clone()).collect());
    }
    let mut receipts: Vec<Receipt> = Vec::with_capacity(words.len());
    for word in words {
        let receipt = match word {
            ReceiptWord::Full(receipt) => receipt,
            ReceiptWord::Short(short) => shell.held.find(short).cloned().ok_or_else(|| {
                let why = if shell.mode == Mode::OneShot {
                    "only the shell has short receipts"
                } else {
                    "not leased here"
                };
                Failure::new("receipt_unknown", Exit::NotFound, format!("no receipt #{short}: {why}"))
            })?,
        };
        if !receipts.contains(&receipt) {
            receipts.push(receipt);
        }
    }
    Ok(receipts)
}

/// Says what was done, and what was not.
fn conclude(shell: &mut Shell, what: &Settle, settlements: &[Settlement]) -> Done {
    if shell.settings.json {
        let results: Vec<_> = settlements
            .iter()
            .map(|settlement| {
                let receipt = &settlement.receipt;
                json!({"receipt": receipt.to_string(), "id": receipt.id.to_string(), "result": settlement.word()})
            })
            .collect();
        let elapsed = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(&json!({"schema": what.schema(), "results": results, "elapsed_ms": elapsed}));
    }
    let done: Vec<&Settlement> = settlements.iter().filter(|settlement| settlement.is_done()).collect();
    match done.as_slice() {
        [] => {}
        [one] => shell.success(&format!("{} {}", what.past(), one.receipt.id)),
        all => shell.success(&format!("{} {}", what.past(), render::messages(all.len() as u64))),
    }
    match failure(what, settlements) {
        None => Ok(Exit::Done),
        Some(failure) => Err(failure.into()),
    }
}

/// The error of those that were not done; `None` if all were.
fn failure(what: &Settle, settlements: &[Settlement]) -> Option<Failure> {
    let failed: Vec<&Settlement> = settlements.iter().filter(|settlement| !settlement.is_done()).collect();
    let first = failed.first()?;
    if let ([only], 1) = (failed.as_slice(), settlements.len()) {
        return Some(match &only.result {
            Err(failure) => failure.clone(),
            Ok(_) => stale(format!("receipt {} is no longer valid", only.receipt)).fact(only.why()),
        });
    }
    let all_failed = failed.len() == settlements.len();
    let count = format!("{} of {}", failed.len(), settlements.len());
    let unknown =
        failed.iter().any(|settlement| matches!(&settlement.result, Err(f) if f.exit == Exit::Unknown));
    let mut failure = if unknown {
        Failure::new("not_confirmed", Exit::Unknown, format!("{count} are not confirmed or not valid"))
    } else if !all_failed {
        Failure::new("part_done", Exit::Part, format!("{count} were not {}", what.past()))
    } else {
        match &first.result {
            Err(failure) => failure.clone(),
            Ok(_) => stale(format!("none of {} receipts is valid any more", settlements.len())),
        }
    };
    for settlement in &failed {
        failure = failure.fact(format!("{}  {}", settlement.receipt, settlement.why()));
    }
    Some(failure)
}

fn stale(message: String) -> Failure {
    Failure::new("receipt_stale", Exit::NotFound, message)
        .hint("for a longer lease: `queuectl lease QUEUE --for 2m`, or `queuectl extend RECEIPT`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(results: &[Result<Settled, Failure>]) -> Vec<Settlement> {
        results
            .iter()
            .zip(4812..)
            .map(|(result, id)| Settlement {
                receipt: format!("jobs/{id}/9071").parse().unwrap(),
                result: result.clone(),
            })
            .collect()
    }

    fn exit_of(results: &[Result<Settled, Failure>]) -> Option<(&'static str, i32)> {
        failure(&Settle::Ack, &settled(results)).map(|failure| (failure.code, failure.exit.code()))
    }

    #[test]
    fn receipts_are_typed_in_full_or_short() {
        assert_eq!("#12".parse(), Ok(ReceiptWord::Short(12)));
        assert_eq!("jobs/1/2".parse(), Ok(ReceiptWord::Full("jobs/1/2".parse().unwrap())));
        for bad in ["#", "#x", "jobs", "jobs/1", "jobs/1/2/3", "1/2/x"] {
            assert!(bad.parse::<ReceiptWord>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_stale_receipt_is_an_error_of_its_own() {
        let failure = failure(&Settle::Ack, &settled(&[Ok(Settled::Gone)])).unwrap();
        assert_eq!(
            failure.text(false, false),
            "error[receipt_stale]: receipt jobs/4812/9071 is no longer valid\n  \
             message 4812 is gone: acked or removed before\n  \
             hint: for a longer lease: `queuectl lease QUEUE --for 2m`, or `queuectl extend RECEIPT`"
        );
    }

    #[test]
    fn the_exit_code_tells_all_from_some_from_none() {
        let unknown = Failure::new("not_confirmed", Exit::Unknown, "lost");
        let retry = Failure::new("no_leader", Exit::Retry, "nobody leads");
        assert_eq!(exit_of(&[Ok(Settled::Ok), Ok(Settled::Ok)]), None);
        assert_eq!(exit_of(&[Ok(Settled::Ok), Ok(Settled::Stale)]), Some(("part_done", 3)));
        assert_eq!(exit_of(&[Ok(Settled::Gone), Ok(Settled::Stale)]), Some(("receipt_stale", 66)));
        assert_eq!(exit_of(&[Ok(Settled::Ok), Err(unknown)]), Some(("not_confirmed", 79)));
        assert_eq!(exit_of(&[Err(retry.clone()), Err(retry.clone())]), Some(("no_leader", 75)));
        assert_eq!(exit_of(&[Err(retry)]), Some(("no_leader", 75)));
    }
}
