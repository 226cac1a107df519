//! Changes of principals, keys and grants.

use queue_protocol::error::ErrorCode;
use queue_protocol::wire::auth::{
    AuthChange, ChangeAuth, GRANTS_MAX, Grants, KEYS_MAX, KeyId, NOTE_SIZE_MAX, PRINCIPALS_MAX,
    PrincipalName, principal_name,
};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::rights::{Grant, Verb};

use super::{Auth, By, Key, KeyNumber, Principal, PrincipalNumber, ROOT_KEY};
use crate::queue::apply::{Apply, refusal};
use crate::queue::reply::{Outcome, Refusal};

/// How long a key may count, in milliseconds: 100 years.
const TTL_MS_MAX: u64 = 100 * 366 * 86_400_000;

impl Apply<'_> {
    /// Changes who may do what. Only who is logged in and may change it, whether logins are required or not.
    ///
    /// # Errors
    /// Refused; nothing was changed.
    pub(in crate::queue) fn change_auth(
        &mut self,
        by: Option<By>,
        change: &ChangeAuth,
    ) -> Result<Outcome, Refusal> {
        let wall_ms = self.state.wall_ms();
        let by = by.ok_or_else(|| refusal(ErrorCode::AuthRequired))?;
        let mut auth = self.state.auth().clone();
        let admins = auth.admins(wall_ms);
        auth.version += 1;
        auth.change(by, &change.change, wall_ms).map_err(refusal)?;
        auth.first_end_ms = auth.keys.values().filter_map(|key| key.ends_ms).min();
        if admins > 0 && auth.admins(wall_ms) == 0 && !change.force {
            return Err(refusal(ErrorCode::LastAdmin));
        }
        let begins = auth.required && !self.state.auth().required;
        *self.state.auth_mut() = auth;
        if begins {
            for session in self.state.sessions().without_owner() {
                self.forget(session);
            }
        }
        Ok(Outcome::AuthChanged(self.state.auth().version))
    }

    /// Keys were used.
    pub(in crate::queue) fn note_keys(&mut self, used: &[KeyNumber]) {
        for key in used {
            let wall_ms = self.state.wall_ms();
            if let Some(key) = self.state.auth_mut().keys.get_mut(key) {
                key.note_use(wall_ms);
            }
        }
    }
}

impl Auth {
    /// Changes this, of which the version is the new one already. What an error leaves is thrown away.
    fn change(&mut self, by: By, change: &AuthChange, wall_ms: u64) -> Result<(), ErrorCode> {
        match change {
            AuthChange::Require(required) => {
                // Whoever proves the secret alone could not come back by a key.
                let has_key = by.key != ROOT_KEY && self.admins(wall_ms) > 0;
                if *required && !has_key {
                    return Err(ErrorCode::LastAdmin);
                }
                if self.required != *required {
                    (self.required, self.switched) = (*required, self.version);
                }
                Ok(())
            }
            AuthChange::AddPrincipal { name, grants, note } => self.add_principal(name, grants, note),
            AuthChange::RemovePrincipal(name) => {
                let number = self.number(name)?;
                let keys: Vec<KeyNumber> = self.keys_of(number).map(|(key, _)| *key).collect();
                keys.into_iter().for_each(|key| self.remove_key(key));
                self.principals.remove(&number);
                self.names.remove(&**name);
                Ok(())
            }
            AuthChange::Grant { name, grants } => {
                let who = self.who_mut(name)?;
                who.grants = merged(&who.grants, grants)?;
                Ok(())
            }
            AuthChange::Revoke { name, grants } => {
                let version = self.version;
                let who = self.who_mut(name)?;
                who.grants = without(&who.grants, grants);
                who.changed = version;
                Ok(())
            }
            AuthChange::Disable { name, disabled } => {
                let version = self.version;
                let who = self.who_mut(name)?;
                (who.disabled, who.changed) = (*disabled, version);
                Ok(())
            }
            AuthChange::AddKey { .. } => self.add_key(change, wall_ms),
            AuthChange::RevokeKey(id) => {
                let number = self.ids.get(id).copied().ok_or(ErrorCode::KeyNotFound)?;
                self.remove_key(number);
                Ok(())
            }
        }
    }

    fn add_principal(
        &mut self,
        name: &PrincipalName,
        grants: &Grants,
        note: &Text<NOTE_SIZE_MAX>,
    ) -> Result<(), ErrorCode> {
        principal_name(name).map_err(|_| ErrorCode::BadRequest)?;
        if self.find(name).is_some() {
            return Err(ErrorCode::PrincipalExists);
        }
        if self.principals.len() >= PRINCIPALS_MAX {
            return Err(ErrorCode::AuthLimit);
        }
        let number = self.next_principal;
        self.next_principal = number.checked_add(1).ok_or(ErrorCode::AuthLimit)?;
        self.names.insert(name.to_string(), number);
        let (name, note) = (name.clone(), note.clone());
        let grants = merged(&[], grants)?;
        let who = Principal { name, note, grants, disabled: false, changed: self.version };
        self.principals.insert(number, who);
        Ok(())
    }

