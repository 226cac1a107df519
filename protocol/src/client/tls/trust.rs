//! Whom to trust at the other end of TLS, and why not: each reason has its own text.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

/// What is agreed to be spoken inside of TLS (ALPN, RFC 7301): a server of anything else is told apart.
pub const ALPN: &[u8] = b"queued/1";

/// Whom a dialer trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A name and a chain that ends at an authority of the system.
    System,
    /// A name and a chain that ends at an authority of this file, in PEM; read anew with each dial.
    Authorities(PathBuf),
    /// Whoever has the key of this fingerprint, whatever else the certificate says.
    Pin(Pin),
    /// Whoever has this key, and those whom an authority of the file vouches for.
    Own {
        /// The dialer's own.
        key: Pin,
        /// As [`Trust::Authorities`].
        authorities: Option<PathBuf>,
    },
    /// Anybody. Only for a dialer that proves by itself who is there, over [`crate::client::Stream::channel`].
    Anybody,
}

/// SHA-256 of a public key (its SubjectPublicKeyInfo, RFC 7469 §2.4); as text `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

const PIN_PREFIX: &str = "sha256:";

impl Pin {
    /// That of the key of a certificate, in DER.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Untrusted> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| Untrusted::Unreadable)?;
        Ok(Self(Sha256::digest(&*parsed.subject_public_key_info()).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PIN_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not {PIN_PREFIX} and 64 hex digits");
        let hex = text.strip_prefix(PIN_PREFIX).filter(|hex| hex.is_ascii()).ok_or_else(bad)?;
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return Err(bad());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

/// Why the other end is not trusted. Inside of an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Untrusted {
    #[error("its certificate was not issued by an authority that is trusted here")]
    Issuer,
    #[error("its certificate is self-signed: no authority vouches for it")]
    SelfSigned,
    #[error("its certificate has expired: it was valid until {0}")]
    Expired(String),
    #[error("its certificate is not valid yet: it begins at {0}")]
    NotYet(String),
    #[error("its certificate is not for {wanted}, but for {names}")]
    Name { wanted: String, names: String },
    #[error("its certificate is not for servers")]
    Purpose,
    #[error("its key is {seen}, not {pinned}")]
    Pin { seen: Pin, pinned: Pin },
    #[error("its certificate cannot be read")]
    Unreadable,
    #[error("TLS failed: {0}")]
    Other(String),
}

impl Untrusted {
    /// The reason, if that is why a dial failed.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The error of a handshake with the reason inside, if it has one.
    pub(super) fn unwrapped(error: io::Error) -> io::Error {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return error;
        };
        io::Error::other(match tls {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
                why.downcast_ref::<Self>().cloned().unwrap_or_else(|| Self::Other(why.to_string()))
            }
            other => Self::Other(other.to_string()),
        })
    }

    /// What the check of a chain has to say.
    fn of_certificate(error: rustls::Error, certificate: &CertificateDer<'_>) -> Self {
        use CertificateError as E;
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Other(error.to_string()) };
        let date = |time: UnixTime| {
            let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
            humantime::format_rfc3339_seconds(time).to_string()
        };
        match error {
            E::ExpiredContext { not_after, .. } => Self::Expired(date(not_after)),
            E::NotValidYetContext { not_before, .. } => Self::NotYet(date(not_before)),
            E::NotValidForNameContext { expected, presented } => Self::Name {
                wanted: expected.to_str().into_owned(),
                names: match presented.len() {
                    0 => "no name at all".to_owned(),
                    _ => presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
                },
            },
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Purpose,
            E::BadEncoding => Self::Unreadable,
            _ if is_self_signed(certificate) => Self::SelfSigned,
            E::UnknownIssuer | E::BadSignature => Self::Issuer,
            other => Self::Other(other.to_string()),
        }
    }
}

/// `mq1` of `DnsName("mq1")`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}

/// Reads the certificates of a file in PEM; at least one.
///
/// # Errors
/// The file cannot be read, or holds none. The text names it.
pub fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let failed =
        |what: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()));
    let text = std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|error| failed(format!("is not PEM: {error}")))?;
    if read.is_empty() { Err(failed("holds no certificate in PEM".to_owned())) } else { Ok(read) }
}

/// The one set of algorithms.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

impl Trust {
    /// How to dial those that this trusts: TLS 1.3, no resumption, no early data, and no name in the clear.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub fn config(&self) -> io::Result<ClientConfig> {
        let chain = |roots: RootCertStore| {
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            built.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
        };
        let check = match self {
            Self::System => Check::Chain(chain(system_roots().clone())?),
            Self::Authorities(path) => Check::Chain(chain(roots_of(path)?)?),
            Self::Pin(pin) => Check::Pin(*pin, None),
            Self::Own { key, authorities } => {
                let roots = authorities.as_deref().map(roots_of).transpose()?;
                Check::Pin(*key, roots.map(chain).transpose()?)
            }
            Self::Anybody => Check::Nothing,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier(check)))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

fn roots_of(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

/// Looked up once: they are hundreds.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some systems hold some that cannot be read; they vouch for nobody then.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

#[derive(Debug)]
enum Check {
    Chain(Arc<WebPkiServerVerifier>),
    /// Another key needs a chain, if that helps.
    Pin(Pin, Option<Arc<WebPkiServerVerifier>>),
    Nothing,
}

/// Checks the certificate as told, and in any case that the other end has its key.
#[derive(Debug)]
struct Verifier(Check);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |chain: &WebPkiServerVerifier| {
            let checked =
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            checked.map(drop).map_err(|error| Untrusted::of_certificate(error, end_entity))
        };
        let checked = match &self.0 {
            Check::Chain(chain) => check(chain),
            Check::Pin(pinned, chain) => match (Pin::of(end_entity), chain) {
                (Ok(seen), _) if seen == *pinned => Ok(()),
                (_, Some(chain)) => check(chain),
                (Ok(seen), None) => Err(Untrusted::Pin { seen, pinned: *pinned }),
                (Err(error), None) => Err(error),
            },
            Check::Nothing => Ok(()),
        };
        checked.map(|()| ServerCertVerified::assertion()).map_err(|why| {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_text_and_back() {
        let pin = Pin([0xa7; 32]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().len(), 7 + 64);
        for bad in ["", "sha256:", "sha1:00", &pin.to_string()[..70], &format!("{pin}0"), "sha256:é"] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_shown_without_their_kind() {
        assert_eq!(bare("DnsName(\"mq1\")"), "mq1");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("mq1"), "mq1");
    }
}
