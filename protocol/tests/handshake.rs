//! Handshakes over an in-memory stream: who gets in, who does not, and what both sides are told.

use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use queue_protocol::wire::frame::{FrameError, OutFrame};
use queue_protocol::wire::handshake::{
    Called, Greeted, HandshakeError, Peer, accept, client_handshake, peer_handshake,
};
use queue_protocol::wire::hello::{Accepted, Hello, HelloMessage, HelloRole, JOINING, PeerId, Versions};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::proof::{Exporter, Facts, PLAIN, PeerHello, Secret, Told};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

const CLUSTER: ClusterId = ClusterId(7);
const ME: NodeId = NodeId(2);

fn secret(byte: u8) -> Secret {
    Secret([byte; 32])
}

fn node(node: u64) -> PeerId {
    PeerId { node: NodeId(node), store: StoreId(u128::from(node) + 100) }
}

/// What node `number` says of itself once it may.
fn told(number: u64) -> Told {
    Told { facts: Facts { epoch: 7, boot: number, ..Facts::NONE }, identity: None }
}

fn known(number: u64) -> PeerHello {
    PeerHello::new(node(number), told(number).facts)
}

fn client() -> Hello {
    Hello::new(None, HelloRole::Client { session: SessionId(9) }, 1, [1; 32])
}

fn peer(number: u64) -> Hello {
    Hello::new(Some(CLUSTER), HelloRole::Peer(node(number)), 1, [1; 32])
}

fn accepted(version: u16) -> Accepted {
    Accepted {
        version,
        cluster: CLUSTER,
        name: "n2".parse_text(),
        node: node(ME.0),
        leader: None,
        features: 0,
        wall_ms: 2,
        nonce: [2; 32],
        index: None,
    }
}

trait ParseText {
    fn parse_text<const N: usize>(&self) -> queue_protocol::wire::bounded::Text<N>;
}
impl ParseText for str {
    fn parse_text<const N: usize>(&self) -> queue_protocol::wire::bounded::Text<N> {
        queue_protocol::wire::bounded::Text::new(self).unwrap()
    }
}

/// The accepting side, which knows secret 1; `floor` refuses every peer.
async fn acceptor(stream: DuplexStream, floor: bool) -> Result<Greeted, HandshakeError> {
    acceptor_over(stream, floor, PLAIN).await
}

async fn acceptor_over(
    stream: DuplexStream,
    floor: bool,
    exporter: Exporter,
) -> Result<Greeted, HandshakeError> {
    let (read, mut write) = split(stream);
    let mut reader = FrameReader::new(read);
    let answer = |hello: &Hello| hello.check(CLUSTER, ME).map(accepted);
    let admit = |_: &Peer| match floor {
        true => Err(Error::refused(ErrorCode::NotPermitted, "below the floor")),
        false => Ok(told(ME.0)),
    };
    accept(&mut reader, &mut write, &exporter, &secret(1), answer, admit).await
}

async fn dial_peer(stream: DuplexStream, hello: Hello, secret: Secret) -> Result<Peer, HandshakeError> {
    dial_over(stream, hello, secret, PLAIN).await
}

async fn dial_over(
    stream: DuplexStream,
    hello: Hello,
    secret: Secret,
    exporter: Exporter,
) -> Result<Peer, HandshakeError> {
    let (read, mut write) = split(stream);
    let (mut reader, called) = (FrameReader::new(read), Some(ME.into()));
    peer_handshake(&mut reader, &mut write, hello, &exporter, &secret, called, |_| told(3)).await
}

async fn dial_client(stream: DuplexStream, hello: Hello) -> Result<Accepted, HandshakeError> {
    let (read, mut write) = split(stream);
    client_handshake(&mut FrameReader::new(read), &mut write, hello).await
}

