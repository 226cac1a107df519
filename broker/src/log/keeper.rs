//! Fills the pool, recycles or removes files that are no longer part of the log, and sees to it that there are some.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::format::file_id::FileId;
use super::segment::Segment;
use super::shared::{Phase, Shared};
use super::{Lack, LogError, clean, scrub};
use crate::complaint::Complaint;

/// Pause after a spare could not be made.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Said when no spare can be made.
static NO_SPARE: Complaint = Complaint::new();

/// Fills the pool and frees segments; one future, driven like [`Writer`](super::Writer).
pub struct Keeper {
    shared: Arc<Shared>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the writer has ended. A spare that cannot be made, as on a full disk, is tried again.
    ///
    /// # Errors
    /// A sync that fails; a freed file that can be neither recycled nor removed; damage that was found on the way.
    pub async fn run(self) -> Result<(), LogError> {
        let keeping = std::pin::pin!(self.keep());
        let cleaning = std::pin::pin!(clean::run(&self.shared));
        let scrubbing = std::pin::pin!(scrub::run(&self.shared));
        let others = select(cleaning, scrubbing);
        match select(keeping, others).await {
            Either::Left((kept, _)) => kept,
            Either::Right((Either::Left((failed, _)) | Either::Right((failed, _)), _)) => Err(failed),
        }
    }

    async fn keep(&self) -> Result<(), LogError> {
        let Shared { disk, dir, options, pool, .. } = &*self.shared;
        loop {
            let phase = self.shared.accept().phase;
            if matches!(phase, Phase::Closed | Phase::Failed) {
                return Ok(());
            }
            let pressed = pool.is_pressed();
            let has_room = pool.count() < self.spares_max();
            // One like any other waits for room, though not for ever.
            let is_due = |segment: &Segment, since: Instant| {
                has_room || pressed || !self.is_usual(segment) || since.elapsed() >= options.room_within
            };
            if let Some(segment) = pool.unpinned(is_due) {
                self.take_back(&segment).await?;
            } else if pressed && pool.count() > options.spares {
                if !pool.give_back(&**disk, dir).await? {
                    let woken = tokio::time::timeout(RETRY_AFTER, pool.wake.notified());
                    let _woken_or_not = woken.await;
                }
            } else if pool.count() < options.spares {
                let filled = match pool.fill(&**disk, dir, options.segment_size).await {
                    Ok(filled) => filled,
                    Err(error) if error.is_sync() && !error.is_full() => return Err(error.into()),
                    Err(error) => {
                        if pool.set_short(Some(Lack::of(&error)))
                            && let Some(again) = NO_SPARE.due()
                        {
                            tracing::warn!(%error, again, "no spare segment could be made");
                        }
                        false
                    }
                };
                if filled {
                    tokio::task::yield_now().await;
                } else {
                    let woken = tokio::time::timeout(RETRY_AFTER, pool.wake.notified());
                    let _woken_or_not = woken.await;
                }
            } else {
                let _is_news = pool.set_short(None);
                let woken = pool.wake.notified();
                match pool.freed_since() {
                    Some(since) => {
                        let _woken_or_not = tokio::time::timeout_at(since + options.room_within, woken).await;
                    }
                    None => woken.await,
                }
            }
        }
    }

    /// Files that may be kept ready: while the disk has little room no more than must be.
    fn spares_max(&self) -> usize {
        let Shared { options, pool, .. } = &*self.shared;
        if pool.is_pressed() { options.spares } else { options.spares_max }
    }

    /// It could be a spare.
    fn is_usual(&self, segment: &Segment) -> bool {
        matches!(segment.id, FileId::Segment(_)) && segment.size == self.shared.options.segment_size
    }

    async fn take_back(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        let Shared { disk, dir, pool, .. } = &*self.shared;
        // A reader that was late may have put the handle back, and a removed file that is open keeps its space.
        self.shared.reader.forget(segment.id);
        if self.is_usual(segment)
            && pool.count() < self.spares_max()
            && pool.recycle(&**disk, dir, segment).await?
        {
            return Ok(());
        }
        disk.remove(&segment.path)?;
        disk.sync_dir(dir).await?;
        Ok(())
    }
}
