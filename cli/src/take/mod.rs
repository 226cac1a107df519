//! Taking messages from a queue: what `pop` and `lease` have in common.

pub(crate) mod held;
pub(crate) mod lease;
pub(crate) mod pop;
pub(crate) mod settle;
pub(crate) mod work;

use std::time::Duration;

use bytes::Bytes;
use queue_protocol::limits::WAIT_MS_MAX;
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Lease, NackKind};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Delivery;
use tokio::time::Instant;

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::milliseconds;
use crate::messages::{self, Taken};
use crate::shell::Shell;
use crate::show::render;
use crate::take::settle::Settle;

/// Contents in one answer.
const ANSWER_SIZE_MAX: u32 = 4 << 20;

/// Leases up to `max` messages, waiting up to `wait` for the first, then up to `linger` for the rest. Empty if there were none.
///
/// # Errors
/// As the leader says; quietly if stopped meanwhile, then nothing is leased.
pub(crate) async fn take(
    shell: &mut Shell,
    queue: &QueueName,
    max: u16,
    wait: Duration,
    linger: Duration,
    length: Option<Duration>,
) -> Result<Vec<Taken>, End> {
    let deadline = Instant::now() + wait.min(Duration::from_secs(100 * 365 * 86_400));
    loop {
        let left = milliseconds(deadline.saturating_duration_since(Instant::now()));
        let lease = Lease {
            queues: Bounded::new(vec![queue.clone()]).expect("one queue is within the limit"),
            max_messages: max,
            max_bytes: ANSWER_SIZE_MAX,
            lease_ms: length.map(milliseconds),
            wait_ms: u32::try_from(left.min(WAIT_MS_MAX)).expect("five minutes fit"),
            linger_ms: u32::try_from(milliseconds(linger).min(WAIT_MS_MAX)).expect("five minutes fit"),
        };
        let waits = lease.wait_ms > 0 || lease.linger_ms > 0;
        let sent = Instant::now();
        let mut stop = shell.stop.clone();
        let client = shell.client.clone();
        let answered = tokio::select! {
            biased;
            answered = client.ask(ask::Lease(lease)) => answered,
            exit = stop.wait() => {
                drop(client);
                shell.reconnect();
                return Err(End::Quiet(exit));
            }
        };
        let answered = answered.map_err(|error| Failure::of(error, Some(queue)))?;
        let deliveries = answered.answer;
        if !deliveries.is_empty() {
            let clock_ms = answered.lease_clock_ms;
            let begin =
                if waits { Begin::Answered { at: Instant::now(), clock_ms } } else { Begin::Sent(sent) };
            return unpack(shell, deliveries.into_vec(), answered.contents, begin).await;
        }
        if left <= WAIT_MS_MAX {
            return Ok(Vec::new());
        }
    }
}

/// Nothing is taken for a reader that is not there.
///
/// # Errors
/// `io` if standard output is closed.
pub(crate) fn check_output(shell: &Shell, queue: &QueueName) -> Result<(), End> {
    if !shell.out.is_closed() {
        return Ok(());
    }
    Err(Failure::io("standard output is closed, so no message was taken")
        .fact("it is closed (>&-), or /dev/null opened for reading and writing")
        .hint(format!("to delete messages unseen: `queuectl pop {queue} --discard`"))
        .into())
}

/// From where the end of a lease is told.
#[derive(Clone, Copy)]
enum Begin {
    /// The request, which did not wait: no lease began before.
    Sent(Instant),
    /// The answer: `clock_ms` is the lease clock then.
    Answered { at: Instant, clock_ms: u64 },
}

impl Begin {
    /// When a lease ends, or later.
    fn end_of(self, delivery: &Delivery) -> Instant {
        match self {
            Self::Sent(at) => at + Duration::from_millis(delivery.lease_ms),
            Self::Answered { at, clock_ms } => {
                at + Duration::from_millis(delivery.deadline_ms.saturating_sub(clock_ms))
            }
        }
    }
}

async fn unpack(
    shell: &Shell,
    deliveries: Vec<Delivery>,
    contents: Vec<Bytes>,
    begin: Begin,
) -> Result<Vec<Taken>, End> {
    let mut taken = Vec::with_capacity(deliveries.len());
    let mut bad = None;
    for (delivery, content) in deliveries.into_iter().zip(contents) {
        match messages::split(&content, &format!("message {} of {}", delivery.id, delivery.queue)) {
            Ok((headers, body)) => {
                let until = begin.end_of(&delivery);
                taken.push(Taken { delivery, headers, body, until });
            }
            Err(end) => bad = bad.or(Some(end)),
        }
    }
    match bad {
        None => Ok(taken),
        // The bad one stays leased: the end of its lease counts as a failure, so it dies in the end.
        Some(end) => {
            release(shell, &taken).await;
            Err(end)
        }
    }
}

/// Gives messages back without blame. What cannot be given back comes back when its lease ends.
pub(crate) async fn release(shell: &Shell, taken: &[Taken]) {
    if !taken.is_empty() {
        let receipts = taken.iter().map(Taken::receipt).collect();
        settle::settle(&shell.client, &Settle::Nack(NackKind::Release { delay_ms: 0 }), receipts).await;
    }
}

/// The answer to a take that got nothing: exit 1, and for a person why.
pub(crate) async fn empty(shell: &Shell, queue: &QueueName) -> Done {
    if shell.talk.is_terminal() && !shell.settings.quiet && !shell.settings.json {
        let view = shell.queue(queue).await.ok().flatten();
        let delayed = view.filter(|view| view.delayed > 0).map(|view| {
            let next = view.next_due_in_ms.map(render::age);
            let next = next.map(|next| format!(", next in {next}")).unwrap_or_default();
            format!(" ({} delayed{next})", render::count(view.delayed))
        });
        shell.talk.line(&format!("{queue} is empty{}", delayed.unwrap_or_default()));
    }
    Ok(Exit::No)
}
