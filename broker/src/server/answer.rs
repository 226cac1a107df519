//! Outcomes become responses: the one place where a refusal of the state gets its number on the wire and its text,
//! and where references become bodies.

use bytes::Bytes;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::limits::QUEUES_MAX;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::response::{Age, Answer, At, Delivery, Peeked, Response};

use super::reply_to::{Finished, read_at};
use crate::log::LogError;
use crate::queue::reply::{BodyRef, Grant, Outcome, Refusal};
use crate::raft::Consensus;

/// A result with the contents of its tail.
type Delivered = (Result<Answer, Error>, Vec<Bytes>);

/// What an outcome is on the wire, with the contents of its tail.
///
/// # Errors
/// A content could not be read back as it was written: this node must not go on.
pub(crate) fn respond(consensus: &Consensus, finished: Finished) -> Result<(Response, Vec<Bytes>), LogError> {
    let at = match &finished {
        Finished::Committed(committed) => committed.reply.at,
        _ => At::default(),
    };
    match with_contents(consensus, finished) {
        // What was decided stands: asked again under its number the request gets the same answer.
        Err(error) if error.is_out_of_descriptors() => {
            let what = format!("{} is out of file descriptors", consensus.me().name);
            let again = Error { retry: Retry::AfterMs(100), ..Error::unknown(ErrorCode::Overloaded, what) };
            let lease_clock_ms = consensus.lease_clock_ms();
            let repeated = false;
            Ok((Response { at, repeated, lease_clock_ms, result: Err(again), age: Age::Now }, Vec::new()))
        }
        responded => responded,
    }
}

fn with_contents(consensus: &Consensus, finished: Finished) -> Result<(Response, Vec<Bytes>), LogError> {
    let plain =
        |at, lease_clock_ms, result| Response { at, repeated: false, lease_clock_ms, result, age: Age::Now };
    match finished {
        Finished::Committed(committed) => {
            let (reply, lease_clock) = (committed.reply, committed.lease_clock);
            let (result, contents) = match reply.result {
                Ok(Outcome::Delivered(grants)) => delivered(consensus, grants)?,
                Ok(outcome) => (Ok(outcome.answer()), Vec::new()),
                Err(refusal) => (Err(error(&refusal)), Vec::new()),
            };
            let response = Response {
                at: reply.at,
                repeated: reply.repeated,
                lease_clock_ms: lease_clock.now_ms(),
                result,
                age: Age::Now,
            };
            Ok((response, contents))
        }
        Finished::Empty { index } => {
            let lease_clock_ms = consensus.lease_clock_ms();
            let empty = Answer::Delivered(Bounded::default());
            Ok((plain(read_at(index), lease_clock_ms, Ok(empty)), Vec::new()))
        }
        Finished::Read { index, mut answer, bodies } => {
            let lease_clock_ms = consensus.lease_clock_ms();
            let contents = match shown(consensus, &mut answer, &bodies) {
                // Settled and freed between the look at the state and the read: it is no longer there to be shown.
                Err(LogError::NoBody { .. }) => {
                    let gone =
                        Error::again(ErrorCode::MessageNotFound, "a message was settled while it was read");
                    return Ok((plain(read_at(index), lease_clock_ms, Err(gone)), Vec::new()));
                }
                contents => contents?,
            };
            Ok((plain(read_at(index), lease_clock_ms, Ok(*answer)), contents))
        }
        Finished::Stale { age, read } => {
            let (response, contents) = with_contents(consensus, *read)?;
            Ok((Response { age, ..response }, contents))
        }
        Finished::Failed(error) => Ok((plain(At::default(), 0, Err(error)), Vec::new())),
        Finished::NotLeader => Ok((plain(At::default(), 0, Err(consensus.not_leader())), Vec::new())),
    }
}

pub(crate) fn delivered(consensus: &Consensus, grants: Vec<Grant>) -> Result<Delivered, LogError> {
    let refs: Vec<BodyRef> = grants.iter().map(|grant| grant.body).collect();
    let read = match consensus.contents(&refs) {
        // The client took so long to read that its session forgot the answer and the bodies were freed since.
        Err(LogError::NoBody { .. }) if !consensus.names(&refs) => {
            let forgotten = Error::unknown(ErrorCode::TooOld, "the session has forgotten this answer");
            return Ok((Err(forgotten), Vec::new()));
        }
        read => read?,
    };
    let (specs, contents): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let deliveries = grants
        .into_iter()
        .zip(specs)
        .map(|(grant, content)| Delivery {
            queue: grant.queue,
            id: grant.id,
            token: grant.token,
            attempt: grant.attempt,
            failures: grant.failures,
            priority: grant.priority,
            group: grant.group,
            pushed_at_ms: grant.pushed_at_ms,
            lease_ms: grant.lease_ms,
            deadline_ms: grant.deadline_ms,
            content,
            epoch: grant.epoch,
            checkpoint: grant.checkpoint,
        })
        .collect();
    let deliveries = Bounded::new(deliveries).expect("a lease gives no more than it may");
    Ok((Ok(Answer::Delivered(deliveries)), contents))
}

