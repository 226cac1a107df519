//! One `queued serve`: started, killed, paused and started again by its process id.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of its log that are shown when a test fails.
const LINES_SHOWN: usize = 80;

/// A daemon whose output goes to a file. Killed when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `command`; what it says is added to the file `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let open = || OpenOptions::new().create(true).append(true).open(log).expect("the directory is ours");
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself; the test will see.
        let _ = kill_process(pid.expect("a child has a process id"), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.kill_and_wait();
    }

    /// SIGKILL to all before any is waited for.
    pub fn kill_all(daemons: Vec<Self>) {
        daemons.iter().for_each(|daemon| daemon.signal(Signal::KILL));
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system does not know it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is a child")
    }

    fn kill_and_wait(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill_and_wait();
    }
}

/// Memory of a process that is resident, bytes; `None` if it does not run.
pub fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Prints the end of a log file, for a test that fails.
#[expect(clippy::print_stderr, reason = "this is for the person who reads why a test failed")]
pub fn show_log(name: &str, log: &PathBuf) {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- end of the log of {name}, {} lines in all", lines.len());
    for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        eprintln!("{line}");
    }
}
