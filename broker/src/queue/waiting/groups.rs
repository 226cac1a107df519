//! The groups of one queue: which of them may be served now, and which of those is next.
//!
//! A message of a group stands in its group's line, by place. A group is *open* if its line is not empty and no rule of
//! the queue holds it back ([`Groups::closed_group`], the only place that says so); only the head of an open group's line is
//! ever handed out. So what a lease costs does not depend on how much other groups hold.
//!
//! In a fair queue each open group has a turn. It is served a quantum of as many messages as it weighs, then takes its
//! next turn behind all others: deficit round robin (Shreedhar, Varghese 1995) where every message is of size one, so
//! that nothing is carried over. Messages without a group are one group there. In other queues every turn is 0,
//! and places decide.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};
use queue_protocol::limits::GROUP_WEIGHTS_MAX;
use queue_protocol::names::Key;
use queue_protocol::settings::{OnPoison, Settings};
use queue_protocol::wire::group::{GroupHeld, GroupView};
use serde::{Deserialize, Serialize};

use super::rate::{Bucket, Rate};
use crate::queue::messages::line::Place;

/// What the settings of a queue say about groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    ordered: bool,
    on_poison: OnPoison,
    fair: bool,
    weight: u32,
    leased_max: u32,
    rate: Rate,
}

/// A place in the round of a fair queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Turn {
    /// The lowest is served; 0 is none.
    at: u64,
    /// Messages it still gets.
    credit: u32,
}

/// What is kept of a group beside what its messages say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::queue) struct Kept {
    /// 0 is the queue's.
    pub(in crate::queue) weight: u32,
    turn: Turn,
    /// Its line is on its way to the dead.
    parking: bool,
    /// Of the rate of a group.
    bucket: Bucket,
}

/// Messages of a group that hold it back or wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::queue) struct Members {
    /// Messages in the line of the group.
    pub(in crate::queue) ready: u64,
    /// Messages of the group that are leased.
    pub(in crate::queue) leased: u64,
    /// Handed out before, and delayed.
    pub(in crate::queue) waiting: u64,
    /// Messages of the group that are dead.
    pub(in crate::queue) dead: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Group {
    kept: Kept,
    members: Members,
    /// Where it is listed among the open.
    listed: Option<(u64, Place)>,
    /// When its bucket is to be refilled.
    refill: Option<(Refill, u64)>,
}

/// What refilling the bucket of a group is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Refill {
    /// The group has messages, and they wait for it.
    Opens,
    /// The next message need not wait, or the group may be forgotten.
    Idle,
}

/// Why nothing of a group is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Closed {
    /// Nothing of it is ready.
    Empty,
    /// The queue is ordered, and a message of it is leased.
    Leased,
    /// The queue is ordered, and a message of it that was leased before is delayed.
    Waiting,
    /// The queue is ordered, and a message of it is dead.
    Poisoned,
    /// A message of it died, and all others follow.
    Parking,
    /// As many of its messages are leased as may be.
    Full,
    /// As many of its messages were handed out as its rate allows.
    Rate,
}

/// All groups of a queue.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Groups {
    rules: Rules,
    all: OrdMap<Key, Group>,
    lines: OrdSet<(Key, Place)>,
    /// Turn, head of the line, group.
    open: OrdSet<(u64, Place, Key)>,
    /// Groups whose lines are on their way to the dead.
    parking: OrdSet<Key>,
    /// Groups whose buckets are to be refilled, by what for and when.
    refills: [OrdSet<(u64, Key)>; 2],
    /// Of the messages without a group.
    plain: Turn,
    next_turn: u64,
    /// Groups with a weight of their own.
    weighed: usize,
}

impl Rules {
    fn of(settings: &Settings) -> Self {
        let Settings { ordered, on_poison, fair, group_leased_max, .. } = *settings;
        let rate = Rate::new(settings.group_rate_max, settings.group_rate_ms);
        let weight = settings.group_weight.max(1);
        Self { ordered, on_poison, fair, weight, leased_max: group_leased_max, rate }
    }

    /// Whether a group follows a message of it that died.
    fn parks(self) -> bool {
        self.ordered && self.on_poison == OnPoison::ParkGroup
    }
}

impl Groups {
    /// Of a queue without messages.
    pub(in crate::queue) fn new(settings: &Settings) -> Self {
        Self {
            rules: Rules::of(settings),
            all: OrdMap::new(),
            lines: OrdSet::new(),
            open: OrdSet::new(),
            parking: OrdSet::new(),
            refills: Default::default(),
            plain: Turn::default(),
            next_turn: 1,
            weighed: 0,
        }
    }

