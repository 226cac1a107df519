//! A child process: signalled only while it is surely ours, always reaped.

use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use crate::locked::Locked as _;

/// A child process that was started; dropped, it goes on, but its standard input ends.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    child: Arc<Mutex<Child>>,
    ended: watch::Receiver<Option<ExitStatus>>,
    /// What the child reads, if it is a pipe; it ends when this process does.
    _input: Option<ChildStdin>,
}

impl Process {
    /// Starts it, and a thread that waits for its end.
    pub(super) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        let (sender, ended) = watch::channel(None);
        let reaped = Arc::clone(&child);
        let wait = move || {
            sender.send_replace(Some(reap(pid, &reaped)));
        };
        std::thread::Builder::new().name(format!("wait {pid}")).spawn(wait)?;
        Ok(Self { pid, child, ended, _input: input })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.expect("the thread that waits sends a status before it ends")
    }

    /// Sends a signal, unless it has ended. Its number cannot have gone to another: it is reaped under the same lock.
    pub(super) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let mut child = locked(&self.child);
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        Ok(kill_process(id(self.pid), signal)?)
    }
}

/// Waits until the child has ended, and reaps it.
fn reap(pid: u32, child: &Mutex<Child>) -> ExitStatus {
    // The lock is not held while it runs: waiting leaves the child to be reaped below.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(Errno::INTR) = waitid(WaitId::Pid(id(pid)), options) {}
    locked(child).wait().expect("a child of this process can be waited for")
}

fn id(pid: u32) -> Pid {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.expect("the system gave this number to a process")
}

fn locked(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.locked()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn a_child_is_told_apart_from_one_that_ended() {
        let process = Process::spawn(Command::new("cat").stdin(Stdio::piped())).unwrap();
        assert_eq!(process.status(), None);
        process.signal(Signal::KILL).unwrap();
        assert_eq!(process.ended().await.signal(), Some(9));
        assert_eq!(process.status().unwrap().signal(), Some(9));
        process.signal(Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn the_childs_input_ends_with_the_handle() {
        let process = Process::spawn(Command::new("cat").stdin(Stdio::piped())).unwrap();
        let mut ended = process.ended.clone();
        drop(process);
        let status = ended.wait_for(Option::is_some).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}
