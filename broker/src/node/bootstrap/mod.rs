//! `queued start`: from a list of addresses and a secret to a formatted data directory, whichever node starts first.
//!
//! ```text
//! data directory formatted? ── yes ──► done
//!        │ no
//!        ▼
//! ask every address: what are you? ──► decide ──► wait, and ask again
//!        ▲        (and answer the others)  ├────► init, with the secret
//!        │                                 └────► join, through a member
//!        └── a join that was not done ◄───────────────┘
//! ```

mod decide;
#[cfg(test)]
mod explore;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{ClusterId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Accepted, Hello, HelloRole, JOINING, Secret, VERSION};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{
    AskBootstrap, BootstrapPeers, BootstrapState, Holder, PeerCall, PeerRequest, PeerResponse,
};
use queue_protocol::wire::proof::Told;
use tokio::time::Instant;

use self::decide::{Asker, Directory, Seen, Step, Word, decide};
use super::format::init_with;
use super::identity::{Identity, IdentityError};
use super::start::{advertised, bind, lock};
use super::{NodeError, NodeOptions, Way, join, secret};
use crate::fs::create_dirs;
use crate::locked::Locked as _;
use crate::outside::{ExitStatus, Listener, Outside};
use crate::raft::{Credentials, Ring, Spoken, dial_peer};
use crate::tls::opening::open_in_time;

/// Between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long one address may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections answered at a time; each is given up when its handshake has taken too long.
const ANSWERED_MAX: usize = 64;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `queued start` is told besides the settings.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The addresses of all nodes, the same list in the same order on each.
    pub peers: Vec<String>,
    /// The secret of the cluster that is to be.
    pub secret: Secret,
}

/// What others are told while this node waits.
#[derive(Default)]
struct Waiting {
    word: Word,
    reasons: Vec<String>,
}

/// A node without a cluster.
struct Newcomer<'a> {
    outside: &'a Outside,
    credentials: Credentials,
    peers: &'a [String],
    listed: BootstrapPeers,
    position: usize,
    directory: Directory,
    started: Instant,
    waiting: Mutex<Waiting>,
}

/// Formats the data directory, unless it is formatted: makes the cluster or joins it, whichever is right, and waits for
/// those who must be asked before. Repeated after a failure or a crash it goes on where it stopped.
///
/// # Errors
/// 66 if the directory is in use, or empty at the address of a member; 78 if no address of the list is this node's; as
/// [`super::init`] and [`super::join`].
pub async fn bootstrap(outside: &Outside, options: &NodeOptions, plan: &Bootstrap) -> Result<(), NodeError> {
    let dir = &options.data_dir;
    create_dirs(&*outside.disk, dir).await?;
    loop {
        let (directory, id) = match Identity::read(&*outside.disk, dir) {
            Ok(found) if found.identity.is_joined() => {
                if secret::read(&*outside.disk, dir)? != plan.secret {
                    let own = dir.join(secret::SECRET_FILE);
                    tracing::warn!(
                        "the secret of --secret-file is not used: it differs from {}",
                        own.display()
                    );
                }
                return Ok(());
            }
            Ok(found) => (Directory::Joining, found.identity.store),
            Err(IdentityError::Missing { .. }) => {
                (Directory::Empty, StoreId(u128::from_le_bytes(outside.random_bytes())))
            }
            Err(error) => return Err(error.into()),
        };
        match newcomer_step(outside, options, plan, directory, id).await? {
            Step::Initialise => {
                let identity = init_with(outside, options, plan.secret.clone()).await?;
                tracing::info!(node = %identity.name, cluster = %identity.cluster, "made the cluster");
            }
            Step::Join(at) => {
                let through = &plan.peers[at];
                match join(outside, options, Way::through(through), plan.secret.clone()).await {
                    Ok(identity) => {
                        tracing::info!(node = %identity.name, cluster = %identity.cluster, "joined the cluster");
                    }
                    // Nobody leads or answers: as before, it is waited for.
                    Err(error) if error.status == ExitStatus::Unavailable && error.code != "port_in_use" => {
                        tracing::warn!(%error, through, "not joined yet");
                    }
                    Err(error) => return Err(error),
                }
            }
            Step::Held { holder, cluster, by } => {
                return Err(data_gone(options, &holder, cluster, &plan.peers[by]));
            }
            Step::TwoClusters(one, other) => {
                let (one, other) = (&plan.peers[one], &plan.peers[other]);
                let what = format!(
                    "{one} and {other} are members of two clusters with the same secret. Nothing was changed"
                );
                let hint = "list the nodes of one cluster: --peers";
                return Err(NodeError::new(ExitStatus::Directory, "two_clusters", what).hint(hint));
            }
            Step::Wait(_) => {}
        }
    }
}

