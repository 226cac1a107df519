//! What a peer says to be believed: its proof, behind hellos that are as they should be.
//!
//! ```text
//! how 1 | frame      how: bit 0 the proof is of the acceptor, bit 1 checksums are made right first, bit 2 over a secured channel
//! ```

use bytes::BytesMut;
use queue_protocol::names::NodeId;
use queue_protocol::wire::frame::Frame;
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::level::Levels;
use queue_protocol::wire::peer::{LogId, Vote};
use queue_protocol::wire::proof::{
    Certificate, Exporter, Facts, Identity, PLAIN, Secret, Side, Signature, Told, Transcript,
};

use super::frames::seal;
use super::hello::{ME, accepted, hello, peer};

const ACCEPTOR: u8 = 1;
const SEALED: u8 = 2;
const SECURED: u8 = 4;
const SECRET: Secret = Secret([5; 32]);
const OTHER: Secret = Secret([6; 32]);
const CHANNEL: Exporter = [9; 32];

fn transcript(how: u8, exporter: &Exporter) -> Transcript {
    let opening = Frame::of(0, &HelloMessage::Hello(Box::new(hello(peer()))));
    let answer =
        Frame::of(0, &HelloMessage::Accepted(Box::new(accepted(queue_protocol::wire::hello::VERSION, ME))));
    let side = if how & ACCEPTOR == 0 { Side::Dialer } else { Side::Acceptor };
    Transcript::new(&opening, &answer, exporter, side)
}

/// A proof is valid if it is the one that the secret makes of what it says, and then nowhere else. True if it is valid.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((how, stream)) = input.split_first() else { return false };
    let mut stream = stream.to_vec();
    if how & SEALED != 0 {
        seal(&mut stream);
    }
    let Ok(Some(frame)) = super::ready(FrameReader::new(&stream[..]).next()) else { return false };
    let Ok(HelloMessage::Proof(proof)) = frame.message() else { return false };
    let (exporter, elsewhere) = if how & SECURED == 0 { (PLAIN, CHANNEL) } else { (CHANNEL, PLAIN) };
    let here = transcript(*how, &exporter);
    let told = Told { facts: proof.facts, identity: proof.identity };
    let is_valid = here.check(&SECRET, &proof).is_ok();
    assert_eq!(is_valid, here.prove(&SECRET, told) == *proof);
    if is_valid {
        let moved = [transcript(*how ^ ACCEPTOR, &exporter), transcript(*how, &elsewhere)];
        assert!(moved.iter().all(|there| there.check(&SECRET, &proof).is_err()));
        assert!(here.check(&OTHER, &proof).is_err());
    }
    is_valid
}

/// Proofs of both sides over both channels, with and without an identity, and two that are not valid.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let identity = Identity {
        signature: Signature::new([3; 64]),
        certificate: Certificate {
            key: [4; 32],
            index: 7,
            generation: 1,
            signature: Signature::new([5; 64]),
        },
    };
    let facts = Facts {
        last: Some(LogId { term: 3, leader: NodeId(4), index: 77 }),
        vote: Some(Vote { term: 3, node: NodeId(4), committed: true }),
        epoch: 2,
        boot: u64::MAX,
        levels: Levels::OURS,
    };
    let said = |how: u8, secret: &Secret, told: Told, exporter: &Exporter| {
        let proof = transcript(how, exporter).prove(secret, told);
        let mut outbox = Outbox::new();
        outbox.push_message(0, &HelloMessage::Proof(Box::new(proof)), &[]).expect("a proof is small");
        let mut bytes = Vec::new();
        super::ready(outbox.write_to(&mut bytes)).expect("memory takes all");
        let mut input = BytesMut::from(&[how | SEALED][..]);
        input.extend_from_slice(&bytes);
        input.to_vec()
    };
    let full = || Told { facts, identity: Some(identity) };
    let mut seeds = Vec::new();
    for (how, exporter) in [(0, PLAIN), (ACCEPTOR, PLAIN), (SECURED, CHANNEL), (SECURED | ACCEPTOR, CHANNEL)]
    {
        seeds.push(said(how, &SECRET, full(), &exporter));
        seeds.push(said(how, &SECRET, Told { identity: None, ..full() }, &exporter));
    }
    seeds.push(said(0, &SECRET, Told::nothing(), &PLAIN));
    seeds.push(said(0, &OTHER, full(), &PLAIN));
    seeds.push(said(0, &SECRET, full(), &CHANNEL));
    seeds
}
