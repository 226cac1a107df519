//! The certificate of this node and the mode it speaks in, swapped as a whole while the node runs.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use queue_protocol::client::tls::pki_types::pem::PemObject as _;
use queue_protocol::client::tls::pki_types::{CertificateDer, PrivateKeyDer};
use queue_protocol::client::tls::{ALPN, Trust, accept, end_point_of, provider};
use queue_protocol::client::{Channel, Dial, Stream};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::security::TlsView;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::sync::watch;

use super::authority::{Issued, in_memory};
use super::certificate::Certificate;
use super::files::{Stamp, read_certificates, read_key};
use super::net::ProbeDial;
use super::{TlsError, TlsMode, TlsOptions};
use crate::clock::{Clock as _, SystemClock};
use crate::locked::Locked as _;

/// What is spoken on the port of HTTP inside of TLS.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// TLS of a node.
pub struct Tls {
    current: RwLock<Arc<Current>>,
    /// Of the files that were looked at last, good or bad.
    seen: Mutex<Seen>,
    failures: AtomicU64,
    mode: watch::Sender<TlsMode>,
    /// The mode is `require`: asked with each read from a plain peer.
    is_required: AtomicBool,
    /// Made once a process, so that a node without files keeps its key.
    own: OnceLock<Issued>,
}

/// One state of it.
struct Current {
    options: TlsOptions,
    /// None while the mode is off.
    serving: Option<Serving>,
}

struct Serving {
    binary: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    /// What logins are bound to.
    end_point: Channel,
    /// The certificate that is shown.
    certificate: Certificate,
}

#[derive(Default)]
struct Seen {
    stamp: Stamp,
    alarm: Option<String>,
}

impl Tls {
    /// The mode `off`.
    pub fn off() -> Arc<Self> {
        static OFF: OnceLock<Arc<Tls>> = OnceLock::new();
        Arc::clone(OFF.get_or_init(|| Arc::new(Self::empty())))
    }

    fn empty() -> Self {
        Self {
            current: RwLock::new(Arc::new(Current { options: TlsOptions::default(), serving: None })),
            seen: Mutex::default(),
            failures: AtomicU64::new(0),
            mode: watch::Sender::new(TlsMode::Off),
            is_required: AtomicBool::new(false),
            own: OnceLock::new(),
        }
    }

    /// As the options say.
    ///
    /// # Errors
    /// [`TlsError`]. A certificate outside of its time is no error, but an alarm: a node that is started with it serves its
    /// peers all the same.
    pub fn load(options: &TlsOptions) -> Result<Arc<Self>, TlsError> {
        let tls = Self::empty();
        let stamp = Stamp::of(options);
        let current = tls.read(options)?;
        let alarm = current.check_dates().err().map(|error| error.to_string());
        *tls.seen() = Seen { stamp, alarm };
        tls.swap(current);
        Ok(Arc::new(tls))
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.locked()
    }

    fn swap(&self, current: Current) {
        let mode = current.options.mode;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        self.is_required.store(mode == TlsMode::Require, Ordering::Relaxed);
        self.mode.send_if_modified(|known| std::mem::replace(known, mode) != mode);
    }

    /// With whom it speaks in the clear.
    pub(crate) fn mode(&self) -> TlsMode {
        *self.mode.borrow()
    }

    pub(super) fn is_required(&self) -> bool {
        self.is_required.load(Ordering::Relaxed)
    }

    /// Until it speaks with nobody in the clear.
    pub(crate) async fn required(&self) {
        // The sender lives as long as this.
        let _ = self.mode.subscribe().wait_for(|mode| *mode == TlsMode::Require).await;
    }

    /// What the node says of it.
    pub(crate) fn view(&self) -> TlsView {
        let current = self.current();
        let files = current.serving.as_ref().filter(|_| current.options.cert.is_some());
        let until_ms = files.map(|serving| serving.certificate.until.as_millisecond());
        let date = || current.check_dates().err().map(|error| error.to_string());
        TlsView {
            mode: current.options.mode,
            until_ms: until_ms.map(|until| u64::try_from(until).unwrap_or(0)),
            alarm: self.seen().alarm.clone().or_else(date).map(Text::cut),
        }
    }

    /// How often files that were changed could not be taken.
    #[cfg(feature = "http")]
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn read(&self, options: &TlsOptions) -> Result<Current, TlsError> {
        let serving = match options.mode {
            TlsMode::Off => None,
            TlsMode::Optional | TlsMode::Require => Some(self.serving(options)?),
        };
        if let Some(ca) = options.ca.as_ref().filter(|_| serving.is_some()) {
            read_certificates(ca)?;
        }
        Ok(Current { options: options.clone(), serving })
    }

