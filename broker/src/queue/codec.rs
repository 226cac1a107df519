//! A state as bytes: equal states give equal bytes, and no bytes make [`State::decode`] panic.
//!
//! ```text
//! u32 feature level (little-endian), then postcard values one after the other:
//! from level 2 on, which is for tests alone, the level again
//! Head
//! the admission key if there is one, the rotation of the secret if there is one, u64 stages of it × { node, stage }
//! u64 numbers of nodes × { node, assigned }                                     rising
//! the head of principals and keys, principals { number, principal }, keys { number, key }       each rising
//! u64 queues ×     { QueueHead,
//!                    2 × u64 × ready { rank, first id, run (sizes one by one of pieces where they differ) or message },
//!                    those without a group, then those of groups,
//!                    u64 × leased, u64 × delayed, u64 × dead { id, record },   each rising
//!                    u64 × expiries { last id, (first id, wall ms) },
//!                    u64 × dedup keys { key, (id, wall ms) }, u64 × unique keys { key, id },
//!                    u64 × unique keys that rest { id, key },                 rising
//!                    round, u64 × groups { key, weight, turn, parking, bucket } }
//! u64 sessions ×   { id, owner, done_below, opening, used_at_ms, listed_ms, grace_ms if bound }    rising
//! u64 answers ×    { session, number, at, request, result }                              rising
//! the mark of forgotten sessions, if there is one
//! u64 forgotten ×  { id, index, until_ms }                                      in the order in which they were forgotten
//! u64 schedules ×  { name, schedule }                                           rising
//! the head of the journal, u64 records × { record }                             rising by one
//! ```
//!
//! Sums, deadlines and who holds what are not stored: they follow from the rest.

use std::sync::Arc;

use imbl::OrdMap;
use queue_protocol::limits::{SCHEDULES_MAX, SESSIONS_MAX};
use queue_protocol::names::{Key, MessageId, NodeId, QueueName, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::proof::Fingerprint;
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::response::At;
use queue_protocol::wire::security::RotationPhase;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::auth::PrincipalNumber;
use super::catalog::{Catalog, QueueNumber};
use super::clients::answers::Answer;
use super::clients::bound::is_grace;
use super::clients::forgotten::{Forgotten, SESSIONS_FORGOTTEN_MAX};
use super::command::Opening;
use super::digest::Digest;
use super::due::clocks::Clocks;
use super::due::schedules::Schedule;
use super::journal::Journal;
use super::leased::active::Active;
use super::level::is_known;
use super::messages::line::{Entry, Place, Stored};
use super::messages::message::{Dead, Delayed, Leased};
use super::nodes::{Admission, Assigned};
use super::numbers::Numbers;
use super::queue::Queue;
use super::read::turnover::Turnover;
use super::reply::{Outcome, Refusal};
use super::rotation::{Rotation, Stage};
use super::state::State;
use super::waiting::groups::Kept;
use super::waiting::rate::Bucket;
use super::waiting::ready::Ready;

/// Bytes gathered before they are handed out.
const PIECE_SIZE: usize = 64 << 10;
/// No counter that starts at 0 or 1 gets here: a state that says so is not one.
const NUMBER_MAX: u64 = 1 << 62;

/// Why bytes are not a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// Written at a level that this build does not know.
    #[error("the state is of feature level {0}, which this program does not know")]
    Level(Level),
    /// They end too early or do not decode.
    #[error("the state does not decode at byte {at}")]
    Malformed {
        /// Offset in bytes at which decoding failed.
        at: usize,
    },
    /// They decode but contradict themselves.
    #[error("the state contradicts itself before byte {at}: {what}")]
    Inconsistent {
        /// Bytes up to and including the contradiction.
        at: usize,
        /// What contradicts the rest of the state, in words.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    wall_ms: u64,
    elapsed_ms: u64,
    lease_clock_ms: u64,
    next_id: u64,
    next_token: u64,
    next_node: u64,
    next_queue: QueueNumber,
    turnover: Turnover,
    digest: u64,
}

#[derive(Serialize, Deserialize)]
struct QueueHead {
    number: QueueNumber,
    name: QueueName,
    settings: Settings,
    version: u64,
    turnover: Turnover,
    bucket: Bucket,
    active: Active,
}

struct Writer<'a> {
    out: &'a mut dyn FnMut(&[u8]),
    piece: Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, value: &(impl Serialize + ?Sized)) {
        let piece = std::mem::take(&mut self.piece);
        self.piece = postcard::to_extend(value, piece).expect("plain values always encode");
        if self.piece.len() >= PIECE_SIZE {
            (self.out)(&self.piece);
            self.piece.clear();
        }
    }

    fn put_all<T: Serialize>(&mut self, count: usize, values: impl Iterator<Item = T>) {
        self.put(&(count as u64));
        values.for_each(|value| self.put(&value));
    }

    fn put_queue(&mut self, number: QueueNumber, queue: &Queue) {
        let Queue { name, settings, version, turnover, bucket, active, .. } = queue;
        self.put(&QueueHead {
            number,
            name: name.clone(),
            settings: Settings::clone(settings),
            version: *version,
            turnover: *turnover,
            bucket: *bucket,
            active: *active,
        });
        for (same, entries) in queue.ready.entries().into_iter().zip(queue.ready.entries()) {
            self.put(&(same.count() as u64));
            for (place, entry) in entries {
                let (head, sizes) = entry.to_stored(place);
                self.put(&head);
                sizes.for_each(|size| self.put(&size));
            }
        }
        self.put_all(queue.leased.len(), queue.leased.iter());
        self.put_all(queue.delayed.len(), queue.delayed.iter());
        self.put_all(queue.dead.len(), queue.dead.iter());
        self.put_all(queue.expiries.spans().len(), queue.expiries.spans());
        self.put_all(queue.dedup.keys().len(), queue.dedup.keys().iter());
        self.put_all(queue.unique.holders().len(), queue.unique.holders().iter());
        self.put_all(queue.unique.resting().len(), queue.unique.resting().iter());
        let (round, kept) = queue.ready.groups.to_stored();
        self.put(&round);
        self.put_all(kept.len(), kept.iter());
    }
}

