//! The terminal's own state: kept at the start of the interactive shell, put back however it ends.

use std::sync::OnceLock;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::Exit;

static SAVED: OnceLock<Termios> = OnceLock::new();

/// Keeps the state of the terminal on standard input.
pub(crate) fn save() {
    if let Ok(state) = tcgetattr(std::io::stdin()) {
        let _ = SAVED.set(state);
    }
}

/// Puts back what was kept, if anything was.
pub(crate) fn restore() {
    if let Some(state) = SAVED.get() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, state);
    }
}

/// A panic puts the terminal back, says that it is a bug, and ends the process with 70.
pub(crate) fn set_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        use std::io::Write;
        restore();
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        let what = info.payload_as_str().unwrap_or("no message");
        let text = format!("\nerror[bug]: {what}{place}\n  this is a bug in queuectl; please report it\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::exit(Exit::Bug.code());
    }));
}
