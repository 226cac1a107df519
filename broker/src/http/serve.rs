//! The thread: accepts, bounds what a connection may cost, and stops.
//!
//! | bound | value |
//! |---|---|
//! | connections | [`CONNECTIONS_MAX`]; beyond it the one that is idle longest gives way, else one whose body comes slower than [`SLOW`] |
//! | head of a request | [`HEAD_SIZE_MAX`], [`HEADERS_MAX`] headers, [`HEAD_TIMEOUT`], the pause before it included |
//! | answers nobody reads | [`super::stream::WRITE_TIMEOUT`] |
//! | bodies | see [`super::intake`] |
//! | answers that go on | see [`super::flow`] |

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::HttpOptions;
use super::arriving::{Arrival, Arriving};
use super::figures::Figures;
use super::flow::Flows;
use super::gateway::Gateway;
use super::guard::Hosts;
use super::health::{Pulse, beat};
use super::intake::Intake;
use super::queues::Chosen;
use super::routes::router;
use super::stream::Paced;
use crate::locked::Locked as _;
use crate::raft::{Consensus, seeded};
use crate::server::Server;
use crate::tls::opening::say;
use crate::tls::{Tls, TlsMode};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// Bytes a second; a body that comes slower gives way to another connection.
const SLOW: u64 = 64 << 10;
/// Bytes of a request before its body.
const HEAD_SIZE_MAX: usize = 32 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// From the end of an answer, or of the accept, to the end of the next head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The first byte of a hello of TLS.
const RECORD_HANDSHAKE: u8 = 22;
/// To those that come in the clear where nobody is spoken to so.
const SECURED_ONLY: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: Upgrade, close\r\n\
Content-Type: text/plain; charset=utf-8\r\nContent-Length: 45\r\n\r\nthis port speaks https: tls.mode is require.\n";
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The node that is served.
#[derive(Clone)]
pub(crate) struct Site {
    /// Its replicated machine.
    pub(crate) consensus: Arc<Consensus>,
    /// Its clients.
    pub(crate) server: Arc<Server>,
    /// Where its binary port is.
    pub(crate) at: SocketAddr,
}

/// What all requests share.
pub(super) struct App {
    pub(super) site: Site,
    pub(super) options: HttpOptions,
    pub(super) hosts: Hosts,
    pub(super) gateway: Gateway,
    pub(super) figures: Figures,
    pub(super) intake: Intake,
    pub(super) pulse: Pulse,
    pub(super) chosen: Chosen,
    pub(super) connections: Arc<Connections>,
    pub(super) flows: Flows,
    /// Turns true when the node stops.
    pub(super) stop: watch::Receiver<bool>,
}

/// HTTP as it runs.
pub(crate) struct Http {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Http {
    /// Takes no more requests, and waits at most `grace` for those that are open.
    pub(crate) async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(grace, self.ended).await;
    }
}

/// Listens and serves until [`Http::stop`]; called on the runtime of Raft.
///
/// # Errors
/// The address cannot be listened on, or there is no thread.
pub(crate) fn start(site: Site, options: HttpOptions, listen: &str) -> std::io::Result<Http> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopping) = watch::channel(false);
    let (end, ended) = oneshot::channel();
    let (asks, asked) = mpsc::channel(1);
    crate::raft::spawn(beat(asked));
    site.server.set_http(address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(async move {
            let gateway = Gateway::new(&site);
            let connections = Arc::<Connections>::default();
            let app = Arc::new(App {
                hosts: Hosts::new(&site, &options, address),
                gateway,
                figures: Figures::default(),
                intake: Intake::new(site.server.message_size_max(), Arc::clone(&connections)),
                pulse: Pulse::new(asks),
                chosen: Chosen::default(),
                connections,
                flows: Flows::default(),
                stop: stopping,
                site,
                options,
            });
            match TcpListener::from_std(listener) {
                Ok(listener) => run(listener, app).await,
                Err(error) => tracing::error!(%error, "HTTP is not served"),
            }
        });
        // Whoever stopped may not wait any more.
        let _ = end.send(());
    })?;
    Ok(Http { address, stop, ended })
}

/// The connections that are open.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<Arc<Open>>>);

/// One of them.
struct Open {
    /// Requests that are being answered.
    busy: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// The body of its last request.
    arrival: Mutex<Option<Arc<Arrival>>>,
    give_way: Notify,
}

impl Connections {
    fn inner(&self) -> MutexGuard<'_, Vec<Arc<Open>>> {
        self.0.locked()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.inner().len()
    }

    /// The connection whose body comes slowest gives way, of those that there is room for; if one comes slowly.
    pub(super) fn shed(&self) {
        let mut open = self.inner();
        if let Some(at) = slowest(&open, Arrival::has_room) {
            open.swap_remove(at).give_way.notify_one();
        }
    }

    /// A place for one more; the one that is idle longest goes if there is none, else the one whose body comes slowest.
    /// `None` if all are busy.
    fn enter(self: &Arc<Self>) -> Option<Entered> {
        let mut open = self.inner();
        if open.len() >= CONNECTIONS_MAX {
            let idle = open.iter().enumerate().filter(|(_, one)| one.busy.load(Ordering::Relaxed) == 0);
            let idle = idle.min_by_key(|(_, one)| one.idle_since()).map(|(at, _)| at);
            let at = idle.or_else(|| slowest(&open, |_| true))?;
            open.swap_remove(at).give_way.notify_one();
        }
        let one = Arc::new(Open {
            busy: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            arrival: Mutex::default(),
            give_way: Notify::new(),
        });
        open.push(Arc::clone(&one));
        Some(Entered { all: Arc::clone(self), one })
    }
}

