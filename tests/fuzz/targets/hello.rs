//! What somebody says who has not proved anything yet: both sides of the handshake.
//!
//! ```text
//! how 1 | stream      how: bit 0 this side dials, bit 1 checksums are made right first, bit 2 it dials as a peer
//! ```

use bytes::BytesMut;
use queue_protocol::error::Error;
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::codec::FrameCodec;
use queue_protocol::wire::frame::{Frame, OutFrame};
use queue_protocol::wire::handshake::{Greeted, accept, client_handshake, peer_handshake};
use queue_protocol::wire::hello::{Accepted, Hello, HelloMessage, HelloRole, PeerId, VERSION};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::proof::{PLAIN, Secret, Side, Told, Transcript};
use tokio_util::codec::Encoder;

use super::frames::seal;

const DIALS: u8 = 1;
const SEALED: u8 = 2;
const AS_PEER: u8 = 4;
const CLUSTER: ClusterId = ClusterId(7);
pub(super) const ME: NodeId = NodeId(3);
const SECRET: Secret = Secret([5; 32]);

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs nothing");
}

/// Nobody becomes a peer whose bytes do not hold the proof of the secret, and nobody gets in from another cluster. True
/// if somebody got in.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((how, stream)) = input.split_first() else { return false };
    let mut stream = stream.to_vec();
    if how & SEALED != 0 {
        seal(&mut stream);
    }
    let handshake = async {
        let (reader, writer) = (FrameReader::new(&stream[..]), Vec::new());
        match how & DIALS {
            0 => accepts(reader, writer, &stream).await,
            _ => dials(reader, writer, how & AS_PEER != 0, &stream).await,
        }
    };
    RUNTIME.with(|runtime| runtime.block_on(handshake))
}

/// The other side sent the MAC of this transcript, whatever else it proved.
fn assert_proved(stream: &[u8], transcript: Transcript) {
    let mac = transcript.prove(&SECRET, Told::nothing()).mac;
    assert!(stream.windows(mac.len()).any(|bytes| bytes == mac), "a peer without the secret");
}

fn answer(hello: &Hello) -> Result<Accepted, Error> {
    hello.check(CLUSTER, ME).map(|version| accepted(version, ME))
}

pub(super) fn accepted(version: u16, node: NodeId) -> Accepted {
    Accepted {
        version,
        cluster: CLUSTER,
        name: Text::cut("n3"),
        node: PeerId { node, store: StoreId(9) },
        leader: None,
        features: 0,
        wall_ms: 1,
        nonce: [1; 32],
        index: Some(77),
    }
}

async fn accepts(mut reader: FrameReader<&[u8]>, mut writer: Vec<u8>, stream: &[u8]) -> bool {
    let admit = |_: &_| Ok(Told::nothing());
    let outcome = accept(&mut reader, &mut writer, &PLAIN, &SECRET, answer, admit).await;
    let Ok(Greeted { hello, peer, .. }) = outcome else { return false };
    assert_eq!(peer.is_some(), matches!(hello.role, HelloRole::Peer(_)));
    assert!(answer(&hello).is_ok());
    if let Some(peer) = peer {
        assert_proved(stream, peer.transcript);
    }
    true
}

pub(super) fn hello(role: HelloRole) -> Hello {
    Hello::new(Some(CLUSTER), role, 1, [2; 32])
}

fn client() -> HelloRole {
    HelloRole::Client { session: SessionId(11) }
}

pub(super) fn peer() -> HelloRole {
    HelloRole::Peer(PeerId { node: NodeId(4), store: StoreId(10) })
}

async fn dials(mut reader: FrameReader<&[u8]>, mut writer: Vec<u8>, as_peer: bool, stream: &[u8]) -> bool {
    if !as_peer {
        let accepted = client_handshake(&mut reader, &mut writer, hello(client())).await;
        return accepted.is_ok_and(|accepted| accepted.cluster == CLUSTER && accepted.version == VERSION);
    }
    let (mine, called, tell) = (hello(peer()), Some(ME.into()), |_: &_| Told::nothing());
    let outcome = peer_handshake(&mut reader, &mut writer, mine, &PLAIN, &SECRET, called, tell).await;
    let Ok(peer) = outcome else { return false };
    assert_eq!((peer.cluster, peer.hello.node), (CLUSTER, ME));
    assert_proved(stream, peer.transcript);
    true
}

/// All that should get in, said as it should be, and a peer with the proof of another secret.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let said = |how: u8, messages: &[HelloMessage]| {
        let mut stream = BytesMut::from(&[how][..]);
        for message in messages {
            let mut outbox = Outbox::new();
            outbox.push_message(0, message, &[]).expect("a step of the handshake is small");
            let mut bytes = Vec::new();
            super::ready(outbox.write_to(&mut bytes)).expect("memory takes all");
            stream.extend_from_slice(&bytes);
        }
        stream.to_vec()
    };
    let proof = |secret: &Secret, side| {
        let opening = Frame::of(0, &HelloMessage::Hello(Box::new(hello(peer()))));
        let answer = Frame::of(0, &HelloMessage::Accepted(Box::new(accepted(VERSION, ME))));
        let transcript = Transcript::new(&opening, &answer, &PLAIN, side);
        HelloMessage::Proof(Box::new(transcript.prove(secret, Told::nothing())))
    };
    let says = |role| HelloMessage::Hello(Box::new(hello(role)));
    let answers = || HelloMessage::Accepted(Box::new(accepted(VERSION, ME)));
    let other = Secret([6; 32]);
    let mut goodbye = BytesMut::from(&[0][..]);
    let frame = OutFrame::bare(1, queue_protocol::wire::frame::FrameKind::Ping);
    FrameCodec::default().encode(&frame, &mut goodbye).expect("small");
    vec![
        said(SEALED, &[says(client())]),
        said(SEALED, &[says(peer()), proof(&SECRET, Side::Dialer)]),
        said(SEALED, &[says(peer()), proof(&other, Side::Dialer)]),
        said(SEALED | DIALS, &[answers()]),
        said(SEALED | DIALS | AS_PEER, &[answers(), proof(&SECRET, Side::Acceptor)]),
        goodbye.to_vec(),
    ]
}
