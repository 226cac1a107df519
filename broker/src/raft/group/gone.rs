//! Messages that went lately, as this node applied it: from the start of its log on, so many and no more. It is kept
//! beside the state, so it costs no snapshot anything; another node may know of more or fewer.

use std::collections::VecDeque;

use queue_protocol::names::MessageId;

use crate::queue::{Gone, Went};

/// Messages kept: some 8 MB.
const GONE_COUNT_MAX: usize = 100_000;

/// The last that went.
#[derive(Default)]
pub(crate) struct Recent {
    kept: VecDeque<Gone>,
    count: usize,
    /// All that went at or after this time of the elapsed clock are here.
    since_ms: u64,
}

impl Recent {
    /// Nothing is known of what went before this time of the elapsed clock.
    pub(crate) fn begin(since_ms: u64) -> Self {
        Self { kept: VecDeque::new(), count: 0, since_ms }
    }

    /// Remembers messages that went, the oldest give way.
    pub(crate) fn keep(&mut self, gone: Vec<Gone>) {
        self.count += gone.iter().map(|gone| gone.went.len()).sum::<usize>();
        self.kept.extend(gone);
        while self.count > GONE_COUNT_MAX {
            let dropped = self.kept.pop_front().expect("there are more than none");
            self.count -= dropped.went.len();
            // Others that went in the same millisecond may have been dropped too.
            self.since_ms = self.since_ms.max(dropped.at.elapsed_ms + 1);
        }
    }

    /// All that went at or after this time of the elapsed clock are known.
    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The message of that id, and those it went with. Looks at all.
    pub(crate) fn find(&self, id: MessageId) -> Option<(&Gone, &Went)> {
        self.kept.iter().rev().find_map(|gone| Some((gone, gone.went.iter().find(|went| went.id == id)?)))
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::content::ContentSpec;
    use queue_protocol::wire::bounded::Bounded;

    use super::*;
    use crate::queue::State;
    use crate::queue::command::{Batch, Command, Lease, Op, Push, Stamps};

    #[test]
    fn so_many_are_kept_and_it_is_said_since_when() {
        let (mut state, mut recent) = (State::new(), Recent::begin(5));
        let mut apply = |index: u64, op: Op, rows: usize| {
            let commands = Bounded::new(vec![Command { session: None, op }]).expect("one");
            let stamps = Stamps::of(1_000 * index, 0);
            state
                .apply(index, &Batch { stamps, commands }, &vec![ContentSpec { size: 1, crc32c: 0 }; rows])
                .gone
        };
        let queue: queue_protocol::names::QueueName = "q".parse().expect("a name");
        let lease = Lease {
            queues: Bounded::new(vec![queue.clone()]).expect("one"),
            max_messages: 250,
            max_bytes: u32::MAX,
            lease_ms: None,
        };
        let create = Some(Box::default());
        let push = Push { queue, create, atomic: false, count: 1_000, special: Bounded::default() };
        for round in 0..101 {
            recent.keep(apply(5 * round + 1, Op::Push(push.clone()), 1_000));
            for pop in 2..6 {
                recent.keep(apply(5 * round + pop, Op::Pop(lease.clone()), 0));
            }
            if round == 0 {
                assert_eq!(recent.since_ms(), 5, "nothing was dropped");
            }
        }
        assert_eq!(recent.count, GONE_COUNT_MAX);
        // The first 1,000 are forgotten; the last of them went with the fifth entry.
        assert_eq!(recent.since_ms(), 5_001);
        assert!(recent.find(MessageId(1_000)).is_none());
        let (gone, went) = recent.find(MessageId(1_001)).expect("it is the oldest");
        assert_eq!((gone.at.wall_ms, went.id), (7_000, MessageId(1_001)));
    }
}
