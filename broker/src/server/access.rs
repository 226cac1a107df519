//! Who may ask what. Rights are looked at by the node that answers, in what it has applied: of a command when it is
//! proposed, and again where it is applied if they changed meanwhile; of a read behind its read index.
//!
//! While logins are not required this is one look at a number.

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::SessionId;
use queue_protocol::wire::audit::Audit;
use queue_protocol::wire::auth::{Can, Principals};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::Call;
use queue_protocol::wire::requests::{Class, Place, Request};
use queue_protocol::wire::response::{Age, Answer};
use queue_protocol::wire::rights::{Need, Verb};

use super::answer::error;
use super::caller::Caller;
use super::dispatch::Dispatch;
use super::reply_to::Finished;
use crate::queue::apply::refusal;
use crate::queue::command::{Op, Push, SessionStamp, Step};
use crate::queue::{By, Denied, KeyNumber, ROOT_KEY, Standing, State};
use crate::raft::Consensus;

/// A node that has heard of nothing younger says nothing by the right of a key.
pub(crate) const FRESH_MS_MAX: u64 = 5_000;

/// As whom a read or an act is asked for, and what it needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(super) key: Option<KeyNumber>,
    needs: Vec<Need>,
    /// Rights count.
    counts: bool,
}

impl Dispatch {
    /// Sees to it that a request may go on: who sent a command, or what is still to be looked at.
    pub(super) fn enter(&self, caller: &Caller, call: &Call) -> Result<(Option<By>, Access), Finished> {
        let rights = self.consensus.rights();
        let key = caller.login;
        self.used.note(caller);
        let class = call.request.row().class;
        if !rights.required && !is_about_auth(&call.request) {
            let by = key.map(|key| By { key, version: rights.version });
            return Ok((by, Access { key, needs: Vec::new(), counts: false }));
        }
        let needs = call.request.needs();
        match class {
            Class::Read | Class::Act => Ok((None, Access { key, needs, counts: true })),
            Class::Change | Class::Wait if self.consensus.ready().is_none() => Err(Finished::NotLeader),
            Class::Change | Class::Wait => {
                let (by, who) = self.consensus.read(|state, _| {
                    let by =
                        state.permit(key, &needs).map_err(|denied| Finished::Failed(refused(&denied)))?;
                    if state.is_auth_required() && !owns(state, caller, key) {
                        return Err(failed(ErrorCode::Denied));
                    }
                    Ok((by, state.standing(by.key)))
                })?;
                self.pace.check(who, &needs).map_err(Finished::Failed)?;
                Ok((Some(by), Access::default()))
            }
        }
    }

    /// Whether a read or an act may be answered by what this node has applied now.
    pub(super) fn permitted(&self, access: &Access) -> Result<(), Finished> {
        if !access.counts {
            // Logins began to be required while it waited.
            let late = access.key.is_none() && self.consensus.rights().required;
            let refused = Finished::Failed(refused(&Denied::Required));
            return if late { Err(refused) } else { Ok(()) };
        }
        let permit = |state: &State, _| state.permit(access.key, &access.needs).map(drop);
        self.consensus.read(permit).map_err(|denied| Finished::Failed(refused(&denied)))
    }

    /// The same for what asks no quorum: what this node has applied must not be old.
    pub(super) fn permitted_here(&self, access: &Access) -> Result<(), Finished> {
        let by_right = access.counts && access.key != Some(ROOT_KEY) && !access.needs.is_empty();
        if by_right && !is_fresh(&self.consensus) {
            return Err(Finished::Failed(not_fresh(&self.consensus)));
        }
        self.permitted(access)
    }

    /// Whether an act may begin.
    pub(super) async fn may_act(&self, access: &Access, place: Place) -> Result<(), Finished> {
        if !access.counts {
            return Ok(());
        }
        match place {
            Place::Leader => {
                self.consensus.read_index().await.map_err(Finished::Failed)?;
                self.permitted(access)
            }
            Place::Asked => self.permitted_here(access),
        }
    }

    /// A session as others are told of it: where nobody owns it, its id is all that keeps others out, so no more than its first
    /// eight digits are shown, and zeros.
    pub(super) fn shown(&self, session: SessionId) -> SessionId {
        const HIDDEN_BITS: u32 = 96;
        if self.consensus.rights().required {
            return session;
        }
        SessionId(session.0 >> HIDDEN_BITS << HIDDEN_BITS)
    }

    /// Who asks.
    pub(super) fn whoami(&self, key: Option<KeyNumber>) -> Finished {
        self.consensus
            .read_now(|state, index| Finished::read(index, Answer::Whoami(Box::new(state.whoami(key)))))
    }

