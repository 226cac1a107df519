//! The log against a map, through restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    /// So many of the entries; more than there are goes beyond the last.
    Purge(u64),
    Vote,
    Commit(u64),
    Collect,
    Silence,
    Close,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12_u64).prop_map(Step::Append),
        2 => (0..8_u64).prop_map(Step::Truncate),
        2 => (0..30_u64).prop_map(Step::Purge),
        1 => Just(Step::Vote),
        2 => (0..9_u64).prop_map(Step::Commit),
        2 => Just(Step::Collect),
        1 => Just(Step::Silence),
        1 => Just(Step::Close),
        2 => Just(Step::Kill),
    ]
}

#[derive(Default)]
struct Model {
    log: BTreeMap<u64, Entry>,
    /// Purged entries, all of them; those divisible by three are kept live.
    purged: BTreeMap<u64, Entry>,
    purge_mark: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    term: u64,
}

fn is_live(index: u64) -> bool {
    index.is_multiple_of(3)
}

impl Model {
    fn check(&self, store: &Store) {
        let state = store.log.state();
        assert_eq!((state.purged, state.last, state.vote), (self.purge_mark, self.last, self.vote));
        let entries: Vec<Entry> = self.log.values().map(joined).collect();
        assert_eq!(store.read_all(), entries);
        for (index, entry) in self.purged.iter().filter(|(index, _)| is_live(**index)).chain(&self.log) {
            let ordinals: Vec<u32> = (0..u32::try_from(entry.table.len()).unwrap()).collect();
            let bodies: Vec<_> = ordinals.iter().map(|ordinal| body(entry, *ordinal)).collect();
            assert_eq!(store.log.read_bodies(*index, &ordinals).unwrap(), bodies, "{index}");
        }
    }

    fn ids(&self, index: u64) -> Option<LogId> {
        self.log.get(&index).map(|entry| entry.id).or(self.purge_mark.filter(|mark| mark.index == index))
    }

    async fn step(&mut self, step: Step, store: Store, disk: &SimDisk) -> Store {
        let log = store.log.clone();
        let last = self.last.map_or(0, |last| last.index);
        match step {
            Step::Append(count) => {
                let first = self.last.map_or(0, |last| last.index + 1);
                let entries: Vec<Entry> =
                    (first..first + count).map(|index| entry(index, self.term)).collect();
                self.log.extend(entries.iter().map(|entry| (entry.id.index, entry.clone())));
                self.last = entries.last().map(|entry| entry.id);
                log.append(entries, nothing());
            }
            Step::Truncate(count) => {
                let keep = last.saturating_sub(count);
                let Some(keep) = self.ids(keep) else { return store };
                self.term += 1;
                self.log.retain(|index, _| *index <= keep.index);
                self.last = Some(keep);
                self.committed = self.committed.map(|id| if id.index > keep.index { keep } else { id });
                log.truncate_after(Some(keep), nothing());
            }
            Step::Purge(count) => {
                let first = self.purge_mark.map_or(0, |mark| mark.index + 1);
                let upto = self.ids(first + count).unwrap_or(id(first + count, self.term));
                let rest = self.log.split_off(&(upto.index + 1));
                self.purged.append(&mut std::mem::replace(&mut self.log, rest));
                self.purge_mark = Some(upto);
                self.last = self.last.filter(|last| last.index >= upto.index).or(Some(upto));
                log.purge_upto(upto, nothing());
            }
            Step::Vote => {
                self.term += 1;
                self.vote = Some(vote(self.term));
                log.save_vote(vote(self.term), nothing());
            }
            Step::Commit(back) => {
                self.committed = self.ids(last.saturating_sub(back));
                log.save_committed(self.committed);
            }
            Step::Collect => {
                let named =
                    self.purged.iter().filter(|(index, entry)| is_live(**index) && !entry.table.is_empty());
                let whole =
                    named.map(|(index, entry)| (*index, 0..u32::try_from(entry.table.len()).unwrap()));
                log.collect(whole.collect(), self.purge_mark.map_or(0, |mark| mark.index));
            }
            Step::Silence => tokio::time::sleep(Duration::from_millis(30)).await,
            Step::Close | Step::Kill => {
                drop(log);
                store.flush().await;
                if matches!(step, Step::Close) {
                    store.close().await;
                } else {
                    settle().await;
                    store.kill(disk);
                }
                let store = Store::open(disk).await;
                let state = store.log.state();
                let mark = self.committed.map(|id| id.index).min(self.last.map(|id| id.index));
                assert_eq!(state.committed.map(|id| id.index), mark);
                assert_eq!(state.committed.is_some(), self.committed.is_some());
                assert_eq!(store.recovered.torn_bytes, 0);
                return store;
            }
        }
        store
    }
}

fn cases() -> u32 {
    std::env::var("LOG_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_is_a_map_with_a_head_and_a_tail(steps in proptest::collection::vec(step(), 1..50)) {
        run(async {
            let disk = formatted().await;
            let mut store = Store::open(&disk).await;
            let mut model = Model { term: 1, ..Model::default() };
            for step in steps {
                store = model.step(step, store, &disk).await;
                model.check(&store);
            }
            store.close().await;
            let report = crate::log::verify(&(disk.boot() as Arc<dyn crate::fs::Disk>), dir(), options().seed, None).unwrap();
            assert_eq!(report.findings, []);
        });
    }
}
