//! `queued serve`: one node, from start to signal.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::{machine, probe, say, settings, supervisor};
use crate::config::{Config, Flags, Loaded};
use crate::logging;
use crate::node::{self, Node, NodeOptions};
use crate::outside::{ExitStatus, Outside};
use crate::tls::{Tls, TlsMode};

/// What a stop may take on top of the grace that was set: handing over leadership, closing the log.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// `serve`
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// End at once when standard input ends: the parent is gone.
    #[arg(long, hide = true)]
    pub(super) parent_pipe: bool,
    /// Settings.
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads `log.level` anew and opens `log.file` anew, SIGUSR1 logs the state of the
/// node.
pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let loaded = settings(&args.flags)?;
    start_logging(&loaded.config)?;
    if args.parent_pipe {
        end_with_parent().map_err(|error| Failure::io("a thread did not start", &error))?;
    }
    machine::block_on(async {
        let signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        let outside = machine::secured(&loaded.config.tls)?;
        serve(outside, &loaded, &args.flags, signals).await
    })?
}

/// Serves a formatted node until a signal comes.
pub(super) async fn serve(
    outside: Outside,
    loaded: &Loaded,
    flags: &Flags,
    mut signals: Signals,
) -> Result<(), Failure> {
    machine::refuse_huge_pages();
    let options = NodeOptions { descriptors: machine::raise_descriptors(), ..loaded.config.node.clone() };
    let tls = outside.net.tls();
    signals.tls = Arc::clone(&tls);
    let started = tokio::select! {
        started = node::start(outside, options) => started,
        never = supervisor::recovers() => match never {},
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => return Err(with_holder(error.into(), &loaded.config.node.listen).await),
    };
    crate::raft::spawn(Arc::clone(&tls).watch());
    #[cfg(feature = "http")]
    let http = match serve_http(&node, loaded) {
        Ok(http) => http,
        Err(failure) => {
            node.stop().await;
            return Err(failure);
        }
    };
    tell_start(&node, loaded);
    if let Some(few) = node.few_clients() {
        tracing::warn!("{few}");
    }
    let signal = tokio::select! {
        signal = signals.stop(flags, || tell(&node.state_line())) => signal,
        never = supervisor::serves(&node) => match never {},
    };
    tracing::info!(signal, "stopping");
    supervisor::stops();
    let stop = async {
        #[cfg(feature = "http")]
        if let Some(http) = http {
            http.stop(loaded.config.node.grace).await;
        }
        node.stop().await;
    };
    let stop = tokio::time::timeout(loaded.config.node.grace + STOP_MARGIN, stop);
    tokio::select! {
        stopped = stop => if stopped.is_err() {
            tracing::warn!("stopped without waiting any longer");
        },
        signal = signals.stop(flags, || tell("stopping")) => tracing::warn!(signal, "stopped without waiting"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// HTTP, if it is to be served.
#[cfg(feature = "http")]
fn serve_http(node: &Node, loaded: &Loaded) -> Result<Option<crate::http::Http>, Failure> {
    let options = &loaded.config.http;
    let Some(listen) = &options.listen else { return Ok(None) };
    let started = crate::http::start(node.site(), options.clone(), listen).map_err(|error| {
        let failure = Failure::new(
            ExitStatus::Unavailable,
            "listen_http",
            format!("cannot serve HTTP on {listen}: {error}"),
        );
        failure.hint("--listen-http names another port; an empty one is off")
    })?;
    tracing::info!(listen = %started.address, "HTTP is served");
    Ok(Some(started))
}

/// Adds who has the port, if that is a node.
async fn with_holder(failure: Failure, listen: &str) -> Failure {
    if failure.code != "port_in_use" {
        return failure;
    }
    match probe::holder(listen).await {
        Some(holder) => failure.fact(format!("it is {holder}")),
        None => failure,
    }
}

/// Begins to log as the settings say.
pub(super) fn start_logging(config: &Config) -> Result<(), Failure> {
    logging::start(config).map_err(|error| {
        let file = config.log_file.as_deref().unwrap_or(Path::new("")).display();
        Failure::io(format!("log.file {file} cannot be opened"), &error)
    })
}

/// A line that was asked for, whatever the level.
fn tell(line: &str) {
    if tracing::enabled!(tracing::Level::INFO) {
        tracing::info!("{line}");
    } else {
        say(line);
    }
}

/// What this process is told by signals.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
    /// Read anew when the process is told to.
    tls: Arc<Tls>,
}

impl Signals {
    /// Takes them over from the system.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            tls: Tls::off(),
        })
    }

    /// Waits for a signal to stop, and gives its name. SIGHUP reads the settings of the log anew, SIGUSR1 calls `state`.
    pub(super) async fn stop(&mut self, flags: &Flags, state: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => reload(flags, &self.tls),
                _ = self.user.recv() => state(),
            }
        }
    }
}