impl State {
    /// Writes the state in pieces of about 64 KiB. Equal states, whatever they share with whom, give equal bytes.
    pub fn encode(&self, out: &mut dyn FnMut(&[u8])) {
        let mut to = Writer { out, piece: self.level().0.to_le_bytes().to_vec() };
        if self.level() > Level::FIRST {
            to.put(&self.level());
        }
        to.put(&Head {
            wall_ms: self.wall_ms(),
            elapsed_ms: self.elapsed_ms(),
            lease_clock_ms: self.lease_clock_ms(),
            next_id: self.numbers().id().0,
            next_token: self.numbers().token().0,
            next_node: self.numbers().node().0,
            next_queue: self.catalog().next(),
            turnover: self.catalog().turnover(),
            digest: self.digest(),
        });
        to.put(&self.nodes().admission);
        let rotation = self.nodes().rotation.as_ref();
        to.put(&rotation.map(|rotation| (rotation.next, rotation.fingerprint, rotation.phase)));
        let stages = rotation.iter().flat_map(|rotation| &rotation.stages);
        to.put_all(stages.clone().count(), stages);
        to.put_all(self.nodes().given.len(), self.nodes().given.iter());
        to.put(self.auth());
        to.put(&(self.catalog().len() as u64));
        for (number, queue) in self.catalog().iter() {
            to.put_queue(number, queue);
        }
        let sessions = self.sessions().all();
        let session = |(id, s): (&SessionId, &super::clients::sessions::Session)| {
            let grace_ms = self.sessions().bound.grace_ms(*id);
            (*id, s.owner, s.done_below(), s.opening, s.used_at_ms, s.listed_ms, grace_ms)
        };
        to.put_all(sessions.len(), sessions.iter().map(session));
        let answers =
            self.sessions().answers().map(|(key, answer)| (key, answer.at, answer.request, answer.result()));
        to.put_all(self.sessions().answers().count(), answers);
        to.put(&self.sessions().forgotten().mark());
        to.put_all(self.sessions().forgotten().len(), self.sessions().forgotten().iter());
        to.put_all(self.all_schedules().by_name().len(), self.all_schedules().by_name().iter());
        to.put(&self.journal().head());
        to.put_all(self.journal().len(), self.journal().iter());
        (to.out)(&to.piece);
    }

