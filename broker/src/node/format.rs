//! The only ways to a data directory: `init` makes a cluster of one, `join` becomes a member of one that is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::bounded::Text;
use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::frame::OutFrame;
use queue_protocol::handshake::accept;
use queue_protocol::hello::{Accepted, Hello, HelloRole, JOINING, PeerHello, Secret, VERSION};
use queue_protocol::io::{FrameReader, Outbox};
use queue_protocol::membership::Standing;
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::peer::{Invite, Join, Joined, PeerRequest, PeerResponse};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::identity::{Identity, IdentityError};
use super::start::{advertised, bind, lock, log_seed};
use super::{LOG_DIR, NodeError, NodeOptions, SNAPSHOTS_DIR, secret, unfinished};
use crate::fs::create_dirs;
use crate::log::{Log, LogOptions};
use crate::outside::{Listener, Outside};
use crate::raft::{Credentials, RefusedBy, Spoken, dial_peer};
use crate::snapshots::Snapshots;

/// How long a join goes on trying: elections and other joins pass in the meantime.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// How long a peer that connected may take to say what it wants.
const INVITE_TIMEOUT: Duration = Duration::from_millis(500);
/// A join waits for the leader to reach back and for two commits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the data directory of the first node of a new cluster: cluster id, secret, Raft id 1.
///
/// # Errors
/// 66 if the directory is formatted already or in use, 74 if the disk fails.
pub async fn init(outside: &Outside, options: &NodeOptions) -> Result<Identity, NodeError> {
    init_with(outside, options, Secret(outside.random_bytes())).await
}

/// The same with a secret that is known already.
///
/// # Errors
/// As [`init`].
pub async fn init_with(
    outside: &Outside,
    options: &NodeOptions,
    secret: Secret,
) -> Result<Identity, NodeError> {
    let dir = &options.data_dir;
    create_dirs(&*outside.disk, dir).await?;
    let _lock = lock(outside, dir)?;
    refuse_formatted(outside, dir)?;
    let name = options.name.clone().unwrap_or_else(|| "n1".to_owned());
    let identity = Identity {
        cluster: ClusterId(u128::from_le_bytes(outside.random_bytes())),
        node: NodeId(1),
        store: StoreId(u128::from_le_bytes(outside.random_bytes())),
        name: Text::new(name)
            .map_err(|_| NodeError::new(78, "config", "a node's name has at most 64 bytes"))?,
        removed: false,
    };
    secret::write(&*outside.disk, dir, &secret).await?;
    format_stores(outside, options, identity.store).await?;
    // Last: a directory without an identity is not formatted, whatever a crash left in it.
    identity.write(&*outside.disk, dir, 0).await?;
    unfinished::end(&*outside.disk, dir).await?;
    Ok(identity)
}

fn refuse_formatted(outside: &Outside, dir: &Path) -> Result<(), NodeError> {
    match Identity::read(&*outside.disk, dir) {
        Err(IdentityError::Missing { .. }) => Ok(()),
        Ok(found) => {
            let what = format!("{} belongs to node {} already", dir.display(), found.identity.name);
            Err(NodeError::new(66, "formatted", what).hint("queued serve starts it"))
        }
        Err(error) => Err(error.into()),
    }
}

async fn format_stores(outside: &Outside, options: &NodeOptions, store: StoreId) -> Result<(), NodeError> {
    if !unfinished::begin(&*outside.disk, &options.data_dir).await? {
        let what = format!(
            "{} holds a log but no identity: an unfinished format, or a node whose IDENTITY was removed. Nothing was \
             changed",
            options.data_dir.display()
        );
        return Err(
            NodeError::new(66, "leftover", what).hint("move the directory away, and format an empty one")
        );
    }
    let log = options.data_dir.join(LOG_DIR);
    Snapshots::format(&*outside.disk, &options.data_dir.join(SNAPSHOTS_DIR)).await?;
    let log_options = LogOptions { seed: log_seed(store), ..options.log.clone() };
    Log::format(Arc::clone(&outside.disk), &log, &log_options).await?;
    outside.disk.sync_dir(&options.data_dir).await?;
    Ok(())
}

