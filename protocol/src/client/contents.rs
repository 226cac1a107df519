//! What travels in the tail, checked at this edge: the contents of a push before they go, those of an answer when
//! they arrive.

use bytes::Bytes;

use crate::content::ContentSpec;
use crate::error::{Error, ErrorCode};
use crate::limits::TAIL_SIZE_MAX;
use crate::request::Request;
use crate::response::Answer;
use crate::txn::Step;

/// Sizes of `contents` are those that `request` names, and fit a frame.
///
/// # Errors
/// `bad_request` or `message_too_big`.
pub(super) fn check_request(request: &Request, contents: &[Bytes]) -> Result<(), Error> {
    let push = if let Request::Push(push) = request { Some(push) } else { None };
    let steps = if let Request::Txn(txn) = request { &txn.steps[..] } else { &[] };
    let in_steps =
        steps.iter().filter_map(|step| if let Step::Push(push) = step { Some(push) } else { None });
    let scheduled = if let Request::SetSchedule(set) = request { Some(&set.message) } else { None };
    let specs = push.into_iter().chain(in_steps).flat_map(|push| push.messages.iter()).chain(scheduled);
    let sizes = specs.map(|message| message.content.size as usize);
    if !sizes.eq(contents.iter().map(Bytes::len)) {
        let what = "the contents are not the ones that the request describes";
        return Err(Error::refused(ErrorCode::BadRequest, what));
    }
    let size: usize = contents.iter().map(Bytes::len).sum();
    if size > TAIL_SIZE_MAX {
        let what = format!("{size} bytes of messages in one request; {TAIL_SIZE_MAX} is the limit");
        return Err(Error::refused(ErrorCode::MessageTooBig, what));
    }
    Ok(())
}

/// The contents of `answer`, in its order, slices of `tail`.
///
/// # Errors
/// What is wrong: sizes do not add up, or a checksum differs.
pub(super) fn split_answer(answer: &Answer, mut tail: Bytes) -> Result<Vec<Bytes>, &'static str> {
    let specs: Vec<ContentSpec> = match answer {
        Answer::Delivered(deliveries) => deliveries.iter().map(|delivery| delivery.content).collect(),
        Answer::Peeked(page) => page.messages.iter().map(|view| view.content).collect(),
        _ => Vec::new(),
    };
    let mut contents = Vec::with_capacity(specs.len());
    for spec in specs {
        if spec.size as usize > tail.len() {
            return Err("an answer has less content than it describes");
        }
        let content = tail.split_to(spec.size as usize);
        spec.verify(&content).map_err(|_| "a content does not match its checksum")?;
        contents.push(content);
    }
    if tail.is_empty() { Ok(contents) } else { Err("an answer has more content than it describes") }
}

/// Whether `answer` is one to `request`.
pub(super) fn answers(request: &Request, answer: &Answer) -> bool {
    match request {
        Request::Push(_) => matches!(answer, Answer::Pushed(_)),
        Request::Lease(_) | Request::Pop(_) => matches!(answer, Answer::Delivered(_)),
        Request::Ack(_) | Request::Nack(_) => matches!(answer, Answer::Settled(_)),
        Request::Extend(_) | Request::SaveCheckpoint(_) => matches!(answer, Answer::Extended(_)),
        Request::Peek(_) => matches!(answer, Answer::Peeked(_)),
        Request::Queues(_) => matches!(answer, Answer::Queues(_)),
        Request::CreateQueue(_) => matches!(answer, Answer::Created(_)),
        Request::RemoveQueue(_) => matches!(answer, Answer::Count(_)),
        Request::Sweep(_) => matches!(answer, Answer::Swept(_)),
        Request::Edit(_) => matches!(answer, Answer::Edited(_)),
        Request::Status => matches!(answer, Answer::Status(_)),
        Request::TransferLeader(_) => matches!(answer, Answer::Transferred(_)),
        Request::ChangeMembers(_) => matches!(answer, Answer::Member(_)),
        Request::Explain(_) => matches!(answer, Answer::Explained(_)),
        Request::AlterQueue(_) => matches!(answer, Answer::Altered(_)),
        Request::SetSchedule(_) => matches!(answer, Answer::Created(_)),
        Request::RemoveSchedule(_) => matches!(answer, Answer::Count(_)),
        Request::Schedules(_) => matches!(answer, Answer::Schedules(_)),
        Request::Groups(_) => matches!(answer, Answer::Groups(_)),
        Request::History(_) => matches!(answer, Answer::History(_)),
        Request::Txn(_) => matches!(answer, Answer::Txn(_)),
        Request::WeighGroup(_) => matches!(answer, Answer::Weighed(_)),
        Request::RaiseLevel(_) => matches!(answer, Answer::Level(_)),
        Request::Drain(_) => matches!(answer, Answer::Drained(_)),
        Request::CloseSession => matches!(answer, Answer::Closed),
        Request::Stats => matches!(answer, Answer::Stats(_)),
        Request::Clients(_) => matches!(answer, Answer::Clients(_)),
        Request::RotateSecret { .. } => matches!(answer, Answer::Rotation(_)),
        Request::TlsForget(_) => matches!(answer, Answer::Forgotten(_)),
        Request::BindSession { .. } => matches!(answer, Answer::Bound),
        Request::Attend => false,
    }
}
