//! What a node writes is for its own user, whatever the umask; what others may read is said, with the command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use harness::bodies::push;
use harness::cluster::{Cluster, Place};
use harness::{LIMIT, until};

/// What lies in `dir`, itself included, with its mode.
fn modes(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((path.to_owned(), metadata.permissions().mode() & 0o777, metadata.is_dir()))
    };
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        // A file that was replaced this moment has no mode.
        let Some((path, mode, is_dir)) = mode(&next) else { continue };
        found.push((path, mode));
        if is_dir {
            let entries = std::fs::read_dir(&next).expect("it is a directory");
            left.extend(entries.map(|entry| entry.expect("it can be listed").path()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_is_for_its_own_user_whatever_the_umask_and_what_is_not_is_said() {
    let under = ["sh", "-c", "umask 0; exec \"$@\"", "sh"].map(str::to_owned).into();
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let place = Place { under, ..Place::local(home.path().join("n1")) };
    let settings = [("QUEUED_RAFT_SNAPSHOT_EVERY", "5"), ("QUEUED_STORAGE_SEGMENT_SIZE", "64KiB")];
    let mut cluster = Cluster::start_in(home, vec![place], &settings).await;
    for number in 0..40 {
        push(&cluster.client(), "q", &[vec![b'x'; 8_000]]).await.unwrap_or_else(|e| panic!("{number}: {e}"));
    }
    until("there is a snapshot", LIMIT, async || {
        let status = cluster.status(0).await?;
        if status.snapshot_index > 0 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let found = modes(cluster.data_dir(0));
    assert!(found.len() > 10, "{found:?}");
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert!(mode == expected || !path.exists(), "{} has mode {mode:04o}", path.display());
    }
    assert!(!cluster.log_of(0).contains("chmod"), "{}", cluster.log_of(0));

    cluster.stop(0).await;
    let dir = cluster.data_dir(0).to_owned();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    cluster.restart(0).await;
    let said = cluster.log_of(0);
    assert!(said.contains("can be read by other users") && said.contains("chmod -R go= "), "{said}");
}
