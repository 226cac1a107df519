//! Handshakes over an in-memory stream: who gets in, who does not, and what both sides are told.

use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::frame::{FrameError, OutFrame};
use queue_protocol::handshake::{Called, HandshakeError, accept, client_handshake, peer_handshake};
use queue_protocol::hello::{Accepted, Hello, HelloMessage, HelloRole, JOINING, PeerHello, Secret, Versions};
use queue_protocol::io::{FrameReader, Outbox};
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

const CLUSTER: ClusterId = ClusterId(7);
const ME: NodeId = NodeId(2);

fn secret(byte: u8) -> Secret {
    Secret([byte; 32])
}

fn node(node: u64) -> PeerHello {
    PeerHello::nobody(NodeId(node), StoreId(u128::from(node) + 100))
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
    fn parse_text<const N: usize>(&self) -> queue_protocol::bounded::Text<N>;
}
impl ParseText for str {
    fn parse_text<const N: usize>(&self) -> queue_protocol::bounded::Text<N> {
        queue_protocol::bounded::Text::new(self).unwrap()
    }
}

/// The accepting side, which knows secret 1; `floor` refuses every peer.
async fn acceptor(stream: DuplexStream, floor: bool) -> Result<(Hello, Accepted), HandshakeError> {
    let (read, mut write) = split(stream);
    let mut reader = FrameReader::new(read);
    let answer = |hello: &Hello| hello.check(CLUSTER, ME).map(accepted);
    let admit = |_: &Hello| match floor {
        true => Err(Error::refused(ErrorCode::NotPermitted, "below the floor")),
        false => Ok(()),
    };
    accept(&mut reader, &mut write, &secret(1), answer, admit).await
}

async fn dial_peer(stream: DuplexStream, hello: Hello, secret: Secret) -> Result<Accepted, HandshakeError> {
    let (read, mut write) = split(stream);
    peer_handshake(&mut FrameReader::new(read), &mut write, hello, &secret, Some(ME.into())).await
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
    assert_eq!(theirs.unwrap().0, client());
}

#[tokio::test(start_paused = true)]
async fn two_peers_prove_the_secret_to_each_other() {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(dial_peer(near, peer(3), secret(1)), acceptor(far, false));
    assert_eq!(ours.unwrap().node, node(2));
    assert_eq!(theirs.unwrap().0, peer(3));
}

#[tokio::test(start_paused = true)]
async fn a_joining_node_has_the_secret_and_no_number() {
    let (near, far) = duplex(1 << 16);
    let joining = Hello { cluster: None, ..peer(JOINING.0) };
    let (ours, theirs) = tokio::join!(dial_peer(near, joining, secret(1)), acceptor(far, false));
    assert!(ours.is_ok() && theirs.is_ok());
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
            peer_handshake(&mut reader, &mut write, peer(3), &secret(1), Some(called)).await
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
    use queue_protocol::frame::FrameKind;
    let (near, far) = duplex(1 << 16);
    let (read, mut write) = split(near);
    let mut out = Outbox::new();
    out.push_message(0, &HelloMessage::Hello(Box::new(client())), &[]).unwrap();
    out.push(&OutFrame::bare(5, FrameKind::Ping)).unwrap();
    out.write_to(&mut write).await.unwrap();
    let (far_read, mut far_write) = split(far);
    let mut reader = FrameReader::new(far_read);
    let answer = |hello: &Hello| hello.check(CLUSTER, ME).map(accepted);
    accept(&mut reader, &mut far_write, &secret(1), answer, |_| Ok(())).await.unwrap();
    assert_eq!(reader.next_buffered().unwrap().unwrap().request_id, 5);
    drop(read);
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret(5)), "Secret(..)");
}
