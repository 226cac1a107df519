//! This machine as what is outside of a node: its disk, network, clock, threads and randomness.

use std::sync::Arc;

use queue_protocol::client::TcpDial;

use super::failure::Failure;
use super::say;
use crate::clock::SystemClock;
use crate::fs::os::OsDisk;
use crate::outside::{ExitStatus, Fatal, Outside, Tcp, Threads};
#[cfg(feature = "tls")]
use crate::tls::TlsNet;
use crate::tls::{Tls, TlsOptions};

/// Runs a future on this thread, with everything it spawns.
///
/// # Errors
/// The system has no descriptors left.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the runtime did not start", &error))?;
    let seed = u64::from_le_bytes(random_bytes());
    Ok(runtime.block_on(crate::raft::seeded(seed, future)))
}

/// Lets this process have as many file descriptors as it may, and gives their number; `None` without a limit. Programs
/// that it starts later have as many: a node starts none.
pub(crate) fn raise_descriptors() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current == before.maximum || setrlimit(Resource::Nofile, wanted).is_ok() {
        before.maximum
    } else {
        before.current
    }
}

/// Lets the kernel make no huge pages for this process, as it does by itself where they are "always": a small buffer would
/// hold 2 MiB. Programs that it starts later get none either: a node starts none. Where it cannot be set, all stays as it is.
pub(crate) fn refuse_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Everything outside of a node that runs here, with connections as the options say; within a runtime.
///
/// # Errors
/// The files that the options name cannot be used.
pub(super) fn secured(options: &TlsOptions) -> Result<Outside, Failure> {
    Ok(with_net(Tls::load(options)?))
}

#[cfg(feature = "tls")]
fn with_net(tls: Arc<Tls>) -> Outside {
    let tcp = Arc::new(Tcp { dial: TcpDial::default() });
    Outside { net: Arc::new(TlsNet { tcp, tls }), ..outside() }
}

#[cfg(not(feature = "tls"))]
fn with_net(_off: Arc<Tls>) -> Outside {
    outside()
}

/// Everything outside of a node that runs here, with plain connections; within a runtime.
pub(crate) fn outside() -> Outside {
    Outside {
        disk: Arc::new(OsDisk),
        net: Arc::new(Tcp { dial: TcpDial::default() }),
        clock: Arc::new(SystemClock),
        tasks: Arc::new(Threads { serving: tokio::runtime::Handle::current() }),
        random: Arc::new(fill_random),
        end: Arc::new(|fatal| end(&fatal)),
    }
}

fn end(fatal: &Fatal) -> ! {
    let code = match fatal.status {
        ExitStatus::Corrupt => "corrupt",
        ExitStatus::Directory => "identity",
        ExitStatus::Disk => "disk",
        _ => "bug",
    };
    let failure = Failure::new(fatal.status, code, &fatal.what).to_string();
    crate::logging::note_end(&failure);
    say(&failure);
    std::process::exit(fatal.status.code());
}

fn fill_random(mut buffer: &mut [u8]) {
    while !buffer.is_empty() {
        match rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => buffer = &mut buffer[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the system has no randomness: {error}"),
        }
    }
}

/// So many random bytes.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// What the sessions of a client get their ids from.
pub(crate) fn random_seed() -> u128 {
    u128::from_le_bytes(random_bytes())
}

/// From now on a panic ends the process, whatever thread it comes from.
pub(super) fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let failure = Failure::new(
            ExitStatus::Bug,
            "bug",
            "queued is broken and stops; what was acknowledged is on disk",
        )
        .fact(panic.to_string().replace('\n', " "));
        crate::logging::note_end(&failure.to_string());
        say(&failure.to_string());
        std::process::exit(ExitStatus::Bug.code());
    }));
}
