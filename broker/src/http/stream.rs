//! A stream whose reader must take what is written: one that takes nothing for [`WRITE_TIMEOUT`] is gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long nothing may be taken of what is to be written.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The stream, and since when nothing was taken.
pub(super) struct Paced<S> {
    stream: S,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Nothing is stuck yet.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, stuck: None }
    }

    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_gone_and_who_takes_slowly_is_not() {
        let (near, mut far) = duplex(4);
        let mut near = Paced::new(near);
        let slow = async {
            let mut taken = [0; 4];
            for _ in 0..10 {
                tokio::time::sleep(WRITE_TIMEOUT / 2).await;
                far.read_exact(&mut taken).await.expect("it is there");
            }
            far
        };
        let (written, _far) = tokio::join!(near.write_all(&[7; 40]), slow);
        written.expect("it is slow, not gone");
        let began = Instant::now();
        near.write_all(&[7; 4]).await.expect("there is room");
        assert_eq!(near.write_all(&[7; 4]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), WRITE_TIMEOUT);
    }
}