/// How a node comes to its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It asks the node at this address.
    Ask {
        /// `host:port` of any member.
        at: String,
        /// What is to become of it.
        standing: Standing,
    },
    /// It waits until a leader that has the secret asks it to (`queuectl cluster add`).
    Wait,
}

/// Formats the data directory and joins a cluster: a learner first, a voter when it has caught up. Repeated after a failure it goes on where it stopped. It listens on `options.listen` meanwhile,
/// so that the leader can see that it is reachable.
///
/// # Errors
/// 66 if the directory belongs to a member, 69 if nobody leads or answers, or the leader cannot reach this node, 73 if
/// name or address are taken, 77 if the secret is wrong, 74 if the disk fails.
pub async fn join(
    outside: &Outside,
    options: &NodeOptions,
    way: Way,
    secret: Secret,
) -> Result<Identity, NodeError> {
    let dir = &options.data_dir;
    create_dirs(&*outside.disk, dir).await?;
    let _lock = lock(outside, dir)?;
    let (mut identity, revision) = match Identity::read(&*outside.disk, dir) {
        Ok(found) if found.identity.is_joined() => {
            return refuse_formatted(outside, dir).map(|()| found.identity);
        }
        Ok(found) => (found.identity, found.revision),
        Err(IdentityError::Missing { .. }) => {
            let name = Text::new(options.name.clone().unwrap_or_default());
            let identity = Identity {
                cluster: ClusterId(0),
                node: JOINING,
                store: StoreId(u128::from_le_bytes(outside.random_bytes())),
                name: name.map_err(|_| NodeError::new(78, "config", "a node's name has at most 64 bytes"))?,
                removed: false,
            };
            secret::write(&*outside.disk, dir, &secret).await?;
            format_stores(outside, options, identity.store).await?;
            identity.write(&*outside.disk, dir, 0).await?;
            unfinished::end(&*outside.disk, dir).await?;
            (identity, 1)
        }
        Err(error) => return Err(error.into()),
    };
    let listener = bind(outside, &options.listen).await?;
    let address = advertised(options, &*listener)?;
    let me = Credentials {
        cluster: identity.cluster,
        node: JOINING,
        store: identity.store,
        secret,
        epoch: 0,
        boot: 0,
        spoken: Spoken::new(options.raft.levels),
    };
    let (invited, mut invitations) = mpsc::channel(1);
    let answering = answer_while_joining(outside, &me, &*listener, &invited);
    let asking = async {
        loop {
            let (at, standing) = match &way {
                Way::Ask { at, standing } => (at.clone(), *standing),
                Way::Wait => {
                    let invite: Invite = invitations.recv().await.expect("its sender is held above");
                    (invite.at.to_string(), invite.standing)
                }
            };
            match ask(outside, &me, options, &at, &address, standing).await {
                Err(error) if way == Way::Wait => tracing::warn!(%error, "not joined, waiting for the next"),
                joined => return joined,
            }
        }
    };
    let joined = match futures_util::future::select(std::pin::pin!(asking), std::pin::pin!(answering)).await {
        futures_util::future::Either::Left((joined, _)) => joined?,
        futures_util::future::Either::Right((never, _)) => match never {},
    };
    identity.cluster = joined.cluster;
    identity.node = joined.node;
    identity.name = joined.name;
    identity.write(&*outside.disk, dir, revision).await?;
    Ok(identity)
}

impl Way {
    /// To a vote, through the node at `at`.
    pub fn through(at: impl Into<String>) -> Self {
        Self::Ask { at: at.into(), standing: Standing::Voter }
    }
}

enum Never {}

