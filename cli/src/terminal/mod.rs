//! The terminal's own state: kept at the start of the interactive shell, put back however it ends.

pub(crate) mod output;
pub(crate) mod stop;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::exit::Exit;

static SAVED: OnceLock<Termios> = OnceLock::new();
/// The screen of a program stands in the place of what was there.
static FULL: AtomicBool = AtomicBool::new(false);

/// Takes the whole screen, without a cursor.
pub(crate) const TAKE_SCREEN: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// Gives it back.
pub(crate) const GIVE_SCREEN: &str = "\x1b[?25h\x1b[?1049l";

/// Keeps the state of the terminal on standard input.
pub(crate) fn save() {
    if let Ok(state) = tcgetattr(std::io::stdin()) {
        let _ = SAVED.set(state);
    }
}

/// The screen is taken from now on, or no more.
pub(crate) fn set_full(full: bool) {
    FULL.store(full, Ordering::Relaxed);
}

/// Puts back what was kept, if anything was.
pub(crate) fn restore() {
    if FULL.swap(false, Ordering::Relaxed) {
        use std::io::Write;
        let _ = std::io::stdout().write_all(GIVE_SCREEN.as_bytes());
        let _ = std::io::stdout().flush();
    }
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
