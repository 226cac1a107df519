//! The thread: accepts, bounds what a connection may cost, and stops.
//!
//! | bound | value |
//! |---|---|
//! | connections | see [`super::connections`] |
//! | head of a request | [`HEAD_SIZE_MAX`], [`HEADERS_MAX`] headers, [`HEAD_TIMEOUT`], the pause before it included |
//! | answers nobody reads | [`super::stream::WRITE_TIMEOUT`] |
//! | bodies | see [`super::intake`] |
//! | answers that go on | see [`super::flow`] |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::HttpOptions;
use super::arriving::Arriving;
use super::connections::{Busy, Connections, Entered, From, Occupant};
use super::figures::Figures;
use super::flow::Flows;
use super::gateway::Gateway;
use super::guard::Hosts;
use super::health::{Pulse, beat};
use super::intake::Intake;
use super::queues::Chosen;
use super::routes::router;
use super::stream::Paced;
use crate::raft::{Consensus, seeded};
use crate::server::Server;
use crate::tls::opening::say;
use crate::tls::{Tls, TlsMode};

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
    // One that has none is gone already.
    let Ok(ip) = stream.peer_addr().map(|from| from.ip().to_canonical()) else { return };
    let plain = From { ip, is_private: ip.is_loopback() };
    if tls.mode() == TlsMode::Off {
        let required = async { tls.required().await };
        return serve(stream, plain, service, entered, stop, required).await;
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
        Ok(Ok(Ok(stream))) => {
            let secured = From { ip, is_private: true };
            serve(stream, secured, service, entered, stop, std::future::pending()).await;
        }
        Ok(Ok(Err(stream))) if tls.mode() == TlsMode::Require => say(Box::new(stream), SECURED_ONLY).await,
        Ok(Ok(Err(stream))) => serve(stream, plain, service, entered, stop, tls.required()).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS failed on a connection over HTTP"),
        Err(_) => {}
    }
}

/// Serves one connection until it ends, gives way, or is not to be any more: `required` or `stop`.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    from: From,
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
        request.extensions_mut().insert(Occupant { one: Arc::clone(&one), from });
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
