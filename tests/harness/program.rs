//! The programs under test, run to their end.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{schema, until};

/// No program takes longer, or it hangs.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; 128 + number for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The same, checked to have ended with `code`.
    ///
    /// # Panics
    /// If it did not, with all that it said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Checks that standard error has `text` in it.
    ///
    /// # Panics
    /// If it has not, with all that it said.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in\n{self}");
        self
    }

    /// Checks that standard output has `text` in it.
    ///
    /// # Panics
    /// If it has not, with all that it said.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{text:?} is not in\n{self}");
        self
    }

    /// The only document on standard output.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{self}"))
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- stdout\n{}--- stderr\n{}--- exit {}", self.stdout, self.stderr, self.code)
    }
}

/// Where the binary of that name lies: beside the directory `deps` of a test, beside a program of this package.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let dir = own.parent().expect("a program lies in a directory");
    let profile = if dir.ends_with("deps") { dir.parent().expect("`deps` has a parent") } else { dir };
    profile.join(name)
}

/// A command that sees nothing of this environment that concerns queues or terminals.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("QUEUE"));
        if ours(&name) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE");
    command
}

/// `queued`
pub fn queued() -> Command {
    queued_under(&[])
}

/// `queued`, started by the program of these words if there are any.
pub fn queued_under(under: &[String]) -> Command {
    let binary = binary("queued-under-test");
    let Some((program, words)) = under.split_first() else { return clean(Command::new(binary)) };
    let mut command = Command::new(program);
    command.args(words).arg(binary);
    clean(command)
}

/// `queuectl`, without servers named.
pub fn queuectl() -> Command {
    clean(Command::new(binary("queuectl-under-test")))
}

/// Runs `command` to its end with `input` on standard input.
///
/// # Panics
/// If it cannot be started or does not end in two minutes.
pub async fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut running = Running::start(command);
    running.write(input);
    running.end().await
}

/// A program that runs. Killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    name: String,
}

impl Running {
    /// Starts `command` with pipes for all three streams.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self { child, stdout, stderr, name }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input; that it does not read all of it is its own affair.
    pub fn write(&mut self, input: &[u8]) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = stdin.write_all(input).and_then(|()| stdin.flush());
        }
    }

    /// It has ended.
    ///
    /// # Panics
    /// If the system does not know it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// Ends its standard input and waits for its end.
    ///
    /// # Panics
    /// If it does not end in two minutes.
    pub async fn end(mut self) -> Ran {
        drop(self.child.stdin.take());
        let name = self.name.clone();
        let status = until(&format!("{name} ends"), RUN_LIMIT, async || {
            self.child.try_wait().expect("it is a child").ok_or("it runs")
        })
        .await;
        let text = |stream: Option<JoinHandle<Vec<u8>>>| {
            let bytes = stream.map(|thread| thread.join().expect("reading does not panic"));
            bytes.unwrap_or_default()
        };
        let output = Output { status, stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) };
        let ran = Ran {
            code: code(&output),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        if name.contains("queuectl-under-test") {
            schema::check(&ran.stdout);
            schema::check(&ran.stderr);
        }
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error counts.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

fn code(output: &Output) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
