//! How many clusters run at a time: each is several processes, and the machine is shared.

use std::sync::LazyLock;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::settings;

static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(settings::clusters()));

/// Waits for a slot; dropped, it is free again.
pub(crate) async fn slot() -> SemaphorePermit<'static> {
    SLOTS.acquire().await.expect("the slots are never closed")
}
