//! Who may do what, and whether what was checked earlier still holds.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::QueueName;
use queue_protocol::wire::auth::{KeyId, Verifier};
use queue_protocol::wire::rights::{Grant, Need, Pattern, Verb};
use serde::{Deserialize, Serialize};

use super::{Auth, Key, KeyNumber, Principal, PrincipalNumber, ROOT, ROOT_KEY};
use crate::queue::state::State;

/// Who sent a command, and as of which version it was seen that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The key; [`ROOT_KEY`] is the cluster's secret.
    pub key: KeyNumber,
    /// Of principals and keys, when its rights were looked at.
    pub version: u64,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no such key; there may be a newer state that has it.
    Unknown,
    /// It lets nobody in: it has ended, or its principal is shut out.
    Ended,
    /// It lets this principal in.
    Live(PrincipalNumber),
}

/// Why a request may not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody is logged in.
    Required,
    /// The key lets nobody in any more.
    Ended,
    /// The right is missing.
    Missing {
        /// Who asked.
        name: String,
        /// What.
        verb: Verb,
        /// On which queue.
        queue: Option<String>,
    },
}

impl Auth {
    fn live(&self, key: KeyNumber, wall_ms: u64) -> Result<(PrincipalNumber, Option<&Principal>), Standing> {
        if key == ROOT_KEY {
            return Ok((ROOT, None));
        }
        let found = self.keys.get(&key).ok_or(Standing::Unknown)?;
        let who = self.principals.get(&found.principal).ok_or(Standing::Unknown)?;
        if who.disabled || found.has_ended(wall_ms) {
            return Err(Standing::Ended);
        }
        Ok((found.principal, Some(who)))
    }

    /// Why a command that was checked may not be executed now, if it may not. `by` is `None` of who is not logged in.
    pub(in crate::queue) fn stale(&self, by: Option<By>, wall_ms: u64) -> Option<ErrorCode> {
        let ends = self.first_end_ms.is_some_and(|first_ms| first_ms <= wall_ms);
        match by {
            None => self.required.then_some(ErrorCode::AuthRequired),
            Some(by) if by.version == self.version && !ends => None,
            Some(by) => match self.live(by.key, wall_ms) {
                Err(_) => Some(ErrorCode::KeyEnded),
                Ok((_, who)) => {
                    let changed = who.is_some_and(|who| who.changed > by.version);
                    (changed || self.switched > by.version).then_some(ErrorCode::AuthChanged)
                }
            },
        }
    }

    /// The principal behind a key that was live when it was checked.
    pub(in crate::queue) fn principal_of(&self, by: Option<By>) -> Option<PrincipalNumber> {
        match by?.key {
            ROOT_KEY => Some(ROOT),
            key => self.keys.get(&key).map(|key| key.principal),
        }
    }

    /// Whether only those that are logged in are served.
    pub(in crate::queue) fn is_required(&self) -> bool {
        self.required
    }

    /// The grant by which a principal may do this.
    pub(super) fn grant(&self, who: &Principal, verb: Verb, queue: Option<&QueueName>) -> Option<Grant> {
        who.grants.iter().find(|grant| grant.allows(&who.name, verb, queue)).cloned()
    }

    /// Whether a principal may do this on a queue.
    pub(in crate::queue) fn may(&self, who: PrincipalNumber, verb: Verb, queue: &QueueName) -> bool {
        let may = |who: &Principal| self.grant(who, verb, Some(queue)).is_some();
        who == ROOT || self.principals.get(&who).is_some_and(may)
    }
}

impl State {
    /// The version of principals, keys and grants.
    pub fn auth_version(&self) -> u64 {
        self.auth().version
    }

    /// Whether only those that are logged in are served.
    pub fn is_auth_required(&self) -> bool {
        self.auth().required
    }

    /// The number of a key and what proves it.
    pub fn key(&self, id: KeyId) -> Option<(KeyNumber, Verifier)> {
        let number = *self.auth().ids.get(&id)?;
        Some((number, self.auth().keys.get(&number)?.verifier))
    }