/// The directory is empty, and a member has its address.
fn data_gone(options: &NodeOptions, holder: &Holder, cluster: ClusterId, by: &str) -> NodeError {
    let (dir, address) = (&options.data_dir, options.advertise.as_ref().unwrap_or(&options.listen));
    let (name, node) = (&*holder.name, holder.node);
    let what = format!(
        "{} is empty, and {address} is the address of {name}, number {node} of cluster {cluster}: its data \
         is gone, or its disk is not mounted. Nothing was changed; the other members have what it held",
        dir.display()
    );
    let hint = format!(
        "if its data is gone for good, take a new node in its place: queuectl --servers {by} cluster replace \
         {name} {address}, while queued join --secret-file FILE waits here"
    );
    NodeError::new(ExitStatus::Directory, "member_data_gone", what).hint(hint)
}

/// Asks, and answers others, until there is something to do.
async fn newcomer_step(
    outside: &Outside,
    options: &NodeOptions,
    plan: &Bootstrap,
    directory: Directory,
    id: StoreId,
) -> Result<Step, NodeError> {
    let _lock = lock(outside, &options.data_dir)?;
    let listener = bind(outside, &options.listen).await?;
    let address = advertised(options, &*listener)?;
    let too_many = |_| {
        NodeError::new(ExitStatus::Config, "config", "--peers has too many addresses, or one is too long")
    };
    let mut listed = Vec::new();
    for peer in &plan.peers {
        listed.push(Text::new(peer.clone()).map_err(too_many)?);
    }
    let position = plan.peers.iter().position(|peer| *peer == address).ok_or_else(|| {
        let what = format!("this node is reached at {address}, and that is none of --peers");
        NodeError::new(ExitStatus::Config, "config", what)
            .hint("--advertise-address says which of --peers this node is")
    })?;
    let newcomer = Newcomer {
        outside,
        credentials: Credentials {
            cluster: ClusterId(0),
            node: JOINING,
            store: id,
            ring: Ring::joining(plan.secret.clone()),
            epoch: 0,
            boot: 0,
            spoken: Spoken::new(options.raft.levels),
        },
        peers: &plan.peers,
        listed: BootstrapPeers::new(listed).map_err(too_many)?,
        position,
        directory,
        started: Instant::now(),
        waiting: Mutex::default(),
    };
    let asking = std::pin::pin!(newcomer.ask_all());
    let answering = std::pin::pin!(newcomer.answer_all(&*listener));
    match select(asking, answering).await {
        Either::Left((step, _)) => Ok(step),
        Either::Right((never, _)) => match never {},
    }
}

enum Never {}

