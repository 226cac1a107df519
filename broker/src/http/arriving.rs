//! Bodies as they arrive, and how fast: a connection whose body comes slowly gives way where there is no room for another.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use queue_protocol::values::milliseconds;
use tokio::time::Instant;

/// Bytes that count as come from the beginning: the first of a body may come a moment after its head.
const CREDIT: u64 = 4 << 10;

/// How far a body has come.
#[derive(Debug)]
pub(super) struct Arrival {
    /// When its head had come.
    began: Instant,
    /// Somebody reads it: there is room for it.
    read: AtomicBool,
    size: AtomicU64,
    /// It is whole, or nobody reads it any more.
    over: AtomicBool,
}

impl Arrival {
    /// There is room for it.
    pub(super) fn has_room(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes a second since its head had come; `None` when nothing more is to come.
    pub(super) fn rate(&self) -> Option<u64> {
        let size = self.size.load(Ordering::Relaxed).saturating_add(CREDIT);
        let ms = milliseconds(self.began.elapsed());
        (!self.over.load(Ordering::Relaxed)).then(|| size.saturating_mul(1_000) / ms.max(1))
    }
}

/// A body that tells its [`Arrival`] what comes.
pub(super) struct Arriving<B> {
    body: B,
    arrival: Arc<Arrival>,
}

impl<B: Body> Arriving<B> {
    /// The body behind a head that has just come, and what is told of it.
    pub(super) fn new(body: B) -> (Self, Arc<Arrival>) {
        let over = AtomicBool::new(body.is_end_stream());
        let (read, size) = (AtomicBool::new(false), AtomicU64::new(0));
        let arrival = Arc::new(Arrival { began: Instant::now(), read, size, over });
        (Self { body, arrival: Arc::clone(&arrival) }, arrival)
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.arrival.over.store(true, Ordering::Relaxed);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.arrival.read.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.arrival.size.fetch_add(size, Ordering::Relaxed);
            }
            Poll::Ready(_) => self.arrival.over.store(true, Ordering::Relaxed),
            Poll::Pending => {}
        }
        if self.body.is_end_stream() {
            self.arrival.over.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body as AnyBody;
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_rate_until_it_is_whole_or_dropped() {
        let parts = ["abcd", "efgh"].map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        let (body, arrival) = Arriving::new(AnyBody::from_stream(stream::iter(parts)));
        let mut frames = AnyBody::new(body).into_data_stream();
        assert!(arrival.rate().is_some_and(|rate| rate > CREDIT), "it has only begun");
        assert!(!arrival.has_room());
        frames.next().await.expect("the first part").expect("no error");
        assert!(arrival.has_room());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(arrival.rate(), Some((CREDIT + 4) / 2));
        frames.next().await.expect("the second part").expect("no error");
        assert_eq!(arrival.rate(), Some((CREDIT + 8) / 2));
        assert!(frames.next().await.is_none());
        assert_eq!(arrival.rate(), None);
        let (body, arrival) = Arriving::new(AnyBody::from("not read to its end"));
        let mut frames = AnyBody::new(body).into_data_stream();
        drop(frames.next().await);
        drop(frames);
        assert_eq!(arrival.rate(), None);
    }
}
