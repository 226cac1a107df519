//! What went through a queue, and through all of them together: counters that only rise.

/// What went through, counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::queue) struct Turnover {
    /// Messages pushed since the beginning.
    pub(in crate::queue) pushed: u64,
    /// Leases granted, pops included.
    pub(in crate::queue) leased: u64,
    /// Messages acked or popped.
    pub(in crate::queue) acked: u64,
    /// Leases of messages that had been leased before.
    pub(in crate::queue) redelivered: u64,
    /// Messages that died, by [`DeadReason`](queue_protocol::wire::response::DeadReason).
    pub(in crate::queue) died: [u64; DEAD_REASONS],
}

/// Reasons that a message can be dead for.
pub(super) const DEAD_REASONS: usize = 5;

impl Turnover {
    /// This without a part of the sum, unless the part is larger.
    pub(in crate::queue) fn less(self, part: Self) -> Option<Self> {
        Some(Self {
            pushed: self.pushed.checked_sub(part.pushed)?,
            leased: self.leased.checked_sub(part.leased)?,
            acked: self.acked.checked_sub(part.acked)?,
            redelivered: self.redelivered.checked_sub(part.redelivered)?,
            died: {
                let mut died = self.died;
                for (of, part) in died.iter_mut().zip(part.died) {
                    *of = of.checked_sub(part)?;
                }
                died
            },
        })
    }

    /// This with the growth of one part of the sum.
    pub(in crate::queue) fn grow(self, before: Self, after: Self) -> Self {
        Self {
            pushed: self.pushed + (after.pushed - before.pushed),
            leased: self.leased + (after.leased - before.leased),
            acked: self.acked + (after.acked - before.acked),
            redelivered: self.redelivered + (after.redelivered - before.redelivered),
            died: std::array::from_fn(|at| self.died[at] + (after.died[at] - before.died[at])),
        }
    }
}