fn refused_with<T>(outcome: Result<T, HandshakeError>) -> ErrorCode {
    match outcome {
        Err(HandshakeError::Refused(error) | HandshakeError::Rejected(error)) => error.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_accepted_without_naming_the_cluster() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(dial_client(near, client()), acceptor(far, false));
    assert_eq!(ours.unwrap(), accepted(1));
    let theirs = theirs.unwrap();
    assert_eq!(theirs.hello, client());
    assert!(theirs.peer.is_none());
}

#[tokio::test(start_paused = true)]
async fn two_peers_prove_the_secret_to_each_other() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(dial_peer(near, peer(3), secret(1)), acceptor(far, false));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!((ours.hello, ours.cluster), (known(2), CLUSTER));
    assert_eq!(theirs.hello, peer(3));
    let theirs = theirs.peer.expect("it is one");
    assert_eq!(theirs.hello, known(3));
    assert_eq!(ours.seal, theirs.seal);
}

#[tokio::test(start_paused = true)]
async fn a_joining_node_has_the_secret_and_no_number() {
    let (near, far) = duplex(1 << 16);
    let joining = Hello { cluster: None, ..peer(JOINING.0) };
    let (ours, theirs) = tokio::join!(dial_peer(near, joining, secret(1)), acceptor(far, false));
    assert!(ours.is_ok() && theirs.is_ok());
}

#[tokio::test(start_paused = true)]
async fn two_channels_are_not_one_though_every_frame_is_passed_on() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) =
        tokio::join!(dial_over(near, peer(3), secret(1), [1; 32]), acceptor_over(far, false, [2; 32]));
    assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
    assert_eq!(refused_with(theirs), ErrorCode::NotPermitted);
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) =
        tokio::join!(dial_over(near, peer(3), secret(1), [1; 32]), acceptor_over(far, false, [1; 32]));
    assert!(ours.is_ok() && theirs.is_ok());
}

/// Passes everything on between a dialer and an acceptor, the n-th frame of the dialer changed.
async fn changed_on_the_way(n: usize, change: impl Fn(&mut HelloMessage)) -> (ErrorCode, ErrorCode) {
    let (near, from_near) = duplex(1 << 16);
    let (to_far, far) = duplex(1 << 16);
    let between = async {
        let (near_read, mut near_write) = split(from_near);
        let (far_read, mut far_write) = split(to_far);
        let (mut dialer, mut acceptor) = (FrameReader::new(near_read), FrameReader::new(far_read));
        for at in 0.. {
            let Ok(Some(frame)) = dialer.next().await else { return };
            let mut message = frame.message::<HelloMessage>().unwrap();
            if at == n {
                change(&mut message);
            }
            for (message, write) in [(Some(message), &mut far_write), (None, &mut near_write)] {
                let message = match message {
                    Some(message) => message,
                    None => {
                        let Ok(Some(frame)) = acceptor.next().await else { return };
                        frame.message().unwrap()
                    }
                };
                let mut out = Outbox::new();
                out.push_message(0, &message, &[]).unwrap();
                let _ = out.write_to(write).await;
            }
        }
    };
    let (ours, theirs, ()) = tokio::join!(dial_peer(near, peer(3), secret(1)), acceptor(far, false), between);
    (refused_with(ours), refused_with(theirs))
}

