//! openraft's log storage over [`Log`]: a translation, no logic of its own.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use super::cause::Cause;
use super::types::{
    Entry, RaftLogId as Id, RaftVote, TypeConfig, from_log_entry, from_log_id, from_vote, to_log_entry,
    to_log_id, to_vote,
};
use crate::log::{Contents, Done, Log, LogError};
use crate::mutants::{self, Mutant};
use crate::raft::cluster::reserve::{Rooms, charge};

/// Bytes of contents read for one append to a follower.
const READ_SIZE: usize = 1 << 20;

/// Pause before a file is opened again for which there was no descriptor.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// The log as openraft sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    reader: LogReader,
    rooms: Arc<Rooms>,
    voted: Arc<AtomicU64>,
}

/// Reads of one follower's stream, or of apply.
#[derive(Clone)]
pub(crate) struct LogReader {
    log: Log,
    cause: Cause,
}

impl LogStore {
    /// `rooms` are told how many bytes the log takes.
    pub(crate) fn new(log: Log, cause: Cause, rooms: Arc<Rooms>) -> Self {
        let term = log.state().vote.map_or(0, |vote| vote.term);
        Self { reader: LogReader { log, cause }, rooms, voted: Arc::new(AtomicU64::new(term)) }
    }

    /// The newest term whose vote is on disk: Raft itself may be further.
    pub(crate) fn voted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.voted)
    }

    fn log(&self) -> &Log {
        &self.reader.log
    }
}

/// A wait for durability. If the log fails first this never ends: the process does.
pub(in crate::raft) async fn durable(start: impl FnOnce(Done)) {
    let (done, wait) = oneshot::channel();
    start(Box::new(move || {
        let _ = done.send(());
    }));
    if wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Bytes of an entry on the disk, about.
fn size(entry: &crate::log::Entry) -> u64 {
    let bodies: u64 = entry.table.iter().map(|spec| u64::from(spec.size)).sum();
    charge(entry.commands.len() as u64 + 8 * entry.table.len() as u64 + bodies)
}

fn exclusive(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl LogReader {
    fn failed(&self, error: &LogError) -> io::Error {
        match error {
            LogError::Corrupt { .. } => self.cause.damaged(error),
            error => io::Error::other(error.to_string()),
        }
    }

    /// What `look` finds in the log. Raft has no way to try again later, and none to go on without.
    async fn found<T>(&self, look: impl Fn(&Log) -> Result<T, LogError>) -> Result<T, io::Error> {
        let mut waits = false;
        loop {
            match look(&self.log) {
                Err(error) if error.is_out_of_descriptors() => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!(%error, "a read of the log waits for a file descriptor");
                    }
                    tokio::time::sleep(DESCRIPTOR_PAUSE).await;
                }
                found => return found.map_err(|error| self.failed(&error)),
            }
        }
    }

    async fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        contents: Contents,
    ) -> Result<Vec<Entry>, io::Error> {
        let entries = self.found(|log| log.read(range.clone(), bytes_max, contents)).await?;
        entries.into_iter().map(|entry| from_log_entry(entry).map_err(io::Error::other)).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(exclusive(&range), usize::MAX, Contents::With).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_SIZE, Contents::With).await
    }

    /// Apply needs commands and sizes, not bodies, and reads in bounded steps.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl futures_util::Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let reader = self.clone();
        futures_util::stream::unfold(
            (exclusive(&range), Vec::new().into_iter()),
            move |(mut range, mut read)| {
                let reader = reader.clone();
                async move {
                    if let Some(entry) = read.next() {
                        return Some((Ok(entry), (range, read)));
                    }
                    if range.is_empty() {
                        return None;
                    }
                    match reader.read(range.clone(), READ_SIZE, Contents::Without).await {
                        Ok(entries) => {
                            let mut entries = entries.into_iter();
                            let entry = entries.next()?;
                            range.start = entries.as_slice().last().unwrap_or(&entry).log_id.index + 1;
                            Some((Ok(entry), (range, entries)))
                        }
                        Err(error) => {
                            range.start = range.end;
                            Some((Err(error), (range, Vec::new().into_iter())))
                        }
                    }
                }
            },
        )
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.log.state().vote.map(to_vote))
    }

    /// The last id of each leader, found from the ids alone.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<Id>) -> Result<Vec<Id>, io::Error> {
        let (first, last) = range.into_inner();
        let mut keys = Vec::new();
        let mut low = first;
        while low.leader_id != last.leader_id {
            // The next leader's first entry lies in (low.index, last.index].
            let (mut left, mut right) = (low.index, last.index);
            while right - left > 1 {
                let middle = left + (right - left) / 2;
                let id = self.id_at(middle).await?;
                if id.leader_id == low.leader_id { left = middle } else { right = middle }
            }
            keys.push(self.id_at(left).await?);
            low = self.id_at(right).await?;
        }
        keys.push(last);
        Ok(keys)
    }
}

impl LogReader {
    async fn id_at(&self, index: u64) -> Result<Id, io::Error> {
        let id = self.found(|log| log.id_at(index)).await?;
        id.map(to_log_id).ok_or_else(|| io::Error::other(format!("entry {index} is not in the log")))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log().state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(to_log_id),
            last_log_id: state.last.map(to_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let vote = from_vote(vote);
        if mutants::on(Mutant::VoteBeforeSync) {
            self.log().save_vote(vote, Box::new(|| {}));
        } else {
            durable(|done| self.log().save_vote(vote, done)).await;
        }
        self.voted.store(vote.term, Ordering::Release);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<Id>) -> Result<(), io::Error> {
        self.log().save_committed(committed.as_ref().map(from_log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<Id>, io::Error> {
        Ok(self.log().state().committed.map(to_log_id))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(to_log_entry).collect();
        let last = entries.last().map_or(0, |entry| entry.id.index);
        let taken = self.rooms.amounts().append(last, entries.iter().map(size).sum());
        if mutants::on(Mutant::FollowerAnswersEarly) {
            self.log().append(entries, Box::new(|| {}));
            flushed.io_completed(Ok(()));
            return Ok(());
        }
        let rooms = Arc::clone(&self.rooms);
        let done = move || {
            rooms.amounts().wrote(taken);
            flushed.io_completed(Ok(()));
        };
        self.log().append(entries, Box::new(done));
        Ok(())
    }

    /// Durable before it returns: a snapshot installed later must never find the cut entries again.
    async fn truncate_after(&mut self, last: Option<Id>) -> Result<(), io::Error> {
        durable(|done| self.log().truncate_after(last.as_ref().map(from_log_id), done)).await;
        Ok(())
    }

    async fn purge(&mut self, upto: Id) -> Result<(), io::Error> {
        durable(|done| self.log().purge_upto(from_log_id(&upto), done)).await;
        Ok(())
    }
}
