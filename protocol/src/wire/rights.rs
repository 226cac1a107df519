//! What a request needs and what a principal may: verbs on queues, allow only, nothing by default.
//!
//! ```text
//! grant   = verbs ":" pattern          push,take:orders.*     look:*     cluster     auth
//! pattern = name, or prefix and *, with {principal} for the name of the principal
//! ```
//!
//! [`Request::needs`] is the one match from request to right. A principal may do what one of its grants allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::{Key, QueueName};
use crate::wire::bounded::Text;
use crate::wire::request::{Action, Change, ExtendWhich, Sweep};
use crate::wire::requests::Request;
use crate::wire::txn::{Condition, Step, Txn};

macro_rules! verbs {
    ($($name:ident = $bit:literal, $text:literal, $whole:literal, $what:literal;)+) => {
        /// What may be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Verb { $(#[doc = $what] $name,)+ }

        impl Verb {
            /// All.
            pub const ALL: &[Verb] = &[$(Verb::$name,)+];

            /// As a grant has it.
            pub fn as_str(self) -> &'static str {
                match self { $(Verb::$name => $text,)+ }
            }

            /// What it allows, for a person.
            pub fn what(self) -> &'static str {
                match self { $(Verb::$name => $what,)+ }
            }

            /// It is about the cluster and not about queues.
            pub fn is_whole(self) -> bool {
                match self { $(Verb::$name => $whole,)+ }
            }

            fn bit(self) -> u16 {
                match self { $(Verb::$name => 1 << $bit,)+ }
            }
        }
    };
}

verbs! {
    Push = 0, "push", false, "store messages";
    Take = 1, "take", false, "lease, pop and settle messages";
    Look = 2, "look", false, "see queues, counts and states of messages, without bodies and error texts";
    Read = 3, "read", false, "see bodies, headers, checkpoints and error texts";
    Redrive = 4, "redrive", false, "put dead messages back, kick delayed ones, change priorities";
    Manage = 5, "manage", false, "make queues, change their settings, weights and schedules";
    Destroy = 6, "destroy", false, "remove queues; delete, purge and move messages";
    Feed = 7, "feed", false, "read the journal of queues";
    Cluster = 8, "cluster", true, "change members and leaders, rotate the secret, see connections";
    Auth = 9, "auth", true, "change principals, keys and grants, read the audit";
}

impl FromStr for Verb {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Verb::ALL.iter().copied().find(|verb| verb.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no verb: {}", names(Verb::ALL.iter().copied())))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn names(verbs: impl Iterator<Item = Verb>) -> String {
    verbs.map(Verb::as_str).collect::<Vec<_>>().join(", ")
}

/// Verbs that go together, by one word.
pub const READY_MADE: [(&str, &[Verb]); 5] = [
    ("producer", &[Verb::Push, Verb::Look]),
    ("worker", &[Verb::Take, Verb::Look]),
    ("viewer", &[Verb::Look]),
    ("operator", &[Verb::Look, Verb::Read, Verb::Redrive]),
    ("admin", Verb::ALL),
];

/// A set of verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Verbs(u16);

const VERBS_MASK: u16 = (1 << 10) - 1;

impl Verbs {
    /// These.
    pub fn of(verbs: &[Verb]) -> Self {
        Self(verbs.iter().fold(0, |bits, verb| bits | verb.bit()))
    }

    /// Whether this one is in it.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.iter().copied().filter(move |verb| self.has(*verb))
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// There is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl<'de> Deserialize<'de> for Verbs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bits = u16::deserialize(deserializer)?;
        if bits & !VERBS_MASK != 0 || bits == 0 {
            return Err(serde::de::Error::custom("unknown verbs"));
        }
        Ok(Self(bits))
    }
}

/// Stands for the name of the principal.
const OWN: &str = "{principal}";
/// Longest pattern, in bytes.
const PATTERN_SIZE_MAX: usize = 140;

/// Names of queues: one, or all that begin so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(Text<PATTERN_SIZE_MAX>);

impl Pattern {
    /// All queues.
    pub fn all() -> Self {
        Self(Text::cut("*"))
    }

