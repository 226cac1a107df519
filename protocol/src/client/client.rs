//! A user's view of the cluster: one [`Client`] finds the leader, follows it, and repeats what is safe.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Jitter;
use super::contents::check_request;
use super::dial::Dial;
use super::links::locked;
use super::pursuit::{Pursuit, Stop};
use super::session::Session;
use super::{Answered, ClientConfig, ClientError, Notice};
use crate::wire::credentials::CLIENT_NAME_DEFAULT;
use crate::wire::request::{Request, Stamp};
use crate::wire::requests::ask;
use crate::wire::response::LeaderView;

/// A session is closed within this time or not at all.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Follows the leader. Cheap to clone; clones share the session and the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all clones and all their requests share.
pub(super) struct Shared {
    pub(super) config: ClientConfig,
    pub(super) jitter: Jitter,
    dial: Arc<dyn Dial>,
    name: Arc<str>,
    session: Mutex<Arc<Session>>,
    /// The server to ask next when no leader is known.
    server: AtomicUsize,
    news: Mutex<News>,
    gives_up: AtomicBool,
}

#[derive(Default)]
struct News {
    listeners: Vec<UnboundedSender<Notice>>,
    leader: Option<LeaderView>,
}

impl Client {
    /// A client of the cluster behind `config.servers`. Dials nothing before the first call.
    /// Must be called within a tokio runtime with time enabled.
    pub fn new(config: ClientConfig, dial: Arc<dyn Dial>) -> Self {
        Self::named(CLIENT_NAME_DEFAULT, config, dial)
    }

    /// The same, of a program that calls itself `name`, as `billing/2.3`: operators see it. Cut after 64 bytes.
    pub fn named(name: &str, config: ClientConfig, dial: Arc<dyn Dial>) -> Self {
        let name: Arc<str> = name.into();
        let [low, high] = [config.seed, config.seed >> 64].map(|half| half & u128::from(u64::MAX));
        let seed = u64::try_from(low ^ high).expect("both are 64 bits");
        let session = Session::new(config.seed, 0, Arc::clone(&dial), Arc::clone(&name), None);
        Self {
            shared: Arc::new(Shared {
                jitter: Jitter::new(seed),
                dial,
                name,
                session: Mutex::new(Arc::new(session)),
                server: AtomicUsize::new(0),
                news: Mutex::new(News::default()),
                gives_up: AtomicBool::new(false),
                config,
            }),
        }
    }

    /// What happens from now on, for people.
    pub fn notices(&self) -> UnboundedReceiver<Notice> {
        let (sender, receiver) = unbounded_channel();
        locked(&self.shared.news).listeners.push(sender);
        receiver
    }

    /// From now on a call ends as soon as every server was tried once and none was reached, instead of trying until its time
    /// is up.
    pub fn give_up_at_once(&self) {
        self.shared.gives_up.store(true, Ordering::Relaxed);
    }

    /// Asks the leader. `contents` is the tail of a push. Changing requests get a session number and are
    /// repeated until answered or out of time; reads are repeated freely.
    ///
    /// # Errors
    /// See [`ClientError`]: only `Unknown` leaves open whether it was done.
    pub async fn call(&self, request: Request, contents: Vec<Bytes>) -> Result<Answered, ClientError> {
        check_request(&request, &contents).map_err(ClientError::Refused)?;
        let mut pursuit = Pursuit::new(&self.shared, request, contents);
        self.pursue(&mut pursuit).await
    }