    fn serving(&self, options: &TlsOptions) -> Result<Serving, TlsError> {
        let (chain, key, paths) = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                (read_certificates(cert)?, read_key(key)?, (cert.clone(), key.clone()))
            }
            _ => {
                if self.own.get().is_none() {
                    let _raced = self.own.set(in_memory()?);
                }
                let own = self.own.get().expect("it was just set");
                let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
                let known = "what was just made can be read";
                (vec![chain.expect(known)], key.expect(known), Default::default())
            }
        };
        let certificate = Certificate::of(&chain[0])
            .ok_or_else(|| TlsError::file(&paths.0, "the certificate cannot be read"))?;
        let pair = |why: rustls::Error| {
            let why = match why {
                rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
                other => other.to_string(),
            };
            TlsError::Pair { cert: paths.0.clone(), key: paths.1.clone(), why }
        };
        let end_point = end_point_of(&chain[0]);
        let binary = config(chain, key, ALPN).map_err(pair)?;
        let mut http = binary.clone();
        http.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        Ok(Serving { binary: Arc::new(binary), http: Arc::new(http), end_point, certificate })
    }

    /// Takes other options, and reads the files in any case.
    ///
    /// # Errors
    /// [`TlsError`]; nothing was changed, and it is an alarm from now on.
    pub(crate) fn change(&self, options: &TlsOptions) -> Result<(), TlsError> {
        let stamp = Stamp::of(options);
        let read = self.read(options).and_then(|current| {
            current.check_dates()?;
            Ok(current)
        });
        match read {
            Ok(current) => {
                *self.seen() = Seen { stamp, alarm: None };
                self.swap(current);
                Ok(())
            }
            Err(error) => {
                *self.seen() = Seen { stamp, alarm: Some(error.to_string()) };
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Looks whether files were changed, and takes them; `None` if they are as they were.
    pub(super) fn look(&self) -> Option<Result<(), TlsError>> {
        let options = self.current().options.clone();
        if options.mode == TlsMode::Off || Stamp::of(&options) == self.seen().stamp {
            return None;
        }
        Some(self.change(&options))
    }

    /// Speaks TLS with a client or peer that called.
    ///
    /// # Errors
    /// The handshake failed.
    pub(crate) async fn accept(&self, stream: Box<dyn Stream>, ahead: &[u8]) -> io::Result<Box<dyn Stream>> {
        let (config, end_point) = self.serves(|serving| &serving.binary)?;
        accept(config, stream, ahead, end_point).await
    }

    /// The same on the port of HTTP.
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub(crate) async fn accept_http(
        &self,
        stream: Box<dyn Stream>,
        ahead: &[u8],
    ) -> io::Result<Box<dyn Stream>> {
        let (config, end_point) = self.serves(|serving| &serving.http)?;
        accept(config, stream, ahead, end_point).await
    }

    /// With what belongs to it, so that a certificate that is swapped meanwhile is not mistaken for the one that was sent.
    fn serves(&self, of: fn(&Serving) -> &Arc<ServerConfig>) -> io::Result<(Arc<ServerConfig>, Channel)> {
        let current = self.current();
        let serving = current.serving.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok((Arc::clone(of(serving)), serving.end_point))
    }

    /// Whom this node trusts when it is the client of a node, itself included.
    pub(super) fn trust(&self) -> Option<Trust> {
        let current = self.current();
        let serving = current.serving.as_ref()?;
        let (mode, ca) = (current.options.mode, current.options.ca.clone());
        Some(match (mode, ca) {
            (TlsMode::Optional, None) => Trust::Anybody,
            (_, authorities) => Trust::Own { key: serving.certificate.pin, authorities },
        })
    }

    /// The dial of one who only asks whether a node of this mode is there.
    pub(crate) fn probe(below: Arc<dyn Dial>, mode: TlsMode) -> Arc<dyn Dial> {
        match mode {
            TlsMode::Off => below,
            TlsMode::Optional | TlsMode::Require => Arc::new(ProbeDial { below }),
        }
    }
}

impl Current {
    /// # Errors
    /// The certificate is not valid now.
    fn check_dates(&self) -> Result<(), TlsError> {
        let (Some(serving), Some(path)) = (&self.serving, &self.options.cert) else { return Ok(()) };
        let certificate = &serving.certificate;
        if certificate.is_valid_at(SystemClock.wall_ms()) {
            return Ok(());
        }
        let (from, until) = (certificate.from.to_string(), certificate.until.to_string());
        Err(TlsError::Date { path: path.clone(), from, until })
    }
}

/// How to serve: TLS 1.3 only; nothing is resumed, so that no ticket and no early data can be replayed.
fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_resumed_and_no_data_comes_early() {
        let tls = Tls::load(&TlsOptions { mode: TlsMode::Require, ..TlsOptions::default() });
        let current = tls.expect("it needs no files").current();
        let serving = current.serving.as_ref().expect("it is not off");
        for config in [&serving.binary, &serving.http] {
            assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
            assert!(!config.session_storage.can_cache() && !config.ticketer.enabled());
            assert_eq!(config.alpn_protocols.len(), 1);
        }
    }

    #[test]
    fn a_node_without_files_keeps_its_key_when_they_are_read_anew() {
        let options = |mode| TlsOptions { mode, ..TlsOptions::default() };
        let tls = Tls::load(&options(TlsMode::Optional)).expect("it needs no files");
        let pin = |tls: &Tls| tls.current().serving.as_ref().map(|serving| serving.certificate.pin);
        let first = pin(&tls);
        tls.change(&options(TlsMode::Require)).expect("it needs no files");
        assert_eq!((pin(&tls), tls.mode(), tls.is_required()), (first, TlsMode::Require, true));
        tls.change(&options(TlsMode::Off)).expect("it needs no files");
        assert_eq!((pin(&tls), tls.mode(), tls.is_required()), (None, TlsMode::Off, false));
        assert_eq!(tls.view(), TlsView::default());
    }
}
