//! What tells one request from another under the same number.
//!
//! A repeat carries the same request; a node compares by 64 bits, which it keeps with the answer.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::wire::request::{Lease, Request};

/// SipHash-2-4 with the key 0, little-endian, over the request in postcard with `wait_ms` and `linger_ms` set to 0, which a
/// client shortens with every try. Stamp, timeout and the rest of the call are left out; contents count by their sizes
/// and checksums, which are part of the request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestHash(pub [u8; 8]);

impl fmt::Debug for RequestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_le_bytes(self.0))
    }
}

impl RequestHash {
    /// Of a request as a client sent it.
    pub fn of(request: &Request) -> Self {
        let patient = |lease: &Lease| Lease { wait_ms: 0, linger_ms: 0, ..lease.clone() };
        match request {
            Request::Lease(lease) => Self::of_canonical(&Request::Lease(patient(lease))),
            Request::Pop(lease) => Self::of_canonical(&Request::Pop(patient(lease))),
            other => Self::of_canonical(other),
        }
    }

    fn of_canonical(request: &Request) -> Self {
        // Most are small, and there are many.
        let mut room = [0; 512];
        let encoded = match postcard::to_slice(request, &mut room) {
            Ok(encoded) => Cow::Borrowed(&*encoded),
            Err(_) => Cow::Owned(postcard::to_allocvec(request).expect("plain values always encode")),
        };
        let mut hasher = SipHasher24::new();
        hasher.write(&encoded);
        Self(hasher.finish().to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LEASE_QUEUES_MAX;
    use crate::names::QueueName;
    use crate::wire::bounded::Bounded;
    use crate::wire::request::{Push, PushMessage};

    fn push(body: &[u8]) -> Request {
        let messages = Bounded::new(vec![PushMessage::plain(body)]).expect("one");
        Request::Push(Push { queue: "jobs".parse().expect("a name"), create: false, atomic: false, messages })
    }

    #[test]
    fn a_request_has_one_hash_and_another_has_another() {
        assert_eq!(RequestHash::of(&push(b"a")), RequestHash::of(&push(b"a")));
        assert_ne!(RequestHash::of(&push(b"a")), RequestHash::of(&push(b"b")), "the content counts");
        assert_ne!(RequestHash::of(&Request::CloseSession), RequestHash::of(&Request::Status));
        let bytes = postcard::to_allocvec(&Request::CloseSession).expect("it encodes");
        assert_eq!(
            (bytes, format!("{:?}", RequestHash::of(&Request::CloseSession))),
            (vec![14], "83cb98d7cf7a040c".to_owned())
        );
    }

    #[test]
    fn a_large_request_is_hashed_whole() {
        let of = |last: &[u8]| {
            let mut bodies = vec![PushMessage::plain(b"a"); 200];
            bodies.push(PushMessage::plain(last));
            let Request::Push(push) = push(b"") else { unreachable!("it is a push") };
            RequestHash::of(&Request::Push(Push { messages: Bounded::new(bodies).expect("201"), ..push }))
        };
        assert_eq!(of(b"b"), of(b"b"));
        assert_ne!(of(b"b"), of(b"c"));
    }

    fn lease_of(queues: Bounded<QueueName, LEASE_QUEUES_MAX>) -> Lease {
        Lease { queues, max_messages: 1, max_bytes: 1, lease_ms: None, wait_ms: 0, linger_ms: 0 }
    }

    #[test]
    fn waiting_shorter_is_the_same_request() {
        let queues = Bounded::new(vec!["jobs".parse().expect("a name")]).expect("one");
        let lease = Lease { wait_ms: 5_000, linger_ms: 20, ..lease_of(queues) };
        let hash = |lease: &Lease| {
            [Request::Lease(lease.clone()), Request::Pop(lease.clone())].map(|r| RequestHash::of(&r))
        };
        let shorter = Lease { wait_ms: 4_000, linger_ms: 0, ..lease.clone() };
        assert_eq!(hash(&lease), hash(&shorter));
        assert_ne!(hash(&lease)[0], hash(&lease)[1]);
        assert_ne!(hash(&lease), hash(&Lease { max_messages: lease.max_messages + 1, ..lease.clone() }));
    }
}
