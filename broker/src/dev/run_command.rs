//! `queued dev -- CMD`: a command that finds the cluster and a `queuectl`.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use rustix::process::Signal;

use super::access;
use super::cluster::Cluster;
use super::process::Process;
use super::signals::Signals;
use crate::commands::failure::Failure;
use crate::outside;

/// Runs it to its end; its exit status, or 128 and the number of the signal that killed it.
pub(super) async fn run(words: &[OsString], cluster: &Cluster) -> Result<i32, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
    let bin = cluster.place().bin_dir(cluster.program())?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))
        .map_err(|error| Failure::new(outside::ExitStatus::Disk, "io", format!("PATH: {error}")))?;
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("PATH", path)
        .env("QUEUECTL_SERVERS", cluster.place().addresses().join(","))
        .envs(cfg!(feature = "http").then(|| ("QUEUE_HTTP", cluster.place().http_addresses().join(","))))
        .envs(cluster.place().authority().map(|file| ("QUEUECTL_TLS_CA", file)))
        .envs(access::token_file(cluster.place()).map(|file| ("QUEUECTL_TOKEN_FILE", file)));
    let process = Process::spawn(&mut command).map_err(|error| {
        let is_missing = error.kind() == ErrorKind::NotFound;
        let status = if is_missing { outside::ExitStatus::NotFound } else { outside::ExitStatus::NotRun };
        Failure::new(status, "command", format!("{}: {error}", words[0].display()))
    })?;
    // A terminal sends its interrupt to the command as well.
    let terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            status = process.ended() => return Ok(exit_status(status)),
            came = signals.next() => if !(terminal && came.0 == Signal::INT) {
                process.signal(came.0).map_err(|error| Failure::io("a signal was not passed on", &error))?;
            },
        }
    }
}

fn exit_status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(70)
}
