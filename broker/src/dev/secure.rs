//! The authority of a dev cluster and the certificates of its nodes, made when they are missing.

use std::path::{Path, PathBuf};

use crate::commands::failure::Failure;
#[cfg(not(feature = "tls"))]
use crate::outside::ExitStatus;

/// In the directory of the cluster.
const DIR: &str = "tls";

/// The authority's certificate.
pub(super) fn authority(dir: &Path) -> PathBuf {
    dir.join(DIR).join("ca.crt")
}

/// Certificate and key of a node.
pub(super) fn pair(dir: &Path, number: usize) -> [PathBuf; 2] {
    ["crt", "key"].map(|kind| dir.join(DIR).join(format!("n{number}.{kind}")))
}

/// Makes what is missing for this many nodes.
#[cfg(feature = "tls")]
pub(super) fn make(dir: &Path, nodes: usize) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;

    use crate::tls::{Authority, NODE_DAYS};

    let place = dir.join(DIR);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
    made.map_err(|error| Failure::io(place.display(), &error))?;
    let (certificate, key) = (authority(dir), place.join("ca.key"));
    let authority = if certificate.exists() {
        Authority::read(&certificate, &key)?
    } else {
        let (authority, issued) = Authority::make()?;
        issued.write(&certificate, &key)?;
        authority
    };
    let hosts = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
    for number in 1..=nodes {
        let [certificate, key] = pair(dir, number);
        if !certificate.exists() {
            authority.issue(&format!("n{number}"), &hosts, NODE_DAYS)?.write(&certificate, &key)?;
        }
    }
    Ok(())
}

/// There is no TLS here.
#[cfg(not(feature = "tls"))]
pub(super) fn make(_dir: &Path, _nodes: usize) -> Result<(), Failure> {
    Err(Failure::new(ExitStatus::Config, "tls", "this queued was built without TLS"))
}