    /// Whether somebody may do something.
    pub(super) fn can(&self, can: &Can, key: Option<KeyNumber>) -> Finished {
        self.consensus.read_now(|state, index| {
            let queue = can.queue.as_ref();
            let said = match &can.name {
                None => Some(state.can_by(key, can.verb, queue)),
                Some(name) => state.can(name, can.verb, queue),
            };
            match said {
                Some(said) => Finished::read(index, Answer::Can(said)),
                None => failed(ErrorCode::PrincipalNotFound),
            }
        })
    }

    /// A page of principals.
    pub(super) fn principals(&self, list: &Principals) -> Finished {
        self.consensus.read_now(|state, index| {
            let listed = state.principals(list.only.as_deref(), list.after.as_deref());
            if list.only.is_some() && listed.principals.is_empty() {
                return failed(ErrorCode::PrincipalNotFound);
            }
            Finished::read(index, Answer::Principals(Box::new(listed)))
        })
    }

    /// A page of the journal.
    pub(super) fn audit(&self, asked: &Audit) -> Finished {
        self.consensus
            .read_now(|state, index| Finished::read(index, Answer::Audited(Box::new(state.audit(asked)))))
    }

    /// A push makes its queue only for who may make it.
    pub(super) fn spare_creates(&self, stamp: Option<SessionStamp>, op: &mut Op) {
        if !self.consensus.rights().required {
            return;
        }
        let key = stamp.and_then(|stamp| stamp.by).map(|by| by.key);
        let spare = |push: &mut Push| {
            if push.create.is_some()
                && !self.consensus.read(|state, _| state.may(key, Verb::Manage, &push.queue))
            {
                push.create = None;
            }
        };
        match op {
            Op::Push(push) => spare(push),
            Op::Txn(txn) => {
                let mut steps = std::mem::take(&mut txn.steps).into_vec();
                for step in &mut steps {
                    if let Step::Push(push) = step {
                        spare(push);
                    }
                }
                txn.steps = Bounded::new(steps).expect("as many as before");
            }
            _ => {}
        }
    }

    /// Whether a connection is to end: logins are required and it has none, or its key lets nobody in any more.
    pub(super) fn shut_out(&self, key: Option<KeyNumber>) -> Option<Error> {
        self.consensus.read(|state, _| match key {
            None => state.is_auth_required().then(|| refused(&Denied::Required)),
            Some(key) => match state.standing(key) {
                Standing::Live(_) => None,
                Standing::Unknown | Standing::Ended => Some(refused(&Denied::Ended)),
            },
        })
    }
}

/// These are only for who may change rights, whether logins are required or not.
fn is_about_auth(request: &Request) -> bool {
    match request {
        Request::ChangeAuth(_) | Request::Principals(_) => true,
        // What one may do oneself is no secret.
        Request::Can(can) => can.name.is_some(),
        _ => false,
    }
}

/// A session that is not open belongs to nobody yet.
fn owns(state: &State, caller: &Caller, key: Option<KeyNumber>) -> bool {
    let owner = state.session_owner(caller.session);
    let mine = key.map(|key| state.standing(key));
    owner.is_none_or(|owner| mine == Some(Standing::Live(owner)))
}

/// Whether this node has applied what was committed a short while ago.
pub(crate) fn is_fresh(consensus: &Consensus) -> bool {
    match consensus.age() {
        Age::Now => true,
        Age::AtMostMs(ms) => ms <= FRESH_MS_MAX,
        Age::Unknown => false,
    }
}

pub(crate) fn not_fresh(consensus: &Consensus) -> Error {
    let what =
        format!("{} has not heard of a leader lately: it does not know who may ask", consensus.me().name);
    Error::again(ErrorCode::NoLeader, what)
}

/// The same that apply would answer.
fn failed(code: ErrorCode) -> Finished {
    Finished::Failed(error(&refusal(code)))
}

/// What somebody is told who may not.
pub(crate) fn refused(denied: &Denied) -> Error {
    match denied {
        Denied::Required => error(&refusal(ErrorCode::AuthRequired)),
        Denied::Ended => error(&refusal(ErrorCode::KeyEnded)),
        Denied::Missing { name, verb, queue: Some(queue) } => Error::refused(
            ErrorCode::Denied,
            format!("{name} may not {verb} {queue}: queuectl principal grant {name} {verb}:{queue}"),
        ),
        Denied::Missing { name, verb, queue: None } if verb.is_whole() => Error::refused(
            ErrorCode::Denied,
            format!("{name} has not the right `{verb}`: queuectl principal grant {name} {verb}"),
        ),
        Denied::Missing { name, verb, queue: None } => Error::refused(
            ErrorCode::Denied,
            format!("{name} may {verb} no queue: queuectl principal grant {name} {verb}:QUEUE"),
        ),
    }
}