    /// Follows the settings. Takes time for every group if they changed.
    pub(in crate::queue) fn follow(&mut self, settings: &Settings, has_plain: bool) {
        let rules = Rules::of(settings);
        if rules == self.rules {
            return;
        }
        let restart = rules.fair != self.rules.fair;
        let other_rate = rules.rate != self.rules.rate;
        self.rules = rules;
        if restart {
            self.plain = Turn::default();
        }
        self.for_all(|group| {
            if restart {
                group.kept.turn = Turn::default();
            }
            if other_rate {
                group.kept.bucket = Bucket::default();
            }
        });
        self.plain_is(has_plain);
    }

    /// Why nothing of a group is handed out, if that is so.
    pub(in crate::queue) fn closed(&self, key: &Key) -> Option<Closed> {
        self.closed_group(&self.all.get(key).copied().unwrap_or_default())
    }

    /// Groups of which something is ready and nothing handed out, among the first `max` by name.
    pub(in crate::queue) fn closed_of(&self, max: usize) -> impl Iterator<Item = (&Key, Closed)> {
        let ready = self.all.iter().take(max).filter(|(_, group)| group.members.ready > 0);
        ready.filter_map(|(key, group)| Some((key, self.closed_group(group)?)))
    }

    /// Groups by name, behind one if it is given.
    pub(in crate::queue) fn views(&self, after: Option<&Key>, max: usize) -> Vec<GroupView> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let view = |(key, group): (&Key, &Group)| {
            let (own, members) = (group.kept.weight, group.members);
            GroupView {
                group: key.clone(),
                weight: if own > 0 { own } else { self.rules.weight },
                own_weight: own > 0,
                ready: members.ready,
                leased: members.leased,
                waiting: members.waiting,
                dead: members.dead,
                held: self.closed_group(group).and_then(|closed| match closed {
                    Closed::Empty => None,
                    Closed::Leased => Some(GroupHeld::Leased),
                    Closed::Waiting => Some(GroupHeld::Waits),
                    Closed::Poisoned => Some(GroupHeld::Blocked),
                    Closed::Parking => Some(GroupHeld::Parked),
                    Closed::Full => Some(GroupHeld::Full),
                    Closed::Rate => Some(GroupHeld::Rate),
                }),
            }
        };
        self.all.range((from, Bound::Unbounded)).take(max).map(view).collect()
    }

    fn closed_group(&self, Group { kept, members, .. }: &Group) -> Option<Closed> {
        let Rules { ordered, on_poison, leased_max, rate, .. } = self.rules;
        let held = [
            (members.ready == 0, Closed::Empty),
            (kept.parking, Closed::Parking),
            (ordered && members.leased > 0, Closed::Leased),
            (ordered && members.waiting > 0, Closed::Waiting),
            (ordered && on_poison == OnPoison::Block && members.dead > 0, Closed::Poisoned),
            (leased_max > 0 && members.leased >= u64::from(leased_max), Closed::Full),
            (kept.bucket.count(rate) == 0, Closed::Rate),
        ];
        held.into_iter().find(|(is_so, _)| *is_so).map(|(_, why)| why)
    }

    /// Whether a group may be held back by what is or was handed out of it.
    pub(super) fn are_limited(&self) -> bool {
        self.rules.ordered || self.rules.leased_max > 0 || self.rules.rate.is_limit()
    }

    /// Whether groups are served in turn.
    pub(super) fn are_fair(&self) -> bool {
        self.rules.fair
    }

    /// How many are open.
    pub(in crate::queue) fn open_count(&self) -> u64 {
        self.open.len() as u64
    }

    /// The open group that is next: its turn, the head of its line, its name.
    pub(in crate::queue) fn next(&self) -> Option<&(u64, Place, Key)> {
        self.open.get_min()
    }

    /// The turn of the messages without a group, and how many of them may be taken at once.
    pub(super) fn plain_turn(&self) -> (u64, usize) {
        let credit = if self.rules.fair { self.plain.credit as usize } else { usize::MAX };
        (self.plain.at, credit)
    }

    /// A group whose line is on its way to the dead.
    pub(super) fn first_parking(&self) -> Option<&Key> {
        self.parking.get_min()
    }

    /// The head of a group's line.
    pub(in crate::queue) fn head(&self, key: &Key) -> Option<Place> {
        let (found, place) = self.lines.get_next(&(key.clone(), Place::FIRST))?;
        (found == key).then_some(*place)
    }

    /// Places of a group's line, in order.
    pub(in crate::queue) fn line<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Place> + 'a {
        let places = self.lines.range((key.clone(), Place::FIRST)..);
        places.take_while(move |(found, _)| found == key).map(|(_, place)| *place)
    }

    /// A message joins the line of its group.
    pub(in crate::queue) fn join(&mut self, key: &Key, place: Place) {
        self.lines.insert((key.clone(), place));
        self.edit(key, |group| group.members.ready += 1);
    }

    /// A message leaves the line of its group; `served_ms` is the elapsed time if it is handed out.
    pub(in crate::queue) fn leave(&mut self, key: &Key, place: Place, served_ms: Option<u64>) {
        let rate = self.rules.rate;
        self.lines.remove(&(key.clone(), place));
        self.edit(key, |group| {
            group.members.ready -= 1;
            let Some(elapsed_ms) = served_ms else { return };
            group.kept.bucket = group.kept.bucket.less(rate, 1, elapsed_ms);
            let turn = &mut group.kept.turn;
            if turn.at > 0 {
                turn.credit = turn.credit.saturating_sub(1);
                if turn.credit == 0 {
                    *turn = Turn::default();
                }
            }
        });
    }

    /// The group whose bucket is to be refilled first for that purpose, and when.
    pub(in crate::queue) fn first_refill(&self, what_for: Refill) -> Option<(u64, &Key)> {
        self.refills[what_for as usize].get_min().map(|(at_ms, key)| (*at_ms, key))
    }

    /// Refills the bucket of the group that [`Groups::first_refill`] names.
    pub(in crate::queue) fn refill(&mut self, what_for: Refill, elapsed_ms: u64) {
        let rate = self.rules.rate;
        if let Some(key) = self.first_refill(what_for).map(|(_, key)| key.clone()) {
            self.edit(&key, |group| group.kept.bucket = group.kept.bucket.refilled(rate, elapsed_ms));
        }
    }

    /// When the next message of a group is allowed by its rate, if none is now.
    pub(in crate::queue) fn rate_allows_at_ms(&self, key: &Key) -> Option<u64> {
        self.all.get(key)?.kept.bucket.next_ms(self.rules.rate)
    }

    /// So many messages without a group were handed out.
    pub(super) fn plain_served(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.plain.credit = self.plain.credit.saturating_sub(count);
        if self.plain.credit == 0 {
            self.plain = Turn::default();
        }
    }

    /// There are messages without a group, or none.
    pub(super) fn plain_is(&mut self, some: bool) {
        if !some || !self.rules.fair {
            self.plain = Turn::default();
        } else if self.plain.at == 0 {
            self.plain = self.new_turn(0);
        }
    }

    /// What a group holds beside its line is another.
    pub(in crate::queue) fn count(&mut self, key: &Key, change: impl FnOnce(&mut Members)) {
        self.edit(key, |group| change(&mut group.members));
    }

    /// A message of an ordered queue's group died of itself.
    pub(in crate::queue) fn poison(&mut self, key: &Key) {
        if self.rules.parks() {
            self.edit(key, |group| group.kept.parking = true);
        }
    }

    /// Gives a group a weight of its own, 0 for none; the one it had, or `None` if as many groups have one as may.
    pub(in crate::queue) fn weigh(&mut self, key: &Key, weight: u32) -> Option<u32> {
        let before = self.all.get(key).map_or(0, |group| group.kept.weight);
        if before == 0 && weight > 0 && self.weighed >= GROUP_WEIGHTS_MAX {
            return None;
        }
        self.edit(key, |group| group.kept.weight = weight);
        Some(before)
    }

    fn for_all(&mut self, change: impl Fn(&mut Group)) {
        let keys: Vec<Key> = self.all.keys().cloned().collect();
        keys.iter().for_each(|key| self.edit(key, &change));
    }

    fn new_turn(&mut self, weight: u32) -> Turn {
        let at = self.next_turn;
        self.next_turn += 1;
        Turn { at, credit: if weight > 0 { weight } else { self.rules.weight } }
    }

    /// Changes a group; whether and where it is listed follows. Every change goes through here.
    fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Group)) {
        let mut group = self.all.get(key).copied().unwrap_or_default();
        let (listed, weighed) = (group.listed, group.kept.weight > 0);
        change(&mut group);
        self.weighed = self.weighed + usize::from(group.kept.weight > 0) - usize::from(weighed);
        group.kept.parking &= self.rules.parks() && group.members.ready > 0;
        if self.closed_group(&group).is_some() || !self.rules.fair {
            group.kept.turn = Turn::default();
        } else if group.kept.turn.at == 0 {
            group.kept.turn = self.new_turn(group.kept.weight);
        }
        let head = if self.closed_group(&group).is_none() { self.head(key) } else { None };
        group.listed = head.map(|head| (group.kept.turn.at, head));
        if group.listed != listed {
            if let Some((turn, place)) = listed {
                self.open.remove(&(turn, place, key.clone()));
            }
            if let Some((turn, place)) = group.listed {
                self.open.insert((turn, place, key.clone()));
            }
        }
        let refill_before = group.refill;
        group.refill = self.refill_of(&group);
        if group.refill != refill_before {
            if let Some((what_for, at_ms)) = refill_before {
                self.refills[what_for as usize].remove(&(at_ms, key.clone()));
            }
            if let Some((what_for, at_ms)) = group.refill {
                self.refills[what_for as usize].insert((at_ms, key.clone()));
            }
        }
        if group.kept.parking {
            self.parking.insert(key.clone());
        } else {
            self.parking.remove(key);
        }
        if group == Group::default() {
            self.all.remove(key);
        } else {
            self.all.insert(key.clone(), group);
        }
    }
}

