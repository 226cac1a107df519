//! What goes wrong on the simulated disk, and when: faults at chosen operations, the power, the record of what was
//! asked.

use std::path::Path;

use super::names::normal;
use crate::fs::{DIR_SYNC, FILE_SYNC};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Op {
    Open,
    Create,
    CreateDir,
    List,
    Exists,
    Rename,
    Remove,
    SyncDir,
    Lock,
    Free,
    Read,
    Write,
    Sync,
    Size,
    SetSize,
    DropCache,
}

impl Op {
    /// Whether it can change what a crash leaves. Only these are counted as crash points.
    pub fn mutates(self) -> bool {
        match self {
            Self::Create | Self::CreateDir | Self::Rename | Self::Remove | Self::SyncDir => true,
            Self::Write | Self::Sync | Self::SetSize => true,
            Self::Open | Self::List | Self::Exists | Self::Lock | Self::Free => false,
            Self::Read | Self::Size | Self::DropCache => false,
        }
    }

    /// As the real disk calls it.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Open | Self::Create => "open",
            Self::CreateDir => "mkdir",
            Self::List => "readdir",
            Self::Exists => "stat",
            Self::Rename => "rename",
            Self::Remove => "unlink",
            Self::SyncDir => DIR_SYNC,
            Self::Lock => "flock",
            Self::Free => "statvfs",
            Self::Read => "pread",
            Self::Write => "pwritev",
            Self::Sync => FILE_SYNC,
            Self::Size => "fstat",
            Self::SetSize => "ftruncate",
            Self::DropCache => "fadvise",
        }
    }
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A write may have written a beginning. A sync leaves everything it covered clean, a random part of it
    /// durable, and the cache as if nothing had happened; the next one succeeds.
    Io,
    /// ENOSPC.
    NoSpace,
    /// A sync of a file reports success, but one unit lies in the place of another. For other operations nothing.
    Misdirect,
}

/// A fault at a chosen operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Which kind.
    pub op: Op,
    /// On paths that contain this text; the empty one is in all.
    pub path: String,
    /// The how manyth from now; 1 is the next.
    pub nth: u64,
    /// What happens.
    pub fault: Fault,
}

/// Faults to come and operations seen.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) injections: Vec<Injection>,
    /// Operations that mutate, so far.
    pub(super) mutations: u64,
    /// The machine goes off when this many have been done.
    pub(super) power_until: Option<u64>,
    pub(super) record: Option<Vec<String>>,
}

impl Faults {
    /// Whether the power is gone.
    pub(super) fn off(&self) -> bool {
        self.power_until.is_some_and(|until| self.mutations >= until)
    }

    /// Counts an operation and says what is wrong with it. `detail` is for the record.
    pub(super) fn begin(&mut self, op: Op, path: &Path, detail: impl FnOnce() -> String) -> Option<Fault> {
        self.mutations += u64::from(op.mutates());
        let mut fault = None;
        if self.injections.is_empty() && self.record.is_none() {
            return fault;
        }
        let text = normal(path).to_string_lossy().into_owned();
        self.injections.retain_mut(|injection| {
            if injection.op != op || !text.contains(&injection.path) {
                return true;
            }
            injection.nth = injection.nth.saturating_sub(1);
            if injection.nth == 0 {
                fault = fault.or(Some(injection.fault));
            }
            injection.nth > 0
        });
        if let Some(record) = &mut self.record {
            let wrong = fault.map_or(String::new(), |fault| format!(" {fault:?}"));
            record.push(format!("{} {} {text}{}{wrong}", self.mutations, op.call(), detail()));
        }
        fault
    }
}