fn slowest(open: &[Arc<Open>], which: impl Fn(&Arrival) -> bool) -> Option<usize> {
    let slow = open.iter().enumerate().filter_map(|(at, one)| Some((one.slowly(&which)?, at)));
    slow.min().map(|(_, at)| at)
}

impl Open {
    fn arrival(&self) -> MutexGuard<'_, Option<Arc<Arrival>>> {
        self.arrival.locked()
    }

    /// Bytes a second of a body that comes slowly.
    fn slowly(&self, which: impl Fn(&Arrival) -> bool) -> Option<u64> {
        let arrival = self.arrival();
        let arrival = arrival.as_ref().filter(|arrival| which(arrival))?;
        arrival.rate().filter(|rate| *rate < SLOW)
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.locked()
    }
}

/// A connection's place, free again when this is dropped.
struct Entered {
    all: Arc<Connections>,
    one: Arc<Open>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.inner().retain(|one| !Arc::ptr_eq(one, &self.one));
    }
}

/// The connection that a request came over.
#[derive(Clone)]
pub(super) struct Occupant {
    one: Arc<Open>,
    /// Nobody reads along: it is under TLS, or comes from this machine.
    is_private: bool,
}

impl Occupant {
    /// Whether nobody reads along.
    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }

    /// The connection is not idle until this is dropped, though the request has its answer's head.
    pub(super) fn busy(&self) -> Busy {
        Busy::begin(&self.one)
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Open>);

impl Busy {
    fn begin(one: &Arc<Open>) -> Self {
        one.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(one))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.locked() = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(listener: TcpListener, app: Arc<App>) {
    let router = router(Arc::clone(&app));
    let mut stop = app.stop.clone();
    let tracker = Arc::new(());
    let accept = async {
        loop {
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection over HTTP could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(entered) = app.connections.enter() else {
                app.figures.refused("connections");
                continue;
            };
            let service = TowerToHyperService::new(router.clone());
            let (stop, tracked) = (app.stop.clone(), Arc::clone(&tracker));
            let tls = app.site.consensus.outside().net.tls();
            // Who asks may have to be looked up behind a read index, and what comes near Raft needs its randomness.
            let seed = u64::from_le_bytes(app.site.consensus.outside().random_bytes());
            tokio::spawn(seeded(seed, async move {
                open(stream, &tls, service, entered, stop).await;
                drop(tracked);
            }));
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    while Arc::strong_count(&tracker) > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Finds out whether TLS is spoken, where the node speaks it, and serves what comes.
async fn open(
    stream: TcpStream,
    tls: &Tls,
    service: TowerToHyperService<axum::Router>,
    entered: Entered,
    stop: watch::Receiver<bool>,
) {
    // One that is broken already says so when it is read.
    let _ = stream.set_nodelay(true);
    let from_here = stream.peer_addr().is_ok_and(|from| from.ip().to_canonical().is_loopback());
    if tls.mode() == TlsMode::Off {
        let required = async { tls.required().await };
        return serve((stream, from_here), service, entered, stop, required).await;
    }
    // No method of HTTP begins as a record of TLS does.
    let mut first = [0];
    let opening = async {
        stream.peek(&mut first).await?;
        if first[0] != RECORD_HANDSHAKE {
            return Ok(Err(stream));
        }
        tls.accept_http(Box::new(stream), &[]).await.map(Ok)
    };
    let opened = tokio::select! {
        opened = tokio::time::timeout(HEAD_TIMEOUT, opening) => opened,
        () = entered.one.give_way.notified() => return,
    };
    match opened {
        Ok(Ok(Ok(secured))) => serve((secured, true), service, entered, stop, std::future::pending()).await,
        Ok(Ok(Err(plain))) if tls.mode() == TlsMode::Require => say(Box::new(plain), SECURED_ONLY).await,
        Ok(Ok(Err(plain))) => serve((plain, from_here), service, entered, stop, tls.required()).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS failed on a connection over HTTP"),
        Err(_) => {}
    }
}

/// Serves one connection until it ends, gives way, or is not to be any more: `required` or `stop`.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    (stream, is_private): (S, bool),
    service: TowerToHyperService<axum::Router>,
    entered: Entered,
    mut stop: watch::Receiver<bool>,
    required: impl Future<Output = ()>,
) {
    let mut required = std::pin::pin!(required);
    let one = Arc::clone(&entered.one);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let busy = Busy::begin(&one);
        let (head, body) = request.into_parts();
        let (body, arrival) = Arriving::new(body);
        *one.arrival() = Some(arrival);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(Occupant { one: Arc::clone(&one), is_private });
        let answering = service.call(request);
        async move {
            let answer = answering.await;
            drop(busy);
            answer
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_SIZE_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(Paced::new(stream)), service)
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection over HTTP has ended");
                }
                return;
            }
            () = entered.one.give_way.notified() => return,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut required, if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
