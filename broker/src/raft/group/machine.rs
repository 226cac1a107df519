//! The replicated state in openraft's hands: apply, snapshots out, snapshots in. The state itself decides
//! everything in `queue`; here it is only kept, shared with readers, and saved.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use queue_protocol::wire::peer::LogId;
use queue_protocol::wire::response::WriteStage;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::agreement::Agreement;
use super::bodies::{merge, reading};
use super::gone::Recent;
use super::growth::{Growth, SnapshotEvery};
use super::mutated;
use super::rights::Mark;
use super::times::{Now, Times};
use crate::complaint::Complaint;
use crate::locked::Locked as _;
use crate::log::{LiveBodies, Log};
use crate::mutants::{self, Mutant};
use crate::outside::Tasks;
use crate::queue::command::Batch as Commands;
use crate::queue::reply::Effects;
use crate::queue::{BadState, State};
use crate::raft::cluster::levels::Spoken;
use crate::raft::node::receive_snapshot::Received;
use crate::raft::node::witness::{Seen, Witness};
use crate::raft::openraft::cause::{Cause, LoadError};
use crate::raft::openraft::types::{
    Applied, Batch, Entry, Member, RaftLogId, RaftSnapshot, RaftSnapshotMeta, RaftStoredMembership,
    TypeConfig, decode_meta, encode_meta, from_log_id, told,
};
use crate::snapshots::{SnapshotError, SnapshotFile, Snapshots, Stage};

/// Pause after a snapshot found no room.
const ROOM_AFTER: Duration = Duration::from_secs(1);
/// Said when a snapshot finds no room on the disk.
static NO_ROOM: Complaint = Complaint::new();

/// A snapshot, ours or a peer's.
pub(crate) enum SnapshotData {
    /// Of a state that no entry was applied to: there is nothing to keep.
    Empty,
    /// Published here. Its bodies stay as long as this is held.
    Local(Arc<Pinned>),
    /// Received and not yet installed.
    Received(Box<Received>),
}

/// A published snapshot with the bodies it names.
pub(crate) struct Pinned {
    pub(crate) file: SnapshotFile,
    pub(crate) live: LiveBodies,
}

struct Core {
    state: State,
    applied: Option<RaftLogId>,
    membership: RaftStoredMembership,
    growth: Growth,
    gone: Recent,
}

/// Called after every entry, on the thread that applies.
pub(crate) type OnApplied = Box<dyn Fn(Effects) + Send + Sync>;

/// The state and what keeps it. Shared by apply, readers and snapshot builders.
pub(crate) struct Machine {
    core: Mutex<Core>,
    log: Log,
    snapshots: Snapshots,
    every: SnapshotEvery,
    tasks: Arc<dyn Tasks>,
    witness: Witness,
    pub(in crate::raft) spoken: Spoken,
    pub(in crate::raft) cause: Cause,
    agreement: Option<Arc<Agreement>>,
    times: Option<Arc<Times>>,
    newest: Mutex<Option<(RaftSnapshotMeta, Arc<Pinned>)>>,
    older: Mutex<Vec<std::sync::Weak<Pinned>>>,
    on_applied: OnceLock<OnApplied>,
    pub(super) rights: Mark,
    /// The entry of the last membership that was applied.
    memberships: watch::Sender<u64>,
    /// A snapshot is due, or was published: the log may be purged.
    pub(crate) due: Notify,
}

impl Machine {
    /// Loads the newest snapshot, or begins empty.
    pub(crate) fn load(
        log: Log,
        snapshots: Snapshots,
        every: SnapshotEvery,
        tasks: Arc<dyn Tasks>,
        witness: Witness,
        spoken: Spoken,
        cause: Cause,
    ) -> Result<Self, LoadError> {
        let mut core = Core {
            state: State::new(),
            applied: None,
            membership: RaftStoredMembership::default(),
            growth: Growth::default(),
            gone: Recent::default(),
        };
        let mut newest = None;
        if let Some(file) = snapshots.newest() {
            let index = file.last.index;
            let decode = |what: String| LoadError::Decode { index, what };
            let meta = decode_meta(&file.meta).map_err(|e| decode(e.to_string()))?;
            let state = match State::decode(&file.read_state()?) {
                Err(BadState::Level(level)) => return Err(spoken.unknown(level).into()),
                state => mutated::taken(state.map_err(|e| decode(e.to_string()))?),
            };
            spoken.reach(state.level())?;
            core.applied = meta.last_log_id;
            core.membership = meta.last_membership.clone();
            let live = state.live_bodies();
            witness.tell(&Seen::Taken { index, state: &state });
            core.gone = Recent::begin(state.elapsed_ms());
            core.state = state;
            newest = Some((meta, Arc::new(Pinned { file, live })));
        }
        let rights = Mark::of(&core.state);
        Ok(Self {
            core: Mutex::new(core),
            log,
            snapshots,
            every,
            tasks,
            witness,
            spoken,
            cause,
            agreement: None,
            times: None,
            newest: Mutex::new(newest),
            older: Mutex::default(),
            on_applied: OnceLock::new(),
            rights,
            memberships: watch::Sender::new(0),
            due: Notify::new(),
        })
    }

