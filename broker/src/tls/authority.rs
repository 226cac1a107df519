//! A small authority: one key that signs the certificates of a cluster's nodes (`queued cert`, `queued dev --tls`).
//!
//! Keys are ECDSA P-256. Every authority made here has the same name: it is told by its key, which is in the certificates.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use queue_protocol::client::tls::pki_types::{CertificateDer, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::TlsError;
use super::files::{key_text, read_certificates};
use crate::clock::{Clock as _, SystemClock};

/// How long an authority is valid.
const AUTHORITY_DAYS: u64 = 3_650;
/// How long a node's certificate is: what browsers allowed at most for long.
pub(crate) const NODE_DAYS: u64 = 398;
/// Clocks of other machines may be behind.
const BACKDATED: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "queued authority";

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) certificate: String,
    /// The key.
    pub(crate) key: String,
}

/// Who signs.
pub(crate) struct Authority {
    key: KeyPair,
    /// Its own certificate.
    certificate: CertificateDer<'static>,
}

fn failed(error: rcgen::Error) -> TlsError {
    TlsError::File { what: format!("a certificate could not be made: {error}") }
}

fn params(days: u64) -> CertificateParams {
    let now = UNIX_EPOCH + Duration::from_millis(SystemClock.wall_ms());
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * u32::try_from(days).unwrap_or(u32::MAX)).into();
    params
}

fn authority_params() -> CertificateParams {
    let mut params = params(AUTHORITY_DAYS);
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate for servers, with these names or addresses.
fn node_params(name: &str, hosts: &[String], days: u64) -> Result<CertificateParams, TlsError> {
    let mut params = params(days);
    params.distinguished_name.push(DnType::CommonName, name);
    for host in hosts {
        let bare = host.trim_matches(['[', ']']);
        params.subject_alt_names.push(match bare.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into().map_err(failed)?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Authority {
    /// A new one, and its files.
    pub(crate) fn make() -> Result<(Self, Issued), TlsError> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = authority_params().self_signed(&key).map_err(failed)?;
        let issued = Issued { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok((Self { key, certificate: certificate.der().clone() }, issued))
    }

    /// The one of these files.
    ///
    /// # Errors
    /// They cannot be read, or were not made by [`Authority::make`].
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pair = KeyPair::from_pem(&key_text(key)?).map_err(|error| TlsError::file(key, error))?;
        let read = read_certificates(certificate)?.swap_remove(0);
        Ok(Self { key: pair, certificate: read })
    }

    /// A certificate for the node `name`, reached under `hosts`.
    ///
    /// # Errors
    /// A host is no name; the authority's certificate and key do not belong together.
    pub(crate) fn issue(&self, name: &str, hosts: &[String], days: u64) -> Result<Issued, TlsError> {
        let key = KeyPair::generate().map_err(failed)?;
        let own = authority_params();
        let issuer = Issuer::from_params(&own, &self.key);
        let certificate = node_params(name, hosts, days)?.signed_by(&key, &issuer).map_err(failed)?;
        self.check(certificate.der())?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Whether what was signed leads to the authority's own certificate.
    fn check(&self, signed: &CertificateDer<'_>) -> Result<(), TlsError> {
        let wrong = |why: webpki::Error| TlsError::File {
            what: format!(
                "the authority's certificate and key were not made together by queued cert ca: {why}"
            ),
        };
        let anchor = anchor_from_trusted_cert(&self.certificate).map_err(wrong)?;
        let parsed = EndEntityCert::try_from(signed).map_err(wrong)?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(SystemClock.wall_ms()));
        let algorithms = queue_protocol::client::tls::provider().signature_verification_algorithms.all;
        parsed
            .verify_for_usage(algorithms, &[anchor], &[], now, KeyUsage::server_auth(), None, None)
            .map(drop)
            .map_err(wrong)
    }
}

/// A certificate that nobody vouches for, and its key: of a node without files.
pub(super) fn in_memory() -> Result<Issued, TlsError> {
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = node_params("queued", &[], AUTHORITY_DAYS)?.self_signed(&key).map_err(failed)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Whether a file may be read by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// Of this user only.
    Own,
    /// Everybody's.
    All,
}

impl Issued {
    /// Writes both files, neither of which may exist.
    ///
    /// # Errors
    /// A file exists, or cannot be written.
    pub(crate) fn write(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        create(key, &self.key, Eyes::Own)?;
        create(certificate, &self.certificate, Eyes::All)
    }
}

fn create(path: &Path, text: &str, eyes: Eyes) -> Result<(), TlsError> {
    let mode = if eyes == Eyes::Own { 0o600 } else { 0o644 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written =
        file.and_then(|mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| TlsError::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Certificate;

    #[test]
    fn an_authority_is_read_back_and_issues_what_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (_, issued) = Authority::make().unwrap();
        issued.write(&at("ca.crt"), &at("ca.key")).unwrap();
        let authority = Authority::read(&at("ca.crt"), &at("ca.key")).unwrap();
        let hosts = ["mq1", "10.0.0.1", "[::1]"].map(str::to_owned);
        authority.issue("mq1", &hosts, 7).unwrap().write(&at("mq1.crt"), &at("mq1.key")).unwrap();
        let node = Certificate::read(&at("mq1.crt")).unwrap();
        assert_eq!(node.names, ["mq1", "10.0.0.1", "::1"]);
        assert!(!node.is_authority && !node.is_self_signed && node.is_valid_at(SystemClock.wall_ms()));
        let week_ms = i64::from(7 * 24 * 3_600 * 1_000);
        let left_ms = node.until.as_millisecond() - i64::try_from(SystemClock.wall_ms()).unwrap();
        assert!((week_ms - 60_000..=week_ms).contains(&left_ms), "{left_ms}");
        let own = Certificate::read(&at("ca.crt")).unwrap();
        assert!(own.is_authority && own.is_self_signed && own.names.is_empty());

        // The key of another authority, a host that is none, files that are there already.
        let (_, other) = Authority::make().unwrap();
        other.write(&at("other.crt"), &at("other.key")).unwrap();
        let mixed = Authority::read(&at("ca.crt"), &at("other.key")).unwrap();
        let refused = mixed.issue("mq1", &hosts, 7).err().expect("they do not belong together");
        assert!(refused.to_string().contains("not made together"), "{refused}");
        assert!(authority.issue("mq1", &["é".to_owned()], 7).is_err());
        assert!(issued.write(&at("ca.crt"), &at("ca.key")).is_err());
    }
}
