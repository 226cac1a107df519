//! TLS of a build that has none.

use std::io;
use std::sync::{Arc, OnceLock};

use queue_protocol::client::{Dial, Stream};
use queue_protocol::wire::security::TlsView;

use super::{TlsError, TlsMode, TlsOptions};

/// The mode `off`.
pub struct Tls(());

impl Tls {
    /// The one there is.
    pub fn off() -> Arc<Self> {
        static OFF: OnceLock<Arc<Tls>> = OnceLock::new();
        Arc::clone(OFF.get_or_init(|| Arc::new(Self(()))))
    }

    /// No settings are taken but `off`: see the table of settings.
    ///
    /// # Errors
    /// None.
    pub fn load(_options: &TlsOptions) -> Result<Arc<Self>, TlsError> {
        Ok(Self::off())
    }

    pub(crate) fn mode(&self) -> TlsMode {
        TlsMode::Off
    }

    pub(crate) fn view(&self) -> TlsView {
        TlsView::default()
    }

    #[cfg(feature = "http")]
    pub(crate) fn failures(&self) -> u64 {
        0
    }

    pub(crate) async fn accept(
        &self,
        _stream: Box<dyn Stream>,
        _ahead: &[u8],
    ) -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn accept_http(
        &self,
        _stream: Box<dyn Stream>,
        _ahead: &[u8],
    ) -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn probe(below: Arc<dyn Dial>, _mode: TlsMode) -> Arc<dyn Dial> {
        below
    }

    pub(crate) async fn required(&self) {
        std::future::pending().await
    }

    pub(crate) fn change(&self, _options: &TlsOptions) -> Result<(), TlsError> {
        Ok(())
    }

    pub(crate) async fn watch(self: Arc<Self>) {}
}
