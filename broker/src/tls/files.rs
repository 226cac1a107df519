//! The files of TLS: read whole, a key only if nobody else may read it; and whether they were changed since.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use queue_protocol::client::tls::certificates;
use queue_protocol::client::tls::pki_types::pem::PemObject as _;
use queue_protocol::client::tls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, TlsOptions};
use crate::config::credential;

/// Larger is no key.
const KEY_FILE_SIZE_MAX: u64 = 64 << 10;
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// The certificates of a file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(path).map_err(|error| TlsError::File { what: error.to_string() })
}

/// The text of a key's file.
///
/// # Errors
/// Somebody else may read it, or it cannot be read.
pub(super) fn key_text(path: &Path) -> Result<String, TlsError> {
    let failed = |error: std::io::Error| TlsError::file(path, error);
    let file = File::open(path).map_err(failed)?;
    // Of the file that is read, not of one that took its place.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & OTHERS != 0 && !credential::is_one(path) {
        return Err(TlsError::KeyOpen { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(KEY_FILE_SIZE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The key of a file.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = key_text(path)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| TlsError::file(path, format!("holds no key in PEM: {error}")))
}

/// What is looked at to see that files were changed: where a link leads, and of the file behind it device, inode, size and
/// both times. A directory whose link is swapped, as Kubernetes does it, shows in the inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(PathBuf, [i64; 6])>>);

impl Stamp {
    /// Of the files that the options name.
    pub(super) fn of(options: &TlsOptions) -> Self {
        let files = [&options.cert, &options.key, &options.ca];
        Self(files.into_iter().map(|file| file.as_deref().and_then(stamp)).collect())
    }
}

#[expect(clippy::cast_possible_wrap, reason = "they are only compared")]
fn stamp(path: &Path) -> Option<(PathBuf, [i64; 6])> {
    let file = std::fs::metadata(path).ok()?;
    let target = std::fs::read_link(path).unwrap_or_default();
    let times = [file.mtime(), file.mtime_nsec(), file.ctime_nsec()];
    let [a, b, c] = times;
    Some((target, [file.dev() as i64, file.ino() as i64, file.size() as i64, a, b, c]))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        std::fs::write(&path, "x").unwrap();
        for mode in [0o640, 0o604, 0o644, 0o610] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = key_text(&path).unwrap_err();
            assert_eq!(refused, TlsError::KeyOpen { path: path.clone(), mode });
            assert_eq!(refused.hint(), Some(format!("chmod go= {}", path.display())));
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key_text(&path), Ok("x".to_owned()));
        assert!(matches!(read_key(&path), Err(TlsError::File { .. })));
    }

    #[test]
    fn a_swapped_link_and_a_file_in_the_place_of_another_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["1", "2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("tls.crt"), "same").unwrap();
        }
        symlink(at("1"), at("data")).unwrap();
        let options = TlsOptions { cert: Some(at("data").join("tls.crt")), ..TlsOptions::default() };
        let before = Stamp::of(&options);
        assert_eq!(Stamp::of(&options), before);
        symlink(at("2"), at("next")).unwrap();
        std::fs::rename(at("next"), at("data")).unwrap();
        let swapped = Stamp::of(&options);
        assert_ne!(swapped, before);
        std::fs::write(at("new"), "same").unwrap();
        std::fs::rename(at("new"), at("2").join("tls.crt")).unwrap();
        assert_ne!(Stamp::of(&options), swapped);
        std::fs::remove_file(at("2").join("tls.crt")).unwrap();
        assert_ne!(Stamp::of(&options), swapped);
    }
}