/// Fills in the measures of what a read shows, and gives the contents.
fn shown(consensus: &Consensus, answer: &mut Answer, bodies: &[BodyRef]) -> Result<Vec<Bytes>, LogError> {
    let Answer::Peeked(Peeked { messages: views, .. }) = answer else { return Ok(Vec::new()) };
    let (specs, contents): (Vec<_>, Vec<_>) = consensus.contents(bodies)?.into_iter().unzip();
    let mut filled = std::mem::take(views).into_vec();
    for (view, spec) in filled.iter_mut().zip(specs) {
        view.content = spec;
    }
    *views = Bounded::new(filled).expect("as many as before");
    Ok(contents)
}

/// A refusal of the state as people and programs get it.
pub(crate) fn error(refusal: &Refusal) -> Error {
    let queue = refusal.queue.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = match refusal.code {
        ErrorCode::QueueNotFound => format!("no queue named \"{queue}\""),
        ErrorCode::QueueExists => format!("queue {queue} exists with other settings"),
        ErrorCode::QueueNotEmpty => format!("queue {queue} holds messages"),
        ErrorCode::QueueLimit => format!("the cluster has {QUEUES_MAX} queues, as many as it can"),
        ErrorCode::MessageNotFound => format!("no such message in {queue}"),
        ErrorCode::TooOld => {
            "the session no longer remembers this request; its outcome is not known".to_owned()
        }
        ErrorCode::SessionExpired => "the session was closed or forgotten".to_owned(),
        ErrorCode::SessionLimit => "the cluster remembers as many sessions as it can".to_owned(),
        ErrorCode::SessionFull => {
            "answers this session has not confirmed hold as much as they may".to_owned()
        }
        ErrorCode::QueueChanged => format!("queue {queue} has another version"),
        ErrorCode::GroupLimit => format!("as many groups of {queue} have a weight of their own as can"),
        ErrorCode::ScheduleExists => "a schedule of that name exists".to_owned(),
        ErrorCode::ScheduleNotFound => "no schedule of that name".to_owned(),
        ErrorCode::ScheduleLimit => "the cluster has as many schedules as it can".to_owned(),
        ErrorCode::QueueFull => format!("queue {queue} holds as much as it may"),
        ErrorCode::QueuePaused => format!("pushes to {queue} are paused"),
        ErrorCode::DedupFull => format!("queue {queue} remembers as many dedup keys as it can"),
        ErrorCode::UniqueHeld => format!("a live message in {queue} has that unique key"),
        ErrorCode::DeadToCycle => {
            format!("dead messages of {queue} would come back to it, or go through more than 8 queues")
        }
        ErrorCode::Denied if refusal.queue.is_some() => {
            format!(
                "a lease of {queue} is held by another principal: it or who may manage {queue} settles it"
            )
        }
        ErrorCode::Denied => "the session belongs to another principal".to_owned(),
        ErrorCode::AuthRequired => "only clients that log in are served: a token is needed".to_owned(),
        ErrorCode::KeyEnded => "the key has ended or was revoked, or its principal is shut out".to_owned(),
        ErrorCode::AuthChanged => {
            "the principal's rights changed while the request was on its way".to_owned()
        }
        ErrorCode::PrincipalExists => "a principal of that name exists".to_owned(),
        ErrorCode::PrincipalNotFound => "no such principal".to_owned(),
        ErrorCode::KeyNotFound => "no such key".to_owned(),
        ErrorCode::AuthLimit => "as many principals, grants or keys of one as there may be".to_owned(),
        ErrorCode::LastAdmin => {
            "no live key that may change principals and keys would be left, or the caller has none".to_owned()
        }
        ErrorCode::BadRequest => "a value of the request is out of its range".to_owned(),
        other => other.as_str().replace('_', " "),
    };
    let base = match refusal.code {
        ErrorCode::TooOld | ErrorCode::SessionExpired => {
            Error { retry: Retry::Never, ..Error::unknown(refusal.code, message) }
        }
        ErrorCode::SessionLimit | ErrorCode::SessionFull | ErrorCode::AuthChanged => {
            Error::again(refusal.code, message)
        }
        ErrorCode::QueueFull | ErrorCode::DedupFull | ErrorCode::QueuePaused => {
            Error { retry: Retry::AfterMs(1_000), ..Error::refused(refusal.code, message) }
        }
        _ => Error::refused(refusal.code, message),
    };
    Error { similar: refusal.similar.clone(), ..base }
}