    /// As it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this queue, in a grant of this principal.
    pub fn matches(&self, principal: &str, queue: &str) -> bool {
        let (text, is_prefix) = match self.0.strip_suffix('*') {
            Some(text) => (text, true),
            None => (&*self.0, false),
        };
        let rest = match text.split_once(OWN) {
            None => queue.strip_prefix(text),
            Some((before, after)) => queue
                .strip_prefix(before)
                .and_then(|rest| rest.strip_prefix(principal))
                .and_then(|rest| rest.strip_prefix(after)),
        };
        rest.is_some_and(|rest| is_prefix || rest.is_empty())
    }
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('*').unwrap_or(text).replacen(OWN, "", 1);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_sound = !text.is_empty() && !text.starts_with('-') && name.bytes().all(fits);
        let bad = || {
            format!("{text:?} names no queues: use NAME, PREFIX* or *, {OWN} for the principal's own name")
        };
        if is_sound { Text::new(text).map(Self).map_err(|_| bad()) } else { Err(bad()) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<PATTERN_SIZE_MAX>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a principal may do, on which queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What.
    pub verbs: Verbs,
    /// On which queues; of verbs that are about the cluster it says nothing.
    pub pattern: Pattern,
}

impl Grant {
    /// Whether it allows this to a principal.
    pub fn allows(&self, principal: &str, verb: Verb, queue: Option<&QueueName>) -> bool {
        self.verbs.has(verb)
            && (verb.is_whole() || queue.is_none_or(|queue| self.pattern.matches(principal, queue.as_str())))
    }
}

impl FromStr for Grant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (words, pattern) = match text.split_once(':') {
            Some((words, pattern)) => (words, Some(pattern.parse()?)),
            None => (text, None),
        };
        let mut verbs = Verbs::default();
        for word in words.split(',') {
            let ready = READY_MADE.iter().find(|(name, _)| *name == word);
            verbs = verbs.and(match ready {
                Some((_, verbs)) => Verbs::of(verbs),
                None => Verbs::of(&[word.parse().map_err(|why| {
                    format!("{why}, or one of {}", READY_MADE.map(|(name, _)| name).join(", "))
                })?]),
            });
        }
        // A pattern narrows a ready-made set of verbs to what is about queues.
        if pattern.is_some() && words == "admin" {
            verbs = verbs.without(Verbs::of(&[Verb::Cluster, Verb::Auth]));
        }
        let needs_pattern = verbs.iter().any(|verb| !verb.is_whole());
        match pattern {
            Some(pattern) => Ok(Self { verbs, pattern }),
            None if needs_pattern && words != "admin" => {
                Err(format!("{text:?} names no queues: {text}:orders, {text}:orders.* or {text}:*"))
            }
            None => Ok(Self { verbs, pattern: Pattern::all() }),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.verbs.iter().map(Verb::as_str).collect();
        f.write_str(&words.join(","))?;
        if self.verbs.iter().all(Verb::is_whole) { Ok(()) } else { write!(f, ":{}", self.pattern) }
    }
}

/// One right that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// On this queue.
    Queue(Verb, QueueName),
    /// On the queue of this schedule.
    Schedule(Verb, Key),
    /// On some queue, whichever.
    Somewhere(Verb),
    /// On the cluster.
    Whole(Verb),
}

impl Need {
    /// The right, wherever it is needed.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Queue(verb, _) | Self::Schedule(verb, _) | Self::Somewhere(verb) | Self::Whole(verb) => {
                *verb
            }
        }
    }
}

