//! Machines with names of their own on this one: each command sees the host names of one table, runs in the directory of
//! its machine and finds `queued` and `queuectl` in its `PATH`. Only to be used as root, or where namespaces of users are
//! allowed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::cluster::random;
use crate::program::{Ran, clean, queuectl, queued, run};

/// Puts the table of hosts and the name of the machine in their places, then becomes the shell for the commands.
const ENTER: &str = r#"mount --bind "$0" /etc/hosts && hostname "$1" && cd "$2" && exec sh -c "$3""#;

/// All of them, removed at the end.
pub struct Machines {
    dir: TempDir,
    /// The address of each, if its name is known.
    addresses: BTreeMap<&'static str, Option<String>>,
}

impl Machines {
    /// Machines of these names, each with an address.
    ///
    /// # Panics
    /// If their files cannot be made.
    pub fn new(names: &[&'static str]) -> Self {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let programs = dir.path().join("programs");
        let made = std::fs::create_dir(&programs).and_then(|()| {
            symlink(queued().get_program(), programs.join("queued"))?;
            symlink(queuectl().get_program(), programs.join("queuectl"))?;
            names.iter().try_for_each(|name| std::fs::create_dir(dir.path().join(name)))
        });
        made.expect("the directory is ours");
        let mut machines = Self { dir, addresses: BTreeMap::new() };
        machines.place(names);
        machines
    }

    /// Gives these machines addresses that they did not have.
    pub fn place(&mut self, names: &[&'static str]) {
        for name in names {
            let [a, b, c] = random::<3>();
            self.addresses.insert(name, Some(format!("127.{}.{b}.{}", a.max(1), c.clamp(1, 254))));
        }
        self.write();
    }

    /// Makes the name of a machine unknown.
    pub fn hide(&mut self, name: &'static str) {
        self.addresses.insert(name, None);
        self.write();
    }

    /// Writes the table, in place: it is mounted where the machines look. A line stays where it is and as long as it is, so
    /// that who reads meanwhile finds all names that do not change.
    fn write(&self) {
        let mut table = "127.0.0.1 localhost\n".to_owned();
        for (name, address) in &self.addresses {
            let shown = address.as_ref().map_or_else(|| "#".to_owned(), ToString::to_string);
            writeln!(table, "{shown:<15} {name}").expect("a string takes all");
        }
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(false).open(self.dir.path().join("hosts"));
        file.and_then(|mut file| file.write_all(table.as_bytes())).expect("the directory is ours");
    }

    /// The directory of a machine.
    pub fn dir(&self, machine: &str) -> PathBuf {
        self.dir.path().join(machine)
    }

    /// What a machine logs.
    pub fn log(&self, machine: &str) -> PathBuf {
        self.dir.path().join(format!("{machine}.log"))
    }

    /// The same, read.
    pub fn log_of(&self, machine: &str) -> String {
        let log = std::fs::read(self.log(machine)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// `line`, as it is typed on a machine.
    pub fn command(&self, machine: &str, line: &str) -> Command {
        let mut command = clean(Command::new("unshare"));
        command.args(["--mount", "--uts"]);
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(["sh", "-c", ENTER]).arg(self.dir.path().join("hosts")).arg(machine);
        command.arg(self.dir(machine)).arg(line);
        command.env("PATH", format!("{}:{path}", self.dir.path().join("programs").display()));
        command.env("XDG_STATE_HOME", self.dir(machine));
        command
    }

    /// Types `line` on a machine and waits for its end.
    pub async fn run(&self, machine: &str, line: &str) -> Ran {
        run(&mut self.command(machine, line), b"").await
    }

    /// Copies a file of one machine to another.
    ///
    /// # Panics
    /// If there is none.
    pub fn copy(&self, file: &str, from: &str, to: &str) {
        let copied = std::fs::copy(self.dir(from).join(file), self.dir(to).join(file));
        copied.unwrap_or_else(|error| panic!("{file} of {from}: {error}"));
    }

    /// Removes a directory of a machine.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn wipe(&self, machine: &str, dir: &str) {
        std::fs::remove_dir_all(self.dir(machine).join(dir)).expect("it is there");
    }
}

/// The commands of the blocks ```` ```sh ```` under a heading of the README, with lines that go on joined and remarks
/// removed.
///
/// # Panics
/// If there is no such heading.
pub fn readme_commands(heading: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).expect("there is a README");
    let (_, section) = text.split_once(&format!("\n{heading}\n")).expect("the README has this heading");
    let section =
        section.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let joined: String = blocks.map(|block| block.replace("\\\n", " ")).collect();
    let without_remark = |line: &str| line.split("  #").next().unwrap_or_default().trim().to_owned();
    let lines = joined.lines().filter(|line| !line.starts_with('#')).map(without_remark);
    lines.filter(|line| !line.is_empty()).collect()
}
