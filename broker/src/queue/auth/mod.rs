//! Who there is, what they may do, and with which keys they come: pure, and the same on every node.
//!
//! ```text
//! command { by: key, checked at version v }      applied at version w
//!     v == w ─────────────────────────────────► as it was checked
//!     v <  w ── key or rights changed since ──► refused, not recorded: it is asked and checked again
//! ```
//!
//! Whoever proposes a command has checked the rights of its key at some version of all this. So apply compares two numbers
//! for each command, and looks closer only behind a change: from the entry of a revocation on nothing of the key has effect.
//! The end of a key is compared with the replicated wall clock, never with that of a node.
//!
//! Numbers of principals and keys are never given again: a session, a lease or a command names its owner by number.

mod change;
mod may;
mod show;

use imbl::OrdMap;
use queue_protocol::wire::auth::{
    Grants, KEYS_MAX, KeyId, NOTE_SIZE_MAX, PRINCIPALS_MAX, PrincipalName, Verifier,
};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::rights::Verb;
use serde::{Deserialize, Serialize};

pub use may::{By, Denied, Standing};

/// The number of a principal: given once. 0 is whoever proved the cluster's secret.
pub type PrincipalNumber = u32;
/// The number of a key: given once. 0 is the cluster's secret.
pub type KeyNumber = u64;

/// The number of the cluster's secret among those of keys.
pub const ROOT_KEY: KeyNumber = 0;
/// Whoever proved the cluster's secret: it may do everything, and no entry takes that away.
pub const ROOT: PrincipalNumber = 0;

/// All of it. Its bytes are those of [`Stored`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(in crate::queue) struct Auth {
    /// Rises with each change.
    version: u64,
    /// Only who is logged in is served.
    required: bool,
    /// The version at which `required` changed last.
    switched: u64,
    next_principal: PrincipalNumber,
    next_key: KeyNumber,
    principals: OrdMap<PrincipalNumber, Principal>,
    keys: OrdMap<KeyNumber, Key>,
    names: OrdMap<String, PrincipalNumber>,
    ids: OrdMap<KeyId, KeyNumber>,
    /// The end of the key that ends first.
    first_end_ms: Option<u64>,
}

/// Who there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Principal {
    name: PrincipalName,
    note: Text<NOTE_SIZE_MAX>,
    grants: Grants,
    disabled: bool,
    /// The version at which it could last do less than before.
    changed: u64,
}

/// With what it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Key {
    id: KeyId,
    principal: PrincipalNumber,
    verifier: Verifier,
    made_ms: u64,
    ends_ms: Option<u64>,
    used_ms: Option<u64>,
    note: Text<NOTE_SIZE_MAX>,
}

impl Key {
    fn has_ended(&self, wall_ms: u64) -> bool {
        self.ends_ms.is_some_and(|ends_ms| ends_ms <= wall_ms)
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            version: 0,
            required: false,
            switched: 0,
            next_principal: 1,
            next_key: 1,
            principals: OrdMap::new(),
            keys: OrdMap::new(),
            names: OrdMap::new(),
            ids: OrdMap::new(),
            first_end_ms: None,
        }
    }
}

/// What is kept of it: the rest follows.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    version: u64,
    required: bool,
    switched: u64,
    next_principal: PrincipalNumber,
    next_key: KeyNumber,
    principals: Vec<(PrincipalNumber, Principal)>,
    keys: Vec<(KeyNumber, Key)>,
}

impl From<Auth> for Stored {
    fn from(auth: Auth) -> Self {
        let Auth { version, required, switched, next_principal, next_key, principals, keys, .. } = auth;
        let (principals, keys) = (principals.into_iter().collect(), keys.into_iter().collect());
        Self { version, required, switched, next_principal, next_key, principals, keys }
    }
}

/// Bytes that no state has.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("principals and keys contradict each other")]
struct Unsound;

impl TryFrom<Stored> for Auth {
    type Error = Unsound;
    fn try_from(stored: Stored) -> Result<Self, Unsound> {
        let Stored { version, required, switched, next_principal, next_key, principals, keys } = stored;
        let rise = principals.is_sorted_by(|a, b| a.0 < b.0) && keys.is_sorted_by(|a, b| a.0 < b.0);
        let names = principals.iter().map(|(number, who)| (who.name.to_string(), *number)).collect();
        let ids = keys.iter().map(|(number, key)| (key.id, *number)).collect();
        let first_end_ms = keys.iter().filter_map(|(_, key)| key.ends_ms).min();
        let (principals, keys) = (principals.into_iter().collect(), keys.into_iter().collect());
        let auth = Self {
            version,
            required,
            switched,
            next_principal,
            next_key,
            principals,
            keys,
            names,
            ids,
            first_end_ms,
        };
        if rise && auth.is_sound() { Ok(auth) } else { Err(Unsound) }
    }
}

impl Auth {
    /// Whether it can have come about.
    pub(in crate::queue) fn is_sound(&self) -> bool {
        let names = self.names.len() == self.principals.len();
        let ids = self.ids.len() == self.keys.len() && !self.ids.contains_key(&KeyId::SECRET);
        let numbers = self.principals.get_min().is_none_or(|(first, _)| *first > ROOT)
            && self.keys.get_min().is_none_or(|(first, _)| *first > ROOT_KEY)
            && self.principals.get_max().is_none_or(|(last, _)| *last < self.next_principal)
            && self.keys.get_max().is_none_or(|(last, _)| *last < self.next_key);
        let changed = self.principals.values().all(|who| who.changed <= self.version);
        let owned = self.keys.values().all(|key| self.principals.contains_key(&key.principal));
        let few = self.principals.keys().all(|number| self.keys_of(*number).count() <= KEYS_MAX);
        names
            && ids
            && numbers
            && changed
            && owned
            && few
            && self.principals.len() <= PRINCIPALS_MAX
            && self.switched <= self.version
    }

    fn keys_of(&self, principal: PrincipalNumber) -> impl Iterator<Item = (&KeyNumber, &Key)> {
        self.keys.iter().filter(move |(_, key)| key.principal == principal)
    }

    fn find(&self, name: &str) -> Option<PrincipalNumber> {
        self.names.get(name).copied()
    }

    /// Principals that are not shut out, may change all this, and have a key that has not ended.
    fn admins(&self, wall_ms: u64) -> usize {
        let may = |(number, who): &(&PrincipalNumber, &Principal)| {
            !who.disabled
                && who.grants.iter().any(|grant| grant.allows(&who.name, Verb::Auth, None))
                && self.keys_of(**number).any(|(_, key)| !key.has_ended(wall_ms))
        };
        self.principals.iter().filter(may).count()
    }

    /// What is folded into the state hash.
    pub(in crate::queue) fn count(&self) -> u64 {
        self.version ^ (self.next_key << 32) ^ (u64::from(self.next_principal) << 48)
    }

    /// Asserts that what is kept twice agrees.
    pub(in crate::queue) fn check(&self) {
        assert!(self.is_sound(), "principals and keys");
        let again = Self::try_from(Stored::from(self.clone())).expect("it is sound");
        assert!(again == *self, "names, ids and the first end");
    }
}
