//! One run of the handler: a process in a group of its own, the body on its standard input, its end a verdict.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::worker::{Job, Told, Verdict};
use queue_protocol::limits::ERROR_TEXT_SIZE_MAX;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::{Codes, Delays, trace};
use crate::show::clock;
use crate::terminal::output::Talk;

/// What stands for the file with the body.
const FILE: &[u8] = b"{}";
/// A handler that is to give back has so long between SIGTERM and SIGKILL.
const GIVE_BACK_GRACE: Duration = Duration::from_secs(1);
/// What is left of a pipe after its process ended is read for so long: a grandchild may hold it open.
const REST_MAX: Duration = Duration::from_millis(200);
/// A line of standard error that is longer is cut.
const LINE_SIZE_MAX: u64 = 64 << 10;

/// What is run, and what its exit codes mean.
pub(super) struct Handler {
    pub(super) words: Vec<OsString>,
    pub(super) limit: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) ack_on: Codes,
    pub(super) retry_on: Codes,
    pub(super) dead_on: Codes,
    /// Delays that were named for what comes again.
    pub(super) backoff: Option<Delays>,
    /// Delays of the queue, for what comes again without blame.
    pub(super) queue_backoff: Delays,
    pub(super) max_failures: u32,
    /// Its standard output goes to ours; else to standard error.
    pub(super) owns_stdout: bool,
    pub(super) talk: Talk,
}

/// How a run came to its end.
pub(super) struct Ran {
    pub(super) verdict: Verdict,
    /// For people: `exit 75`, `timed out after 1m`.
    pub(super) why: String,
    /// It cannot be run at all.
    pub(super) unusable: bool,
}

/// The program that `word` names, as the system would find it.
///
/// # Errors
/// `handler_not_found`.
pub(super) fn find(word: &OsStr) -> Result<PathBuf, Failure> {
    let shown = word.to_string_lossy();
    let refused = |why: &str| {
        Failure::new("handler_not_found", Exit::Usage, format!("{shown}: {why}. No message was leased."))
    };
    let usable =
        |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if word.as_bytes().contains(&b'/') {
        let path = PathBuf::from(word);
        if usable(&path) {
            return Ok(path);
        }
        let exists = path.exists();
        let failure = refused(if exists { "not an executable file" } else { "no such file" });
        return Err(if exists { failure.hint(format!("chmod +x {shown}")) } else { failure });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(word)).find(|path| usable(path));
    found.ok_or_else(|| {
        let failure = refused("no such command in PATH");
        if Path::new(word).exists() { failure.hint(format!("the one here is ./{shown}")) } else { failure }
    })
}

impl Handler {
    /// Runs it for one message, to its end or until it is told to stop.
    pub(super) async fn run(&self, mut job: Job) -> Ran {
        let (mut child, file) = match self.start(&job) {
            Ok(started) => started,
            Err(error) => return self.unusable(format!("cannot be started: {error}")),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut group = Group(group);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take().expect("asked for"));
        let mut last_line = String::new();
        let (status, ending) = {
            let body = job.body.clone();
            let talk = async { tokio::join!(feed(stdin, body), listen(stderr, &self.talk, &mut last_line)) };
            let watch = self.watch(&mut child, &mut job, &group);
            tokio::pin!(talk, watch);
            let mut all_said = false;
            let ended = loop {
                tokio::select! {
                    biased;
                    _ = &mut talk, if !all_said => all_said = true,
                    ended = &mut watch => break ended,
                }
            };
            if !all_said {
                let _ = timeout(REST_MAX, talk).await;
            }
            ended
        };
        group.0 = None;
        drop(file);
        self.judge(&job, status, ending, last_line)
    }