    /// Adds a key, as [`AuthChange::AddKey`] has it.
    fn add_key(&mut self, added: &AuthChange, wall_ms: u64) -> Result<(), ErrorCode> {
        let AuthChange::AddKey { name, key, verifier, ttl_ms, note, others_end_ms } = added else {
            return Err(ErrorCode::BadRequest);
        };
        let principal = self.number(name)?;
        let lasts = |ms: &u64| (1..=TTL_MS_MAX).contains(ms);
        let known = *key == KeyId::SECRET || self.ids.contains_key(key);
        if known || !ttl_ms.iter().all(lasts) || others_end_ms.is_some_and(|ms| ms > TTL_MS_MAX) {
            return Err(ErrorCode::BadRequest);
        }
        if let Some(overlap_ms) = others_end_ms {
            self.end_keys(principal, wall_ms.saturating_add(*overlap_ms));
        }
        self.drop_ended(principal, wall_ms);
        if self.keys_of(principal).count() >= KEYS_MAX {
            return Err(ErrorCode::AuthLimit);
        }
        let number = self.next_key;
        self.next_key += 1;
        self.ids.insert(*key, number);
        let ends_ms = ttl_ms.map(|ttl_ms| wall_ms.saturating_add(ttl_ms));
        let (id, verifier, note) = (*key, *verifier, note.clone());
        let key = Key { id, principal, verifier, made_ms: wall_ms, ends_ms, used_ms: None, note };
        self.keys.insert(number, key);
        Ok(())
    }

    fn number(&self, name: &str) -> Result<PrincipalNumber, ErrorCode> {
        self.find(name).ok_or(ErrorCode::PrincipalNotFound)
    }

    fn who_mut(&mut self, name: &str) -> Result<&mut Principal, ErrorCode> {
        let number = self.number(name)?;
        self.principals.get_mut(&number).ok_or(ErrorCode::PrincipalNotFound)
    }

    fn remove_key(&mut self, number: KeyNumber) {
        if let Some(key) = self.keys.remove(&number) {
            self.ids.remove(&key.id);
        }
    }

    /// Lets all keys of a principal end at this time, unless they end before.
    fn end_keys(&mut self, principal: PrincipalNumber, at_ms: u64) {
        let numbers: Vec<KeyNumber> = self.keys_of(principal).map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(key) = self.keys.get_mut(&number) {
                key.ends_ms = Some(key.ends_ms.map_or(at_ms, |ends_ms| ends_ms.min(at_ms)));
            }
        }
    }

    /// Makes room for a new key: those that have ended stand in the list until then.
    fn drop_ended(&mut self, principal: PrincipalNumber, wall_ms: u64) {
        if self.keys_of(principal).count() < KEYS_MAX {
            return;
        }
        let ended = self.keys_of(principal).filter(|(_, key)| key.has_ended(wall_ms));
        let ended: Vec<KeyNumber> = ended.map(|(number, _)| *number).collect();
        ended.into_iter().for_each(|number| self.remove_key(number));
    }
}

/// Grants with more of them: one for each pattern.
fn merged(grants: &[Grant], more: &[Grant]) -> Result<Grants, ErrorCode> {
    let mut all: Vec<Grant> = Vec::new();
    for grant in grants.iter().chain(more) {
        match all.iter_mut().find(|known| known.pattern == grant.pattern) {
            Some(known) => known.verbs = known.verbs.and(grant.verbs),
            None => all.push(grant.clone()),
        }
    }
    all.sort_by(|a, b| a.pattern.cmp(&b.pattern));
    if all.len() > GRANTS_MAX { Err(ErrorCode::AuthLimit) } else { Ok(Bounded::new(all).expect("counted")) }
}

/// Grants without the verbs of others of the same pattern; what is about the cluster goes from all.
fn without(grants: &[Grant], less: &[Grant]) -> Grants {
    let mut all = grants.to_vec();
    for grant in &mut all {
        for gone in less {
            let same = grant.pattern == gone.pattern;
            let whole = gone.verbs.iter().filter(|verb| verb.is_whole()).collect::<Vec<Verb>>();
            let verbs = if same { gone.verbs } else { queue_protocol::wire::rights::Verbs::of(&whole) };
            grant.verbs = grant.verbs.without(verbs);
        }
    }
    all.retain(|grant| !grant.verbs.is_empty());
    Bounded::new(all).expect("no more than before")
}
