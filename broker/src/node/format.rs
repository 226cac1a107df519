//! The only ways to a data directory: `init` makes a cluster of one, `join` becomes a member of one that is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::hello::{JOINING, Secret};
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer::{Invite, Join, Joined, PeerRequest, PeerResponse};
use tokio::sync::mpsc;

use super::identity::{Identity, IdentityError};
use super::invited::answer_while_joining;
use super::start::{advertised, bind, lock, log_seed};
use super::{LOG_DIR, NodeError, NodeOptions, SNAPSHOTS_DIR, keys, secret};
use crate::fs::create_dirs;
use crate::log::{Log, LogError, LogOptions};
use crate::mutants::{self, Mutant};
use crate::outside::{ExitStatus, Outside};
use crate::raft::node::overrides::{self, Override};
use crate::raft::{Admission, Credentials, Key, PeerStream, RefusedBy, Ring, Spoken, dial_peer};
use crate::snapshots::Snapshots;

/// How long a join goes on trying: elections and other joins pass in the meantime.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// A join waits for the leader to reach back and for two commits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the data directory of the first node of a new cluster: cluster id, secret, admission key, Raft id 1.
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
    let begun = Begun::read(outside, dir)?;
    let name = options.name.clone().unwrap_or_else(|| "n1".to_owned());
    let admission = Key::new(outside.random_bytes());
    let identity = Identity {
        cluster: ClusterId(u128::from_le_bytes(outside.random_bytes())),
        node: NodeId(1),
        store: begun.store,
        name: Text::new(name).map_err(|_| {
            NodeError::new(ExitStatus::Config, "config", "a node's name has at most 64 bytes")
        })?,
        admission: Some(Admission { generation: 1, key: admission.public() }),
        assigned: 0,
        removed: false,
        forming: false,
    };
    format(outside, options, &begun, &identity, &secret, Some(&admission)).await?;
    Ok(identity)
}

/// A directory that is not formatted, as it was found.
struct Begun {
    /// Chosen now, or by the format that was interrupted.
    store: StoreId,
    /// Of the identity that is there; 0 if there is none.
    revision: u32,
}