#[tokio::test(start_paused = true)]
async fn what_either_side_says_cannot_be_changed_between_them() {
    let hello = |change: fn(&mut Hello)| {
        move |message: &mut HelloMessage| match message {
            HelloMessage::Hello(hello) => change(hello),
            _ => panic!("{message:?}"),
        }
    };
    let refused = (ErrorCode::NotPermitted, ErrorCode::NotPermitted);
    assert_eq!(changed_on_the_way(0, hello(|hello| hello.wall_ms += 1)).await, refused);
    assert_eq!(changed_on_the_way(0, hello(|hello| hello.nonce[0] ^= 1)).await, refused);
    let facts = |change: fn(&mut Facts)| {
        move |message: &mut HelloMessage| match message {
            HelloMessage::Proof(proof) => change(&mut proof.facts),
            _ => panic!("{message:?}"),
        }
    };
    assert_eq!(changed_on_the_way(1, facts(|facts| facts.epoch += 1)).await, refused);
    assert_eq!(changed_on_the_way(1, facts(|facts| facts.boot += 1)).await, refused);
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_worth_nothing_on_another_connection() {
    let (near, far) = duplex(1 << 16);
    let first = async {
        let (read, mut write) = split(near);
        let mut reader = FrameReader::new(read);
        let mut out = Outbox::new();
        out.push_message(0, &HelloMessage::Hello(Box::new(peer(3))), &[]).unwrap();
        out.write_to(&mut write).await.unwrap();
        // The same hello, and the proof of a connection on which the acceptor said something else.
        reader.next().await.unwrap().unwrap();
        let (other, acceptor) = duplex(1 << 16);
        let (proof, _) = tokio::join!(
            async {
                let (read, mut write) = split(acceptor);
                let mut reader = FrameReader::new(read);
                reader.next().await.unwrap().unwrap();
                let mut out = Outbox::new();
                let before = Accepted { nonce: [3; 32], ..accepted(1) };
                out.push_message(0, &HelloMessage::Accepted(Box::new(before)), &[]).unwrap();
                out.write_to(&mut write).await.unwrap();
                reader.next().await.unwrap().unwrap().message::<HelloMessage>().unwrap()
            },
            dial_peer(other, peer(3), secret(1))
        );
        out.push_message(0, &proof, &[]).unwrap();
        out.write_to(&mut write).await.unwrap();
        reader.next().await.unwrap().unwrap().message::<HelloMessage>().unwrap()
    };
    let (told, theirs) = tokio::join!(first, acceptor(far, false));
    assert!(matches!(told, HelloMessage::Refused(_)), "{told:?}");
    assert_eq!(refused_with(theirs), ErrorCode::NotPermitted);
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_the_secret_is_refused_and_told_so() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(dial_peer(near, peer(3), secret(8)), acceptor(far, false));
    assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
    assert_eq!(refused_with(theirs), ErrorCode::NotPermitted);
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_without_the_secret_is_not_believed() {
    let (near, far) = duplex(1 << 16);
    let impostor = async {
        let (read, mut write) = split(far);
        let mut reader = FrameReader::new(read);
        let mut out = Outbox::new();
        reader.next().await.unwrap().unwrap();
        out.push_message(0, &HelloMessage::Accepted(Box::new(accepted(1))), &[]).unwrap();
        out.write_to(&mut write).await.unwrap();
        let proof = reader.next().await.unwrap().unwrap();
        // The dialer's own proof, thrown back.
        out.push_message(0, &proof.message::<HelloMessage>().unwrap(), &[]).unwrap();
        out.write_to(&mut write).await.unwrap();
    };
    let (ours, ()) = tokio::join!(dial_peer(near, peer(3), secret(1)), impostor);
    assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
}

#[tokio::test(start_paused = true)]
async fn a_peer_below_its_floor_is_refused_after_its_proof() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(dial_peer(near, peer(3), secret(1)), acceptor(far, true));
    assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
    assert_eq!(refused_with(theirs), ErrorCode::NotPermitted);
}

#[tokio::test(start_paused = true)]
async fn another_node_than_the_one_called_is_not_believed_and_nothing_is_proved_to_it() {
    let of_store = |store| Called { node: ME, store: Some(StoreId(store)) };
    for (called, is_there) in
        [(NodeId(5).into(), false), (of_store(101), false), (of_store(102), true), (ME.into(), true)]
    {
        let (near, far) = duplex(1 << 16);
        let dial = async {
            let (read, mut write) = split(near);
            let mut reader = FrameReader::new(read);
            let (mine, told) = (peer(3), |_: &_| told(3));
            peer_handshake(&mut reader, &mut write, mine, &PLAIN, &secret(1), Some(called), told).await
        };
        let (ours, theirs) = tokio::join!(dial, acceptor(far, false));
        assert_eq!((ours.is_ok(), theirs.is_ok()), (is_there, is_there), "{called:?}");
        if !is_there {
            assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
            assert!(matches!(theirs, Err(HandshakeError::Closed)), "it got no proof");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_cluster_and_an_unnamed_one_are_refused_to_a_member() {
    for cluster in [Some(ClusterId(8)), None] {
        let (near, far) = duplex(1 << 16);
        let hello = Hello { cluster, ..peer(3) };
        let (ours, _) = tokio::join!(dial_peer(near, hello, secret(1)), acceptor(far, false));
        assert_eq!(refused_with(ours), ErrorCode::WrongCluster);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_does_not_peer_with_itself() {
    let (near, far) = duplex(1 << 16);
    let (ours, _) = tokio::join!(dial_peer(near, peer(ME.0), secret(1)), acceptor(far, false));
    assert_eq!(refused_with(ours), ErrorCode::NotPermitted);
}

#[tokio::test(start_paused = true)]
async fn a_later_version_is_refused_even_if_the_rest_cannot_be_read() {
    let (near, far) = duplex(1 << 16);
    let later = async {
        let (read, mut write) = split(near);
        let hello = Hello { versions: Versions { min: 2, max: 3 }, ..client() };
        let mut frame = OutFrame::new(0, &HelloMessage::Hello(Box::new(hello)), Vec::new());
        frame.header = [&frame.header[..12], &[0xff; 9]].concat().into();
        let mut out = Outbox::new();
        out.push(&frame).unwrap();
        out.write_to(&mut write).await.unwrap();
        FrameReader::new(read).next().await.unwrap().unwrap().message::<HelloMessage>().unwrap()
    };
    let (told, theirs) = tokio::join!(later, acceptor(far, false));
    assert!(matches!(told, HelloMessage::Refused(e) if e.code == ErrorCode::VersionMismatch), "not told");
    assert_eq!(refused_with(theirs), ErrorCode::VersionMismatch);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_with_an_answer() {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let theirs = acceptor(far, false).await;
    assert!(matches!(theirs, Err(HandshakeError::Frame(FrameError::TooBig { .. }))), "{theirs:?}");
    let message = FrameReader::new(near).next().await.unwrap().unwrap().message::<HelloMessage>().unwrap();
    assert!(matches!(message, HelloMessage::Refused(e) if e.code == ErrorCode::BadFrame), "not told");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let (near, far) = duplex(1 << 16);
    let begin = tokio::time::Instant::now();
    let theirs = acceptor(far, false).await;
    assert!(matches!(theirs, Err(HandshakeError::Deadline)), "{theirs:?}");
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn half_a_hello_and_then_nothing_ends_too() {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(&[40, 0, 0, 0, 1, 2]).await.unwrap();
    near.shutdown().await.unwrap();
    let theirs = acceptor(far, false).await;
    assert!(matches!(theirs, Err(HandshakeError::Frame(FrameError::Truncated))), "{theirs:?}");
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.is_empty(), "the refusal was sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_right_behind_the_hello_is_not_lost() {
    use queue_protocol::wire::frame::FrameKind;
    let (near, far) = duplex(1 << 16);
    let (read, mut write) = split(near);
    let mut out = Outbox::new();
    out.push_message(0, &HelloMessage::Hello(Box::new(client())), &[]).unwrap();
    out.push(&OutFrame::bare(5, FrameKind::Ping)).unwrap();
    out.write_to(&mut write).await.unwrap();
    let (far_read, mut far_write) = split(far);
    let mut reader = FrameReader::new(far_read);
    let answer = |hello: &Hello| hello.check(CLUSTER, ME).map(accepted);
    accept(&mut reader, &mut far_write, &PLAIN, &secret(1), answer, |_| Ok(told(2))).await.unwrap();
    assert_eq!(reader.next_buffered().unwrap().unwrap().request_id, 5);
    drop(read);
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret(5)), "Secret(..)");
}
