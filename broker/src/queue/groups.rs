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

use imbl::{OrdMap, OrdSet};
use queue_protocol::names::Key;
use queue_protocol::settings::{OnPoison, Settings};
use serde::{Deserialize, Serialize};

use super::line::Place;

/// What the settings of a queue say about groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    ordered: bool,
    on_poison: OnPoison,
    fair: bool,
    weight: u32,
    leased_max: u32,
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
pub(super) struct Kept {
    /// 0 is the queue's.
    pub(super) weight: u32,
    turn: Turn,
    /// Its line is on its way to the dead.
    parking: bool,
}

/// Messages of a group that hold it back or wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Members {
    /// In its line.
    pub(super) ready: u64,
    /// Handed out.
    pub(super) leased: u64,
    /// Handed out before, and delayed.
    pub(super) waiting: u64,
    /// Dead.
    pub(super) dead: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Group {
    kept: Kept,
    members: Members,
    /// Where it is listed among the open.
    listed: Option<(u64, Place)>,
}

/// Why nothing of a group is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
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
}

/// All groups of a queue.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    rules: Rules,
    all: OrdMap<Key, Group>,
    lines: OrdSet<(Key, Place)>,
    /// Turn, head of the line, group.
    open: OrdSet<(u64, Place, Key)>,
    /// Groups whose lines are on their way to the dead.
    parking: OrdSet<Key>,
    /// Of the messages without a group.
    plain: Turn,
    next_turn: u64,
}

impl Rules {
    fn of(settings: &Settings) -> Self {
        let Settings { ordered, on_poison, fair, group_weight, group_leased_max, .. } = *settings;
        Self { ordered, on_poison, fair, weight: group_weight.max(1), leased_max: group_leased_max }
    }

    /// Whether a group follows a message of it that died.
    fn parks(self) -> bool {
        self.ordered && self.on_poison == OnPoison::ParkGroup
    }
}

