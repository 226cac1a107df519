//! Everything a client can ask: one row each. A row says what the request carries, what answers it, and how both sides treat it.
//!
//! ```text
//! Peek(request::Peek) -> Peeked(Peeked), read, contents out, by consistency;
//! │    │                 │               │     │             └ who answers: leader, asked, by consistency
//! │    │                 │               │     └ what the tail carries: none, contents in, contents out
//! │    │                 │               └ change, read, wait, act: see [`Class`]
//! │    │                 └ the variant of [`Answer`]; `none` if only a refusal ends it
//! └────┴ the variant of [`Request`], and what is in it
//! ```
//!
//! From the rows come [`Request`], the typed form of each ([`ask`]), the sort by class that the server matches over
//! ([`ByClass`]), what the client may repeat, and the table in PROTOCOL.md. No column has a default: a new column is one more
//! word in each row. Rows and answers are appended, never reordered: postcard numbers them by position.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use crate::content::ContentSpec;
use crate::limits::{LEASE_COUNT_MAX, PUSH_COUNT_MAX, QUEUES_LISTED_MAX, RECEIPTS_COUNT_MAX};
use crate::names::{Key, NodeId};
use crate::wire::bounded::Bounded;
use crate::wire::clients::ClientList;
use crate::wire::explain::Explained;
use crate::wire::group::GroupList;
use crate::wire::history::HistoryView;
use crate::wire::level::Level;
use crate::wire::logs::{LogChoice, LogView, SlowList};
use crate::wire::membership::MemberChange;
use crate::wire::request::Consistency;
use crate::wire::response::{
    Delivery, Edited, Extended, LeaderView, MemberView, Peeked, PushOutcome, QueueView, Settled, StatsView,
    StatusView, Swept,
};
use crate::wire::schedule::ScheduleList;
use crate::wire::security::RotationView;
use crate::wire::txn::TxnOutcome;
use crate::wire::{audit, auth, checkpoint, clients, explain, group, history, request, schedule, txn};

/// What a request does, which decides whether it has a stamp and what may be done when no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes the state. Stamped; repeated under its number, it counts once.
    Change,
    /// Changes nothing. Unstamped; repeated freely.
    Read,
    /// Waits at the node for as long as the client is there. Unstamped; repeated freely.
    Wait,
    /// Changes the nodes and not the state. Unstamped; never repeated by the client.
    Act,
}

impl Class {
    /// It names a place in a session.
    pub fn is_stamped(self) -> bool {
        match self {
            Self::Change => true,
            Self::Read | Self::Wait | Self::Act => false,
        }
    }

    /// Done twice it is as if it was done once, without a number.
    pub fn changes_nothing(self) -> bool {
        match self {
            Self::Read | Self::Wait => true,
            Self::Change | Self::Act => false,
        }
    }
}

/// What the tails of a request and its answer carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    None,
    /// That of the request: contents of messages.
    ContentsIn,
    /// That of the answer: contents of messages.
    ContentsOut,
}

/// Who answers a request, as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The leader.
    Leader,
    /// The node that is asked.
    Asked,
    /// The leader, or with [`Consistency::Stale`] the node that is asked.
    ByConsistency,
}

/// Who answers this very request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Only the leader, and a read only with a quorum.
    Leader,
    /// The node that is asked, whether it leads or not.
    Asked,
}

impl From<Consistency> for Place {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Linearizable => Self::Leader,
            Consistency::Stale => Self::Asked,
        }
    }
}

/// A row without its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The variant of [`Request`].
    pub name: &'static str,
    /// What it is for, as sentences.
    pub about: &'static str,
    /// The variant of [`Answer`]; `None` if only a refusal ends it.
    pub answer: Option<&'static str>,
    /// What it does.
    pub class: Class,
    /// What the tails carry.
    pub tail: Tail,
    /// Who answers.
    pub at: At,
}

/// A request whose answer has a type: see [`ask`].
pub trait Ask: Into<Request> {
    /// What is in the answer.
    type Answer;
    /// Its row.
    const ROW: Row;
    /// Takes out of `answer` what is in it; `None` if it answers another request.
    fn answer(answer: Answer) -> Option<Self::Answer>;
}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident $(($given:ty))?;)+) => {
        /// What a request came to.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Answer {
            $($(#[$doc])* $name $(($given))?,)+
        }

        /// The names of all answers, in the order of their numbers on the wire.
        pub const ANSWERS: &[&str] = &[$(stringify!($name),)+];
    };
}

