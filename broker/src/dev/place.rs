//! Where a dev cluster lives: its directory, its ports, and what it leaves for others to find.

use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::secure;
use crate::commands::failure::Failure;
use crate::commands::machine::random_bytes;
use crate::commands::probe;
use crate::outside::ExitStatus;
use crate::tls::TlsMode;

/// Between the ports of two nodes.
const PORT_STEP: u16 = 10;
/// The first port, if none is named.
pub(super) const BASE_PORT_DEFAULT: u16 = 7410;
/// Nodes, if nothing else is said.
const NODES_DEFAULT: usize = 3;
/// In the directory: the ports of the nodes, one a line.
const PORTS_FILE: &str = "ports";
/// Longer is no file of ours.
const PORTS_SIZE_MAX: u64 = 1 << 10;

/// How ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// As before, or from the usual one on.
    Usual,
    /// From this one on.
    From(u16),
    /// Whatever is free.
    Any,
}

/// The directory of a cluster; unless it is kept, it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute.
    pub(super) dir: PathBuf,
    /// It stays.
    pub(super) kept: bool,
    /// A port a node; n1 has the first.
    pub(super) ports: Vec<u16>,
    /// A port a node for HTTP, beside its own if that is free.
    pub(super) http_ports: Vec<u16>,
    /// How its nodes speak.
    pub(super) tls: TlsMode,
    /// Logins are required.
    pub(super) auth: bool,
    /// Written for programs that look for this cluster.
    note: OnceLock<PathBuf>,
}

impl Place {
    /// The directory, made if it is missing, and its ports, which nobody else listens on.
    pub(super) async fn take(
        dir: Option<&Path>,
        keep: bool,
        nodes: Option<usize>,
        ports: Ports,
    ) -> Result<Self, Failure> {
        let (dir, kept) = match dir {
            Some(dir) => (make(dir)?, true),
            None => (make_temporary()?, keep),
        };
        let mut place = Self {
            dir,
            kept,
            ports: Vec::new(),
            http_ports: Vec::new(),
            tls: TlsMode::Off,
            auth: false,
            note: OnceLock::new(),
        };
        let before = place.read_ports()?;
        place.ports = choose(&place.dir, &before, nodes, ports)?;
        for port in &place.ports {
            refuse_taken(*port).await?;
        }
        place.http_ports = beside(&place.ports)?;
        if place.ports != before {
            let text: String = place.ports.iter().map(|port| format!("{port}\n")).collect();
            let path = place.dir.join(PORTS_FILE);
            std::fs::write(&path, text).map_err(|error| Failure::io(path.display(), &error))?;
        }
        Ok(place)
    }

    /// Where the node with this number, from 1, keeps its data.
    pub(super) fn data_dir(&self, number: usize) -> PathBuf {
        self.dir.join(format!("n{number}"))
    }

    /// Where its log lines go.
    pub(super) fn log_file(&self, number: usize) -> PathBuf {
        self.dir.join(format!("n{number}.log"))
    }

