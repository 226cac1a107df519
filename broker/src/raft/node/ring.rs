//! The secrets and keys that a node has now. Which of them count follows from what it has applied (`queue::rotation`); what
//! of them is on its disk is there before it counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::wire::peer::{GivenSecret, SecretsHeld};
use queue_protocol::wire::proof::{Fingerprint, Secret};
use tokio::sync::watch;

use super::admission::{Key, Keys};
use crate::fs::DiskError;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::queue::Admission;

/// A secret and an admission key that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    /// 1, and higher with each rotation.
    pub(crate) number: u32,
    pub(crate) secret: Secret,
    pub(crate) admission: Key,
}

impl Generation {
    /// As the log names it.
    pub(crate) fn named(&self) -> Admission {
        Admission { generation: self.number, key: self.admission.public() }
    }
}

impl From<GivenSecret> for Generation {
    fn from(given: GivenSecret) -> Self {
        let GivenSecret { generation, secret, admission } = given;
        Self { number: generation, secret: Secret(secret), admission: Key::new(admission) }
    }
}

impl From<Generation> for GivenSecret {
    fn from(given: Generation) -> Self {
        let Generation { number, secret, admission } = given;
        Self { generation: number, secret: secret.0, admission: admission.private() }
    }
}

/// A secret that is no longer proved, and still lets others in.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    pub(crate) number: u32,
    pub(crate) secret: Secret,
}

/// What the data directory of a member holds.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The node's own key.
    pub(crate) node: Key,
    /// The entry that assigned the node's number.
    pub(crate) index: u64,
    pub(crate) current: Generation,
    pub(crate) old: Option<Old>,
    pub(crate) next: Option<Generation>,
}

/// A change of the data directory, durable when it is done.
pub(crate) type Keeping<'a> = Pin<Box<dyn Future<Output = Result<(), DiskError>> + Send + 'a>>;

/// Where a member keeps its secrets.
pub(crate) trait Vault: Send + Sync {
    /// Keeps the next generation beside the current one.
    fn keep_next<'a>(&'a self, next: &'a Generation) -> Keeping<'a>;
    /// Makes the next generation the current one, and keeps the secret of the one before as the old one.
    fn switch<'a>(&'a self, next: &'a Generation, old: &'a Old) -> Keeping<'a>;
    /// Forgets the old secret.
    fn drop_old(&self) -> Keeping<'_>;
    /// Forgets the next generation.
    fn drop_next(&self) -> Keeping<'_>;
}

struct Inner {
    number: u32,
    secret: Secret,
    /// None while it is joining.
    keys: Option<Arc<Keys>>,
    old: Option<Old>,
    next: Option<Generation>,
}

/// The secrets of this node by generation: which it proves, and which it lets in.
pub(crate) struct Ring {
    inner: Mutex<Inner>,
    /// Goes up whenever a secret counts that did not, or does not that did.
    changes: watch::Sender<u64>,
}

