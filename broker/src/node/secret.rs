//! The cluster's secret on disk: `SECRET`, 64 hex digits, a hyphen, the CRC32C of the 32 bytes in 8 hex digits and a newline,
//! for its owner only. A file that a person makes needs no more than the 64 digits.
//!
//! Who has it can be a peer. It is never printed, not even in an error about it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use queue_protocol::wire::hello::Secret;

use crate::fs::{Disk, DiskError, Open, replace_file};

/// Name of the file in the data directory.
pub const SECRET_FILE: &str = "SECRET";

/// Hex digits of a secret, and of its checksum.
const DIGITS: usize = 64;
const CHECKSUM_DIGITS: usize = 8;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The disk failed, or there is no such file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file holds something else.
    #[error("{} holds no secret: expected {DIGITS} hex digits and a newline", path.display())]
    NoSecret {
        /// The file that cannot be used.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error("{} is damaged: its digits do not match their checksum", path.display())]
    Damaged {
        /// The file that cannot be used.
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
    replace_file(disk, dir, name, Open::Create, encode(&secret.0).as_bytes()).await
}

/// Bytes as hex digits with their checksum.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len() + 1 + CHECKSUM_DIGITS + 1);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    writeln!(text, "-{:08x}", crc32c::crc32c(bytes)).expect("a string takes all");
    text
}

/// Reads the secret of a data directory.
///
/// # Errors
///
/// [`SecretError::Disk`], of kind `NotFound` if there is none; [`SecretError::NoSecret`] if the file is not exactly
/// 64 hex digits, with or without a checksum and a newline; [`SecretError::Damaged`] if that checksum is another one's.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Secret, SecretError> {
    read_file(disk, &dir.join(SECRET_FILE))
}

/// The same for a file of any name, as `join --secret-file` names one.
///
/// # Errors
///
/// As [`read`].
pub fn read_file(disk: &dyn Disk, path: &Path) -> Result<Secret, SecretError> {
    Ok(Secret(read_bytes(disk, path)?.0))
}

/// The bytes of a file that [`encode`] made, and whether it has a checksum.
pub(super) fn read_bytes<const N: usize>(
    disk: &dyn Disk,
    path: &Path,
) -> Result<([u8; N], bool), SecretError> {
    let file = disk.open(path, Open::Read)?;
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
    let no_secret = || SecretError::NoSecret { path: path.to_owned() };
    if size > 2 * N + 1 + CHECKSUM_DIGITS + 1 {
        return Err(no_secret());
    }
    let mut text = vec![0; size];
    file.read_at(&mut text, 0)?;
    let (secret, checksum) = decode(&text).ok_or_else(no_secret)?;
    if checksum.is_some_and(|checksum| checksum != crc32c::crc32c(&secret)) {
        return Err(SecretError::Damaged { path: path.to_owned() });
    }
    Ok((secret, checksum.is_some()))
}

/// The bytes of a secret and the checksum beside it, if there is one.
fn decode<const N: usize>(text: &[u8]) -> Option<([u8; N], Option<u32>)> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let (digits, rest) = text.split_at_checked(2 * N)?;
    let secret = bytes(digits)?;
    match rest {
        [] => Some((secret, None)),
        [b'-', checksum @ ..] => Some((secret, Some(u32::from_be_bytes(bytes(checksum)?)))),
        _ => None,
    }
}

/// What exactly so many pairs of hex digits say.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
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
        let digits = "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9";
        assert_eq!(text, format!("{digits}-{:08x}\n", crc32c::crc32c(&secret().0)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&OsDisk, dir.path()).unwrap(), secret());
        assert_eq!(OsDisk.list(dir.path()).unwrap(), [SECRET_FILE]);
    }

    fn written(text: &[u8]) -> Result<Secret, SecretError> {
        let disk = SimDisk::new(SimOptions::default());
        let file = disk.open(Path::new(SECRET_FILE), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(text)], 0).unwrap();
        read(&disk, Path::new(""))
    }

    #[test]
    fn no_flipped_bit_makes_another_secret() {
        let disk = SimDisk::new(SimOptions::default());
        write(&disk, Path::new(""), &secret()).now_or_never().unwrap().unwrap();
        let text = disk.bytes(Path::new(SECRET_FILE)).unwrap();
        for bit in 0..8 * text.len() {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A letter may be of the other case.
            assert!(
                written(&flipped).is_ok_and(|read| read == secret()) || written(&flipped).is_err(),
                "{bit}"
            );
        }
        let mut wrong = text;
        wrong[0] ^= 1;
        let error = written(&wrong).unwrap_err();
        assert_eq!(error.to_string(), "SECRET is damaged: its digits do not match their checksum");
    }

    #[test]
    fn anything_else_is_refused_without_being_shown() {
        let digits = "ab".repeat(32);
        for good in [digits.clone(), format!("{digits}\n"), digits.to_uppercase()] {
            assert_eq!(written(good.as_bytes()).unwrap(), Secret([0xab; 32]));
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
            &format!("{digits}-"),
            &format!("{digits}-1234567"),
            &format!("{digits} 12345678"),
        ];
        for bad in bad {
            let error = written(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, SecretError::NoSecret { .. }), "{bad:?}");
            assert_eq!(error.to_string(), "SECRET holds no secret: expected 64 hex digits and a newline");
        }
        let missing = read(&SimDisk::new(SimOptions::default()), Path::new("")).unwrap_err();
        assert!(matches!(missing, SecretError::Disk(error) if error.kind() == std::io::ErrorKind::NotFound));
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }
}