/// Says who is here to the leader that looks whether it can reach this node, and takes its invitation.
async fn answer_while_joining(
    outside: &Outside,
    me: &Credentials,
    listener: &dyn Listener,
    invited: &mpsc::Sender<Invite>,
) -> Never {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(JOIN_PAUSE).await;
            continue;
        };
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read);
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
                node: PeerHello { levels: me.spoken.own(), ..PeerHello::nobody(JOINING, me.store) },
                leader: None,
                features: 0,
                wall_ms: outside.clock.wall_ms(),
                nonce: outside.random_bytes(),
                index: None,
            })
        };
        if let Err(error) = accept(&mut reader, &mut writer, &me.secret, answer, |_| Ok(())).await {
            tracing::info!(%error, "a connection was not accepted while joining");
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
    let PeerRequest::Invite(invite) = frame.message().ok()? else { return None };
    let mut outbox = Outbox::new();
    outbox.push(&OutFrame::new(frame.request_id, &PeerResponse::Coming, Vec::new())).ok()?;
    outbox.write_to(writer).await.ok()?;
    Some(invite)
}

/// Asks for membership, following the leader, until it is given, refused, or out of time.
async fn ask(
    outside: &Outside,
    me: &Credentials,
    options: &NodeOptions,
    at: &str,
    address: &str,
    standing: Standing,
) -> Result<Joined, NodeError> {
    let too_long = |_| NodeError::new(78, "config", "name or address is too long");
    let join = Join {
        name: options.name.clone().map(Text::new).transpose().map_err(too_long)?,
        address: Text::new(address).map_err(too_long)?,
        store: me.store,
        standing,
    };
    let until = tokio::time::Instant::now() + JOIN_TIMEOUT;
    let mut target = at.to_owned();
    loop {
        let failure = match ask_once(outside, me, &target, &join).await {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(Error { retry: Retry::AtLeader(leader), .. })) => {
                leader.address.to_string().clone_into(&mut target);
                "the leader moved".to_owned()
            }
            Ok(Err(error)) if error.retry != Retry::Never => error.message.to_string(),
            Ok(Err(error)) => {
                let status = match error.code {
                    ErrorCode::NodeExists => 73,
                    ErrorCode::NotPermitted => 77,
                    ErrorCode::VersionMismatch => 76,
                    _ => 69,
                };
                return Err(NodeError::new(
                    status,
                    error.code.as_str(),
                    format!("{}. Nothing was joined", error.message),
                ));
            }
            Err(error) => {
                let refused = error.to_string();
                let level = |by: &&RefusedBy| by.error.code == ErrorCode::LevelUnknown;
                if let Some(by) = RefusedBy::of(&error).filter(level) {
                    let what = format!("{}. Nothing was joined", by.error.message);
                    return Err(NodeError::new(76, "level_unknown", what));
                }
                if refused.contains("secret") {
                    return Err(NodeError::new(77, "not_permitted", refused)
                        .hint("--secret-file is the file SECRET of any member's data directory"));
                }
                at.clone_into(&mut target);
                refused
            }
        };
        if tokio::time::Instant::now() >= until {
            return Err(NodeError::new(
                69,
                "unreachable",
                format!("{failure}; waited {JOIN_TIMEOUT:?}. Nothing was joined"),
            )
            .hint("queuectl cluster status shows who leads"));
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

async fn ask_once(
    outside: &Outside,
    me: &Credentials,
    address: &str,
    join: &Join,
) -> std::io::Result<Result<Joined, Error>> {
    let mut stream = dial_peer(outside, me, None, address, None).await?;
    let mut outbox = Outbox::new();
    let request = OutFrame::new(1, &PeerRequest::Join(join.clone()), Vec::new());
    outbox.push(&request).map_err(std::io::Error::other)?;
    outbox.write_to(&mut stream.writer).await?;
    let reading = tokio::time::timeout(ANSWER_TIMEOUT, stream.reader.next());
    let frame = match reading.await {
        Ok(frame) => frame.map_err(std::io::Error::other)?,
        Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
    };
    let frame = frame.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    match frame.message().map_err(std::io::Error::other)? {
        PeerResponse::Joined(joined) => Ok(Ok(joined)),
        PeerResponse::Failed(error) => Ok(Err(error)),
        other => Err(std::io::Error::other(format!("unexpected answer {other:?}"))),
    }
}