impl Request {
    /// The rights that it needs, all of them; none of what everybody may who is let in. Listings show only what may be looked
    /// at.
    pub fn needs(&self) -> Vec<Need> {
        match self {
            Self::Push(push) => match push.create {
                true => vec![on(Verb::Push, &push.queue), on(Verb::Manage, &push.queue)],
                false => vec![on(Verb::Push, &push.queue)],
            },
            Self::Lease(lease) | Self::Pop(lease) => {
                lease.queues.iter().map(|queue| on(Verb::Take, queue)).collect()
            }
            Self::Ack(receipts) => vec![on(Verb::Take, &receipts.queue)],
            Self::Nack(nack) => vec![on(Verb::Take, &nack.leases.queue)],
            Self::Extend(extend) => match &extend.leases {
                ExtendWhich::Receipts(receipts) => vec![on(Verb::Take, &receipts.queue)],
                ExtendWhich::Session => vec![Need::Somewhere(Verb::Take)],
            },
            Self::SaveCheckpoint(save) => vec![on(Verb::Take, &save.queue)],
            Self::BindSession(_) | Self::Attend => vec![Need::Somewhere(Verb::Take)],
            Self::Peek(peek) => vec![on(Verb::Look, &peek.queue), on(Verb::Read, &peek.queue)],
            Self::Explain(explain) => vec![on(Verb::Look, &explain.queue)],
            Self::History(history) => vec![on(Verb::Look, &history.queue)],
            Self::Groups(groups) => vec![on(Verb::Look, &groups.queue)],
            Self::Queues(queues) => queues.only.iter().map(|queue| on(Verb::Look, queue)).collect(),
            Self::CreateQueue(create) => {
                let dead_to = create.settings.dead_to.iter().flatten();
                let needs = [on(Verb::Manage, &create.queue)].into_iter();
                needs.chain(dead_to.map(|to| on(Verb::Push, to))).collect()
            }
            Self::AlterQueue(alter) => {
                let dead_to = alter.change.dead_to.iter().flatten();
                let needs = [on(Verb::Manage, &alter.queue)].into_iter();
                needs.chain(dead_to.map(|to| on(Verb::Push, to))).collect()
            }
            Self::WeighGroup(weigh) => vec![on(Verb::Manage, &weigh.queue)],
            Self::RemoveQueue(remove) => vec![on(Verb::Destroy, &remove.queue)],
            Self::Sweep(sweep) => sweep_needs(sweep),
            Self::Edit(edit) => edit_needs(&edit.queue, &edit.change),
            Self::Txn(txn) => txn_needs(txn),
            Self::SetSchedule(set) => {
                let mut needs = vec![on(Verb::Manage, &set.queue), on(Verb::Push, &set.queue)];
                if set.replace {
                    needs.push(Need::Schedule(Verb::Manage, set.name.clone()));
                }
                needs
            }
            Self::RemoveSchedule(name) => vec![Need::Schedule(Verb::Manage, name.clone())],
            // They show what may be looked at, or what every client needs to find its way.
            Self::Status | Self::Stats | Self::Schedules(_) | Self::Whoami | Self::CloseSession => Vec::new(),
            Self::Clients(_)
            | Self::TransferLeader(_)
            | Self::ChangeMembers(_)
            | Self::Drain(_)
            | Self::RaiseLevel(_)
            | Self::RotateSecret(_)
            | Self::TlsForget(_)
            | Self::SetLog(_)
            | Self::Slow => whole(Verb::Cluster),
            Self::Can(can) if can.name.is_none() => Vec::new(),
            Self::Can(_) | Self::Principals(_) | Self::ChangeAuth(_) | Self::Audit(_) => whole(Verb::Auth),
        }
    }
}

fn whole(verb: Verb) -> Vec<Need> {
    vec![Need::Whole(verb)]
}

fn edit_needs(queue: &QueueName, change: &Change) -> Vec<Need> {
    let on = |verb, queue: &QueueName| Need::Queue(verb, queue.clone());
    match change {
        Change::Delete | Change::Cancel => vec![on(Verb::Destroy, queue)],
        Change::Kick | Change::Priority(_) => vec![on(Verb::Redrive, queue)],
        Change::Move(to) => vec![on(Verb::Destroy, queue), on(Verb::Push, to)],
    }
}

fn on(verb: Verb, queue: &QueueName) -> Need {
    Need::Queue(verb, queue.clone())
}

