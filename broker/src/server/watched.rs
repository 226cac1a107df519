//! A client's stream in two places: read and written through one, asked through the other whether the client has closed
//! it while nobody reads.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use queue_protocol::client::{Channel, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::locked::Locked as _;

type Shared = Arc<Mutex<Box<dyn Stream>>>;

fn locked(stream: &Shared) -> MutexGuard<'_, Box<dyn Stream>> {
    stream.locked()
}

/// The stream, and who can be asked about it.
pub(super) fn watched(stream: Box<dyn Stream>) -> (Box<dyn Stream>, Watch) {
    let shared = Arc::new(Mutex::new(stream));
    (Box::new(Watched(Arc::clone(&shared))), Watch(shared))
}

/// Knows whether the client has closed its stream.
#[derive(Clone)]
pub(crate) struct Watch(Shared);

impl Watch {
    /// As [`Stream::has_ended`].
    pub(super) fn has_ended(&self) -> bool {
        locked(&self.0).has_ended()
    }

    /// Until it has ended, looked at every so often.
    pub(super) async fn ended(&self, every: Duration) {
        while !self.has_ended() {
            tokio::time::sleep(every).await;
        }
    }
}

struct Watched(Shared);

impl Stream for Watched {
    fn has_ended(&mut self) -> bool {
        locked(&self.0).has_ended()
    }

    fn channel(&self) -> Channel {
        locked(&self.0).channel()
    }

    fn end_point(&self) -> Channel {
        locked(&self.0).end_point()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *locked(&self.0)).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *locked(&self.0)).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *locked(&self.0)).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        locked(&self.0).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *locked(&self.0)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *locked(&self.0)).poll_shutdown(cx)
    }
}
