//! Where the time of writes goes: the stages of their way, and how long each took.

use serde::{Deserialize, Serialize};

use crate::limits::STAGES_MAX;

/// A stage of the way of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WriteStage {
    /// Of each command: from its arrival until an entry takes it.
    Wait,
    /// Of each entry: its commands become bytes.
    Encode,
    /// Of each group of entries: handed to the system.
    Write,
    /// Of each group of entries: until it is on this disk.
    Sync,
    /// Of each append to a follower: from its being sent until the follower has said that it is on its disk.
    Replicate,
    /// Of each entry: what comes of its commands.
    Apply,
    /// Of each write to a client: from the outcome of its oldest answer until the system has taken it.
    Answer,
}

impl WriteStage {
    /// All of them, in order.
    pub const ALL: &[WriteStage] = &[
        WriteStage::Wait,
        WriteStage::Encode,
        WriteStage::Write,
        WriteStage::Sync,
        WriteStage::Replicate,
        WriteStage::Apply,
        WriteStage::Answer,
    ];

    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            WriteStage::Wait => "wait",
            WriteStage::Encode => "encode",
            WriteStage::Write => "write",
            WriteStage::Sync => "sync",
            WriteStage::Replicate => "replicate",
            WriteStage::Apply => "apply",
            WriteStage::Answer => "answer",
        }
    }
}

const _: () = assert!(WriteStage::ALL.len() <= STAGES_MAX);

/// How long one stage took: durations in nanoseconds, exact to a hundredth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// The stage.
    pub stage: WriteStage,
    /// How often it was measured.
    pub count: u64,
    /// The average.
    pub mean_ns: u64,
    /// Half took at most so long.
    pub p50_ns: u64,
    /// Nine of ten took at most so long.
    pub p90_ns: u64,
    /// 99 of 100 took at most so long.
    pub p99_ns: u64,
    /// 999 of 1,000 took at most so long.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}
