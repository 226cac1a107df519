//! A real `queued serve` of one node, in a control group that limits its memory, and what the system counts of it.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use queue_protocol::client::Client;
use rustix::fs::{major, minor};

/// As the kernel counts them, whatever the device has.
const SECTOR_SIZE: u64 = 512;

/// The data and how the node is started.
pub struct Daemon {
    program: PathBuf,
    dir: PathBuf,
    address: String,
    settings: Vec<(&'static str, String)>,
    group: Option<Group>,
    child: Option<Child>,
}

/// A control group with a limit of memory, page cache included.
struct Group(PathBuf);

impl Group {
    /// In the hierarchy that the system has: version 2, else 1.
    fn new(limit: u64) -> io::Result<Self> {
        let name = format!("queued-backlog-{}", std::process::id());
        let (root, file) = match fs::exists("/sys/fs/cgroup/cgroup.controllers")? {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let group = Self(Path::new(root).join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(file), limit.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It has no process any more; if it is not ours, an empty directory stays.
        let _ = fs::remove_dir(&self.0);
    }
}

impl Daemon {
    /// A formatted node under `dir`, not started. Whether its memory is limited to `memory` bytes is
    /// [`Daemon::limited`].
    ///
    /// # Errors
    /// The program is missing or fails.
    pub fn init(dir: &Path, memory: u64, settings: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let program = release_program()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let group = Group::new(memory).ok();
        let dir = dir.join("n1");
        let daemon = Self { program, dir, address, settings, group, child: None };
        let formatted = daemon.command("init").stdout(Stdio::null()).status()?;
        if !formatted.success() {
            bail!("queued init: {formatted}");
        }
        Ok(daemon)
    }

    /// Whether the control group could be made.
    pub fn limited(&self) -> bool {
        self.group.is_some()
    }

    fn command(&self, what: &str) -> Command {
        // The shell enters the group and becomes the node.
        let mut command = Command::new("sh");
        command.args(["-c", "[ -z \"$GROUP\" ] || echo $$ >\"$GROUP\"; exec \"$@\"", "sh"]);
        let procs = self.group.as_ref().map(|group| group.0.join("cgroup.procs"));
        command.env("GROUP", procs.unwrap_or_default());
        command.arg(&self.program).arg(what).args(["--name", "n1", "--listen", &self.address]);
        command.arg("--data-dir").arg(&self.dir).stdin(Stdio::null());
        command.envs(self.settings.iter().map(|(name, text)| (name, text)));
        command
    }

    /// Starts it; does not wait for it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.with_extension("log"))?;
        let mut serve = self.command("serve");
        self.child = Some(serve.stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// SIGKILL, so that nothing is put in order, and waits until it is gone.
    ///
    /// # Errors
    /// The system.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// A client with a session of its own that waits a minute for the node.
    pub fn client(&self) -> Client {
        crate::client(std::slice::from_ref(&self.address), Duration::from_secs(60))
    }

    fn proc(&self, file: &str, field: &str) -> anyhow::Result<u64> {
        let child = self.child.as_ref().context("the node does not run")?;
        let text = fs::read_to_string(format!("/proc/{}/{file}", child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
        Ok(number.with_context(|| format!("no {field} in {file}"))?.parse()?)
    }

    /// Bytes written to the device of its directory so far, by whomever: the machine has to be quiet. The counts of a
    /// process take a whole folio for each block of it that is changed.
    ///
    /// # Errors
    /// The system does not count them.
    pub fn written(&self) -> anyhow::Result<u64> {
        let device = fs::metadata(&self.dir)?.dev();
        let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
        let text = fs::read_to_string(&path).with_context(|| format!("no counts of the disk in {path}"))?;
        let sectors = text.split_whitespace().nth(6).context("no count of sectors written")?;
        Ok(sectors.parse::<u64>()? * SECTOR_SIZE)
    }

    /// Bytes of memory that are no page cache.
    ///
    /// # Errors
    /// The node does not run.
    pub fn anonymous(&self) -> anyhow::Result<u64> {
        Ok(self.proc("status", "RssAnon")? << 10)
    }

    /// Bytes of disk its directory takes.
    ///
    /// # Errors
    /// The system.
    pub fn disk(&self) -> anyhow::Result<u64> {
        Ok(files(&self.dir)?.iter().map(|(_, blocks)| blocks * 512).sum())
    }

    /// Puts its files out of the page cache; it does not run.
    ///
    /// # Errors
    /// The system.
    pub fn cool(&self) -> anyhow::Result<()> {
        for (path, _) in files(&self.dir)? {
            let file = queue_broker::fs::Disk::open(
                &queue_broker::fs::os::OsDisk,
                &path,
                queue_broker::fs::Open::Read,
            )?;
            file.drop_cache()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ours; it may be gone.
        let _ = self.kill();
    }
}

/// Files under `dir` with their blocks of 512 bytes. One that goes away meanwhile is not counted.
fn files(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files(&entry.path())?),
            Ok(meta) => found.push((entry.path(), meta.blocks())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// `queued` as `cargo build --release` leaves it.
fn release_program() -> anyhow::Result<PathBuf> {
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).context("a bench lies in target/release/deps")?;
    let program = target.join("queued");
    if !program.exists() {
        bail!("{} is missing: run `cargo build --release` first", program.display());
    }
    Ok(program)
}