    /// Where it listens.
    pub(super) fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.ports[number - 1])
    }

    /// Where it serves HTTP.
    pub(super) fn http_address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.http_ports[number - 1])
    }

    /// Where each node serves HTTP, `host:port`, in the order of their numbers.
    pub(super) fn http_addresses(&self) -> Vec<String> {
        (1..=self.http_ports.len()).map(|number| self.http_address(number)).collect()
    }

    /// The file of the authority that vouches for its nodes, if they speak TLS.
    pub(super) fn authority(&self) -> Option<PathBuf> {
        (self.tls != TlsMode::Off).then(|| secure::authority(&self.dir))
    }

    /// Where all of them do.
    pub(super) fn addresses(&self) -> Vec<String> {
        (1..=self.ports.len()).map(|number| self.address(number)).collect()
    }

    /// A directory for `PATH`: in it this program under the name `queuectl`.
    pub(super) fn bin_dir(&self, program: &Path) -> Result<PathBuf, Failure> {
        let bin = self.dir.join("bin");
        let link = bin.join("queuectl");
        let linked = std::fs::create_dir_all(&bin).and_then(|()| {
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(program, &link)
        });
        linked.map_err(|error| Failure::io(link.display(), &error))?;
        Ok(bin)
    }

    /// Leaves a note where programs of this user look for the cluster; it goes with the cluster.
    pub(super) fn leave_note(&self, runtime_dir: &Path) -> Result<(), Failure> {
        let dir = runtime_dir.join("queued");
        let path = dir.join("dev.json");
        let servers: Vec<String> = self.addresses().iter().map(|address| format!("\"{address}\"")).collect();
        let text = format!(
            "{{\"schema\":\"dev/v1\",\"pid\":{},\"servers\":[{}]}}\n",
            std::process::id(),
            servers.join(",")
        );
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| Failure::io(path.display(), &error))?;
        // A second note is the same one.
        let _ = self.note.set(path);
        Ok(())
    }

    fn read_ports(&self) -> Result<Vec<u16>, Failure> {
        let path = self.dir.join(PORTS_FILE);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(PORTS_SIZE_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Failure::io(path.display(), &error)),
            Ok(_) => text.lines().map(str::parse).collect::<Result<_, _>>().map_err(|_| {
                Failure::new(
                    ExitStatus::Directory,
                    "foreign",
                    format!(
                        "{} does not hold ports: is this the directory of a dev cluster?",
                        path.display()
                    ),
                )
            }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Place {
    /// Removes what is not to stay.
    pub(super) fn clear(&self) {
        // What cannot be removed now is left to whoever cleans up temporary files.
        if let Some(note) = self.note.get() {
            let _ = std::fs::remove_file(note);
        }
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn make(dir: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::create_dir_all(dir).and_then(|()| dir.canonicalize());
    made.map_err(|error| Failure::io(dir.display(), &error))
}

fn make_temporary() -> Result<PathBuf, Failure> {
    let name = format!("queued-dev-{:016x}", u64::from_le_bytes(random_bytes()));
    let dir = std::env::temp_dir().join(name);
    let made = DirBuilder::new().mode(0o700).create(&dir).and_then(|()| dir.canonicalize());
    made.map_err(|error| Failure::io(dir.display(), &error))
}

/// The ports of a cluster that had `before`; its nodes know each other by them.
fn choose(dir: &Path, before: &[u16], nodes: Option<usize>, ports: Ports) -> Result<Vec<u16>, Failure> {
    let foreign = |what: String| {
        Failure::new(ExitStatus::Config, "config", format!("{} {what}", dir.display()))
            .hint("--data-dir with another directory begins anew")
    };
    let count = nodes.unwrap_or(if before.is_empty() { NODES_DEFAULT } else { before.len() });
    if count < before.len() {
        return Err(foreign(format!("holds a cluster of {} nodes, not of {count}", before.len())));
    }
    match (ports, before.first()) {
        (Ports::From(base), Some(first)) if base != *first => {
            return Err(foreign(format!("holds a cluster at port {first}, not at {base}")));
        }
        (Ports::Any, None) => return free_ports(count),
        _ => {}
    }
    let base = if let Ports::From(base) = ports { base } else { BASE_PORT_DEFAULT };
    let mut all = before.to_vec();
    while all.len() < count {
        let next = all.last().map_or(Some(base), |last| last.checked_add(PORT_STEP));
        all.push(
            next.ok_or_else(|| Failure::new(ExitStatus::Usage, "usage", "there are no ports beyond 65535"))?,
        );
    }
    Ok(all)
}

fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    // All are held until all are known, so that none comes twice.
    let held: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let ports = held.and_then(|held| held.iter().map(|port| Ok(port.local_addr()?.port())).collect());
    ports.map_err(|error| Failure::io("no free port", &error))
}

/// For each port the next one, or any that is free.
fn beside(ports: &[u16]) -> Result<Vec<u16>, Failure> {
    let mut all: Vec<u16> = Vec::new();
    for port in ports {
        let next = port.checked_add(1).filter(|next| !ports.contains(next));
        let next = next.filter(|next| TcpListener::bind(("127.0.0.1", *next)).is_ok());
        let next = match next {
            Some(next) => next,
            None => loop {
                let any = free_ports(1)?[0];
                if !all.contains(&any) && !ports.contains(&any) {
                    break any;
                }
            },
        };
        all.push(next);
    }
    Ok(all)
}

async fn refuse_taken(port: u16) -> Result<(), Failure> {
    let address = format!("127.0.0.1:{port}");
    let Err(error) = TcpListener::bind(&address) else { return Ok(()) };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Err(Failure::new(ExitStatus::Unavailable, "port", format!("{address}: {error}"))
            .hint("--base-port 8410 or --any-port"));
    }
    let who = match probe::holder(&address).await {
        Some(holder) => format!(" ({holder}: is a dev cluster running already?)"),
        None => String::new(),
    };
    let other = if port == 8410 { 9410 } else { 8410 };
    Err(Failure::new(ExitStatus::Unavailable, "port_in_use", format!("{address} is in use{who}"))
        .hint(format!("queued dev --base-port {other}, or queued dev --any-port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(before: &[u16], nodes: Option<usize>, ports: Ports) -> Result<Vec<u16>, i32> {
        choose(Path::new("d"), before, nodes, ports).map_err(|failure| failure.status.code())
    }

    #[test]
    fn ports_are_ten_apart_and_stay_what_they_were() {
        assert_eq!(chosen(&[], None, Ports::Usual), Ok(vec![7410, 7420, 7430]));
        assert_eq!(chosen(&[], Some(1), Ports::From(8000)), Ok(vec![8000]));
        assert_eq!(chosen(&[8000, 9000, 9001], None, Ports::Usual), Ok(vec![8000, 9000, 9001]));
        assert_eq!(chosen(&[8000], Some(3), Ports::From(8000)), Ok(vec![8000, 8010, 8020]));
        assert_eq!(chosen(&[8000], None, Ports::Any), Ok(vec![8000]));
        assert_eq!(chosen(&[8000], None, Ports::From(7410)), Err(78));
        assert_eq!(chosen(&[1, 2, 3], Some(1), Ports::Usual), Err(78));
        assert_eq!(chosen(&[], Some(3), Ports::From(65530)), Err(2));
        let any = chosen(&[], Some(5), Ports::Any).unwrap();
        assert_eq!(any.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }

    #[tokio::test]
    async fn a_place_is_found_again_unless_it_was_temporary() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d");
        let place = Place::take(Some(&dir), false, Some(1), Ports::Any).await.unwrap();
        let ports = place.ports.clone();
        drop(place);
        let again = Place::take(Some(&dir), false, None, Ports::Usual).await.unwrap();
        assert_eq!((again.ports.clone(), again.data_dir(1)), (ports, dir.canonicalize().unwrap().join("n1")));

        let temporary = Place::take(None, false, Some(1), Ports::Any).await.unwrap();
        temporary.leave_note(root.path()).unwrap();
        let bin = temporary.bin_dir(Path::new("/bin/true")).unwrap();
        assert_eq!(temporary.bin_dir(Path::new("/bin/sh")).unwrap(), bin);
        assert_eq!(std::fs::read_link(bin.join("queuectl")).unwrap(), Path::new("/bin/sh"));
        let note = root.path().join("queued/dev.json");
        let text = std::fs::read_to_string(&note).unwrap();
        assert!(text.contains(&format!("\"servers\":[\"{}\"]", temporary.address(1))), "{text}");
        let gone = temporary.dir.clone();
        drop(temporary);
        assert!(!gone.exists() && !note.exists());
    }

    #[tokio::test]
    async fn a_directory_of_something_else_and_a_port_in_use_are_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(PORTS_FILE), "x").unwrap();
        assert_eq!(
            Place::take(Some(root.path()), false, None, Ports::Any).await.unwrap_err().status,
            ExitStatus::Directory
        );
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let refused = Place::take(None, false, Some(1), Ports::From(port)).await.unwrap_err();
        assert_eq!((refused.status, refused.code), (ExitStatus::Unavailable, "port_in_use"));
    }
}