impl Groups {
    fn refill_of(&self, group: &Group) -> Option<(Refill, u64)> {
        let (bucket, rate) = (group.kept.bucket, self.rules.rate);
        let at_ms = bucket.next_ms(rate).or_else(|| bucket.full_ms(rate))?;
        let opens = group.members.ready > 0 && bucket.count(rate) == 0;
        Some((if opens { Refill::Opens } else { Refill::Idle }, at_ms))
    }
}

/// What a snapshot holds of the groups as a whole.
#[derive(Serialize, Deserialize)]
pub(in crate::queue) struct StoredRound {
    plain: Turn,
    next_turn: u64,
}

impl Groups {
    /// For a snapshot: the round, and what is kept of groups beside what their messages say.
    pub(in crate::queue) fn to_stored(&self) -> (StoredRound, Vec<(Key, Kept)>) {
        let round = StoredRound { plain: self.plain, next_turn: self.next_turn };
        let kept = self.all.iter().map(|(key, group)| (key.clone(), group.kept));
        (round, kept.filter(|(_, kept)| *kept != Kept::default()).collect())
    }

    /// Takes over what [`Groups::to_stored`] gave, when all messages are there; `None` if it cannot be.
    pub(in crate::queue) fn restore(
        &mut self,
        settings: &Settings,
        round: &StoredRound,
        kept: Vec<(Key, Kept)>,
        has_plain: bool,
    ) -> Option<()> {
        let given = |turn: Turn| (turn.at == 0) == (turn.credit == 0) && turn.at < round.next_turn;
        let turns = || kept.iter().map(|(_, kept)| kept.turn).chain([round.plain]);
        let plain_fits = (round.plain.at > 0) == (has_plain && settings.fair);
        let rate = Rules::of(settings).rate;
        let fits = kept.iter().all(|(_, kept)| kept.bucket.fits(rate));
        if !fits || !turns().all(given) || !plain_fits || round.next_turn >= 1 << 62 {
            return None;
        }
        self.rules = Rules::of(settings);
        self.plain = round.plain;
        self.next_turn = round.next_turn;
        for (key, kept) in kept {
            self.edit(&key, |group| group.kept = kept);
        }
        self.for_all(|_| {});
        (self.next_turn == round.next_turn && self.weighed <= GROUP_WEIGHTS_MAX).then_some(())
    }