impl Begun {
    fn read(outside: &Outside, dir: &Path) -> Result<Self, NodeError> {
        match Identity::read(&*outside.disk, dir) {
            Err(IdentityError::Missing { .. }) => Ok(Self::new(outside)),
            Ok(found) if found.identity.forming => {
                Ok(Self { store: found.identity.store, revision: found.revision })
            }
            Ok(found) => {
                let what = format!("{} belongs to node {} already", dir.display(), found.identity.name);
                Err(NodeError::new(ExitStatus::Directory, "formatted", what).hint("queued serve starts it"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn new(outside: &Outside) -> Self {
        Self { store: StoreId(u128::from_le_bytes(outside.random_bytes())), revision: 0 }
    }
}

/// Formats a directory. Interrupted anywhere it can be repeated: the identity that is written first says that nothing
/// else in there counts.
async fn format(
    outside: &Outside,
    options: &NodeOptions,
    begun: &Begun,
    identity: &Identity,
    secret: &Secret,
    admission: Option<&Key>,
) -> Result<(), NodeError> {
    let (disk, dir) = (&*outside.disk, &options.data_dir);
    let log = dir.join(LOG_DIR);
    if begun.revision == 0 && disk.exists(&log)? && !disk.list(&log)?.is_empty() {
        let what = format!(
            "{} holds a log but no identity: its IDENTITY was removed. Nothing was changed",
            dir.display()
        );
        return Err(NodeError::new(ExitStatus::Directory, "leftover", what)
            .hint("move the directory away, and format an empty one"));
    }
    Identity { forming: true, ..identity.clone() }.write(disk, dir, begun.revision).await?;
    secret::write(disk, dir, secret).await?;
    keys::write(disk, dir, keys::NODE_KEY_FILE, &Key::new(outside.random_bytes())).await?;
    if let Some(admission) = admission {
        keys::write(disk, dir, keys::ADMISSION_FILE, admission).await?;
    }
    Snapshots::format(disk, &dir.join(SNAPSHOTS_DIR)).await?;
    let log_options = LogOptions { seed: log_seed(identity.store), ..options.log.clone() };
    match Log::format(Arc::clone(&outside.disk), &log, &log_options).await {
        // A log appears whole or not at all, and this one is of the same store.
        Err(LogError::Disk(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        formatted => formatted?,
    }
    disk.sync_dir(dir).await?;
    Ok(identity.write(disk, dir, begun.revision + 1).await?)
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

/// Formats the data directory and joins a cluster: a learner first, a voter when it has caught up. It listens on
/// `options.listen` meanwhile, so that the leader can see that it is reachable. Repeated after a failure or a crash it goes
/// on where it stopped, as the same node; the directory is not touched before the secret was proved.
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
    let mut home = Home::read(outside, options, secret)?;
    if mutants::on(Mutant::UnprovedSecretKept) {
        home.keep_proved().await?;
    }
    let listener = bind(outside, &options.listen).await?;
    let address = advertised(options, &*listener)?;
    let me = Credentials {
        cluster: home.identity.cluster,
        node: JOINING,
        store: home.identity.store,
        ring: Ring::joining(home.secret.clone()),
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
            match ask(&me, &mut home, &at, &address, standing).await {
                Err(error) if way == Way::Wait => tracing::warn!(%error, "not joined, waiting for the next"),
                joined => return joined,
            }
        }
    };
    let joined = match futures_util::future::select(std::pin::pin!(asking), std::pin::pin!(answering)).await {
        futures_util::future::Either::Left((joined, _)) => joined?,
        futures_util::future::Either::Right((never, _)) => match never {},
    };
    home.write(joined).await
}

/// The data directory of a node that joins. Nothing is written before the secret was proved both ways, and no membership
/// is asked for before the store that asks is on disk: a repeated join is the same node's.
struct Home<'a> {
    outside: &'a Outside,
    options: &'a NodeOptions,
    secret: Secret,
    identity: Identity,
    /// What was found there if it is not formatted yet.
    begun: Option<Begun>,
    /// Of the identity that is there.
    revision: u32,
    is_proved: bool,
}

impl<'a> Home<'a> {
    fn read(outside: &'a Outside, options: &'a NodeOptions, secret: Secret) -> Result<Self, NodeError> {
        let dir = &options.data_dir;
        let home = |identity, begun, revision| Self {
            outside,
            options,
            secret,
            identity,
            begun,
            revision,
            is_proved: false,
        };
        match Identity::read(&*outside.disk, dir) {
            Ok(found) if found.identity.node == JOINING && !found.identity.forming => {
                Ok(home(found.identity, None, found.revision))
            }
            _ => {
                let begun = Begun::read(outside, dir)?;
                let name = Text::new(options.name.clone().unwrap_or_default());
                let identity = Identity {
                    cluster: ClusterId(0),
                    node: JOINING,
                    store: begun.store,
                    name: name.map_err(|_| {
                        NodeError::new(ExitStatus::Config, "config", "a node's name has at most 64 bytes")
                    })?,
                    admission: None,
                    assigned: 0,
                    removed: false,
                    forming: false,
                };
                let revision = begun.revision;
                Ok(home(identity, Some(begun), revision))
            }
        }
    }

    /// The secret is the cluster's: keeps it, in a directory that is formatted then.
    async fn keep_proved(&mut self) -> Result<(), NodeError> {
        if self.is_proved {
            return Ok(());
        }
        match self.begun.take() {
            Some(begun) => {
                format(self.outside, self.options, &begun, &self.identity, &self.secret, None).await?;
                self.revision = begun.revision + 2;
            }
            // An earlier join may have had another one.
            None => secret::write(&*self.outside.disk, &self.options.data_dir, &self.secret).await?,
        }
        self.is_proved = true;
        Ok(())
    }

    /// Of the node, from when the directory is formatted.
    fn key(&self) -> Result<Key, NodeError> {
        Ok(keys::read(&*self.outside.disk, &self.options.data_dir, keys::NODE_KEY_FILE)?)
    }

    /// It is a member.
    async fn write(self, joined: Joined) -> Result<Identity, NodeError> {
        let Joined { cluster, node, name, assigned, generation, admission, sealed: private, others } = joined;
        let key = Key::new(private);
        if key.public() != admission {
            let what = "what the leader gave this node was changed on the way. Nothing was joined";
            return Err(NodeError::new(ExitStatus::NotPermitted, "not_permitted", what));
        }
        // The number means nothing before the identity says it.
        let (disk, dir) = (&*self.outside.disk, &self.options.data_dir);
        keys::write(disk, dir, keys::ADMISSION_FILE, &key).await?;
        overrides::write(disk, dir, &others.iter().map(Override::of_joined).collect::<Vec<_>>()).await?;
        let admission = Some(Admission { generation, key: admission });
        let identity = Identity { cluster, node, name, admission, assigned, ..self.identity };
        identity.write(&*self.outside.disk, &self.options.data_dir, self.revision).await?;
        Ok(identity)
    }
}

impl Way {
    /// To a vote, through the node at `at`.
    pub fn through(at: impl Into<String>) -> Self {
        Self::Ask { at: at.into(), standing: Standing::Voter }
    }
}

/// Asks for membership, following the leader, until it is given, refused, or out of time.
async fn ask(
    me: &Credentials,
    home: &mut Home<'_>,
    at: &str,
    address: &str,
    standing: Standing,
) -> Result<Joined, NodeError> {
    let too_long = |_| NodeError::new(ExitStatus::Config, "config", "name or address is too long");
    let mut join = Join {
        name: home.options.name.clone().map(Text::new).transpose().map_err(too_long)?,
        address: Text::new(address).map_err(too_long)?,
        store: me.store,
        key: [0; 32],
        standing,
    };
    let until = tokio::time::Instant::now() + JOIN_TIMEOUT;
    let mut target = at.to_owned();
    loop {
        let answered = match dial_peer(home.outside, me, None, &target, None).await {
            Ok(stream) => {
                home.keep_proved().await?;
                join.key = home.key()?.public();
                ask_once(stream, &join).await
            }
            Err(error) => Err(error),
        };
        let failure = match answered {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(Error { retry: Retry::AtLeader(leader), .. })) => {
                leader.address.to_string().clone_into(&mut target);
                "the leader moved".to_owned()
            }
            Ok(Err(error)) if error.retry != Retry::Never => error.message.to_string(),
            Ok(Err(error)) => return Err(not_joined(&error)),
            Err(error) => {
                if let Some(refused) = for_good(&error) {
                    return Err(refused);
                }
                at.clone_into(&mut target);
                error.to_string()
            }
        };
        if tokio::time::Instant::now() >= until {
            return Err(NodeError::new(
                ExitStatus::Unavailable,
                "unreachable",
                format!("{failure}; waited {JOIN_TIMEOUT:?}. Nothing was joined"),
            )
            .hint("queuectl cluster status shows who leads"));
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

/// The leader does not take this node in.
fn not_joined(error: &Error) -> NodeError {
    let status = match error.code {
        ErrorCode::NodeExists => ExitStatus::Exists,
        ErrorCode::NotPermitted => ExitStatus::NotPermitted,
        ErrorCode::VersionMismatch => ExitStatus::OtherBuild,
        _ => ExitStatus::Unavailable,
    };
    NodeError::new(status, error.code.as_str(), format!("{}. Nothing was joined", error.message))
}

/// What ends the tries, if a node was not reached for a reason that stays.
fn for_good(error: &std::io::Error) -> Option<NodeError> {
    let level = |by: &&RefusedBy| by.error.code == ErrorCode::LevelUnknown;
    if let Some(by) = RefusedBy::of(error).filter(level) {
        let what = format!("{}. Nothing was joined", by.error.message);
        return Some(NodeError::new(ExitStatus::OtherBuild, "level_unknown", what));
    }
    let refused = error.to_string();
    refused.contains("secret").then(|| {
        NodeError::new(ExitStatus::NotPermitted, "not_permitted", refused)
            .hint("--secret-file is the file SECRET of any member's data directory")
    })
}

async fn ask_once(mut stream: PeerStream, join: &Join) -> std::io::Result<Result<Joined, Error>> {
    let request = PeerRequest::Join(join.clone());
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, stream.ask(request)).await;
    match answer.map_err(|_| std::io::ErrorKind::TimedOut)?? {
        PeerResponse::Joined(joined) => Ok(Ok(Joined { sealed: stream.unsealed(joined.sealed), ..joined })),
        PeerResponse::Failed(error) => Ok(Err(error)),
        other => Err(std::io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::SystemClock;
    use crate::fs::sim::{SimDisk, SimOptions};
    use crate::outside::{Job, Tasks, Tcp};
    use crate::raft::RaftOptions;
    use crate::server::ServerOptions;

    struct Nowhere;

    impl Tasks for Nowhere {
        fn blocking(&self, _: &'static str, _: Job) {}
        fn serving(&self, _: Job) {}
    }

    fn outside(disk: &SimDisk) -> Outside {
        Outside {
            disk: disk.boot(),
            net: Arc::new(Tcp { dial: queue_protocol::client::TcpDial::default() }),
            clock: Arc::new(SystemClock),
            tasks: Arc::new(Nowhere),
            random: Arc::new(|bytes: &mut [u8]| bytes.fill(7)),
            end: Arc::new(|fatal| panic!("{fatal:?}")),
        }
    }

    fn options() -> NodeOptions {
        NodeOptions {
            data_dir: "data".into(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            name: None,
            raft: RaftOptions::default(),
            server: ServerOptions::default(),
            log: LogOptions { segment_size: 64 << 10, ..LogOptions::new(0) },
            descriptors: None,
            grace: Duration::ZERO,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_format_is_finished_by_the_next_one_whatever_was_written() {
        let mut seen = BTreeSet::new();
        for (k, seed) in (0..60).flat_map(|k| (0..4).map(move |seed| (k, seed))) {
            let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
            let outside = outside(&disk);
            disk.off_after(k);
            let first = init(&outside, &options()).await;
            disk.crash(seed);
            let outside = Outside { disk: disk.boot(), ..outside };
            let again = init(&outside, &options()).await;
            match (&first, &again) {
                (Ok(_), Err(error)) => assert_eq!(error.code, "formatted"),
                (Err(_), Ok(identity)) => assert!(identity.is_joined()),
                // Durable before its last operation came to an end.
                (Err(_), Err(error)) => assert_eq!(error.code, "formatted", "{k} {seed}"),
                (Ok(_), Ok(_)) => panic!("{k} {seed}: formatted twice"),
            }
            seen.insert((first.is_ok(), again.is_ok()));
            let found =
                Identity::open(&*outside.disk, Path::new("data")).await.expect("one of them was done");
            assert!(found.identity.is_joined() && secret::read(&*outside.disk, Path::new("data")).is_ok());
            let log = LogOptions { seed: log_seed(found.identity.store), ..options().log };
            let opened = Log::open(Arc::clone(&outside.disk), Path::new("data/log"), log).await;
            assert!(opened.is_ok(), "{k} {seed}");
        }
        assert!(seen.contains(&(false, true)) && seen.contains(&(true, false)), "{seen:?}");
    }
}