    /// Says what its state comes to.
    pub(crate) fn compared(self, agreement: Arc<Agreement>) -> Self {
        Self { agreement: Some(agreement), ..self }
    }

    /// Says what the clocks of its state show.
    pub(crate) fn timed(self, times: Arc<Times>) -> Self {
        times.applied(Now::of(&self.core().state));
        Self { times: Some(times), ..self }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.locked()
    }

    /// Tells of each membership that is applied, with its entry or by a snapshot.
    pub(crate) fn memberships(&self) -> watch::Receiver<u64> {
        self.memberships.subscribe()
    }

    /// Names who hears of effects; once.
    pub(crate) fn set_on_applied(&self, on_applied: OnApplied) {
        assert!(self.on_applied.set(on_applied).is_ok(), "effects are heard in one place");
    }

    /// Reads the state as far as it is applied, with the index of the last entry. Keep it short: apply waits.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State, u64) -> T) -> T {
        self.read_with_gone(|state, index, _| look(state, index))
    }

    /// The same with the messages that went lately.
    pub(crate) fn read_with_gone<T>(&self, look: impl FnOnce(&State, u64, &Recent) -> T) -> T {
        let core = self.core();
        look(&core.state, core.applied.map_or(0, |applied| applied.index), &core.gone)
    }

    pub(crate) fn snapshot_last(&self) -> Option<LogId> {
        self.newest().as_ref().and_then(|(meta, _)| meta.last_log_id.as_ref().map(from_log_id))
    }

    /// Bytes that a snapshot of the present state may have.
    pub(crate) fn snapshot_size(&self) -> u64 {
        let newest = self.newest().as_ref().map_or(0, |(_, pinned)| pinned.file.state_size);
        newest.saturating_add(self.growth().state())
    }

    /// What was written and settled since the last snapshot.
    pub(crate) fn growth(&self) -> Growth {
        self.core().growth
    }

    /// Older snapshots that are still being sent.
    pub(crate) fn snapshots_sent(&self) -> usize {
        let older = self.older.locked();
        older.iter().filter(|pinned| pinned.strong_count() > 0).count()
    }

    pub(crate) fn applied(&self) -> Option<LogId> {
        self.core().applied.as_ref().map(from_log_id)
    }

    /// A member of the last membership that was applied.
    pub(crate) fn member(&self, node: u64) -> Option<Member> {
        self.core().membership.membership().get_node(&node).cloned()
    }

    fn newest(&self) -> MutexGuard<'_, Option<(RaftSnapshotMeta, Arc<Pinned>)>> {
        self.newest.locked()
    }

    /// An entry with these commands is about to be proposed here.
    pub(crate) fn stamped(&self, batch: &Commands) {
        self.witness.tell(&Seen::Stamped { batch });
    }

    /// Applies an entry; `proposed` here, what it delivers is kept readable.
    pub(in crate::raft) fn take(&self, entry: &Entry, proposed: bool) -> io::Result<(Applied, Effects)> {
        if let EntryPayload::Normal(batch) = &entry.payload {
            return self.apply_batch(entry.log_id, batch, proposed);
        }
        let mut core = self.core();
        core.applied = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            core.membership = RaftStoredMembership::new(Some(entry.log_id), membership.clone());
            if !mutants::on(Mutant::RemovedStaysMember) {
                core.state.note_members(|node| membership.get_node(&node.0).is_some());
            }
            core.state.tell_members(entry.log_id.index, told(membership));
            drop(core);
            self.memberships.send_replace(entry.log_id.index);
        }
        Ok(Default::default())
    }

    /// Applies the commands of an entry; `proposed` here, what they deliver is kept readable.
    fn apply_batch(&self, id: RaftLogId, batch: &Batch, proposed: bool) -> io::Result<(Applied, Effects)> {
        let commands = self.commands(id.index, &batch.commands)?;
        let begin = Instant::now();
        let mut core = self.core();
        let before = core.state.bytes();
        let applied = if cfg!(feature = "mutants") {
            let (given, table) =
                (mutated::batch(commands.clone(), &core.state), mutated::table(&batch.table));
            let applied = core.state.apply(id.index, &given, &table);
            mutated::applied(&mut core.state, id.index);
            applied
        } else {
            core.state.apply(id.index, &commands, &batch.table)
        };
        self.witness.tell(&Seen::Applied {
            index: id.index,
            term: id.leader_id.term,
            batch: &commands,
            table: &batch.table,
            replies: &applied.replies,
            state: &core.state,
        });
        self.spoken.reach(core.state.level()).expect("it was looked at before");
        if let Some(times) = &self.times {
            times.applied(Now::of(&core.state));
        }
        let lease_clock_ms = core.state.lease_clock_ms();
        let reading = if proposed { reading(&self.log, &applied.replies) } else { None };
        self.rights.note(&core.state);
        core.gone.keep(applied.gone);
        core.applied = Some(id);
        let freed = before.saturating_sub(core.state.bytes());
        if core.growth.add(batch, freed, self.every) {
            self.due.notify_one();
        }
        drop(core);
        self.log.stages().record_of(WriteStage::Apply, id.index..=id.index, begin.elapsed());
        Ok((Applied { replies: applied.replies, lease_clock_ms, reading }, applied.effects))
    }

    /// Begins to take in a peer's snapshot.
    pub(crate) fn stage(&self, last: LogId, state_size: u64) -> io::Result<Stage> {
        self.snapshots.stage(last, state_size).map_err(io::Error::other)
    }

    /// Frees what neither the newest snapshot nor one that is being sent needs.
    pub(crate) fn collect(&self) {
        let Some((live, upto)) = self
            .newest()
            .as_ref()
            .and_then(|(meta, pinned)| Some((pinned.live.clone(), meta.last_log_id.as_ref()?.index)))
        else {
            return;
        };
        let mut older = self.older.locked();
        older.retain(|pinned| pinned.strong_count() > 0);
        let pins: Vec<_> = older.iter().filter_map(std::sync::Weak::upgrade).collect();
        drop(older);
        let live = pins.iter().fold(live, |live, pinned| merge(live, &pinned.live));
        self.log.collect(live, upto);
    }

    fn publish(&self, meta: RaftSnapshotMeta, pinned: Pinned) -> Arc<Pinned> {
        let pinned = Arc::new(pinned);
        let mut newest = self.newest();
        if let Some((newer, kept)) = &*newest
            && newer.last_log_id > meta.last_log_id
        {
            return Arc::clone(kept);
        }
        if let Some((_, older)) = newest.replace((meta, Arc::clone(&pinned))) {
            self.older.locked().push(Arc::downgrade(&older));
        }
        drop(newest);
        self.collect();
        self.due.notify_one();
        pinned
    }

    /// Writes `state` aside and publishes it; the local log must be durable up to its last entry.
    async fn save(self: Arc<Self>, meta: RaftSnapshotMeta, state: State) -> io::Result<Arc<Pinned>> {
        self.log.flush().await.map_err(io::Error::other)?;
        let last = meta.last_log_id.as_ref().map(from_log_id);
        let last = last.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let meta_bytes = encode_meta(&meta);
        let file = loop {
            match self.snapshots.publish(last, &meta_bytes, |out| state.encode(out)).await {
                // Nothing of it is left, and the one before still stands.
                Err(SnapshotError::Disk(error)) if error.is_for_now() => {
                    if let Some(again) = NO_ROOM.due() {
                        tracing::warn!(%error, again, "a snapshot waits for room, and is tried again");
                    }
                    tokio::time::sleep(ROOM_AFTER).await;
                }
                saved => break saved.map_err(io::Error::other)?,
            }
        };
        let pinned = Pinned { file, live: state.live_bodies() };
        if pinned.file.last != last {
            // A newer one was installed meanwhile and stays the newest; openraft looks at the meta alone.
            return Ok(Arc::new(pinned));
        }
        Ok(self.publish(meta, pinned))
    }

    /// Makes a peer's snapshot ours. Bodies first, then the snapshot: a crash in between leaves the old state and
    /// bodies that nothing names yet.
    async fn take_in(self: Arc<Self>, received: Received, meta: RaftSnapshotMeta) -> io::Result<State> {
        let state = self.decode(&received.staged.read_state().map_err(io::Error::other)?)?;
        let live = state.live_bodies();
        self.log.flush().await.map_err(io::Error::other)?;
        received.import.publish(received.applied, received.staged.last()).await.map_err(io::Error::other)?;
        let file = received.staged.publish(&encode_meta(&meta)).await.map_err(io::Error::other)?;
        self.publish(meta, Pinned { file, live });
        Ok(state)
    }

    /// Publishes a snapshot of ours under another meta.
    async fn take_again(self: Arc<Self>, pinned: Arc<Pinned>, meta: RaftSnapshotMeta) -> io::Result<State> {
        let state = self.decode(&pinned.file.read_state().map_err(io::Error::other)?)?;
        self.save(meta, state.clone()).await?;
        Ok(state)
    }

    /// Runs a job where it may block, and waits for it.
    async fn aside<T: Send + 'static>(
        self: Arc<Self>,
        name: &'static str,
        job: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (done, wait) = oneshot::channel();
        self.tasks.blocking(
            name,
            Box::pin(async move {
                let _ = done.send(job.await);
            }),
        );
        wait.await.unwrap_or_else(|_| Err(io::Error::other(format!("{name} was stopped"))))
    }
}

