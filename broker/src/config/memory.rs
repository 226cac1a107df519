//! How much memory this machine has for the node.

use std::path::{Path, PathBuf};

use crate::server::{MEMORY_DEFAULT_MAX, MEMORY_MIN};

/// A quarter of what the cgroup of this process may have, or the machine has, within the bounds of the default.
pub(super) fn default_size() -> usize {
    default_of(limit_under(Path::new("/")))
}

fn default_of(limit: Option<u64>) -> usize {
    let quarter = limit.and_then(|limit| usize::try_from(limit / 4).ok());
    quarter.unwrap_or(MEMORY_DEFAULT_MAX).clamp(MEMORY_MIN, MEMORY_DEFAULT_MAX)
}

/// The least that bounds this process: the machine, or a cgroup it is in, of version 2 or 1; as the system of files under
/// `root` tells.
fn limit_under(root: &Path) -> Option<u64> {
    let machine = read(root, "proc/meminfo").and_then(|text| total_of(&text));
    let own = read(root, "proc/self/cgroup").unwrap_or_default();
    let groups = own.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (base, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return Vec::new();
        };
        // The groups above bound it, too. In a container its own group is the root of what can be seen.
        let path = PathBuf::from(path.trim_start_matches('/'));
        path.ancestors().map(|group| Path::new(base).join(group).join(file)).collect()
    });
    let limits = groups.filter_map(|file| read(root, file)?.trim().parse::<u64>().ok());
    machine.into_iter().chain(limits).min()
}

fn read(root: &Path, file: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok()
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("there is a temporary directory");
        for (file, text) in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("it is under the root")).expect("it is ours");
            std::fs::write(path, text).expect("it is ours");
        }
        limit_under(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_narrowest_bound_counts() {
        let of_two = ("proc/self/cgroup", "0::/system.slice/queued.service\n");
        let no_bound = ("sys/fs/cgroup/system.slice/queued.service/memory.max", "max\n");
        let above = ("sys/fs/cgroup/system.slice/memory.max", "1000000000\n");
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[MACHINE]), Some(16_384_000_000));
        assert_eq!(limit(&[MACHINE, of_two, no_bound]), Some(16_384_000_000));
        assert_eq!(limit(&[MACHINE, of_two, no_bound, above]), Some(1_000_000_000));
        let of_one = ("proc/self/cgroup", "9:cpu:/x\n4:memory,hugetlb:/docker/7\n0::/\n");
        let bound = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "700000000\n");
        assert_eq!(limit(&[MACHINE, of_one, bound]), Some(700_000_000));
        assert_eq!(limit(&[MACHINE, of_one, above]), Some(16_384_000_000), "it is in another one");
    }

    #[test]
    fn the_default_is_a_quarter_within_bounds() {
        assert_eq!(default_of(None), MEMORY_DEFAULT_MAX);
        assert_eq!(default_of(Some(1_000_000_000)), 250_000_000);
        assert_eq!(default_of(Some(1 << 20)), MEMORY_MIN);
        assert_eq!(default_of(Some(1 << 40)), MEMORY_DEFAULT_MAX);
    }
}
