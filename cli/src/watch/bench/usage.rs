//! What the nodes of this machine use: processor time and memory, read from /proc. Elsewhere there is nothing to read,
//! and the report says nothing of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a node used so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) address: String,
    pub(super) pid: u32,
    /// User and system time together.
    pub(super) cpu: Duration,
    /// Resident memory in bytes.
    pub(super) resident: u64,
}

/// The nodes' processes.
pub(super) struct Processes(Vec<(String, u32)>);

impl Processes {
    /// Those that listen at these addresses, if they are on this machine and ours to look at. Takes a while: it reads all
    /// processes' open files.
    pub(super) fn find(addresses: &[String]) -> Self {
        let ports: Vec<(u16, &String)> = addresses
            .iter()
            .filter(|address| address.starts_with("127.") || address.starts_with("localhost:"))
            .filter_map(|address| Some((address.rsplit_once(':')?.1.parse().ok()?, address)))
            .collect();
        if ports.is_empty() {
            return Self(Vec::new());
        }
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let wanted: Vec<(String, &String)> = table
            .lines()
            .filter_map(listening)
            .filter_map(|(port, inode)| {
                let (_, address) = ports.iter().find(|(listens, _)| *listens == port)?;
                Some((format!("socket:[{inode}]"), *address))
            })
            .collect();
        let mut found = BTreeMap::new();
        for pid in pids() {
            let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            for link in links.filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
                if let Some((_, address)) = wanted.iter().find(|(socket, _)| link == Path::new(socket)) {
                    found.entry((*address).clone()).or_insert(pid);
                }
            }
        }
        Self(found.into_iter().collect())
    }

    /// What they used so far.
    pub(super) fn usage(&self) -> Vec<Usage> {
        self.0.iter().filter_map(|(address, pid)| read(*pid, address)).collect()
    }
}

/// Port and inode of a line of /proc/net/tcp that is a listening socket.
fn listening(line: &str) -> Option<(u16, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = fields.get(1)?.rsplit_once(':')?.1;
    let inode = fields.get(9)?.parse().ok()?;
    (fields.get(3) == Some(&LISTEN)).then_some((u16::from_str_radix(port, 16).ok()?, inode))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(pid: u32, address: &str) -> Option<Usage> {
    let file = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let (cpu, resident) = (cpu(&file("stat")?)?, resident(&file("status")?)?);
    Some(Usage { address: address.to_owned(), pid, cpu, resident })
}

/// User and system time of /proc/PID/stat.
fn cpu(stat: &str) -> Option<Duration> {
    // The name before it may have anything in it, so the fields are counted from behind its closing bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
}

/// Resident bytes of /proc/PID/status.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What this process used so far.
pub(super) fn own() -> Option<Duration> {
    cpu(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let addresses = [address.clone(), "127.0.0.1:1".to_owned(), "example.org:80".to_owned()];
        let usages = Processes::find(&addresses).usage();
        let pids: Vec<_> = usages.iter().map(|usage| (usage.address.clone(), usage.pid)).collect();
        assert_eq!(pids, [(address, std::process::id())]);
        assert!(usages[0].resident > 1 << 20, "{usages:?}");
    }

    #[test]
    fn the_name_of_a_process_may_have_anything_in_it() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5 6 7";
        let expected = Duration::from_millis(300_000 / rustix::param::clock_ticks_per_second());
        assert_eq!(cpu(stat), Some(expected));
    }
}
