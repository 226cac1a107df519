//! `queued healthcheck`: connect, hello, ping: whether the process turns, whatever its cluster does. With `--ready` whether
//! clients should be sent to it.

use std::time::Duration;

use clap::Args;
use queue_protocol::client::TokenSource;
use queue_protocol::values::server;

use super::failure::Failure;
use super::probe::Alive;
use super::{machine, print, probe, settings};
use crate::config::Flags;
use crate::node::secret::SECRET_FILE;
use crate::outside::ExitStatus;
use crate::tls::TlsMode;

/// `healthcheck`
#[derive(Args, Debug)]
pub(super) struct HealthcheckArgs {
    /// The node [default: where the settings say that it listens]
    #[arg(long, value_name = "HOST:PORT", value_parser = server)]
    address: Option<String>,
    /// Ask whether clients should be sent to it: it has recovered, hears a leader, is not drained, and no member refuses
    /// its data. Without this: whether the process is alive, also without a quorum
    #[arg(long)]
    ready: bool,
    /// How long it may take
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = queue_protocol::values::duration)]
    timeout: Duration,
    /// Settings.
    #[command(flatten)]
    flags: Flags,
}

/// 0 if the node answers, else 1.
pub(super) fn run(args: &HealthcheckArgs) -> Result<i32, Failure> {
    let loaded = settings(&args.flags).ok();
    let secret = loaded.map(|loaded| loaded.config.node.data_dir.join(SECRET_FILE));
    let login = secret.filter(|file| file.exists()).map(TokenSource::Secret);
    let (address, mode) = match &args.address {
        // Whose settings are those of this machine is not known then.
        Some(address) => {
            (address.clone(), settings(&args.flags).map_or(TlsMode::Off, |loaded| loaded.config.tls.mode))
        }
        None => {
            let config = settings(&args.flags)?.config;
            (from_here(&config.node.listen), config.tls.mode)
        }
    };
    if args.ready {
        machine::block_on(probe::ready(&address, args.timeout, mode, login))?
            .map_err(|what| Failure::new(ExitStatus::Negative, "not_ready", what))?;
        print(&format!("{address} is ready\n"))?;
        return Ok(0);
    }
    match machine::block_on(probe::alive(&address, args.timeout, mode))? {
        Ok(Alive::Answers(took)) => {
            print(&format!("{address} answers: {}\n", probe::millis(took)))?;
            Ok(0)
        }
        Ok(Alive::Refuses(why)) => {
            print(&format!("{address} answers: {why}\n"))?;
            Ok(0)
        }
        Err(what) => Err(Failure::new(ExitStatus::Negative, "unreachable", what)),
    }
}

/// How this machine reaches a node that listens at `listen`.
fn from_here(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        assert_eq!(from_here("0.0.0.0:7410"), "127.0.0.1:7410");
        assert_eq!(from_here("[::]:7410"), "[::1]:7410");
        assert_eq!(from_here("10.0.0.1:7410"), "10.0.0.1:7410");
    }
}