/// Reads the settings anew, and takes those of the log and of TLS. Others count from the next start on.
fn reload(flags: &Flags, tls: &Tls) {
    let done = settings(flags).and_then(|loaded| {
        let config = loaded.config;
        logging::reload(&config).map_err(|error| Failure::io("log.file cannot be opened", &error))?;
        Ok(config)
    });
    let config = match done {
        Ok(config) => config,
        Err(failure) => {
            return tracing::error!(
                "SIGHUP: nothing was changed: {}",
                failure.to_string().replace('\n', " ")
            );
        }
    };
    let level = config.log_level.as_str();
    tell(&format!("SIGHUP: log.file is opened anew, log.level is {level}"));
    match tls.change(&config.tls) {
        Ok(()) => tell(&format!("SIGHUP: tls.mode is {}", config.tls.mode.as_str())),
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the files of TLS cannot be used: the certificate stays");
        }
    }
}

/// A thread that ends the process when standard input does. What was acknowledged is on disk.
fn end_with_parent() -> std::io::Result<()> {
    let wait = || {
        let mut buffer = [0; 64];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        std::process::exit(0);
    };
    std::thread::Builder::new().name("parent".into()).spawn(wait).map(drop)
}

fn tell_start(node: &Node, loaded: &Loaded) {
    let config = &loaded.config;
    if logging::is_for_people(config) {
        say(&screen(node, loaded));
        return;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %node.identity().name,
        number = node.identity().node.0,
        cluster = %node.identity().cluster,
        data_dir = %config.node.data_dir.display(),
        listen = %node.listens_at(),
        advertise = advertised(config),
        recovered = node.summary().join("; "),
        file = loaded.file.as_ref().map(|file| file.display().to_string()),
        insecure = config.insecure,
        tls = config.tls.mode.as_str(),
        "started"
    );
}

fn screen(node: &Node, loaded: &Loaded) -> String {
    let (config, identity) = (&loaded.config, node.identity());
    let mut lines = vec![
        format!("queued {}", env!("CARGO_PKG_VERSION")),
        format!("  node       {}, number {} in cluster {}", identity.name, identity.node, identity.cluster),
        format!("  data       {}", config.node.data_dir.display()),
        match advertised(config) {
            Some(advertised) => format!("  address    {}, reached at {advertised}", node.listens_at()),
            None => format!("  address    {}", node.listens_at()),
        },
    ];
    lines.extend(node.summary().into_iter().map(|line| format!("  recovered  {line}")));
    lines.push(match &loaded.file {
        Some(file) => format!("  settings   {}", file.display()),
        None => "  settings   no file".to_owned(),
    });
    lines.push(match config.tls.mode {
        TlsMode::Off => "  security   no TLS, no login".to_owned(),
        mode => format!("  security   TLS ({}), no login", mode.as_str()),
    });
    lines.join("\n")
}

fn advertised(config: &Config) -> Option<&str> {
    config.node.advertise.as_deref()
}
