//! What the nodes of a dev cluster say: a file each.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::commands::failure::Failure;

/// A file that log lines are added to.
pub(super) fn append_to(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Failure::io(path.display(), &error))
}

/// The last `count` lines of a file, as far back as 64 KiB; none if it cannot be read.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    const BACK: u64 = 64 << 10;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(BACK)))?;
        file.take(BACK).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(ToString::to_string).collect()
}

/// Copies what a node says to its file and, with its name before each line, to standard error.
pub(super) fn relay(
    name: String,
    from: impl std::io::Read + Send + 'static,
    mut to: File,
) -> std::io::Result<()> {
    let copy = move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
            // A full disk or a closed terminal must not stop the node, which waits for its pipe to be read.
            let _ = to.write_all(&line);
            let _ = std::io::stderr().write_all(&[name.as_bytes(), b" | ", &line].concat());
            line.clear();
        }
    };
    std::thread::Builder::new().name("relay".into()).spawn(copy).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("n1.log");
        assert!(last_lines(&path, 3).is_empty());
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(last_lines(&path, 2), ["b", "c"]);
        assert_eq!(last_lines(&path, 9).len(), 3);
    }
}