macro_rules! requests {
    // One binding for what a row carries, if it carries something.
    (@bind $of:ident $type:ty) => { $of };

    (@class change) => { Class::Change };
    (@class read) => { Class::Read };
    (@class wait) => { Class::Wait };
    (@class act) => { Class::Act };

    (@tail none) => { Tail::None };
    (@tail contents in) => { Tail::ContentsIn };
    (@tail contents out) => { Tail::ContentsOut };

    (@at leader) => { At::Leader };
    (@at asked) => { At::Asked };
    (@at by consistency) => { At::ByConsistency };

    (@place $of:ident leader) => { Place::Leader };
    (@place $of:ident asked) => { Place::Asked };
    (@place $of:ident by consistency) => { $of.consistency.into() };

    (@given none) => { Infallible };
    (@given $answer:ident) => { () };
    (@given $answer:ident $given:ty) => { $given };

    (@named none) => { None };
    (@named $answer:ident) => { Some(stringify!($answer)) };

    (@take $from:ident none) => {{ drop($from); None }};
    (@take $from:ident $answer:ident) => { matches!($from, Answer::$answer).then_some(()) };
    (@take $from:ident $answer:ident $given:ty) => {
        if let Answer::$answer(given) = $from { Some(given) } else { None }
    };

    (@specs_in $of:ident contents in) => { $of.contents() };
    (@specs_in $of:ident contents out) => { Vec::new() };
    (@specs_in $of:ident none) => { Vec::new() };

    (@specs_out $from:ident [none] none) => { None };
    (@specs_out $from:ident [$answer:ident $given:ty] contents out) => {
        if let Answer::$answer(given) = $from { Some(given.contents()) } else { None }
    };
    (@specs_out $from:ident [$answer:ident $($given:ty)?] $($tail:ident)+) => {
        matches!($from, Answer::$answer { .. }).then(Vec::new)
    };

    (@sorted change $name:ident $($of:tt)?) => { ByClass::Change(ChangeRequest::$name $($of)?) };
    (@sorted read $name:ident $($of:tt)?) => { ByClass::Read(ReadRequest::$name $($of)?) };
    (@sorted wait $name:ident $($of:tt)?) => { ByClass::Wait(WaitRequest::$name $($of)?) };
    (@sorted act $name:ident $($of:tt)?) => { ByClass::Act(ActRequest::$name $($of)?) };

    // One row after the other goes to those of its class.
    (@sort [$($c:tt)*] [$($r:tt)*] [$($w:tt)*] [$($a:tt)*] {change $($row:tt)*} $($rest:tt)*) => {
        requests!(@sort [$($c)* {$($row)*}] [$($r)*] [$($w)*] [$($a)*] $($rest)*);
    };
    (@sort [$($c:tt)*] [$($r:tt)*] [$($w:tt)*] [$($a:tt)*] {read $($row:tt)*} $($rest:tt)*) => {
        requests!(@sort [$($c)*] [$($r)* {$($row)*}] [$($w)*] [$($a)*] $($rest)*);
    };
    (@sort [$($c:tt)*] [$($r:tt)*] [$($w:tt)*] [$($a:tt)*] {wait $($row:tt)*} $($rest:tt)*) => {
        requests!(@sort [$($c)*] [$($r)*] [$($w)* {$($row)*}] [$($a)*] $($rest)*);
    };
    (@sort [$($c:tt)*] [$($r:tt)*] [$($w:tt)*] [$($a:tt)*] {act $($row:tt)*} $($rest:tt)*) => {
        requests!(@sort [$($c)*] [$($r)*] [$($w)*] [$($a)* {$($row)*}] $($rest)*);
    };
    (@sort [$($c:tt)*] [$($r:tt)*] [$($w:tt)*] [$($a:tt)*]) => {
        requests!(@enum ChangeRequest "Requests of [`Class::Change`]." $($c)*);
        requests!(@enum ReadRequest "Requests of [`Class::Read`]." $($r)*);
        requests!(@enum WaitRequest "Requests of [`Class::Wait`]." $($w)*);
        requests!(@enum ActRequest "Requests of [`Class::Act`]." $($a)*);
    };
    (@enum $enum:ident $what:literal $({$name:ident $(($of:ty))? $(#[$doc:meta])*})*) => {
        #[doc = $what]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $enum {
            $($(#[$doc])* $name $(($of))?,)*
        }
    };

    ($(
        $(#[doc = $doc:literal])+
        $name:ident $(($of:ty))? -> $answer:ident $(($given:ty))?, $class:ident, $($tail:ident)+, $($at:ident)+;
    )+) => {
        /// Everything a client can ask.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Request {
            $($(#[doc = $doc])+ $name $(($of))?,)+
        }

        /// All rows, in the order of their numbers on the wire.
        pub const ROWS: &[Row] = &[$(<ask::$name as Ask>::ROW,)+];

        impl Request {
            /// Its row.
            pub fn row(&self) -> &'static Row {
                match self {
                    $(Self::$name { .. } => &<ask::$name as Ask>::ROW,)+
                }
            }

            /// Who answers it.
            #[allow(unused_variables, reason = "only some rows leave it to what is asked")]
            pub fn place(&self) -> Place {
                match self {
                    $(Self::$name $((requests!(@bind of $of)))? => requests!(@place of $($at)+),)+
                }
            }

            /// Measures the contents in its tail, in their order.
            #[allow(unused_variables, reason = "only some rows have a tail")]
            pub fn contents(&self) -> Vec<ContentSpec> {
                match self {
                    $(Self::$name $((requests!(@bind of $of)))? => requests!(@specs_in of $($tail)+),)+
                }
            }

            /// Measures the contents in the tail of `answer`, in their order; `None` if it answers another request.
            pub fn contents_of(&self, answer: &Answer) -> Option<Vec<ContentSpec>> {
                match self {
                    $(Self::$name { .. } => requests!(@specs_out answer [$answer $($given)?] $($tail)+),)+
                }
            }

            /// The same by its class.
            pub fn by_class(self) -> ByClass {
                match self {
                    $(Self::$name $((requests!(@bind of $of)))? => {
                        requests!(@sorted $class $name $((requests!(@bind of $of)))?)
                    })+
                }
            }
        }

        requests!(@sort [] [] [] [] $({$class $name $(($of))? $(#[doc = $doc])+})+);

        pub mod ask {
            //! Each request as a type of its own, which knows the type of its answer: `client.ask(ask::Stats)`.

            use super::*;

            $(
                $(#[doc = $doc])+
                #[derive(Clone, Debug)]
                pub struct $name $((pub $of))?;
            )+
        }

        $(
            impl From<ask::$name> for Request {
                fn from(ask: ask::$name) -> Self {
                    let ask::$name $((requests!(@bind of $of)))? = ask;
                    Self::$name $((requests!(@bind of $of)))?
                }
            }

            impl Ask for ask::$name {
                type Answer = requests!(@given $answer $($given)?);
                const ROW: Row = Row {
                    name: stringify!($name),
                    about: concat!($($doc),+),
                    answer: requests!(@named $answer),
                    class: requests!(@class $class),
                    tail: requests!(@tail $($tail)+),
                    at: requests!(@at $($at)+),
                };
                fn answer(answer: Answer) -> Option<Self::Answer> {
                    requests!(@take answer $answer $($given)?)
                }
            }
        )+
    };
}

/// A request by its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByClass {
    /// Becomes a command.
    Change(ChangeRequest),
    /// Is looked up.
    Read(ReadRequest),
    /// Is parked.
    Wait(WaitRequest),
    /// Is done by the nodes.
    Act(ActRequest),
}

requests! {
    /// Store messages. Tail: their contents.
    Push(request::Push) -> Pushed(Bounded<PushOutcome, PUSH_COUNT_MAX>), change, contents in, leader;
    /// Take messages for a while.
    Lease(request::Lease) -> Delivered(Bounded<Delivery, LEASE_COUNT_MAX>), change, contents out, leader;
    /// Lease and ack in one command: at most once. `lease_ms` is ignored.
    Pop(request::Lease) -> Delivered(Bounded<Delivery, LEASE_COUNT_MAX>), change, contents out, leader;
    /// Settle leases for good.
    Ack(request::Receipts) -> Settled(Bounded<Settled, RECEIPTS_COUNT_MAX>), change, none, leader;
    /// Give leased messages back.
    Nack(request::Nack) -> Settled(Bounded<Settled, RECEIPTS_COUNT_MAX>), change, none, leader;
    /// Make leases longer.
    Extend(request::Extend) -> Extended(Extended), change, none, leader;
    /// Look at messages without changing anything. Answer's tail: their contents.
    Peek(request::Peek) -> Peeked(Peeked), read, contents out, by consistency;
    /// List queues with their counts.
    Queues(request::Queues) -> Queues(Bounded<QueueView, QUEUES_LISTED_MAX>), read, none, by consistency;
    /// Make a queue.
    CreateQueue(Box<request::CreateQueue>) -> Created(bool), change, none, leader;
    /// Remove a queue with everything in it.
    RemoveQueue(request::RemoveQueue) -> Count(u64), change, none, leader;
    /// Delete, redrive or move the messages of a queue that a filter names.
    Sweep(Box<request::Sweep>) -> Swept(Swept), change, none, leader;
    /// Delete, cancel, kick, move or change messages by id.
    Edit(request::Edit) -> Edited(Bounded<Edited, RECEIPTS_COUNT_MAX>), change, none, leader;
    /// What this very node knows of itself and its cluster. Answered by every node.
    Status -> Status(Box<StatusView>), read, none, asked;
    /// Move leadership to a voter, or to the best one.
    TransferLeader(Option<NodeId>) -> Transferred(LeaderView), act, none, leader;
    /// Forget the session of this connection; its leases run on to their end.
    CloseSession -> Closed, change, none, leader;
    /// Counters of the whole cluster and of the node that answers.
    Stats -> Stats(Box<StatsView>), read, none, leader;
    /// Change who the members are.
    ChangeMembers(MemberChange) -> Member(MemberView), act, none, leader;
    /// Hand leadership over and do not lead again until the node is restarted; `false` undoes it. It is about the node that
    /// is asked.
    Drain(bool) -> Drained(bool), act, none, asked;
    /// Change the settings of a queue; pause and resume it.
    AlterQueue(Box<request::AlterQueue>) -> Altered(u64), change, none, leader;
    /// Say why a queue, or one message of it, is not delivered now.
    Explain(explain::Explain) -> Explained(Explained), read, none, by consistency;
    /// Give a group a weight of its own.
    WeighGroup(request::WeighGroup) -> Weighed(Option<u32>), change, none, leader;
    /// Raise the cluster's feature level to this one, or to the highest that all members speak.
    RaiseLevel(Option<Level>) -> Level(Level), act, none, leader;
    /// Do several things or nothing. Tail: the contents of its pushes.
    Txn(txn::Txn) -> Txn(TxnOutcome), change, contents in, leader;
    /// Push a message again and again. Tail: its content.
    SetSchedule(Box<schedule::SetSchedule>) -> Created(bool), change, contents in, leader;
    /// Remove a schedule; what it pushed stays.
    RemoveSchedule(Key) -> Count(u64), change, none, leader;
    /// List schedules.
    Schedules(schedule::Schedules) -> Schedules(ScheduleList), read, none, by consistency;
    /// Make a lease longer, and keep how far the work has come.
    SaveCheckpoint(checkpoint::SaveCheckpoint) -> Extended(Extended), change, none, leader;
    /// List the groups of a queue.
    Groups(group::Groups) -> Groups(GroupList), read, none, by consistency;
    /// Tell what happened to a message, also when it is gone.
    History(history::History) -> History(HistoryView), read, none, by consistency;
    /// Bind the session of this connection to the presence of its client: what it has leased goes back without blame, and
    /// its claims pass on, once it was not attended for the grace. `None` unbinds it.
    BindSession(request::BindSession) -> Bound, change, none, leader;
    /// Say that the client of a bound session is there, as long as this waits for its answer. Only a refusal ends it.
    Attend -> none, wait, none, leader;
    /// List the connections of clients at the node that is asked. Answered by every node.
    Clients(clients::Clients) -> Clients(ClientList), read, none, asked;
    /// Give the cluster another secret, another admission key and other certificates; while that is under way, tell how far it
    /// has come. `true` does not wait for members that do not answer: they need a copy of the new SECRET file before they come
    /// back.
    RotateSecret(bool) -> Rotation(RotationView), act, none, leader;
    /// Dial a node plain again that has spoken TLS before. It is about the node that is asked.
    TlsForget(NodeId) -> Forgotten(bool), act, none, asked;
    /// Write other log lines for a while; `None` goes back to those of the settings. It is about the node that is asked.
    SetLog(Option<LogChoice>) -> Log(LogView), act, none, asked;
    /// List the requests that took the node that is asked long. Answered by every node.
    Slow -> Slow(SlowList), read, none, asked;
    /// Tell who is asking, and what they may do. Answered by every node.
    Whoami -> Whoami(Box<auth::WhoamiView>), read, none, asked;
    /// Tell whether somebody may do something.
    Can(auth::Can) -> Can(auth::CanView), read, none, leader;
    /// List principals with their grants and keys, and whether logins are required.
    Principals(auth::Principals) -> Principals(Box<auth::PrincipalList>), read, none, leader;
    /// Change principals, keys and grants, or whether logins are required.
    ChangeAuth(Box<auth::ChangeAuth>) -> AuthChanged(u64), change, none, leader;
    /// Read the journal of administrative changes.
    Audit(audit::Audit) -> Audited(Box<audit::AuditList>), read, none, by consistency;
}

answers! {
    /// To a push: what became of the messages, in order, in runs.
    Pushed(Bounded<PushOutcome, PUSH_COUNT_MAX>);
    /// To a lease or pop: messages, none if the queues were empty. Tail: their contents.
    Delivered(Bounded<Delivery, LEASE_COUNT_MAX>);
    /// To an ack or nack: one result a receipt, in order.
    Settled(Bounded<Settled, RECEIPTS_COUNT_MAX>);
    /// To an extend: one result a receipt, in order (or how many, for a whole session), and the new deadline.
    Extended(Extended);
    /// To a peek. Tail: their contents.
    Peeked(Peeked);
    /// To a listing, by name.
    Queues(Bounded<QueueView, QUEUES_LISTED_MAX>);
    /// To a create: `false` if it was there already. To the setting of a schedule: `false` if it replaced one.
    Created(bool);
    /// To a remove: messages deleted. To the removal of a schedule: 1.
    Count(u64);
    /// To a status.
    Status(Box<StatusView>);
    /// To a transfer: who leads now.
    Transferred(LeaderView);
    /// To a close.
    Closed;
    /// To a stats.
    Stats(Box<StatsView>);
    /// To a change of members: the member it was about, as it is now, or as it was when it was removed.
    Member(MemberView);
    /// To a drain: whether the node is drained now.
    Drained(bool);
    /// To an alter: the queue's version now.
    Altered(u64);
    /// To a sweep.
    Swept(Swept);
    /// To an edit: one result a message, in order.
    Edited(Bounded<Edited, RECEIPTS_COUNT_MAX>);
    /// To an explain.
    Explained(Explained);
    /// To a weighing: the weight the group had; `None` if it had the queue's.
    Weighed(Option<u32>);
    /// To a raise of the feature level: what it is now.
    Level(Level);
    /// To a transaction.
    Txn(TxnOutcome);
    /// To a listing of schedules, by name.
    Schedules(ScheduleList);
    /// To a listing of groups, by name.
    Groups(GroupList);
    /// To a history.
    History(HistoryView);
    /// To a binding.
    Bound;
    /// To a listing of connections.
    Clients(ClientList);
    /// To a rotation of the secret: how far it has come.
    Rotation(RotationView);
    /// To a forgetting: whether that node was known to speak TLS.
    Forgotten(bool);
    /// To a choice of log lines: which are written now.
    Log(LogView);
    /// To a listing of slow requests, newest first.
    Slow(SlowList);
    /// To a question of who is asking.
    Whoami(Box<auth::WhoamiView>);
    /// To a question of what somebody may do.
    Can(auth::CanView);
    /// To a listing of principals.
    Principals(Box<auth::PrincipalList>);
    /// To a change of principals, keys and grants: the version of all of it now.
    AuthChanged(u64);
    /// To a reading of the journal of administrative changes, oldest first.
    Audited(Box<audit::AuditList>);
}
