//! Principals and keys as operators see them.

use queue_protocol::names::QueueName;
use queue_protocol::wire::audit::Actor;
use queue_protocol::wire::auth::{
    CanView, KeyId, KeyView, PRINCIPALS_LISTED_MAX, PrincipalList, PrincipalName, PrincipalView, WhoamiView,
};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::rights::{Pattern, Verb};

use super::{Auth, KeyNumber, PrincipalNumber, ROOT_KEY};
use crate::queue::read::view::{QueueStats, Totals};
use crate::queue::state::State;

impl Auth {
    /// Who comes with a key, for the journal.
    pub(in crate::queue) fn actor(&self, key: KeyNumber) -> Actor {
        let found = self.keys.get(&key);
        let who = found.and_then(|key| Some((key.id, self.principals.get(&key.principal)?)));
        match who {
            Some((key, who)) => Actor::Principal { name: who.name.clone(), key },
            None => Actor::Secret,
        }
    }

    fn view(&self, number: PrincipalNumber) -> Option<PrincipalView> {
        let who = self.principals.get(&number)?;
        let keys = self.keys_of(number).map(|(_, key)| KeyView {
            id: key.id,
            made_ms: key.made_ms,
            ends_ms: key.ends_ms,
            used_ms: key.used_ms,
            note: key.note.clone(),
        });
        Some(PrincipalView {
            name: who.name.clone(),
            number,
            note: who.note.clone(),
            disabled: who.disabled,
            grants: who.grants.clone(),
            keys: Bounded::new(keys.collect()).expect("no more are kept"),
        })
    }
}

impl State {
    /// Principals by name, behind one, as many as fit an answer.
    pub fn principals(&self, only: Option<&str>, after: Option<&str>) -> PrincipalList {
        let auth = &self.auth();
        let wanted = auth.names.iter().filter(|(name, _)| {
            only.is_none_or(|only| only == name.as_str()) && after.is_none_or(|after| name.as_str() > after)
        });
        let listed = wanted.take(PRINCIPALS_LISTED_MAX).filter_map(|(_, number)| auth.view(*number));
        PrincipalList {
            required: auth.required,
            version: auth.version,
            count: u32::try_from(auth.principals.len()).unwrap_or(u32::MAX),
            admins: u32::try_from(auth.admins(self.wall_ms())).unwrap_or(u32::MAX),
            principals: Bounded::new(listed.collect()).expect("counted"),
        }
    }

    /// Totals of the queues that somebody may see.
    pub fn stats_for(&self, key: Option<KeyNumber>) -> Totals {
        let totals = self.stats();
        let sees_all = !self.auth().required || key == Some(ROOT_KEY);
        if sees_all || self.sees_all_queues(key) {
            return totals;
        }
        let seen = self.queues_seen(None, None, usize::MAX, |name| self.may(key, Verb::Look, name));
        let sum = |of: fn(&QueueStats) -> u64| seen.iter().map(of).sum();
        Totals {
            queues: seen.len() as u64,
            ready: sum(|queue| queue.ready),
            leased: sum(|queue| queue.leased),
            delayed: sum(|queue| queue.delayed),
            dead: sum(|queue| queue.dead),
            bytes: sum(|queue| queue.bytes),
            pushed_total: sum(|queue| queue.pushed_total),
            leased_total: sum(|queue| queue.leased_total),
            acked_total: sum(|queue| queue.acked_total),
            ..totals
        }
    }

    fn sees_all_queues(&self, key: Option<KeyNumber>) -> bool {
        let who = key.and_then(|key| self.auth().keys.get(&key));
        let who = who.and_then(|key| self.auth().principals.get(&key.principal));
        who.is_some_and(|who| {
            who.grants.iter().any(|grant| grant.pattern == Pattern::all() && grant.verbs.has(Verb::Look))
        })
    }

    /// Who comes with a key.
    pub fn whoami(&self, key: Option<KeyNumber>) -> WhoamiView {
        let found = key.and_then(|key| self.auth().keys.get(&key));
        let who = found.and_then(|key| self.auth().principals.get(&key.principal));
        WhoamiView {
            required: self.auth().required,
            principal: who.map(|who| who.name.clone()),
            key: found.map(|key| key.id).or_else(|| (key == Some(ROOT_KEY)).then_some(KeyId::SECRET)),
            ends_ms: found.and_then(|key| key.ends_ms),
            grants: who.map(|who| who.grants.clone()).unwrap_or_default(),
        }
    }

    /// Whether somebody may do something; `None` if there is no such principal.
    pub fn can(&self, name: &PrincipalName, verb: Verb, queue: Option<&QueueName>) -> Option<CanView> {
        let who = self.auth().principals.get(&self.auth().find(name)?)?;
        let by = self.auth().grant(who, verb, queue);
        Some(CanView { name: name.clone(), allowed: by.is_some(), by })
    }

    /// The same of who comes with a key.
    pub fn can_by(&self, key: Option<KeyNumber>, verb: Verb, queue: Option<&QueueName>) -> CanView {
        match key.and_then(|key| self.name_of_key(key)) {
            Some(name) => {
                let name = Text::cut(name);
                let nobody = CanView { name: name.clone(), by: None, allowed: false };
                self.can(&name, verb, queue).unwrap_or(nobody)
            }
            None => {
                let allowed = key == Some(ROOT_KEY) || !self.auth().required;
                CanView { name: Text::default(), by: None, allowed }
            }
        }
    }
}
