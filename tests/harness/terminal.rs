//! A program in a pseudo-terminal, as a person has it.

use std::process::Command;

use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};

/// Longer than an election on a busy machine.
const TIMEOUT_MS: u64 = 30_000;

/// A program and what is typed into it. It is ended when this is dropped.
pub struct Terminal {
    session: PtySession,
}

impl Terminal {
    /// Starts `command`; what it shows is looked at without colours and cursor movements.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(mut command: Command) -> Self {
        command.env("TERM", "xterm");
        let options = Options::new().timeout_ms(Some(TIMEOUT_MS)).strip_ansi_escape_codes(true);
        let session = spawn_with_options(command, options).expect("the system gives a terminal");
        Self { session }
    }

    /// Types `text` as it is; Enter is `\r`.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        let sent = self.session.send(text).and_then(|_| self.session.flush());
        sent.unwrap_or_else(|error| panic!("typing {text:?}: {error}"));
    }

    /// Waits until `text` is shown; what was shown before it.
    ///
    /// # Panics
    /// If it is not, with what was shown instead.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let shown = self.session.exp_string(&to_bytes(text));
        to_text(&shown.unwrap_or_else(|error| panic!("{text:?} is not shown: {error}")))
    }

    /// Waits until something is shown that matches; what was shown before it, and the match.
    ///
    /// # Panics
    /// If nothing does, with what was shown instead.
    #[track_caller]
    pub fn shows_match(&mut self, regex: &str) -> (String, String) {
        let shown = self.session.exp_regex(&to_bytes(regex));
        let (before, found) = shown.unwrap_or_else(|error| panic!("{regex:?} is not shown: {error}"));
        (to_text(&before), to_text(&found))
    }

    /// Waits until the program ends; what it showed at last, and its exit code.
    ///
    /// # Panics
    /// If it does not end in time, or is killed.
    #[track_caller]
    pub fn ends(&mut self) -> (String, i32) {
        use nix::sys::wait::WaitStatus;
        let rest = self.session.exp_eof().unwrap_or_else(|error| panic!("it does not end: {error}"));
        match self.session.process().wait() {
            Ok(WaitStatus::Exited(_, code)) => (to_text(&rest), code),
            other => panic!("it ended with {other:?}"),
        }
    }
}

/// What is read from the terminal is taken for one character a byte.
fn to_bytes(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

fn to_text(bytes: &str) -> String {
    let bytes: Vec<u8> = bytes.chars().map(|byte| u8::try_from(byte).unwrap_or(b'?')).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
