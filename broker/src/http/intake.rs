//! Bodies of requests: so large, so slow, and so many bytes of all together, as they may be. Where there is no room for one,
//! those that come slowly give way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use queue_protocol::error::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::answers::Failed;
use super::connections::Connections;

/// Bytes of bodies that are being read and answered, in KiB.
const ALL_KIB: u32 = 64 << 10;
/// A body must be whole in this time.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a body waits for room before one that comes slowly gives way, and then the next.
const SHED_AFTER: Duration = Duration::from_millis(50);
/// Most of a body of receipts or settings.
pub(super) const DOCUMENT_SIZE_MAX: usize = 256 << 10;

/// Room for bodies.
pub(super) struct Intake {
    room: Arc<Semaphore>,
    connections: Arc<Connections>,
    /// Most of a message.
    pub(super) message_size_max: usize,
}

/// A whole body, and its room until it is answered.
pub(super) struct Taken {
    /// The bytes.
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Intake {
    /// Nothing is read yet.
    pub(super) fn new(message_size_max: usize, connections: Arc<Connections>) -> Self {
        Self { room: Arc::new(Semaphore::new(ALL_KIB as usize)), connections, message_size_max }
    }

    /// Room for so many bytes.
    ///
    /// # Errors
    /// There is none for a while.
    pub(super) async fn room(&self, size: usize) -> Result<OwnedSemaphorePermit, Failed> {
        let kib = u32::try_from(size.div_ceil(1 << 10)).unwrap_or(u32::MAX).clamp(1, ALL_KIB);
        let mut waiting = std::pin::pin!(Arc::clone(&self.room).acquire_many_owned(kib));
        let until = Instant::now() + ROOM_TIMEOUT;
        while Instant::now() < until {
            match tokio::time::timeout(SHED_AFTER, waiting.as_mut()).await {
                Ok(Ok(room)) => return Ok(room),
                Ok(Err(_)) => break,
                Err(_) => self.connections.shed(),
            }
        }
        let what = "too many bodies are being read; nothing was changed";
        Err(Failed::of(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded, what))
    }

    /// The whole body, if it is at most so large and comes in time.
    ///
    /// # Errors
    /// 413, 408, 400, or 503.
    pub(super) async fn take(
        &self,
        headers: &axum::http::HeaderMap,
        body: Body,
        max: usize,
    ) -> Result<Taken, Failed> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        let too_big = || {
            let what = format!("a body has at most {max} bytes here; nothing was changed");
            Failed::of(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::MessageTooBig, what)
        };
        if told.is_some_and(|told: usize| told > max) {
            return Err(too_big());
        }
        let room = self.room(told.unwrap_or(max)).await?;
        match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max)).await {
            Ok(Ok(bytes)) => Ok(Taken { bytes, _room: room }),
            Ok(Err(error)) => {
                let long = std::error::Error::source(&error).is_some_and(|s| s.to_string().contains("limit"));
                if long {
                    return Err(too_big());
                }
                Err(Failed::bad(format!("the body did not come whole: {error}; nothing was changed")))
            }
            Err(_) => {
                let what = format!("the body was not whole after {BODY_TIMEOUT:?}; nothing was changed");
                Err(Failed::of(StatusCode::REQUEST_TIMEOUT, ErrorCode::TimedOut, what))
            }
        }
    }
}