impl Ring {
    fn of(inner: Inner) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(inner), changes: watch::Sender::new(0) })
    }

    /// Of a node that has a secret and no number.
    pub(crate) fn joining(secret: Secret) -> Arc<Self> {
        Self::of(Inner { number: 0, secret, keys: None, old: None, next: None })
    }

    /// The ring of a member, with what its data directory holds.
    pub(crate) fn member(kept: Kept) -> Arc<Self> {
        let Kept { node, index, current, old, next } = kept;
        let Generation { number, secret, admission } = current;
        let keys = Some(Arc::new(Keys { node, admission, generation: number, index }));
        Self::of(Inner { number, secret, keys, old, next })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// What shows which node this is; none while it is joining.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.inner().keys.clone()
    }

    /// What it proves itself with.
    pub(crate) fn proves(&self) -> Secret {
        self.inner().secret.clone()
    }

    /// What lets others in.
    pub(crate) fn accepts(&self) -> Vec<Secret> {
        let inner = self.inner();
        let next = inner.next.iter().map(|next| &next.secret);
        let old = inner.old.iter().map(|old| &old.secret);
        std::iter::once(&inner.secret).chain(next).chain(old).cloned().collect()
    }

    /// Whether a connection that was proved with this secret goes on.
    pub(crate) fn lets_in(&self, proved: &Secret) -> bool {
        mutants::on(Mutant::OldProofLivesOn) || self.accepts().contains(proved)
    }

    /// The generation that it proves itself with; 0 while it is joining.
    pub(crate) fn number(&self) -> u32 {
        self.inner().number
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.inner().secret.fingerprint()
    }

    /// Told whenever what counts has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The generation that the log names so, if it is here.
    pub(crate) fn find(&self, named: Admission) -> Option<Generation> {
        let inner = self.inner();
        let keys = inner.keys.as_ref()?;
        let current = Generation {
            number: inner.number,
            secret: inner.secret.clone(),
            admission: keys.admission.clone(),
        };
        std::iter::once(&current).chain(&inner.next).find(|here| here.named() == named).cloned()
    }

    /// The admission keys that certify nodes as far as is known from here alone.
    pub(crate) fn admissions(&self) -> Vec<Admission> {
        let inner = self.inner();
        let next = inner.next.as_ref().map(Generation::named);
        inner.keys.iter().map(|keys| keys.known()).chain(next).collect()
    }

    /// How far this node is, if the log names `next` as the generation to come.
    pub(crate) fn held(&self, next: Option<Admission>) -> SecretsHeld {
        let here = next.and_then(|next| self.find(next));
        let inner = self.inner();
        SecretsHeld {
            durable: here.map_or(inner.number, |here| here.number),
            used: inner.number,
            oldest: inner.old.as_ref().map_or(inner.number, |old| old.number.min(inner.number)),
        }
    }

    pub(crate) fn next(&self) -> Option<Generation> {
        self.inner().next.clone()
    }

    pub(crate) fn has_old(&self) -> bool {
        self.inner().old.is_some()
    }

    /// What [`Vault::switch`] keeps of the current one.
    pub(crate) fn becomes_old(&self) -> Old {
        let inner = self.inner();
        Old { number: inner.number, secret: inner.secret.clone() }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner());
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The next generation, or none, is on the disk.
    pub(crate) fn set_next(&self, next: Option<Generation>) {
        self.change(|inner| inner.next = next);
    }

    /// The next generation is the current one on the disk.
    pub(crate) fn switched(&self) {
        self.change(|inner| {
            let Some(next) = inner.next.take() else { return };
            let old = Old { number: inner.number, secret: std::mem::replace(&mut inner.secret, next.secret) };
            inner.old = Some(old);
            inner.number = next.number;
            let keys = inner.keys.as_ref().expect("a member has its keys");
            let keys = Keys { admission: next.admission, generation: next.number, ..Keys::clone(keys) };
            inner.keys = Some(Arc::new(keys));
        });
    }

    /// The old secret is off the disk.
    pub(crate) fn dropped_old(&self) {
        self.change(|inner| inner.old = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u8) -> Generation {
        Generation { number: number.into(), secret: Secret([number; 32]), admission: Key::new([number; 32]) }
    }

    #[test]
    fn both_secrets_let_in_while_both_count_and_one_is_proved() {
        let kept = Kept { node: Key::new([9; 32]), index: 4, current: generation(1), old: None, next: None };
        let ring = Ring::member(kept);
        let [first, second] = [1, 2].map(|number| generation(number).secret);
        let named = generation(2).named();
        let changes = ring.changes();
        let held = |held: SecretsHeld| (held.durable, held.used, held.oldest);
        assert_eq!(held(ring.held(Some(named))), (1, 1, 1));
        ring.set_next(Some(generation(2)));
        assert_eq!((ring.proves(), ring.accepts()), (first.clone(), vec![first.clone(), second.clone()]));
        assert_eq!(held(ring.held(Some(named))), (2, 1, 1));
        let another = Admission { key: [7; 32], ..named };
        assert_eq!(held(ring.held(Some(another))), (1, 1, 1), "it is another one of that number");
        ring.switched();
        assert_eq!((ring.proves(), ring.accepts()), (second.clone(), vec![second.clone(), first.clone()]));
        assert_eq!(held(ring.held(Some(named))), (2, 2, 1));
        let keys = ring.keys().expect("it is a member");
        assert_eq!((keys.known(), keys.index), (named, 4));
        ring.dropped_old();
        assert_eq!(ring.accepts(), std::slice::from_ref(&second));
        assert_eq!(held(ring.held(None)), (2, 2, 2));
        assert!(ring.lets_in(&second) && !ring.lets_in(&first), "what was proved with the first one ends");
        assert!(changes.has_changed().expect("the ring is there"));
        assert_eq!(format!("{:?}", ring.becomes_old()), "Old { number: 2, secret: Secret(..) }");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_connection_proved_with_a_secret_that_is_gone_does_not_live_on() {
        let test = "raft::node::ring::tests::both_secrets_let_in_while_both_count_and_one_is_proved";
        assert!(mutants::is_caught_by(test, Mutant::OldProofLivesOn));
    }
}
