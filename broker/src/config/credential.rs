//! Files that systemd hands to a service: `credential:NAME` is the file of that name in `$CREDENTIALS_DIRECTORY`, which only
//! the service sees (`LoadCredential=`, systemd.exec(5)). Everything else is a path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where systemd says that they are.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const PREFIX: &str = "credential:";

/// The file that a setting or a flag names.
///
/// # Errors
/// It names a credential and there are none, or one with a path.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    file_in(text, std::env::var_os(VARIABLE).as_deref())
}

/// Whether the file is one: systemd, not its permissions, says who may read it.
pub(crate) fn is_one(path: &Path) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|dir| !dir.is_empty() && path.parent() == Some(Path::new(&dir)))
}

fn file_in(text: &str, dir: Option<&OsStr>) -> Result<PathBuf, String> {
    let Some(name) = text.strip_prefix(PREFIX) else { return Ok(text.into()) };
    let Some(dir) = dir.filter(|dir| !dir.is_empty()) else {
        return Err(format!(
            "names a credential, and {VARIABLE} is not set: systemd sets it (LoadCredential=)"
        ));
    };
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err("names a credential by a path".to_owned());
    }
    Ok(Path::new(dir).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_of_the_directory_that_systemd_names_and_nothing_above_it() {
        let dir = Some(OsStr::new("/run/credentials/queued.service"));
        let of = |text| file_in(text, dir);
        assert_eq!(of("credential:key"), Ok("/run/credentials/queued.service/key".into()));
        assert_eq!(of("/etc/queued/key"), Ok("/etc/queued/key".into()));
        for bad in ["credential:", "credential:../key", "credential:a/b", "credential:.."] {
            assert!(of(bad).is_err(), "{bad}");
        }
        for none in [None, Some(OsStr::new(""))] {
            assert!(file_in("credential:key", none).unwrap_err().contains("CREDENTIALS_DIRECTORY"));
        }
        assert!(!is_one(Path::new("/etc/queued/key")));
    }
}
