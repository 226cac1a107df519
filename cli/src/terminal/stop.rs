//! Ctrl-C and SIGTERM as a value that commands wait for.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::exit::Exit;
use crate::terminal;

/// Tells a command to come to an end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Option<Exit>>);

/// Makes a [`Stop`] say so.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(watch::Sender<Option<Exit>>);

/// A pair; nothing is stopped yet.
pub(crate) fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Returns when a signal came, with the exit code it asks for; also if it came before.
    pub(crate) async fn wait(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Interrupted),
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when another signal came, or the last one is forgotten.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stopper {
    /// Stops.
    pub(crate) fn stop(&self, exit: Exit) {
        self.0.send_replace(Some(exit));
    }

    /// Forgets an earlier stop, for the next command of a shell.
    pub(crate) fn reset(&self) {
        self.0.send_replace(None);
    }
}

/// What the second signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// Ends the process at once.
    Exits,
    /// The same as the first.
    Stops,
}

/// Listens for SIGINT and SIGTERM from now on.
///
/// # Errors
/// If the system refuses a handler.
pub(crate) fn listen(stopper: &Stopper, second: Second) -> std::io::Result<()> {
    for (kind, exit) in
        [(SignalKind::interrupt(), Exit::Interrupted), (SignalKind::terminate(), Exit::Terminated)]
    {
        let (mut signals, stopper) = (signal(kind)?, stopper.clone());
        tokio::spawn(async move {
            let mut before = false;
            while signals.recv().await.is_some() {
                if second == Second::Exits && std::mem::replace(&mut before, true) {
                    terminal::restore();
                    std::process::exit(exit.code());
                }
                stopper.stop(exit);
            }
        });
    }
    Ok(())
}
