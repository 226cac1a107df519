//! What a node that joins a cluster says to those that call it meanwhile.

use std::time::Duration;

use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Accepted, Hello, HelloRole, JOINING, VERSION};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{Invite, PeerCall, PeerRequest, PeerResponse};
use queue_protocol::wire::proof::Told;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::outside::{Listener, Outside};
use crate::raft::Credentials;
use crate::tls::opening::open_in_time;

/// Pause after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a peer that connected may take to say what it wants.
const INVITE_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) enum Never {}

/// Says who is here to the leader that looks whether it can reach this node, and takes its invitation.
pub(super) async fn answer_while_joining(
    outside: &Outside,
    me: &Credentials,
    listener: &dyn Listener,
    invited: &mpsc::Sender<Invite>,
) -> Never {
    let mut said = String::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let opened = match open_in_time(stream, outside).await {
            Ok(Some(opened)) => opened,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted while joining");
                continue;
            }
        };
        let channel = opened.stream.channel();
        let (read, mut writer) = tokio::io::split(opened.stream);
        let mut reader = FrameReader::after(&opened.ahead, read);
        let answer = |hello: &Hello| {
            // A client must not take this for a cluster; only the leader has business here.
            let (HelloRole::Peer(_), Some(cluster)) = (&hello.role, hello.cluster) else {
                return Err(Error::again(ErrorCode::NoLeader, "this node is joining a cluster"));
            };
            hello.check(cluster, JOINING)?;
            Ok(Accepted {
                version: VERSION,
                cluster,
                name: Text::default(),
                node: me.hello().id(),
                leader: None,
                features: 0,
                wall_ms: outside.clock.wall_ms(),
                nonce: outside.random_bytes(),
                index: None,
            })
        };
        let admit = |_: &_| Ok(Told { facts: me.hello().facts(), identity: None });
        if let Err(error) = accept(&mut reader, &mut writer, &channel, &me.ring.proves(), answer, admit).await
        {
            // Peers of the member that had this address call it again and again.
            if said != error.to_string() {
                said = error.to_string();
                tracing::info!(%error, "a connection was not accepted while joining");
            }
        } else if let Ok(Some(invite)) =
            tokio::time::timeout(INVITE_TIMEOUT, take_invitation(&mut reader, &mut writer)).await
        {
            // One is enough: the answer to it is on its way.
            let _ = invited.try_send(invite);
        }
    }
}

/// The invitation that comes over a proved connection, answered; `None` if none comes.
async fn take_invitation(
    reader: &mut FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: &mut WriteHalf<Box<dyn Stream>>,
) -> Option<Invite> {
    let frame = reader.next().await.ok()??;
    let PeerCall { group: 0, request: PeerRequest::Invite(invite) } = frame.message().ok()? else {
        return None;
    };
    let mut outbox = Outbox::new();
    outbox.push(&OutFrame::new(frame.request_id, &PeerResponse::Coming, Vec::new())).ok()?;
    outbox.write_to(writer).await.ok()?;
    Some(invite)
}
