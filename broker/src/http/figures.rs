//! What HTTP itself did, counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::locked::Locked as _;
use axum::http::{Method, StatusCode};

/// Methods that are told apart.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Counts by what they are of.
#[derive(Default)]
pub(super) struct Figures {
    answered: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

fn locked<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.locked()
}

impl Figures {
    /// A request was answered.
    pub(super) fn answered(&self, method: &Method, route: &str, status: StatusCode) {
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        *locked(&self.answered).entry((method, route.to_owned(), status.as_u16())).or_default() += 1;
    }

    /// Something was refused for want of this.
    pub(super) fn refused(&self, why: &'static str) {
        *locked(&self.refused).entry(why).or_default() += 1;
    }

    /// Answers by method, route and status.
    pub(super) fn answers(&self) -> Vec<((&'static str, String, u16), u64)> {
        locked(&self.answered).iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Refusals by reason.
    pub(super) fn refusals(&self) -> Vec<(&'static str, u64)> {
        ["connections", "host", "memory"]
            .into_iter()
            .map(|why| (why, locked(&self.refused).get(why).copied().unwrap_or(0)))
            .collect()
    }
}
