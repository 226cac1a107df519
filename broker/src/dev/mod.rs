//! `queued dev`: a throw-away cluster on this machine. Its nodes are processes of this very program, so that killing
//! one is a real crash; they end with this process, however it ends, because it holds the other end of their input.

mod access;
mod cluster;
mod logs;
mod place;
mod process;
mod run_command;
mod screen;
mod secure;
mod self_check;
mod signals;
#[cfg(feature = "dev")]
mod word;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use tokio::time::Instant;

use self::cluster::Cluster;
use self::place::{Place, Ports};
use self::signals::Signals;
use crate::commands::failure::Failure;
use crate::commands::{machine, say};
use crate::outside::ExitStatus;
use crate::tls::TlsMode;

/// What kind of cluster, and what for.
#[derive(Clone, Debug)]
pub(crate) struct DevOptions {
    /// Nodes; `None` for as many as the directory holds, or three.
    pub(crate) nodes: Option<usize>,
    /// Its directory, which is kept; `None` for a temporary one.
    pub(crate) data_dir: Option<PathBuf>,
    /// Keep also a temporary one.
    pub(crate) keep: bool,
    /// The first port.
    pub(crate) base_port: Option<u16>,
    /// Any free ports instead.
    pub(crate) any_port: bool,
    /// TLS, with an authority of its own.
    pub(crate) tls: bool,
    /// Logins, with a token of its own.
    pub(crate) auth: bool,
    /// Print what the nodes log.
    pub(crate) logs: bool,
    /// Print nothing but errors.
    pub(crate) quiet: bool,
    /// Runs against the cluster; empty for the shell.
    pub(crate) command: Vec<OsString>,
    /// Settings of every node, as flags.
    pub(crate) flags: Vec<String>,
}

/// Starts the cluster, lets it be used, and stops it; the exit status.
///
/// # Errors
/// It did not start, or nothing of it is left.
pub(crate) fn run(options: &DevOptions) -> Result<i32, Failure> {
    let (cluster, start) = machine::block_on(start(options))??;
    let used = match start {
        Start::Ready(screen) => {
            show(options, &screen);
            use_it(options, &cluster)
        }
        Start::Interrupted(status) => Ok(status),
    };
    machine::block_on(cluster.stop())?;
    if cluster.place().kept && options.data_dir.is_none() {
        say(&format!("data is kept in {}", cluster.place().dir.display()));
    }
    cluster.place().clear();
    used
}

/// How a start went.
enum Start {
    /// What to show.
    Ready(String),
    /// A signal came first, with its exit status.
    Interrupted(i32),
}

async fn start(options: &DevOptions) -> Result<(Cluster, Start), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
    let began = Instant::now();
    let ports = match (options.base_port, options.any_port) {
        (Some(base), _) => Ports::From(base),
        (None, true) => Ports::Any,
        (None, false) => Ports::Usual,
    };
    let mut place = Place::take(options.data_dir.as_deref(), options.keep, options.nodes, ports).await?;
    if options.tls {
        secure::make(&place.dir, place.ports.len())?;
        place.tls = TlsMode::Require;
    }
    place.auth = options.auth || access::is_in(&place.dir);
    let program = std::env::current_exe().map_err(|error| Failure::io("this program", &error))?;
    let cluster = Cluster::new(place, program, options.flags.clone(), options.logs);
    let ready = async {
        let leadership = cluster.start().await?;
        let took = began.elapsed();
        let checked = self_check::self_check(&cluster, &leadership).await?;
        if cluster.place().auth {
            access::require(&cluster).await?;
        }
        let rows = cluster.rows().await;
        Ok(screen::start(&rows, cluster.place(), options.data_dir.is_none(), took, leadership.term, &checked))
    };
    let started = tokio::select! {
        ready = ready => ready.map(Start::Ready),
        signal = signals.next() => Ok(Start::Interrupted(signal.status())),
    };
    let noted = started.and_then(|start| {
        if options.any_port
            && let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())
        {
            cluster.place().leave_note(dir.as_ref())?;
        }
        Ok(start)
    });
    match noted {
        Ok(start) => Ok((cluster, start)),
        Err(failure) => {
            cluster.stop().await;
            Err(failure)
        }
    }
}

/// Talk when a command's output is data, else the answer to what was asked.
fn show(options: &DevOptions, screen: &str) {
    if options.quiet {
        return;
    }
    // A reader that went away is told nothing more.
    let _ = if options.command.is_empty() {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{screen}").and_then(|()| out.flush())
    } else {
        writeln!(std::io::stderr(), "{screen}")
    };
}

fn use_it(options: &DevOptions, cluster: &Cluster) -> Result<i32, Failure> {
    if !options.command.is_empty() {
        return machine::block_on(run_command::run(&options.command, cluster))?;
    }
    #[cfg(feature = "dev")]
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return Ok(queuectl::shell(queuectl::ShellOptions {
            servers: cluster.place().addresses(),
            tls_ca: cluster.place().authority(),
            token_file: access::token_file(cluster.place()),
            label: "dev".to_owned(),
            banner: Some(String::new()),
            extra: Some(std::sync::Arc::new(word::DevWord::new(cluster.clone()))),
        }));
    }
    machine::block_on(wait(cluster))?
}

/// Until a signal comes or no node is left.
async fn wait(cluster: &Cluster) -> Result<i32, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
    tokio::select! {
        () = cluster.all_ended(|what| say(&what)) => Err(Failure::new(ExitStatus::Unavailable, "node_failed", "no node is left")),
        _ = signals.next() => Ok(0),
    }
}
