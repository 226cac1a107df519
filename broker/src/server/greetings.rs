//! Places of connections whose handshake is not over. There is always one for a new connection: where all are taken,
//! the oldest one of the source that holds most gives way. So whoever stays silent keeps nobody out.
//!
//! ```text
//! from anywhere     [ ....................... ]   a source holds a share of them
//! from members      [ ..... ]                     besides: strangers do not get at these
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};

use super::source::Source;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// One part in so many of the places that are for anybody is the share of one source.
const SHARE: usize = 4;
/// One part in so many of all places is for members alone.
const MEMBERS: usize = 4;

/// Sources remembered of members that proved themselves.
const PROVEN_MAX: usize = 64;

/// Whose places they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Anybody,
    Members,
}

/// A connection that is being greeted.
struct Greeting {
    part: Part,
    source: Source,
    /// Gone when it is told to give way.
    stay: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Inner {
    /// By order of arrival.
    open: BTreeMap<u64, Greeting>,
    next: u64,
    /// Where members are by their addresses.
    members: BTreeSet<Source>,
    /// Where members came from that proved it.
    proven: BTreeSet<Source>,
}

/// All of them.
pub(super) struct Greetings {
    anybody_max: usize,
    members_max: usize,
    inner: Mutex<Inner>,
    /// One of them ended.
    freed: Notify,
}

/// A held place; dropped, it is free again.
pub(super) struct Greeted {
    greetings: Arc<Greetings>,
    number: u64,
    gives_way: oneshot::Receiver<()>,
}

impl Greetings {
    /// `max` places, one or more.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let members_max = max.div_ceil(MEMBERS);
        let anybody_max = max.saturating_sub(members_max).max(1);
        Arc::new(Self { anybody_max, members_max, inner: Mutex::default(), freed: Notify::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// Where members are by their addresses.
    pub(super) fn set_members(&self, members: BTreeSet<Source>) {
        self.inner().members = members;
    }

    /// A member came from there and proved that it is one: behind a translated address it is not where it says.
    pub(super) fn add_proven(&self, source: Source) {
        let proven = &mut self.inner().proven;
        if proven.len() >= PROVEN_MAX {
            proven.clear();
        }
        proven.insert(source);
    }

    /// A place for a connection from `source`. Those who have just come have their turn before one gives way: whoever
    /// has said hello already is read meanwhile. Gives the source of the one that gave way, too, if one did.
    pub(super) async fn enter(self: &Arc<Self>, source: Source) -> Option<(Greeted, Option<Source>)> {
        if self.inner().room(self, source).is_none() {
            // To the end of what is ready, the network included, and once more: woken by it, they run then.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        }
        let mut gave_way = None;
        loop {
            let freed = self.freed.notified();
            {
                let mut inner = self.inner();
                if let Some(part) = inner.room(self, source) {
                    return Some((self.place(&mut inner, part, source), gave_way));
                }
                if mutants::on(Mutant::SilentGreetingStays) {
                    return None;
                }
                gave_way = inner.displace(self, source).or(gave_way);
            }
            freed.await;
        }
    }

    fn place(self: &Arc<Self>, inner: &mut Inner, part: Part, source: Source) -> Greeted {
        let number = inner.next;
        inner.next += 1;
        let (stay, gives_way) = oneshot::channel();
        inner.open.insert(number, Greeting { part, source, stay: Some(stay) });
        Greeted { greetings: Arc::clone(self), number, gives_way }
    }
}

impl Inner {
    fn is_member(&self, source: Source) -> bool {
        self.members.contains(&source) || self.proven.contains(&source)
    }

    fn count(&self, of: impl Fn(&Greeting) -> bool) -> usize {
        self.open.values().filter(|greeting| of(greeting)).count()
    }

    /// A free place that `source` may have.
    fn room(&self, greetings: &Greetings, source: Source) -> Option<Part> {
        let of_part = |part| self.count(|greeting| greeting.part == part);
        let share = greetings.anybody_max.div_ceil(SHARE);
        let own = self.count(|greeting| greeting.part == Part::Anybody && greeting.source == source);
        if own < share && of_part(Part::Anybody) < greetings.anybody_max {
            return Some(Part::Anybody);
        }
        let is_member = self.is_member(source);
        (is_member && of_part(Part::Members) < greetings.members_max).then_some(Part::Members)
    }

    /// Tells one to give way to one of `source`, unless one that was told has not ended yet: its own oldest if it has
    /// its share, else the oldest of the source that holds most, among the places that `source` may have.
    fn displace(&mut self, greetings: &Greetings, source: Source) -> Option<Source> {
        let is_member = self.is_member(source);
        let may_have = |greeting: &Greeting| is_member || greeting.part == Part::Anybody;
        let of = |source: Source| self.count(|greeting| may_have(greeting) && greeting.source == source);
        let share = greetings.anybody_max.div_ceil(SHARE);
        let most = if of(source) >= share {
            source
        } else {
            let sources: BTreeSet<Source> = self
                .open
                .values()
                .filter(|greeting| may_have(greeting))
                .map(|greeting| greeting.source)
                .collect();
            sources.into_iter().max_by_key(|source| of(*source))?
        };
        let mut held = self.open.values_mut().filter(|greeting| greeting.source == most);
        let oldest = held.find(|greeting| is_member || greeting.part == Part::Anybody)?;
        oldest.stay.take().map(|_| most)
    }
}

impl Greeted {
    /// Until it has to give way.
    pub(super) async fn gives_way(&mut self) {
        // The other end is dropped, nothing is ever sent.
        let _ = (&mut self.gives_way).await;
    }
}

impl Drop for Greeted {
    fn drop(&mut self) {
        self.greetings.inner().open.remove(&self.number);
        self.greetings.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn source(number: u8) -> Source {
        Source::of(([10, 0, 0, number], 9).into())
    }

    /// Silent connections, each ended when it has to give way, as they end in a server.
    struct Crowd {
        greetings: Arc<Greetings>,
        open: Vec<(Source, Greeted)>,
    }

    impl Crowd {
        fn new(max: usize) -> Self {
            Self { greetings: Greetings::new(max), open: Vec::new() }
        }

        /// One more; gives the source of the one that gave way.
        async fn come(&mut self, from: Source) -> Option<Source> {
            let greetings = Arc::clone(&self.greetings);
            let mut entering = Box::pin(greetings.enter(from));
            loop {
                if let std::task::Poll::Ready(entered) = futures_util::poll!(&mut entering) {
                    let (greeted, gave_way) = entered.expect("there is always a place");
                    self.open.push((from, greeted));
                    return gave_way;
                }
                self.open.retain_mut(|(_, greeted)| greeted.gives_way().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        }

        fn of(&self, from: Source) -> usize {
            self.open.iter().filter(|(source, _)| *source == from).count()
        }
    }

    #[tokio::test]
    async fn one_source_has_a_share_and_its_own_oldest_gives_way() {
        let mut crowd = Crowd::new(64);
        for _ in 0..12 {
            assert_eq!(crowd.come(source(1)).await, None);
        }
        let oldest = crowd.open[0].1.number;
        assert_eq!(crowd.come(source(1)).await, Some(source(1)));
        assert_eq!(crowd.of(source(1)), 12);
        assert!(crowd.open.iter().all(|(_, greeted)| greeted.number > oldest));
        assert_eq!(crowd.come(source(2)).await, None, "others have theirs");
    }

    #[tokio::test]
    async fn where_all_are_taken_the_source_that_holds_most_gives_way() {
        let mut crowd = Crowd::new(64);
        for _ in 0..9 {
            crowd.come(source(100)).await;
        }
        for number in 0..39 {
            assert_eq!(crowd.come(source(number)).await, None);
        }
        assert_eq!(crowd.come(source(200)).await, Some(source(100)));
        assert_eq!((crowd.open.len(), crowd.of(source(100))), (48, 8));
    }

    #[tokio::test]
    async fn strangers_do_not_get_at_the_places_of_members() {
        let mut crowd = Crowd::new(64);
        let member = source(1);
        crowd.greetings.set_members([member].into());
        for number in 2..=255 {
            crowd.come(source(number)).await;
        }
        for _ in 0..16 {
            assert_eq!(crowd.come(member).await, None, "its own places");
        }
        for number in 2..=255 {
            assert_ne!(crowd.come(source(number)).await, Some(member));
        }
        assert_eq!((crowd.of(member), crowd.open.len()), (16, 64));
    }

    #[tokio::test]
    async fn a_peer_gets_in_though_silent_ones_share_its_address() {
        let mut crowd = Crowd::new(64);
        crowd.greetings.add_proven(source(1));
        for _ in 0..300 {
            crowd.come(source(1)).await;
        }
        assert_eq!(crowd.open.len(), 28, "a share, and what members have");
        let last = crowd.open.last().expect("28").1.number;
        crowd.come(source(1)).await;
        assert!(crowd.open.iter().any(|(_, greeted)| greeted.number == last), "the newest stay");
    }
}