    /// The same under a number that the caller keeps account of, for who speaks for others: repeated with the same stamp it
    /// counts once, also by another client of the same [`ClientConfig::seed`], which is the id of the session. A session
    /// that was forgotten is not replaced.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_stamped(
        &self,
        stamp: Stamp,
        request: Request,
        contents: Vec<Bytes>,
    ) -> Result<Answered, ClientError> {
        check_request(&request, &contents).map_err(ClientError::Refused)?;
        let mut pursuit = Pursuit::new(&self.shared, request, contents);
        pursuit.stamp = Some(stamp);
        self.pursue(&mut pursuit).await
    }

    /// The same for a request that waits. Once `hurry` is cancelled it waits no more: it is asked again under its number
    /// with no wait, so that what the cluster may have handed out meanwhile is not lost.
    pub(super) async fn call_hurried(
        &self,
        request: Request,
        hurry: CancellationToken,
    ) -> Result<Answered, ClientError> {
        check_request(&request, &[]).map_err(ClientError::Refused)?;
        let mut pursuit = Pursuit::new(&self.shared, request, Vec::new());
        pursuit.hurry = Some(hurry);
        self.pursue(&mut pursuit).await
    }

    async fn pursue(&self, pursuit: &mut Pursuit<'_>) -> Result<Answered, ClientError> {
        let mut renewals = 0;
        loop {
            let session = self.shared.session();
            match pursuit.run(&session).await {
                Ok(answered) => return Ok(answered),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::SessionExpired) => self.shared.renew(&session),
            }
            renewals += 1;
            if renewals > 1
                && let Err(Stop::Error(error)) = pursuit.pause(Duration::ZERO, pursuit.deadline).await
            {
                return Err(error);
            }
        }
    }

    /// For waits that are to differ from client to client.
    pub(super) fn jitter(&self) -> &Jitter {
        &self.shared.jitter
    }

    /// Asks exactly the node at `address`, without following: for status and health.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_node(&self, address: &str, request: Request) -> Result<Answered, ClientError> {
        check_request(&request, &[]).map_err(ClientError::Refused)?;
        let mut pursuit = Pursuit::new(&self.shared, request, Vec::new());
        pursuit.run_at(&self.shared.session(), address).await
    }

    /// Round trip of a ping frame to the node at `address`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ping(&self, address: &str) -> Result<Duration, ClientError> {
        let deadline = Instant::now() + self.shared.config.timeout;
        let linked = self.shared.session().links.connect(address, deadline).await;
        let connection = linked.map_err(|error| error.into_error(address))?.connection;
        connection.ping(deadline).await.map_err(|error| ClientError::Unavailable {
            what: format!("{address} does not answer: {error}"),
            reached: false,
            leader: None,
        })
    }

    /// Lets the cluster forget the session, if the leader is at hand; the next request opens another. Otherwise the
    /// session expires by itself.
    pub async fn close_session(&self) {
        let session = self.shared.session();
        // A session that was never opened costs no entry to be closed.
        if !session.numbers.are_recorded() || session.leader().is_none() {
            return;
        }
        let closing = self.ask(ask::CloseSession);
        // What is not closed now expires later.
        let _ = tokio::time::timeout(CLOSE_MAX, closing).await;
        self.shared.renew(&session);
    }
}

impl Shared {
    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&locked(&self.session))
    }

    /// Replaces `old`, unless another caller has.
    fn renew(&self, old: &Arc<Session>) {
        let mut session = locked(&self.session);
        if Arc::ptr_eq(&session, old) {
            *session = Arc::new(old.next(self.config.seed, Arc::clone(&self.dial), Arc::clone(&self.name)));
        }
    }

    pub(super) fn gives_up(&self) -> bool {
        self.gives_up.load(Ordering::Relaxed)
    }

    /// The server to ask when no leader is known; `None` if none is configured.
    pub(super) fn server(&self) -> Option<&str> {
        let servers = &self.config.servers;
        let at = self.server.load(Ordering::Relaxed).checked_rem(servers.len())?;
        servers.get(at).map(String::as_str)
    }

    /// Another server is to be asked next than `failed`.
    pub(super) fn pass_over(&self, failed: &str) {
        if self.server() == Some(failed) {
            self.server.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn tell(&self, notice: Notice) {
        locked(&self.news).tell(notice);
    }

    /// `view` leads.
    pub(super) fn leads(&self, view: &LeaderView) {
        let mut news = locked(&self.news);
        let before = news.leader.replace(view.clone());
        if let Some(before) = before.filter(|before| before.node != view.node) {
            news.tell(Notice::LeaderChanged { from: before.name.to_string(), to: view.clone() });
        }
    }
}

impl News {
    fn tell(&mut self, notice: Notice) {
        self.listeners.retain(|listener| listener.send(notice.clone()).is_ok());
    }
}
