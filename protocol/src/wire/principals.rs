//! Principals, keys and grants as they are asked for, changed and shown.

use serde::{Deserialize, Serialize};

use crate::wire::auth::{KeyId, Verifier};
use crate::wire::bounded::{Bounded, Text};

/// Longest name of a principal, in bytes.
pub const PRINCIPAL_SIZE_MAX: usize = 64;
/// Longest note of a principal or key, in bytes.
pub const NOTE_SIZE_MAX: usize = 256;
/// Principals of a cluster, at most.
pub const PRINCIPALS_MAX: usize = 1_000;
/// Grants of a principal, at most.
pub const GRANTS_MAX: usize = 64;
/// Keys of a principal, at most.
pub const KEYS_MAX: usize = 8;
/// Principals in one answer, at most.
pub const PRINCIPALS_LISTED_MAX: usize = 16;

/// The name of a principal: 1 to 64 of `[A-Za-z0-9._@-]`, not beginning with `-`.
///
/// # Errors
/// What is wrong with it.
pub fn principal_name(text: &str) -> Result<Text<PRINCIPAL_SIZE_MAX>, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    if !(1..=PRINCIPAL_SIZE_MAX).contains(&text.len()) || !text.bytes().all(fits) || text.starts_with('-') {
        return Err("a name has 1 to 64 of A-Z a-z 0-9 . _ - @, and does not begin with -".to_owned());
    }
    Ok(Text::cut(text))
}

/// Change who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeAuth {
    /// What changes.
    pub change: AuthChange,
    /// Also if no key that may change this is left afterwards.
    pub force: bool,
    /// Why, for those who read it later.
    pub because: Text<NOTE_SIZE_MAX>,
}

/// A principal by its name.
pub type PrincipalName = Text<PRINCIPAL_SIZE_MAX>;
/// Grants of one principal.
pub type Grants = Bounded<crate::wire::rights::Grant, GRANTS_MAX>;

/// One change of who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthChange {
    /// Only who is logged in is served from now on, and only as far as it may; or everybody again.
    Require(bool),
    /// A new principal.
    AddPrincipal {
        /// Its name.
        name: PrincipalName,
        /// What it may do.
        grants: Grants,
        /// For people.
        note: Text<NOTE_SIZE_MAX>,
    },
    /// It is gone with its keys; its number is never given again.
    RemovePrincipal(PrincipalName),
    /// It may do more.
    Grant {
        /// Who.
        name: PrincipalName,
        /// What it gets.
        grants: Grants,
    },
    /// It may do less: verbs go from the grants of the same pattern.
    Revoke {
        /// Who.
        name: PrincipalName,
        /// What it loses.
        grants: Grants,
    },
    /// None of its keys is let in, or they are again.
    Disable {
        /// Who.
        name: PrincipalName,
        /// Whether it is shut out.
        disabled: bool,
    },
    /// A new key. Its secret stays with who made it.
    AddKey {
        /// Whose.
        name: PrincipalName,
        /// Which; drawn at random.
        key: KeyId,
        /// What proves it.
        verifier: Verifier,
        /// How long it counts, in milliseconds; without an end if `None`.
        ttl_ms: Option<u64>,
        /// For people.
        note: Text<NOTE_SIZE_MAX>,
        /// The other keys end this many milliseconds from now, unless they end before.
        others_end_ms: Option<u64>,
    },
    /// It lets nobody in any more.
    RevokeKey(KeyId),
}

/// A key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Which.
    pub id: KeyId,
    /// When it was made, Unix milliseconds.
    pub made_ms: u64,
    /// Its end, Unix milliseconds.
    pub ends_ms: Option<u64>,
    /// About when it was used last, Unix milliseconds, an hour more or less.
    pub used_ms: Option<u64>,
    /// For people.
    pub note: Text<NOTE_SIZE_MAX>,
}

/// A principal as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalView {
    /// Its name.
    pub name: PrincipalName,
    /// Given once.
    pub number: u32,
    /// For people.
    pub note: Text<NOTE_SIZE_MAX>,
    /// Its keys are not let in.
    pub disabled: bool,
    /// What it may do.
    pub grants: Grants,
    /// Its keys.
    pub keys: Bounded<KeyView, KEYS_MAX>,
}

/// List principals by name.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Principals {
    /// Only this one.
    pub only: Option<PrincipalName>,
    /// Names after this one, for the next page of 16.
    pub after: Option<PrincipalName>,
}

/// Who may do what, as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalList {
    /// Only who is logged in is served.
    pub required: bool,
    /// Rises with each change.
    pub version: u64,
    /// How many principals there are.
    pub count: u32,
    /// How many of them have a live key and may change this.
    pub admins: u32,
    /// Those that were asked for.
    pub principals: Bounded<PrincipalView, PRINCIPALS_LISTED_MAX>,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoamiView {
    /// Only who is logged in is served.
    pub required: bool,
    /// The principal; `None` of who is not logged in, and of who proved the cluster's secret.
    pub principal: Option<PrincipalName>,
    /// The key; [`KeyId::SECRET`] for the cluster's secret.
    pub key: Option<KeyId>,
    /// The end of the key, Unix milliseconds.
    pub ends_ms: Option<u64>,
    /// What the principal may do.
    pub grants: Grants,
}

/// Ask whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Can {
    /// Who; the one that asks if `None`.
    pub name: Option<PrincipalName>,
    /// What.
    pub verb: crate::wire::rights::Verb,
    /// On which queue; `None` for what is about no queue.
    pub queue: Option<crate::names::QueueName>,
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanView {
    /// Who was meant.
    pub name: PrincipalName,
    /// The grant that allows it; `None` if there is none.
    pub by: Option<crate::wire::rights::Grant>,
    /// It may, or would if it were not shut out.
    pub allowed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_principals_need_no_quotes() {
        for name in ["a", "worker-7", "ann@example.org", "A.b_c"] {
            assert_eq!(principal_name(name).as_deref(), Ok(name));
        }
        for name in ["", "-a", "a b", "a:b", "a,b", "ä", &"x".repeat(65)] {
            assert!(principal_name(name).is_err(), "{name}");
        }
    }
}
