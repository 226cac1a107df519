//! The sockets of one boot of one machine, so that all of them can end at once: reset from outside, or with the process.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use queue_protocol::client::{Channel, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct Ends {
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

type Wire = Mutex<Ends>;

#[derive(Default)]
struct Inner {
    wires: Vec<Weak<Wire>>,
    ended: bool,
}

/// All sockets of one boot. Clones are the same.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<Inner>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulation reset it")
}

impl Wires {
    /// Resets every socket that is open; how many.
    pub fn reset(&self) -> usize {
        let open: Vec<Arc<Wire>> =
            locked(&self.0).wires.drain(..).filter_map(|wire| wire.upgrade()).collect();
        for wire in &open {
            let wakers = {
                let mut ends = locked(wire);
                ends.cut = true;
                [ends.reader.take(), ends.writer.take()]
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
        open.len()
    }

    /// The process is gone: not a byte leaves it any more.
    pub fn end(&self) {
        locked(&self.0).ended = true;
        self.reset();
    }

    /// Takes a new socket in.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn wire(&self, stream: turmoil::net::TcpStream) -> io::Result<Box<dyn Stream>> {
        let mut inner = locked(&self.0);
        if inner.ended {
            return Err(reset());
        }
        let wire = Arc::new(Wire::default());
        inner.wires.retain(|wire| wire.strong_count() > 0);
        inner.wires.push(Arc::downgrade(&wire));
        Ok(Box::new(Wired { stream, wire, ahead: BytesMut::new(), ended: false }))
    }
}

/// A simulated connection counts as one whose channel nobody reads along on, so that secrets may be rotated. All have the
/// same one: nobody in the simulation passes proofs on.
const CHANNEL: Channel = [0xc4; 32];

struct Wired {
    stream: turmoil::net::TcpStream,
    wire: Arc<Wire>,
    /// Read while it was looked whether the other side has closed, and not taken yet.
    ahead: BytesMut,
    /// The other side closed behind what is ahead.
    ended: bool,
}

/// The simulated network tells of the end behind all bytes only: so many are read to find it.
const AHEAD_SIZE_MAX: usize = 1 << 20;

impl Stream for Wired {
    fn channel(&self) -> Channel {
        CHANNEL
    }

    fn has_ended(&mut self) -> bool {
        let mut bytes = [0; 4 << 10];
        let mut context = Context::from_waker(Waker::noop());
        while !self.ended && self.ahead.len() < AHEAD_SIZE_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.ahead.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Ok(()) | Err(_)) => self.ended = true,
                Poll::Pending => break,
            }
        }
        self.ended || locked(&self.wire).cut
    }
}

/// Remembers who is to be woken when the wire is cut.
///
/// # Errors
/// It is cut.
fn whole(wire: &Wire, cx: &Context<'_>, end: fn(&mut Ends) -> &mut Option<Waker>) -> io::Result<()> {
    let mut ends = locked(wire);
    if ends.cut {
        return Err(reset());
    }
    let waker = end(&mut ends);
    if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
    Ok(())
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        whole(&self.wire, cx, |ends| &mut ends.reader)?;
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        whole(&self.wire, cx, |ends| &mut ends.writer)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whole(&self.wire, cx, |ends| &mut ends.writer)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whole(&self.wire, cx, |ends| &mut ends.writer)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