impl Newcomer<'_> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.locked()
    }

    /// Asks every address again and again, until it is known what to do.
    async fn ask_all(&self) -> Step {
        let me = Asker {
            peers: self.peers,
            position: self.position,
            id: self.credentials.store,
            directory: self.directory,
        };
        loop {
            let seen = join_all(self.peers.iter().map(|address| self.ask(address))).await;
            let reasons = match decide(&me, &seen) {
                Step::Wait(reasons) => reasons,
                step => return step,
            };
            let is_news = self.waiting().reasons != reasons;
            if is_news {
                tracing::info!(why = reasons.join("; "), "waiting: this node has no cluster yet");
                self.waiting().reasons = reasons;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn ask(&self, address: &str) -> Seen {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.ask_once(address)).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Seen::Silent(error.to_string()),
            Err(_) => Seen::Silent("it takes too long".to_owned()),
        }
    }

    async fn ask_once(&self, address: &str) -> std::io::Result<Seen> {
        let mut stream = dial_peer(self.outside, &self.credentials, None, address, None).await?;
        let position = u8::try_from(self.position).expect("a list is short");
        let ask = PeerRequest::Bootstrap(AskBootstrap { peers: self.listed.clone(), position });
        match stream.ask(ask).await? {
            PeerResponse::Bootstrap(BootstrapState::Member { holder }) => {
                Ok(Seen::Member { cluster: stream.cluster, holder })
            }
            PeerResponse::Bootstrap(BootstrapState::Empty { peers, position, word }) => Ok(Seen::Empty {
                id: stream.hello.store,
                peers: peers.iter().map(ToString::to_string).collect(),
                position: position.into(),
                word,
            }),
            PeerResponse::Failed(error) => Err(std::io::Error::other(error.message.to_string())),
            other => Err(std::io::Error::other(format!("unexpected answer {other:?}"))),
        }
    }

    /// Answers whoever comes, several at a time.
    async fn answer_all(&self, listener: &dyn Listener) -> Never {
        let mut answering = FuturesUnordered::new();
        loop {
            let is_full = answering.len() >= ANSWERED_MAX;
            tokio::select! {
                accepted = listener.accept(), if !is_full => match accepted {
                    Ok((stream, _)) => answering.push(tokio::time::timeout(2 * ANSWER_TIMEOUT, self.answer(stream))),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                _ = answering.next(), if !answering.is_empty() => {}
            }
        }
    }

    async fn answer(&self, stream: Box<dyn Stream>) {
        let opened = match open_in_time(stream, self.outside).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "a connection was not accepted: no cluster yet"),
        };
        let channel = opened.stream.channel();
        let (read, mut writer) = tokio::io::split(opened.stream);
        let mut reader = FrameReader::after(&opened.ahead, read);
        let answer = |hello: &Hello| self.greet(hello);
        let admit = |_: &_| Ok(Told { facts: self.credentials.hello().facts(), identity: None });
        let secret = &self.credentials.ring.proves();
        let peer = match accept(&mut reader, &mut writer, &channel, secret, answer, admit).await {
            Ok(greeted) => greeted.peer,
            Err(error) => return tracing::debug!(%error, "a connection was not accepted: no cluster yet"),
        };
        let Some(peer) = peer else { return };
        // Whoever breaks off asks again.
        let Ok(Some(frame)) = reader.next().await else { return };
        let Ok(PeerCall { group: 0, request: PeerRequest::Bootstrap(ask) }) = frame.message() else { return };
        let answer = PeerResponse::Bootstrap(self.tell(peer.hello.store, &ask));
        let mut outbox = Outbox::new();
        if outbox.push(&OutFrame::new(frame.request_id, &answer, Vec::new())).is_ok() {
            let _broken = outbox.write_to(&mut writer).await;
        }
    }

    /// Only others without a cluster have business here.
    fn greet(&self, hello: &Hello) -> Result<Accepted, Error> {
        match (&hello.role, hello.cluster) {
            (HelloRole::Peer(peer), None) if peer.node == JOINING => {}
            _ => {
                let reasons = self.waiting().reasons.join("; ");
                let what = format!("this node has no cluster yet: {reasons}");
                return Err(Error::again(ErrorCode::NoLeader, what));
            }
        }
        let node = self.credentials.hello().id();
        Ok(Accepted {
            version: VERSION,
            cluster: self.credentials.cluster,
            name: Text::default(),
            node,
            leader: None,
            features: 0,
            wall_ms: self.outside.clock.wall_ms(),
            nonce: self.outside.random_bytes(),
            index: None,
        })
    }

    fn tell(&self, asker: StoreId, ask: &AskBootstrap) -> BootstrapState {
        let word = if self.position == 0 {
            Some(self.credentials.store)
        } else {
            let wants = ask.position == 0 && ask.peers == self.listed;
            self.waiting().word.give(asker, wants, self.started.elapsed())
        };
        let position = u8::try_from(self.position).expect("a list is short");
        BootstrapState::Empty { peers: self.listed.clone(), position, word }
    }
}