    /// Reads what [`State::encode`] wrote. The bytes may be anything.
    ///
    /// # Errors
    /// [`BadState`] if they are not a whole state and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        let (level, rest) = bytes.split_first_chunk().ok_or(BadState::Malformed { at: 0 })?;
        let level = Level(u32::from_le_bytes(*level));
        if !is_known(level) {
            return Err(BadState::Level(level));
        }
        let mut from = Reader { size: bytes.len(), rest, turnover: Turnover::default() };
        if level > Level::FIRST {
            let again: Level = from.take()?;
            from.ensure(again == level, "its two levels differ")?;
        }
        let mut state = from.head(level)?;
        from.nodes(&mut state)?;
        *state.auth_mut() = from.take()?;
        for _ in 0..from.take::<u64>()? {
            from.queue(&mut state)?;
        }
        from.sessions(&mut state)?;
        from.each(|_, name, schedule: Schedule| {
            state.schedules_mut().put(name, schedule);
            Ok(())
        })?;
        from.ensure(state.all_schedules().by_name().len() <= SCHEDULES_MAX, "there are too many schedules")?;
        from.journal(&mut state)?;
        if !from.rest.is_empty() {
            return Err(from.inconsistent("something follows"));
        }
        if !state.ids_are_distinct() {
            return Err(from.inconsistent("a message is in two places"));
        }
        Ok(state)
    }

    /// Whether each id is given once and lies below the next.
    fn ids_are_distinct(&self) -> bool {
        let mut ids = self.id_ranges();
        ids.sort_unstable();
        ids.windows(2).all(|pair| pair[0].1 <= pair[1].0)
            && ids.first().is_none_or(|(first, _)| *first > 0)
            && ids.last().is_none_or(|(_, end)| *end <= self.numbers().id().0)
    }
}

struct Reader<'a> {
    size: usize,
    rest: &'a [u8],
    /// Sum over the queues read.
    turnover: Turnover,
}