    /// Waits for the end; tells the process when it is to come.
    async fn watch(
        &self,
        child: &mut Child,
        job: &mut Job,
        group: &Group,
    ) -> (std::io::Result<ExitStatus>, Ending) {
        let limit = async {
            match self.limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let ending = tokio::select! {
            biased;
            status = child.wait() => return (status, Ending::Own),
            told = job.told() => match told {
                Told::LeaseLost => Ending::Lost,
                Told::GiveBack => Ending::GivenBack,
            },
            () = limit => Ending::TimedOut,
        };
        group.signal(Signal::TERM);
        let grace = if ending == Ending::GivenBack { GIVE_BACK_GRACE.min(self.grace) } else { self.grace };
        let status = tokio::select! {
            biased;
            status = child.wait() => status,
            () = sleep(grace) => {
                group.signal(Signal::KILL);
                child.wait().await
            }
        };
        (status, ending)
    }

    fn start(&self, job: &Job) -> std::io::Result<(Child, Option<tempfile::NamedTempFile>)> {
        let mut words = self.words.clone();
        let mut file = None;
        for word in &mut words[1..] {
            if !contains(word.as_bytes(), FILE) {
                continue;
            }
            if file.is_none() {
                let mut made = tempfile::Builder::new().prefix("queuectl-work-").tempfile()?;
                made.write_all(&job.body)?;
                file = Some(made);
            }
            let path = file.as_ref().expect("made above").path().as_os_str().as_bytes();
            *word = OsString::from_vec(replace(word.as_bytes(), FILE, path));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
        if !self.owns_stdout {
            command.stdout(std::io::stderr());
        }
        // A group of its own: Ctrl-C is for the worker, and a pipeline ends as a whole.
        command.process_group(0).kill_on_drop(true);
        self.describe(&mut command, job);
        Ok((command.spawn()?, file))
    }

    fn describe(&self, command: &mut Command, job: &Job) {
        let delivery = &job.delivery;
        let expires = clock::unix_ms_in(Duration::from_millis(delivery.lease_ms));
        command
            .env("QUEUE_NAME", delivery.queue.as_str())
            .env("QUEUE_MESSAGE_ID", delivery.id.to_string())
            .env("QUEUE_LEASE_TOKEN", delivery.token.to_string())
            .env("QUEUE_RECEIPT", job.receipt().to_string())
            .env("QUEUE_ATTEMPT", delivery.attempt.to_string())
            .env("QUEUE_MAX_FAILURES", self.max_failures.to_string())
            .env("QUEUE_ENQUEUED_AT", clock::rfc3339(delivery.pushed_at_ms))
            .env("QUEUE_LEASE_EXPIRES_AT", clock::rfc3339(expires));
        let checkpoint = delivery.checkpoint.as_ref().map(|checkpoint| checkpoint.as_bytes());
        // What no environment can hold is left out.
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| !checkpoint.contains(&0)) {
            command.env("QUEUE_CHECKPOINT", OsStr::from_bytes(checkpoint));
        }
        for (name, variable) in trace::CARRIED {
            // Of the message, never that of the worker.
            match job.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)) {
                Some((_, value)) if !value.contains('\0') => command.env(variable, &**value),
                _ => command.env_remove(variable),
            };
        }
        for (name, value) in job.headers.iter() {
            // What no environment can hold is left out.
            if !value.contains('\0') {
                command.env(format!("QUEUE_HEADER_{}", variable(name)), &**value);
            }
        }
    }

    fn judge(
        &self,
        job: &Job,
        status: std::io::Result<ExitStatus>,
        ending: Ending,
        last_line: String,
    ) -> Ran {
        let status = match status {
            Ok(status) => status,
            Err(error) => return self.unusable(format!("cannot be waited for: {error}")),
        };
        let plain = |verdict, why: &str| Ran { verdict, why: why.to_owned(), unusable: false };
        let delay_ms = self.backoff.map(|backoff| backoff.after_ms(job.delivery.attempt));
        let blame = |why: String| {
            let error = if last_line.is_empty() { why.clone() } else { last_line.clone() };
            Ran { verdict: Verdict::Fail { delay_ms, error }, why, unusable: false }
        };
        match ending {
            Ending::Lost => return plain(Verdict::Release { delay_ms: 0 }, "lease lost"),
            Ending::TimedOut => {
                let limit = humantime::format_duration(self.limit.unwrap_or_default());
                return blame(format!("timed out after {limit}"));
            }
            // One that was done all the same is done.
            Ending::GivenBack if !status.success() => {
                return plain(Verdict::Release { delay_ms: 0 }, "given back");
            }
            Ending::GivenBack | Ending::Own => {}
        }
        let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) else {
            return blame(format!("killed by signal {}", status.signal().unwrap_or_default()));
        };
        let why = format!("exit {code}");
        if self.ack_on.0.contains(&code) {
            plain(Verdict::Ack, &why)
        } else if self.dead_on.0.contains(&code) {
            let reason = if last_line.is_empty() { why.clone() } else { last_line };
            Ran { verdict: Verdict::Reject { reason }, why, unusable: false }
        } else if self.retry_on.0.contains(&code) {
            let delay = self.backoff.unwrap_or(self.queue_backoff).after_ms(job.delivery.attempt);
            plain(Verdict::Release { delay_ms: delay }, &why)
        } else if matches!(code, 126 | 127) {
            self.unusable(format!("exit {code}: it cannot be run"))
        } else {
            blame(why)
        }
    }

    fn unusable(&self, why: String) -> Ran {
        Ran { verdict: Verdict::Release { delay_ms: 0 }, why, unusable: true }
    }
}

/// Why a process came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// By itself.
    Own,
    /// It ran too long.
    TimedOut,
    /// Its lease was lost.
    Lost,
    /// The worker gives everything back.
    GivenBack,
}

/// The process group of a handler that runs, killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended this moment.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Writes the body; a handler need not read what it gets.
async fn feed(stdin: Option<ChildStdin>, body: Bytes) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&body).await;
    }
}

/// Hands standard error on, line by line, and keeps the last one that says something.
async fn listen(stderr: ChildStderr, talk: &Talk, last: &mut String) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut lines).take(LINE_SIZE_MAX);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                talk.line(text);
                if !text.trim().is_empty() {
                    text[..text.floor_char_boundary(ERROR_TEXT_SIZE_MAX)].clone_into(last);
                }
            }
        }
    }
}

/// A header's name as part of a variable's: letters and digits, in capitals.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

fn replace(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len() + with.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(what) {
            replaced.extend_from_slice(with);
            at += what.len();
        } else {
            replaced.push(text[at]);
            at += 1;
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_is_not_there_is_named_before_anything_is_leased() {
        for (word, why) in
            [("./resiz.sh", "no such file"), ("/etc/passwd", "not an executable"), ("resiz-it", "in PATH")]
        {
            let failure = find(OsStr::new(word)).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("handler_not_found", Exit::Usage));
            assert!(failure.message.contains(why) && failure.message.contains("No message was leased"));
        }
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
    }

    #[test]
    fn the_file_stands_anywhere_in_an_argument() {
        assert_eq!(replace(b"in={},{}", FILE, b"/tmp/x"), b"in=/tmp/x,/tmp/x");
        assert_eq!(replace(b"{ }", FILE, b"/tmp/x"), b"{ }");
    }

    #[test]
    fn headers_become_variables() {
        assert_eq!(variable("content-type"), "CONTENT_TYPE");
    }
}
