//! Files that change while the node runs: looked at again and again, which sees what no notice of a file system does (a link
//! that is swapped, a network file system).

use std::sync::Arc;
use std::time::Duration;

use super::Tls;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Tls {
    /// Takes files that were changed. Never ends.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.look() {
                Some(Ok(())) => tracing::info!("the certificate was read anew"),
                // Once a change: files that stay as they are are not looked at again.
                Some(Err(error)) => {
                    tracing::error!(%error, "the files of TLS were changed and cannot be used: the certificate stays");
                }
                None => {}
            }
        }
    }
}