    /// Asserts that what is counted and listed follows from `members`, the messages by group.
    pub(in crate::queue) fn check(
        &self,
        members: &std::collections::BTreeMap<Key, Members>,
        has_plain: bool,
    ) {
        let counted = self.all.iter().filter(|(_, group)| group.members != Members::default());
        let counted = counted.map(|(key, group)| (key.clone(), group.members)).collect();
        assert_eq!(*members, counted, "messages by group");
        let (mut listed, mut refills) = (OrdSet::new(), 0);
        for (key, group) in &self.all {
            let open = self.closed_group(group).is_none();
            assert_eq!(group.listed.is_some(), open, "{key}: open");
            assert_eq!(group.kept.turn.at > 0, open && self.rules.fair, "{key}: turn");
            assert_eq!(self.line(key).count() as u64, group.members.ready, "{key}: line");
            assert_eq!(self.parking.contains(key), group.kept.parking, "{key}: parking");
            assert!(group.kept.bucket.fits(self.rules.rate), "{key}: bucket");
            assert_eq!(group.refill, self.refill_of(group), "{key}: refill");
            refills += usize::from(group.refill.is_some());
            listed.extend(group.listed.map(|(turn, place)| (turn, place, key.clone())));
        }
        assert!(listed == self.open, "open groups");
        let weighed = self.all.values().filter(|group| group.kept.weight > 0).count();
        assert!(weighed == self.weighed && weighed <= GROUP_WEIGHTS_MAX, "weights");
        assert_eq!(self.refills.iter().map(OrdSet::len).sum::<usize>(), refills, "refills");
        assert_eq!(self.plain.at > 0, has_plain && self.rules.fair, "turn of what has no group");
    }
}
