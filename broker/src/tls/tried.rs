//! What an opening comes to, for tests that try arbitrary bytes: everything is in memory.

use std::sync::Arc;

use queue_protocol::client::TcpDial;
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::handshake::HandshakeError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::opening::open;
use super::{Tls, TlsNet};
use crate::clock::SystemClock;
use crate::fs::sim::{SimDisk, SimOptions};
use crate::outside::{Job, Outside, Tasks, Tcp};

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Tried {
    /// Frames are read on in the clear: all that came.
    Frames(Vec<u8>),
    /// Frames are read on under TLS.
    Secured,
    /// HTTP was told where to go.
    Told,
    /// It was refused, which was said.
    Refused(ErrorCode),
    /// It failed.
    Failed,
}

struct Here;

impl Tasks for Here {
    fn blocking(&self, _name: &'static str, job: Job) {
        tokio::spawn(job);
    }
    fn serving(&self, job: Job) {
        tokio::spawn(job);
    }
}

/// What comes of a connection that begins with these bytes and ends, and what it is answered.
///
/// # Panics
/// Never: memory takes all.
pub async fn tried(tls: Arc<Tls>, sent: &[u8]) -> (Tried, Vec<u8>) {
    let tcp = Arc::new(Tcp { dial: TcpDial::default() });
    let outside = Outside {
        disk: SimDisk::new(SimOptions::default()).boot(),
        net: Arc::new(TlsNet { tcp, tls }),
        clock: Arc::new(SystemClock),
        tasks: Arc::new(Here),
        random: Arc::new(|bytes: &mut [u8]| bytes.fill(7)),
        end: Arc::new(|fatal| panic!("{fatal:?}")),
    };
    let (mut near, far) = tokio::io::duplex(sent.len().max(1 << 16));
    near.write_all(sent).await.expect("there is room");
    near.shutdown().await.expect("it is open");
    let http = Some(([127, 0, 0, 1], 7411).into());
    let tried = match open(Box::new(far), &outside, http).await {
        Ok(Some(opened)) if opened.is_secured => Tried::Secured,
        Ok(Some(mut opened)) => {
            opened.stream.read_to_end(&mut opened.ahead).await.expect("the rest comes");
            Tried::Frames(opened.ahead)
        }
        Ok(None) => Tried::Told,
        Err(HandshakeError::Rejected(error)) => Tried::Refused(error.code),
        Err(_) => Tried::Failed,
    };
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.expect("it ends");
    (tried, answer)
}
