//! Names of the simulated disk, twice: as processes see them and as the platter holds them.
//!
//! Each change is a pending fact of the directory it happened in, until a sync of that directory. A rename is one
//! fact: both of its halves or none. A sync of a file settles no name.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Persists;
use crate::fs::rng::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A directory.
    Dir,
    /// A file, by number.
    File(u64),
}

/// Paths to what they name; the root is there without an entry.
pub(super) type Tree = BTreeMap<PathBuf, Target>;

/// Both views and what lies between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    cache: Tree,
    durable: Tree,
    pending: Vec<Fact>,
    seq: u64,
}

#[derive(Clone, Debug)]
struct Fact {
    seq: u64,
    dir: PathBuf,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Link { path: PathBuf, target: Target },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, target: Target },
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Link { path, target } => {
                tree.insert(path.clone(), *target);
            }
            Self::Unlink { path } => {
                tree.remove(path);
            }
            Self::Rename { from, to, target } => {
                if tree.get(from) == Some(target) {
                    tree.remove(from);
                }
                tree.insert(to.clone(), *target);
            }
        }
    }
}

/// One spelling for a path: no root, no `.`.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).collect()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

impl Names {
    /// Names that are all durable.
    pub(super) fn new(durable: Tree) -> Self {
        Self { cache: durable.clone(), durable, ..Self::default() }
    }

    /// What a path names, to processes.
    pub(super) fn get(&self, path: &Path) -> Option<Target> {
        if path.as_os_str().is_empty() { Some(Target::Dir) } else { self.cache.get(path).copied() }
    }

    /// Whether a file can be made at this path.
    pub(super) fn parent_exists(&self, path: &Path) -> bool {
        self.get(&parent(path)) == Some(Target::Dir)
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let inside = self.cache.keys().filter(|path| parent(path) == dir);
        let mut names: Vec<String> =
            inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort_unstable();
        names
    }

    /// The files processes can name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, u64)> {
        self.cache.iter().filter_map(|(path, target)| match target {
            Target::File(file) => Some((path, *file)),
            Target::Dir => None,
        })
    }

    /// What the platter holds.
    pub(super) fn durable(&self) -> &Tree {
        &self.durable
    }

    /// The files that have a name, had one on the platter, or may get one there. Some twice.
    pub(super) fn referred(&self) -> impl Iterator<Item = u64> {
        let pending = self.pending.iter().filter_map(|fact| match &fact.change {
            Change::Link { target, .. } | Change::Rename { target, .. } => Some(target),
            Change::Unlink { .. } => None,
        });
        let targets = self.cache.values().chain(self.durable.values()).chain(pending);
        targets.filter_map(|target| match target {
            Target::File(file) => Some(*file),
            Target::Dir => None,
        })
    }

    /// Gives a path a new meaning.
    pub(super) fn link(&mut self, path: PathBuf, target: Target) {
        self.change(parent(&path), Change::Link { path, target });
    }

    /// Takes a name away.
    pub(super) fn unlink(&mut self, path: PathBuf) {
        self.change(parent(&path), Change::Unlink { path });
    }

    /// Moves a name over another. Belongs to the directory it moves to.
    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf, target: Target) {
        self.change(parent(&to), Change::Rename { from, to, target });
    }

    fn change(&mut self, dir: PathBuf, change: Change) {
        change.apply(&mut self.cache);
        self.seq += 1;
        self.pending.push(Fact { seq: self.seq, dir, change });
    }

    /// Begins a sync of a directory: the facts it covers.
    pub(super) fn capture(&self) -> u64 {
        self.seq
    }

    /// Ends a sync of a directory that worked.
    pub(super) fn settle(&mut self, dir: &Path, captured: u64) {
        self.end(dir, captured, || true);
    }

    /// Ends one that failed: a part is durable, none of it is pending.
    pub(super) fn fail(&mut self, dir: &Path, captured: u64, rng: &mut Rng) {
        self.end(dir, captured, || rng.chance(1, 2));
    }

    fn end(&mut self, dir: &Path, captured: u64, mut persists: impl FnMut() -> bool) {
        let durable = &mut self.durable;
        self.pending.retain(|fact| {
            let covered = fact.dir == dir && fact.seq <= captured;
            if covered && persists() {
                fact.change.apply(durable);
            }
            !covered
        });
    }

    /// The power goes: each pending fact is durable or not, then only the platter is left, and of that only what
    /// can be reached from the root.
    pub(super) fn crash(&mut self, persists: &mut Persists<'_>) {
        for fact in std::mem::take(&mut self.pending) {
            if persists.next() {
                fact.change.apply(&mut self.durable);
            }
        }
        let mut reached = Tree::new();
        // In a tree of paths a directory comes before what is in it.
        for (path, target) in std::mem::take(&mut self.durable) {
            let above = parent(&path);
            if above.as_os_str().is_empty() || reached.get(&above) == Some(&Target::Dir) {
                reached.insert(path, target);
            }
        }
        self.cache.clone_from(&reached);
        self.durable = reached;
    }
}
