//! The cluster's secret on disk: `SECRET`, 64 hex digits and a newline, for its owner only.
//!
//! Who has it can be a peer. It is never printed, not even in an error about it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use queue_protocol::hello::Secret;

use crate::fs::{Disk, DiskError, Open, replace_file};

/// Name of the file in the data directory.
pub const SECRET_FILE: &str = "SECRET";

/// Hex digits of a secret.
const DIGITS: usize = 64;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The disk failed, or there is no such file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file holds something else.
    #[error("{} holds no secret: expected {DIGITS} hex digits and a newline", path.display())]
    NoSecret {
        /// Which file.
        path: PathBuf,
    },
}

/// Writes the secret into a data directory, durable on return, replacing what was there.
///
/// # Errors
///
/// The disk failed; see [`replace_file`].
pub async fn write(disk: &dyn Disk, dir: &Path, secret: &Secret) -> Result<(), DiskError> {
    write_as(disk, dir, SECRET_FILE, secret).await
}

/// The same as a file of any name.
pub(super) async fn write_as(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    secret: &Secret,
) -> Result<(), DiskError> {
    let mut text = String::with_capacity(DIGITS + 1);
    for byte in secret.0 {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text.push('\n');
    replace_file(disk, dir, name, Open::Create, text.as_bytes()).await
}

/// Reads the secret of a data directory.
///
/// # Errors
///
/// [`SecretError::Disk`], of kind `NotFound` if there is none; [`SecretError::NoSecret`] if the file is not exactly
/// 64 hex digits with or without a newline.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Secret, SecretError> {
    read_file(disk, &dir.join(SECRET_FILE))
}

/// The same for a file of any name, as `join --secret-file` names one.
///
/// # Errors
///
/// As [`read`].
pub fn read_file(disk: &dyn Disk, path: &Path) -> Result<Secret, SecretError> {
    let file = disk.open(path, Open::Read)?;
    let mut text = [0; DIGITS + 1];
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
    let no_secret = || SecretError::NoSecret { path: path.to_owned() };
    let text = text.get_mut(..size).ok_or_else(no_secret)?;
    file.read_at(text, 0)?;
    decode(text).ok_or_else(no_secret)
}

fn decode(text: &[u8]) -> Option<Secret> {
    let digits = match text {
        [digits @ .., b'\n'] => digits,
        digits => digits,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut secret = [0; 32];
    if pairs.len() != secret.len() || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, [high, low]) in secret.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Secret(secret))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::unix::fs::PermissionsExt as _;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::fs::os::OsDisk;
    use crate::fs::sim::{SimDisk, SimOptions};

    fn secret() -> Secret {
        Secret(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()))
    }

    #[test]
    fn what_is_written_is_hex_for_the_owner_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            write(&OsDisk, dir.path(), &secret()).now_or_never().unwrap().unwrap();
        }
        let path = dir.path().join(SECRET_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&OsDisk, dir.path()).unwrap(), secret());
        assert_eq!(OsDisk.list(dir.path()).unwrap(), [SECRET_FILE]);
    }

    #[test]
    fn anything_else_is_refused_without_being_shown() {
        let digits = "ab".repeat(32);
        let written = |text: &str| {
            let disk = SimDisk::new(SimOptions::default());
            let file = disk.open(Path::new(SECRET_FILE), Open::Create).unwrap();
            file.write_at(&[IoSlice::new(text.as_bytes())], 0).unwrap();
            read(&disk, Path::new(""))
        };
        for good in [digits.clone(), format!("{digits}\n"), digits.to_uppercase()] {
            assert_eq!(written(&good).unwrap(), Secret([0xab; 32]));
        }
        let longer = format!("{digits}\n\n");
        let space = format!("{digits} ");
        let sign = digits.replacen("ab", "+b", 1);
        let bad = [
            "",
            "\n",
            &digits[1..],
            &format!("{}\n", &digits[2..]),
            &longer,
            &space,
            &sign,
            &digits.repeat(9),
        ];
        for bad in bad {
            let error = written(bad).unwrap_err();
            assert!(matches!(error, SecretError::NoSecret { .. }), "{bad:?}");
            assert_eq!(error.to_string(), "SECRET holds no secret: expected 64 hex digits and a newline");
        }
        let missing = read(&SimDisk::new(SimOptions::default()), Path::new("")).unwrap_err();
        assert!(matches!(missing, SecretError::Disk(error) if error.kind() == std::io::ErrorKind::NotFound));
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }
}
