//! What travels in the tail, checked at this edge: the contents of a push before they go, those of an answer when
//! they arrive.

use bytes::Bytes;

use crate::error::{Error, ErrorCode};
use crate::limits::TAIL_SIZE_MAX;
use crate::wire::request::Request;
use crate::wire::response::Answer;

/// Sizes of `contents` are those that `request` names, and fit a frame.
///
/// # Errors
/// `bad_request` or `message_too_big`.
pub(super) fn check_request(request: &Request, contents: &[Bytes]) -> Result<(), Error> {
    let specs = request.contents();
    let sizes = specs.iter().map(|spec| spec.size as usize);
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
/// What is wrong: it answers another request, sizes do not add up, or a checksum differs.
pub(super) fn split_answer(
    request: &Request,
    answer: &Answer,
    mut tail: Bytes,
) -> Result<Vec<Bytes>, &'static str> {
    let specs = request.contents_of(answer).ok_or("an answer came to another request")?;
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