/// openraft's handle on the machine.
#[derive(Clone)]
pub(crate) struct MachineStore(pub(crate) Arc<Machine>);

/// A frozen state on its way to the disk.
pub(crate) struct Builder {
    machine: Arc<Machine>,
    meta: RaftSnapshotMeta,
    /// Until it is built: giving a state back may take long, and is done where building is.
    state: Option<State>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        if self.meta.last_log_id.is_none() {
            return Ok(RaftSnapshot { meta: self.meta.clone(), snapshot: SnapshotData::Empty });
        }
        let state = self.state.take().ok_or_else(|| io::Error::other("a snapshot is built once"))?;
        let job = Arc::clone(&self.machine).save(self.meta.clone(), state);
        let pinned = Arc::clone(&self.machine).aside("snapshot", job).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotData::Local(pinned) })
    }
}

impl RaftStateMachine<TypeConfig> for MachineStore {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftStoredMembership), io::Error> {
        let core = self.0.core();
        Ok((core.applied, core.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let (applied, effects) = self.0.take(&entry, responder.is_some())?;
            if let Some(agreement) = &self.0.agreement {
                agreement.applied(entry.log_id.index, || self.0.core().state.digest());
            }
            if let Some(responder) = responder {
                responder.send(applied);
            }
            if let Some(on_applied) = self.0.on_applied.get() {
                on_applied(effects);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let mut core = self.0.core();
        core.growth = Growth::default();
        let meta = RaftSnapshotMeta { last_log_id: core.applied, last_membership: core.membership.clone() };
        Builder { machine: Arc::clone(&self.0), meta, state: Some(core.state.clone()) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        let applied = self.0.core().applied;
        let state = match data {
            // At start openraft may hand our own newest snapshot back: it is loaded already.
            SnapshotData::Empty => return Ok(()),
            SnapshotData::Local(_) if applied == meta.last_log_id => return Ok(()),
            SnapshotData::Local(pinned) => {
                let job = Arc::clone(&self.0).take_again(pinned, meta.clone());
                Arc::clone(&self.0).aside("install", job).await?
            }
            SnapshotData::Received(received) => {
                let job = Arc::clone(&self.0).take_in(*received, meta.clone());
                Arc::clone(&self.0).aside("install", job).await?
            }
        };
        let mut core = self.0.core();
        self.0
            .witness
            .tell(&Seen::Taken { index: meta.last_log_id.map_or(0, |last| last.index), state: &state });
        core.gone = Recent::begin(state.elapsed_ms());
        if let Some(times) = &self.0.times {
            times.applied(Now::of(&state));
        }
        self.0.rights.note(&state);
        let before = std::mem::replace(&mut core.state, state);
        core.applied = meta.last_log_id;
        core.membership = meta.last_membership.clone();
        core.growth = Growth::default();
        let members = core.membership.log_id().map_or(0, |id| id.index);
        drop(core);
        self.0.memberships.send_replace(members);
        self.0.tasks.blocking("forget", Box::pin(async move { drop(before) }));
        if let Some(on_applied) = self.0.on_applied.get() {
            on_applied(Effects::default());
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        Ok(self.0.newest().as_ref().map(|(meta, pinned)| Snapshot {
            meta: meta.clone(),
            snapshot: SnapshotData::Local(Arc::clone(pinned)),
        }))
    }
}