impl Reader<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, BadState> {
        let at = self.size - self.rest.len();
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|_| BadState::Malformed { at })?;
        self.rest = rest;
        Ok(value)
    }

    fn inconsistent(&self, what: &'static str) -> BadState {
        BadState::Inconsistent { at: self.size - self.rest.len(), what }
    }

    fn ensure(&self, holds: bool, what: &'static str) -> Result<(), BadState> {
        if holds { Ok(()) } else { Err(self.inconsistent(what)) }
    }

    /// As many pairs as the next number says, their keys rising.
    fn each<K: DeserializeOwned + Ord + Clone, V: DeserializeOwned>(
        &mut self,
        mut keep: impl FnMut(&mut Self, K, V) -> Result<(), BadState>,
    ) -> Result<(), BadState> {
        let mut last = None;
        for _ in 0..self.take::<u64>()? {
            let (key, value) = self.take::<(K, V)>()?;
            self.ensure(last.as_ref() < Some(&key), "keys do not rise")?;
            last = Some(key.clone());
            keep(self, key, value)?;
        }
        Ok(())
    }

    fn head(&mut self, level: Level) -> Result<State, BadState> {
        let head: Head = self.take()?;
        let numbers = [head.next_id, head.next_token, head.next_node, head.next_queue];
        let Turnover { pushed, leased, acked, redelivered, died } = head.turnover;
        let turnover = [pushed, leased, acked, redelivered];
        let in_range = numbers.iter().chain(&turnover).chain(&died).all(|number| *number <= NUMBER_MAX);
        let numbers = Numbers::going_on(head.next_id, head.next_token, head.next_node);
        let Some(numbers) = numbers.filter(|_| in_range) else {
            return Err(self.inconsistent("a counter is out of range"));
        };
        let clocks = Clocks::new(head.wall_ms, head.elapsed_ms, head.lease_clock_ms);
        let catalog = Catalog::begin(head.next_queue, head.turnover);
        Ok(State::going_on(level, clocks, numbers, catalog, Digest(head.digest)))
    }

    fn journal(&mut self, state: &mut State) -> Result<(), BadState> {
        let mut journal = Journal::going_on(self.take()?);
        for _ in 0..self.take::<u64>()? {
            let restored = journal.restore(self.take()?);
            self.ensure(restored.is_some(), "the numbers of the journal do not rise by one")?;
        }
        self.ensure(journal.is_sound(), "the journal is too long, or its numbers are out of range")?;
        *state.journal_mut() = journal;
        Ok(())
    }

    fn nodes(&mut self, state: &mut State) -> Result<(), BadState> {
        state.nodes_mut().admission = self.take()?;
        let head: Option<(Admission, Fingerprint, RotationPhase)> = self.take()?;
        let mut stages = OrdMap::new();
        self.each(|_, node: NodeId, stage: Stage| {
            stages.insert(node, stage);
            Ok(())
        })?;
        self.ensure(head.is_some() || stages.is_empty(), "a rotation that is none has stages")?;
        let rotation = |(next, fingerprint, phase)| Rotation { next, fingerprint, phase, stages };
        state.nodes_mut().rotation = head.map(rotation);
        self.each(|_, node, assigned: Assigned| {
            state.nodes_mut().given.insert(node, assigned);
            Ok(())
        })?;
        self.ensure(state.nodes().is_sound(state.numbers().node()), "a number of a node was never given")
    }

    fn queue(&mut self, state: &mut State) -> Result<(), BadState> {
        let QueueHead { number, name, settings, version, turnover, bucket, active } = self.take()?;
        let rises = state.catalog().last() < Some(number) && number < state.catalog().next();
        self.ensure(rises, "queue numbers do not rise")?;
        let room = state.catalog().turnover().less(self.turnover).and_then(|room| room.less(turnover));
        self.ensure(room.is_some(), "the queues' counters exceed the totals")?;
        self.turnover = self.turnover.grow(Turnover::default(), turnover);
        let mut queue = Queue::new(name, Settings::default());
        queue.settings = Arc::new(settings);
        queue.turnover = turnover;
        queue.version = version;
        queue.bucket = bucket;
        self.ensure(bucket.fits(queue.rate()), "a rate was exceeded")?;
        queue.active = active;
        self.ensure(active.fits(queue.settings.single_active), "a claim is out of range")?;
        self.ensure(version <= NUMBER_MAX, "a counter is out of range")?;
        self.ready(&mut queue, Ready::restore_plain)?;
        self.ready(&mut queue, Ready::restore_grouped)?;
        self.each(|from, id, leased: Leased| {
            from.ensure(
                leased.token < state.numbers().token() && leased.message.attempts > 0,
                "a lease was never given",
            )?;
            if let Some(session) = leased.session {
                state.holders_mut().note(session, id, number);
            }
            from.add(&mut queue, u64::from(leased.message.body.size))?;
            queue.lend(id, leased);
            Ok(())
        })?;
        self.each(|from, id, delayed: Delayed| {
            from.add(&mut queue, u64::from(delayed.message.body.size))?;
            queue.delay(id, delayed);
            Ok(())
        })?;
        self.each(|from, id, dead: Dead| {
            from.add(&mut queue, u64::from(dead.message.body.size))?;
            queue.keep_dead(id, dead);
            Ok(())
        })?;
        self.keys(&mut queue)?;
        self.groups(&mut queue)?;
        self.ensure(state.catalog_mut().restore(number, queue), "two queues have one name")?;
        self.ensure(state.catalog().counts().bytes <= NUMBER_MAX, "sizes are out of range")
    }

    fn keys(&mut self, queue: &mut Queue) -> Result<(), BadState> {
        self.each(|_, last, (first, at_ms)| {
            queue.expiries.put_span(first, last, at_ms);
            Ok(())
        })?;
        self.each(|_, key, (id, until_ms)| {
            queue.dedup.remember(key, id, until_ms);
            Ok(())
        })?;
        self.each(|_, key, id| {
            queue.unique.hold(key, id);
            Ok(())
        })?;
        self.each(|_, id, key| {
            queue.unique.restore_resting(id, key);
            Ok(())
        })?;
        self.ensure(queue.keys_hold(), "keys or expiries are of messages that are not there")
    }

    fn groups(&mut self, queue: &mut Queue) -> Result<(), BadState> {
        let round = self.take()?;
        let mut groups = Vec::new();
        for _ in 0..self.take::<u64>()? {
            let (key, kept) = self.take::<(Key, Kept)>()?;
            let rising = groups.last().is_none_or(|(last, _)| *last < key);
            self.ensure(rising && kept != Kept::default(), "groups do not rise")?;
            groups.push((key, kept));
        }
        let restored = queue.ready.restore_groups(&queue.settings, &round, groups);
        self.ensure(restored.is_some(), "turns or rates of groups are out of range")
    }

    fn ready(
        &mut self,
        queue: &mut Queue,
        restore: fn(&mut Ready, Place, Entry) -> Option<()>,
    ) -> Result<(), BadState> {
        let mut last = None;
        for _ in 0..self.take::<u64>()? {
            let stored = self.take::<Stored>()?;
            let mut sizes = Vec::new();
            for _ in 0..stored.sizes_count() {
                sizes.push(self.take::<u32>()?);
            }
            let (place, entry) = stored
                .into_entry(sizes, last)
                .ok_or_else(|| self.inconsistent("ready messages are out of order or range"))?;
            last = Some(entry.last(place));
            self.add(queue, entry.bytes())?;
            let restored = restore(&mut queue.ready, place, entry);
            self.ensure(restored.is_some(), "a ready message stands in the wrong line")?;
        }
        Ok(())
    }

    fn add(&self, queue: &mut Queue, bytes: u64) -> Result<(), BadState> {
        queue.bytes = queue.bytes.saturating_add(bytes);
        self.ensure(queue.bytes <= NUMBER_MAX, "sizes are out of range")
    }

    fn sessions(&mut self, state: &mut State) -> Result<(), BadState> {
        let sessions = state.sessions_mut();
        let mut last = None;
        for _ in 0..self.take::<u64>()? {
            let (id, owner, done_below, opening, used_at_ms, listed_ms, grace_ms) =
                self.take::<(SessionId, Option<PrincipalNumber>, u64, Opening, u64, u64, Option<u64>)>()?;
            self.ensure(last < Some(id) && done_below > 0, "sessions do not rise")?;
            self.ensure(listed_ms <= used_at_ms, "a session is listed as used later than it was")?;
            self.ensure(grace_ms.is_none_or(is_grace), "a grace is out of range")?;
            last = Some(id);
            sessions.restore(id, owner, done_below, opening, [used_at_ms, listed_ms], grace_ms);
        }
        let mut last = None;
        for _ in 0..self.take::<u64>()? {
            let (key, at, request, result) =
                self.take::<((SessionId, u64), At, RequestHash, Result<Outcome, Refusal>)>()?;
            self.ensure(last < Some(key), "answers do not rise")?;
            last = Some(key);
            let restored = sessions.restore_answer(key.0, key.1, Answer::new(at, request, &result));
            self.ensure(restored.is_some(), "an answer has no session")?;
        }
        self.ensure(sessions.count() <= SESSIONS_MAX, "there are too many sessions")?;
        let mut forgotten = Forgotten::of_mark(self.take()?);
        for _ in 0..self.take::<u64>()? {
            let (id, index, until_ms) = self.take()?;
            self.ensure(!sessions.all().contains_key(&id), "a session is open and forgotten")?;
            self.ensure(forgotten.len() < SESSIONS_FORGOTTEN_MAX, "too many sessions were forgotten")?;
            let restored = forgotten.restore(id, index, until_ms);
            self.ensure(restored.is_some(), "forgotten sessions are out of order")?;
        }
        sessions.restore_forgotten(forgotten);
        Ok(())
    }
}

impl State {
    /// First and last plus one of the ids in each entry of the state, in no order.
    pub(super) fn id_ranges(&self) -> Vec<(u64, u64)> {
        let mut ids = Vec::new();
        for (_, queue) in self.catalog().iter() {
            let singles = queue.leased.keys().chain(queue.delayed.keys()).chain(queue.dead.keys());
            ids.extend(singles.map(|MessageId(id)| (*id, id.saturating_add(1))));
            ids.extend(
                queue.ready.entries().into_iter().flatten().flat_map(|(place, entry)| entry.id_ranges(place)),
            );
        }
        ids
    }
}