impl Groups {
    /// Of a queue without messages.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            rules: Rules::of(settings),
            all: OrdMap::new(),
            lines: OrdSet::new(),
            open: OrdSet::new(),
            parking: OrdSet::new(),
            plain: Turn::default(),
            next_turn: 1,
        }
    }

    /// Follows the settings. Takes time for every group if they changed.
    pub(super) fn follow(&mut self, settings: &Settings, has_plain: bool) {
        let rules = Rules::of(settings);
        if rules == self.rules {
            return;
        }
        let restart = rules.fair != self.rules.fair;
        self.rules = rules;
        if restart {
            self.plain = Turn::default();
        }
        self.for_all(|group| {
            if restart {
                group.kept.turn = Turn::default();
            }
        });
        self.plain_is(has_plain);
    }

    /// Why nothing of a group is handed out, if that is so.
    pub(super) fn closed(&self, key: &Key) -> Option<Closed> {
        self.closed_group(&self.all.get(key).copied().unwrap_or_default())
    }

    /// Groups of which something is ready and nothing handed out, among the first `max` by name.
    pub(super) fn closed_of(&self, max: usize) -> impl Iterator<Item = (&Key, Closed)> {
        let ready = self.all.iter().take(max).filter(|(_, group)| group.members.ready > 0);
        ready.filter_map(|(key, group)| Some((key, self.closed_group(group)?)))
    }

    fn closed_group(&self, Group { kept, members, .. }: &Group) -> Option<Closed> {
        let Rules { ordered, on_poison, leased_max, .. } = self.rules;
        let held = [
            (members.ready == 0, Closed::Empty),
            (kept.parking, Closed::Parking),
            (ordered && members.leased > 0, Closed::Leased),
            (ordered && members.waiting > 0, Closed::Waiting),
            (ordered && on_poison == OnPoison::Block && members.dead > 0, Closed::Poisoned),
            (leased_max > 0 && members.leased >= u64::from(leased_max), Closed::Full),
        ];
        held.into_iter().find(|(is_so, _)| *is_so).map(|(_, why)| why)
    }

    /// Whether a group may be held back by what is leased of it.
    pub(super) fn are_limited(&self) -> bool {
        self.rules.ordered || self.rules.leased_max > 0
    }

    /// Whether groups are served in turn.
    pub(super) fn are_fair(&self) -> bool {
        self.rules.fair
    }

    /// How many are open.
    pub(super) fn open_count(&self) -> u64 {
        self.open.len() as u64
    }

    /// The open group that is next: its turn, the head of its line, its name.
    pub(super) fn next(&self) -> Option<&(u64, Place, Key)> {
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
    pub(super) fn head(&self, key: &Key) -> Option<Place> {
        let (found, place) = self.lines.get_next(&(key.clone(), Place::FIRST))?;
        (found == key).then_some(*place)
    }

    /// Places of a group's line, in order.
    pub(super) fn line<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Place> + 'a {
        let places = self.lines.range((key.clone(), Place::FIRST)..);
        places.take_while(move |(found, _)| found == key).map(|(_, place)| *place)
    }

    /// A message joins the line of its group.
    pub(super) fn join(&mut self, key: &Key, place: Place) {
        self.lines.insert((key.clone(), place));
        self.edit(key, |group| group.members.ready += 1);
    }

    /// A message leaves the line of its group, handed out or otherwise.
    pub(super) fn leave(&mut self, key: &Key, place: Place, served: bool) {
        self.lines.remove(&(key.clone(), place));
        self.edit(key, |group| {
            group.members.ready -= 1;
            let turn = &mut group.kept.turn;
            if served && turn.at > 0 {
                turn.credit = turn.credit.saturating_sub(1);
                if turn.credit == 0 {
                    *turn = Turn::default();
                }
            }
        });
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
    pub(super) fn count(&mut self, key: &Key, change: impl FnOnce(&mut Members)) {
        self.edit(key, |group| change(&mut group.members));
    }

    /// A message of an ordered queue's group died of itself.
    pub(super) fn poison(&mut self, key: &Key) {
        if self.rules.parks() {
            self.edit(key, |group| group.kept.parking = true);
        }
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
        change(&mut group);
        let listed = group.listed;
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

/// What a snapshot holds of the groups as a whole.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRound {
    plain: Turn,
    next_turn: u64,
}

impl Groups {
    /// For a snapshot: the round, and what is kept of groups beside what their messages say.
    pub(super) fn to_stored(&self) -> (StoredRound, Vec<(Key, Kept)>) {
        let round = StoredRound { plain: self.plain, next_turn: self.next_turn };
        let kept = self.all.iter().map(|(key, group)| (key.clone(), group.kept));
        (round, kept.filter(|(_, kept)| *kept != Kept::default()).collect())
    }

    /// Takes over what [`Groups::to_stored`] gave, when all messages are there; `None` if it cannot be.
    pub(super) fn restore(
        &mut self,
        settings: &Settings,
        round: &StoredRound,
        kept: Vec<(Key, Kept)>,
        has_plain: bool,
    ) -> Option<()> {
        let given = |turn: Turn| (turn.at == 0) == (turn.credit == 0) && turn.at < round.next_turn;
        let turns = || kept.iter().map(|(_, kept)| kept.turn).chain([round.plain]);
        let plain_fits = (round.plain.at > 0) == (has_plain && settings.fair);
        if !turns().all(given) || !plain_fits || round.next_turn >= 1 << 62 {
            return None;
        }
        self.rules = Rules::of(settings);
        self.plain = round.plain;
        self.next_turn = round.next_turn;
        for (key, kept) in kept {
            self.edit(&key, |group| group.kept = kept);
        }
        self.for_all(|_| {});
        (self.next_turn == round.next_turn).then_some(())
    }

    /// Asserts that what is counted and listed follows from `members`, the messages by group.
    pub(super) fn check(&self, members: &std::collections::BTreeMap<Key, Members>, has_plain: bool) {
        let counted = self.all.iter().filter(|(_, group)| group.members != Members::default());
        let counted = counted.map(|(key, group)| (key.clone(), group.members)).collect();
        assert_eq!(*members, counted, "messages by group");
        let mut listed = OrdSet::new();
        for (key, group) in &self.all {
            let open = self.closed_group(group).is_none();
            assert_eq!(group.listed.is_some(), open, "{key}: open");
            assert_eq!(group.kept.turn.at > 0, open && self.rules.fair, "{key}: turn");
            assert_eq!(self.line(key).count() as u64, group.members.ready, "{key}: line");
            assert_eq!(self.parking.contains(key), group.kept.parking, "{key}: parking");
            listed.extend(group.listed.map(|(turn, place)| (turn, place, key.clone())));
        }
        assert!(listed == self.open, "open groups");
        assert_eq!(self.plain.at > 0, has_plain && self.rules.fair, "turn of what has no group");
    }
}