    /// Whether a key lets somebody in now.
    pub fn standing(&self, key: KeyNumber) -> Standing {
        match self.auth().live(key, self.wall_ms()) {
            Ok((principal, _)) => Standing::Live(principal),
            Err(standing) => standing,
        }
    }

    /// Whether a key has ended since the wall clock was there.
    pub fn has_key_ended_since(&self, wall_ms: u64) -> bool {
        let ended = |end_ms: u64| wall_ms < end_ms && end_ms <= self.wall_ms();
        self.auth().first_end_ms.is_some_and(|first_ms| first_ms <= self.wall_ms())
            && self.auth().keys.values().filter_map(|key| key.ends_ms).any(ended)
    }

    /// The name of the principal of a key, for people.
    pub fn name_of_key(&self, key: KeyNumber) -> Option<&str> {
        let key = self.auth().keys.get(&key)?;
        self.auth().principals.get(&key.principal).map(|who| &*who.name)
    }

    /// When a key was used last, as far as the state was told.
    pub fn key_used_ms(&self, key: KeyNumber) -> Option<u64> {
        self.auth().keys.get(&key)?.used_ms
    }

    /// Whether somebody may look at a queue, or do something else that a listing depends on. Everybody may who need not log in.
    pub fn may(&self, key: Option<KeyNumber>, verb: Verb, queue: &QueueName) -> bool {
        if !self.auth().required {
            return true;
        }
        key.and_then(|key| self.auth().live(key, self.wall_ms()).ok())
            .is_some_and(|(number, _)| self.auth().may(number, verb, queue))
    }

    /// Whether somebody has these rights; `key` is `None` of who is not logged in.
    ///
    /// # Errors
    /// What is missing.
    pub fn permit(&self, key: Option<KeyNumber>, needs: &[Need]) -> Result<By, Denied> {
        let key = key.ok_or(Denied::Required)?;
        let (_, who) = self.auth().live(key, self.wall_ms()).map_err(|_| Denied::Ended)?;
        let Some(who) = who else { return Ok(By { key, version: self.auth().version }) };
        for need in needs {
            let (verb, queue) = match need {
                Need::Queue(verb, queue) => (*verb, Some(queue)),
                Need::Whole(verb) | Need::Somewhere(verb) => (*verb, None),
                // One that does not exist is told from one that is not seen by who sees all.
                Need::Schedule(verb, name) => match self.all_schedules().by_name().get(name) {
                    Some(schedule) => (*verb, Some(schedule.queue())),
                    None if self.auth().grant(who, *verb, None).is_some() => continue,
                    None => (*verb, None),
                },
            };
            if self.auth().grant(who, verb, queue).is_none() {
                let queue = queue.map(ToString::to_string);
                return Err(Denied::Missing { name: who.name.to_string(), verb, queue });
            }
        }
        Ok(By { key, version: self.auth().version })
    }

    /// Whether a key may do this on every queue.
    ///
    /// # Errors
    /// What is missing.
    pub fn permit_all(&self, key: KeyNumber, verb: Verb) -> Result<(), Denied> {
        let (_, who) = self.auth().live(key, self.wall_ms()).map_err(|_| Denied::Ended)?;
        let Some(who) = who else { return Ok(()) };
        let all = Pattern::all();
        let may = who.grants.iter().any(|grant| grant.pattern == all && grant.verbs.has(verb));
        let queue = Some(all.as_str().to_owned());
        if may { Ok(()) } else { Err(Denied::Missing { name: who.name.to_string(), verb, queue }) }
    }

    /// Who a session belongs to, if it is open and belongs to somebody.
    pub fn session_owner(&self, session: queue_protocol::names::SessionId) -> Option<PrincipalNumber> {
        self.sessions().all().get(&session).and_then(|session| session.owner)
    }
}

impl Key {
    /// It was used about now.
    pub(super) fn note_use(&mut self, wall_ms: u64) {
        self.used_ms = self.used_ms.max(Some(wall_ms));
    }
}
