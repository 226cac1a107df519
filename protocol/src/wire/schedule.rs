//! Schedules: messages that are pushed again and again, by the clock.
//!
//! Variants and fields are appended, never reordered: postcard numbers them by position.

use serde::{Deserialize, Serialize};

use crate::content::ContentSpec;
use crate::limits::{CRON_SIZE_MAX, SCHEDULES_LISTED_MAX, ZONE_SIZE_MAX};
use crate::names::{Key, QueueName};
use crate::wire::bounded::{Bounded, Text};
use crate::wire::request::{Consistency, PushMessage};

/// Push a message each time that a schedule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSchedule {
    /// Its name.
    pub name: Key,
    /// In the place of the one of that name, if there is one; else refused if there is.
    pub replace: bool,
    /// Where to; it must exist.
    pub queue: QueueName,
    /// The times of its pushes.
    pub when: When,
    /// What becomes of times that pass while nobody leads.
    pub missed: Missed,
    /// What is pushed; due at once. Tail: its content.
    pub message: PushMessage,
}

impl SetSchedule {
    /// Sizes and checksums of the contents in its tail, in their order.
    pub fn contents(&self) -> Vec<ContentSpec> {
        vec![self.message.content]
    }
}

/// Times without an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// Those that a cron pattern of five fields, or of six with seconds before them, names in a time zone.
    Cron {
        /// Such as `0 9 * * MON-FRI`.
        pattern: Text<CRON_SIZE_MAX>,
        /// IANA name, such as `Europe/Berlin`.
        zone: Text<ZONE_SIZE_MAX>,
    },
    /// At this interval in milliseconds, from when it was set: 1 s to 366 d.
    Every(u64),
}

/// What becomes of times that passed while nobody led, or a leader was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// One message for all of them.
    Once,
    /// Nothing for those that are more than 10 s ago.
    Skip,
    /// One message for each of the last ones, at most this many: 1 to 100.
    CatchUp(u32),
}

/// List schedules by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedules {
    /// Names after this one, for the next page of 1,000.
    pub after: Option<Key>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// A page of schedules.
pub type ScheduleList = Bounded<ScheduleView, SCHEDULES_LISTED_MAX>;

/// A schedule and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its name.
    pub name: Key,
    /// The queue that gets the messages.
    pub queue: QueueName,
    /// The times of its pushes.
    pub when: When,
    /// What becomes of missed times.
    pub missed: Missed,
    /// Wall time of the next push, Unix milliseconds; `None` if there is none.
    pub next_at_ms: Option<u64>,
    /// Of an interval: milliseconds until the next push.
    pub next_in_ms: Option<u64>,
    /// Wall time of the last push, Unix milliseconds.
    pub last_at_ms: Option<u64>,
    /// Messages stored.
    pub stored: u64,
    /// Messages that the queue did not take: full, paused, gone, or the like is there already.
    pub refused: u64,
}