fn sweep_needs(sweep: &Sweep) -> Vec<Need> {
    match &sweep.action {
        Action::Delete => vec![on(Verb::Destroy, &sweep.queue)],
        Action::Redrive { to: None } => vec![on(Verb::Redrive, &sweep.queue)],
        Action::Redrive { to: Some(to) } => {
            vec![on(Verb::Redrive, &sweep.queue), on(Verb::Push, to)]
        }
        Action::Move { to } => vec![on(Verb::Destroy, &sweep.queue), on(Verb::Push, to)],
    }
}

fn txn_needs(txn: &Txn) -> Vec<Need> {
    let condition = |condition: &Condition| match condition {
        Condition::Leased { queue, .. } => on(Verb::Take, queue),
        Condition::Exists { queue, .. }
        | Condition::AtMost { queue, .. }
        | Condition::Version { queue, .. }
        | Condition::NoDedupKey { queue, .. } => on(Verb::Look, queue),
    };
    let step = |step: &Step| match step {
        Step::Push(push) => Request::Push(push.clone()).needs(),
        Step::Ack(receipts) => vec![on(Verb::Take, &receipts.queue)],
        Step::Nack(nack) => vec![on(Verb::Take, &nack.leases.queue)],
        Step::Extend { leases, .. } => vec![on(Verb::Take, &leases.queue)],
        Step::Edit(edit) => edit_needs(&edit.queue, &edit.change),
    };
    let conditions = txn.conditions.iter().map(condition);
    conditions.chain(txn.steps.iter().flat_map(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        name.parse().expect("a name")
    }

    #[test]
    fn a_grant_is_text_and_back() {
        for text in
            ["push:orders", "push,take:orders.*", "look:*", "cluster", "cluster,auth", "take:{principal}.*"]
        {
            let grant: Grant = text.parse().expect(text);
            assert_eq!(grant.to_string(), text);
        }
        let of = |text: &str| text.parse::<Grant>().map(|grant| grant.to_string());
        assert_eq!(of("operator:a"), Ok("look,read,redrive:a".to_owned()));
        assert_eq!(of("admin:a.*"), Ok("push,take,look,read,redrive,manage,destroy,feed:a.*".to_owned()));
        assert!(of("admin").expect("all").ends_with("cluster,auth:*"));
        for text in
            ["", "push", "push:", ":a", "fly:a", "push:a b", "push:-a", "push:a*b", "push,:a", "push:ä"]
        {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_names_what_its_text_says_and_nothing_else() {
        let matches =
            |pattern: &str, name: &str| pattern.parse::<Pattern>().expect(pattern).matches("ann", name);
        for (pattern, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders", "order", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.", true),
            ("orders.*", "orders", false),
            ("*", "x", true),
            ("{principal}", "ann", true),
            ("{principal}.*", "ann.x", true),
            ("{principal}.*", "anna.x", false),
            ("{principal}", "{principal}", false),
            ("q.{principal}", "q.ann", true),
            ("q.{principal}", "q.bob", false),
        ] {
            if let Ok(name) = name.parse::<QueueName>() {
                assert_eq!(matches(pattern, name.as_str()), expected, "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_is_about_the_cluster_needs_its_verb_and_no_queue() {
        let all: Grant = "look:*".parse().expect("a grant");
        assert!(all.allows("ann", Verb::Look, Some(&queue("a"))));
        assert!(all.allows("ann", Verb::Look, None), "somewhere");
        assert!(!all.allows("ann", Verb::Cluster, None));
        let auth: Grant = "auth".parse().expect("a grant");
        assert!(auth.allows("ann", Verb::Auth, None) && !auth.allows("ann", Verb::Cluster, None));
    }

    #[test]
    fn verbs_have_bits_of_their_own() {
        let bits = Verb::ALL.iter().fold(0, |bits, verb| bits | verb.bit());
        assert_eq!(bits, VERBS_MASK);
        assert!(postcard::from_bytes::<Verbs>(&postcard::to_allocvec(&Verbs(1 << 10)).unwrap()).is_err());
        assert!(postcard::from_bytes::<Verbs>(&postcard::to_allocvec(&Verbs(0)).unwrap()).is_err());
    }
}
