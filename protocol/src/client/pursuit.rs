//! One request on its way to its answer: whom to ask, what to make of what comes back, when to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, TRY_MIN};
use super::client::Shared;
use super::contents::split_answer;
use super::in_flight::{CallError, Gone, NotAdmitted};
use super::links::DialError;
use super::numbers::Number;
use super::session::{Session, Target};
use super::{Answered, ClientError, Notice};
use crate::error::{Applied, Error, ErrorCode, Retry};
use crate::names::NodeId;
use crate::wire::request::{Call, Request, Stamp};
use crate::wire::requests::{Class, Place};
use crate::wire::response::{Answer, LeaderView, Response};

/// Why a pursuit ended without an answer.
pub(super) enum Stop {
    /// For the caller.
    Error(ClientError),
    /// The session was forgotten between two requests: nothing is in doubt, a new one will do.
    SessionExpired,
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

pub(super) struct Pursuit<'a> {
    pub(super) shared: &'a Shared,
    call: Call,
    contents: Vec<Bytes>,
    class: Class,
    begin: Instant,
    wait: Duration,
    /// Cancelled when the request is to wait no more.
    pub(super) hurry: Option<CancellationToken>,
    pub(super) deadline: Instant,
    /// The one that the caller gave.
    pub(super) stamp: Option<Stamp>,
    /// Apart, and as a rule not there: thousands of requests may be on their way at once, and are small without it.
    pub(super) trouble: Option<Box<Trouble>>,
}

/// What went wrong on the way so far.
#[derive(Default)]
pub(super) struct Trouble {
    backoff: Backoff,
    failures: u32,
    /// It was sent and may have been done; how that try ended.
    doubt: Option<String>,
    /// The last error that was answered.
    refusal: Option<Error>,
    redirects: u32,
    /// Who should lead, in the words of a node that does not.
    pub(super) hint: Option<LeaderView>,
    followed: Option<(NodeId, u64)>,
    /// Addresses tried, and what came of it.
    pub(super) tried: BTreeMap<String, String>,
    /// Addresses that answered since the last pause.
    pub(super) answering: BTreeSet<String>,
    /// A node was reached.
    pub(super) reached: bool,
    pub(super) unreachable: Option<LeaderView>,
    unfit: Option<ClientError>,
}

impl<'a> Pursuit<'a> {
    /// The pursuit of a request whose contents were checked.
    pub(super) fn new(shared: &'a Shared, request: Request, contents: Vec<Bytes>) -> Self {
        let begin = Instant::now();
        let class = request.row().class;
        // As long as the client is there: 49 days, and then again.
        let wait_ms = if class == Class::Wait { u32::MAX } else { request.wait_ms() };
        let wait = Duration::from_millis(wait_ms.into());
        Self {
            shared,
            class,
            call: Call::new(None, 0, request),
            contents,
            begin,
            wait,
            hurry: None,
            stamp: None,
            deadline: begin + shared.config.timeout + wait,
            trouble: None,
        }
    }

    pub(super) fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// It was sent once and may have been done.
    fn in_doubt(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.doubt.is_some())
    }

    /// Asks until there is an answer, a refusal, or no time left.
    pub(super) async fn run(&mut self, session: &Session) -> Result<Answered, Stop> {
        let number = self.number(session).await?;
        loop {
            let target = self.target(session).await?;
            self.turn(number.as_ref()).await?;
            match self.ask(session, &target, number.as_ref()).await {
                Ok(answered) => return Ok(answered),
                Err(Failure::Refused(error)) => {
                    if let Some(number) = number.as_ref().filter(|_| error.code == ErrorCode::Overloaded) {
                        number.refused();
                    }
                    self.on_refusal(session, &target, error).await?;
                }
                Err(Failure::Call(error)) => self.on_failure(session, &target, error).await?,
                Err(Failure::Hurried) => self.hurry_up(&target),
                // Nothing was sent under its id.
                Err(Failure::IndexTooOld) => return Err(Stop::SessionExpired),
            }
        }
    }

    /// Asks the node at `address` once.
    pub(super) async fn run_at(&mut self, session: &Session, address: &str) -> Result<Answered, ClientError> {
        let number = match self.number(session).await {
            Ok(number) => number,
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::SessionExpired) => return Err(self.out_of_time()),
        };
        let linked = session.links.connect(address, self.deadline).await;
        let connection = linked.map_err(|error| error.into_error(address))?.connection;
        self.trouble().reached = true;
        let target = Target::of(address.to_owned(), connection);
        match self.ask(session, &target, number.as_ref()).await {
            Ok(answered) => Ok(answered),
            Err(Failure::Refused(error)) if error.applied == Applied::Unknown => {
                Err(ClientError::Unknown { what: format!("{address}: {error}") })
            }
            Err(Failure::Refused(error)) => Err(ClientError::Refused(error)),
            Err(Failure::Call(error)) => {
                self.note_failure(&target, &error);
                Err(self.out_of_time())
            }
            Err(Failure::IndexTooOld) => Err(self.out_of_time()),
            Err(Failure::Hurried) => unreachable!("only requests to the leader are hurried"),
        }
    }

    async fn number<'s>(&self, session: &'s Session) -> Result<Option<Number<'s>>, Stop> {
        if !self.class.is_stamped() || self.stamp.is_some() {
            return Ok(None);
        }
        match timeout_at(self.deadline, session.numbers.open()).await {
            Ok(number) => Ok(Some(number)),
            Err(_elapsed) => Err(self.out_of_time().into()),
        }
    }

    /// Waits until no earlier number is to be sent again.
    async fn turn(&mut self, number: Option<&Number<'_>>) -> Result<(), Stop> {
        let Some(number) = number else { return Ok(()) };
        match timeout_at(self.deadline, number.turn()).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(self.out_of_time().into()),
        }
    }

    async fn target(&mut self, session: &Session) -> Result<Arc<Target>, Stop> {
        match self.known_leader(session) {
            Some(leader) => Ok(leader),
            None if self.shared.config.follow && self.call.request.place() == Place::Leader => {
                self.find_leader(session).await
            }
            None => self.find_any(session).await,
        }
    }

    /// The leader, if it is known and connected.
    pub(super) fn known_leader(&self, session: &Session) -> Option<Arc<Target>> {
        let leader = session.leader()?;
        if let Some(gone) = leader.connection.gone() {
            self.lost(session, &leader, &gone);
            return None;
        }
        if self.lacks_index(session) {
            session.leave(&leader);
            return None;
        }
        Some(leader)
    }

    /// The request opens a session, and no leader has named an index that it could open under.
    pub(super) fn lacks_index(&self, session: &Session) -> bool {
        self.class.is_stamped() && self.stamp.is_none() && !session.links.birth.is_known()
    }

    /// The connection to `target` is gone; people are told if it was the leader's.
    fn lost(&self, session: &Session, target: &Arc<Target>, gone: &Gone) {
        if session.drop_leader(target) {
            self.shared.tell(Notice::Lost { address: target.address.clone(), why: gone.to_string() });
        }
    }

    /// The first server that can be connected to.
    async fn find_any(&mut self, session: &Session) -> Result<Arc<Target>, Stop> {
        loop {
            for _ in 0..self.shared.config.servers.len() {
                let Some(address) = self.shared.server().map(str::to_owned) else { break };
                match session.links.connect(&address, self.deadline).await {
                    Ok(linked) => {
                        self.trouble().reached = true;
                        return Ok(Arc::new(Target::of(address, linked.connection)));
                    }
                    Err(error) => self.note_unreachable(&address, error),
                }
            }
            self.pause(Duration::ZERO, self.deadline).await?;
        }
    }

    pub(super) fn note_unreachable(&mut self, address: &str, error: DialError) {
        self.shared.pass_over(address);
        let trouble = self.trouble();
        trouble.tried.insert(address.to_owned(), error.what());
        if !matches!(error, DialError::Unreachable(_)) {
            trouble.unfit = Some(error.into_error(address));
        }
    }

    /// One try. What comes back is checked before anything is made of it.
    async fn ask(
        &mut self,
        session: &Session,
        target: &Target,
        number: Option<&Number<'_>>,
    ) -> Result<Answered, Failure> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        self.call.stamp = match number {
            Some(number) => Some(number.stamp(session.links.birth.index().ok_or(Failure::IndexTooOld)?)),
            None => self.stamp,
        };
        self.call.timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let waited = now.saturating_duration_since(self.begin);
        let wait_ms = u32::try_from(self.wait.saturating_sub(waited).as_millis()).unwrap_or(u32::MAX);
        self.call.request.set_wait_ms(wait_ms);
        let asking = target.connection.call(&self.call, &self.contents, self.deadline);
        let asked = tokio::select! {
            biased;
            asked = asking => asked,
            () = hurried(self.hurry.as_ref()) => return Err(Failure::Hurried),
        };
        let (response, tail) = asked.map_err(Failure::Call)?;
        let Response { at, repeated, lease_clock_ms, result, age } = response;
        let answer = result.map_err(Failure::Refused)?;
        let contents = split_answer(&self.call.request, &answer, tail);
        let contents = contents.map_err(|what| {
            target.connection.fail(Gone::Nonsense(what));
            Failure::Call(CallError::Lost(Gone::Nonsense(what)))
        })?;
        let nothing = matches!(&answer, Answer::Delivered(deliveries) if deliveries.is_empty());
        if let Some(number) = number.filter(|_| !nothing) {
            number.recorded();
        }
        Ok(Answered {
            answer,
            contents,
            at,
            repeated,
            lease_clock_ms,
            age,
            leader: target.leader.clone(),
            redirects: self.trouble.as_ref().map_or(0, |trouble| trouble.redirects),
            elapsed: self.begin.elapsed(),
        })
    }

    /// From now on it does not wait. What was sent may have been done; its number tells.
    fn hurry_up(&mut self, target: &Target) {
        self.hurry = None;
        self.trouble().doubt = Some(format!("sent to {} and hurried", target.address));
        self.wait = Duration::ZERO;
        self.deadline = self.deadline.min(Instant::now() + self.shared.config.timeout);
    }

    async fn on_refusal(
        &mut self,
        session: &Session,
        target: &Arc<Target>,
        error: Error,
    ) -> Result<(), Stop> {
        self.trouble().reached = true;
        if session.takes_another_key(target, &error) {
            self.trouble().refusal = Some(error);
            return Ok(());
        }
        let forgotten = matches!(error.code, ErrorCode::TooOld | ErrorCode::SessionExpired);
        if (forgotten || error.code.is_denial()) && self.in_doubt() {
            return Err(self.unknown(&error).into());
        }
        if error.code == ErrorCode::SessionExpired && self.class.is_stamped() && self.stamp.is_none() {
            return Err(Stop::SessionExpired);
        }
        if error.applied == Applied::Unknown && !self.class.changes_nothing() {
            self.trouble().doubt = Some(format!("{} could not confirm it: {error}", target.address));
        }
        let pause = match &error.retry {
            Retry::Never if self.in_doubt() && error.applied == Applied::Unknown => {
                return Err(self.unknown(&error).into());
            }
            Retry::Never => return Err(ClientError::Refused(error).into()),
            Retry::AtLeader(_) if !self.shared.config.follow => {
                return Err(ClientError::Refused(error).into());
            }
            Retry::AtLeader(view) => {
                let view = view.clone();
                session.leave(target);
                self.redirected(&target.address, &view);
                let trouble = self.trouble();
                trouble.hint = Some(view);
                trouble.failures += 1;
                // Two nodes may name each other.
                (trouble.failures > 1).then_some(Duration::ZERO)
            }
            _ if leads_no_more(error.code) => {
                let trouble = self.trouble();
                trouble.tried.insert(target.address.clone(), error.to_string());
                trouble.answering.insert(target.address.clone());
                session.leave(target);
                self.shared.pass_over(&target.address);
                Some(Duration::ZERO)
            }
            Retry::Again => Some(Duration::ZERO),
            Retry::AfterMs(ms) => Some(Duration::from_millis((*ms).into())),
        };
        if self.in_doubt() && self.class == Class::Act {
            return Err(self.unknown(&error).into());
        }
        self.trouble().refusal = Some(error);
        match pause {
            Some(floor) => self.pause(floor, self.deadline).await,
            None => Ok(()),
        }
    }

    async fn on_failure(
        &mut self,
        session: &Session,
        target: &Arc<Target>,
        error: CallError,
    ) -> Result<(), Stop> {
        self.note_failure(target, &error);
        match error {
            CallError::NotAdmitted(NotAdmitted::TooBig(error)) => {
                let error = Error::refused(ErrorCode::MessageTooBig, error.to_string());
                return Err(ClientError::Refused(error).into());
            }
            CallError::TimedOut | CallError::NotAdmitted(NotAdmitted::InFlight) => {
                return Err(self.out_of_time().into());
            }
            CallError::Lost(Gone::Goodbye(error)) if error.code == ErrorCode::BadFrame => {
                return Err(ClientError::Incompatible(error).into());
            }
            CallError::NotSent(gone) | CallError::Lost(gone) => self.lost(session, target, &gone),
        }
        if self.in_doubt() && self.class == Class::Act {
            return Err(self.out_of_time().into());
        }
        self.shared.pass_over(&target.address);
        let trouble = self.trouble();
        trouble.failures += 1;
        if trouble.failures > 1 { self.pause(Duration::ZERO, self.deadline).await } else { Ok(()) }
    }

    /// Remembers how a try ended, and whether it leaves a doubt.
    fn note_failure(&mut self, target: &Target, error: &CallError) {
        let free = self.class.changes_nothing();
        let trouble = self.trouble();
        trouble.tried.insert(target.address.clone(), error.to_string());
        let sent = matches!(error, CallError::Lost(_) | CallError::TimedOut);
        if sent && !free {
            trouble.doubt = Some(format!("sent to {}: {error}", target.address));
        }
    }

    /// The node at `from` sent us to `to`.
    pub(super) fn redirected(&mut self, from: &str, to: &LeaderView) {
        let trouble = self.trouble();
        trouble.reached = true;
        trouble.answering.insert(from.to_owned());
        let what = format!("says the leader is {} at {}", to.name, to.address);
        trouble.tried.insert(from.to_owned(), what);
        if trouble.followed.replace((to.node, to.term)) != Some((to.node, to.term)) {
            trouble.redirects += 1;
            self.shared.tell(Notice::Redirected { from: from.to_owned(), to: to.clone() });
        }
    }

    /// Waits before the next try, at least `floor`.
    ///
    /// # Errors
    /// The end of the pursuit, if the wait does not fit before `until`.
    pub(super) async fn pause(&mut self, floor: Duration, until: Instant) -> Result<(), Stop> {
        let (jitter, gives_up) = (&self.shared.jitter, self.shared.gives_up());
        let trouble = self.trouble();
        if trouble.answering.is_empty()
            && !trouble.reached
            && let Some(error) = trouble.unfit.take()
        {
            return Err(error.into());
        }
        if !trouble.reached && gives_up {
            return Err(self.out_of_time().into());
        }
        let next = Instant::now() + trouble.backoff.next(jitter, floor);
        if next + TRY_MIN >= until {
            sleep_until(if floor.is_zero() { until } else { Instant::now() }).await;
            return Err(self.out_of_time().into());
        }
        let elapsed = self.begin.elapsed();
        let trouble = self.trouble();
        let answering = std::mem::take(&mut trouble.answering).into_iter().collect();
        let unreached =
            if trouble.reached { Vec::new() } else { trouble.tried.clone().into_iter().collect() };
        self.shared.tell(Notice::Waiting { elapsed, answering, unreached });
        sleep_until(next).await;
        Ok(())
    }

    fn unknown(&self, error: &Error) -> ClientError {
        let denied = if error.code.is_denial() { "the repeat was denied: " } else { "" };
        let doubt = self.trouble.as_ref().and_then(|trouble| trouble.doubt.as_deref()).unwrap_or("sent");
        ClientError::Unknown { what: format!("{doubt}; then {denied}{error}") }
    }

    /// What it means that there is no answer and no more time.
    pub(super) fn out_of_time(&self) -> ClientError {
        let elapsed = self.begin.elapsed().as_secs_f64();
        let none = Trouble::default();
        let trouble = self.trouble.as_deref().unwrap_or(&none);
        if let Some(doubt) = &trouble.doubt {
            return ClientError::Unknown { what: format!("{doubt}; no answer within {elapsed:.1} s") };
        }
        if let Some(error) = trouble.refusal.as_ref().filter(|error| !leads_no_more(error.code)) {
            return ClientError::Refused(error.clone());
        }
        if let Some(untrusted @ ClientError::Untrusted { .. }) = &trouble.unfit {
            return untrusted.clone();
        }
        let tried: Vec<_> = trouble.tried.iter().map(|(address, why)| format!("{address} {why}")).collect();
        let tried = if tried.is_empty() { "no server was tried".to_owned() } else { tried.join(", ") };
        let count = self.shared.config.servers.len();
        let what = match (&trouble.unreachable, trouble.reached) {
            (Some(leader), _) => format!(
                "the leader {} at {} cannot be reached from here: {tried}; waited {elapsed:.1} s",
                leader.name, leader.address
            ),
            (None, true) => format!("no leader answered: {tried}; waited {elapsed:.1} s"),
            (None, false) if count == 1 => {
                format!("the server did not answer: {tried}; waited {elapsed:.1} s")
            }
            (None, false) => format!("none of {count} servers answered: {tried}; waited {elapsed:.1} s"),
        };
        ClientError::Unavailable { what, reached: trouble.reached, leader: trouble.unreachable.clone() }
    }
}

/// How one try failed.
enum Failure {
    Refused(Error),
    Call(CallError),
    Hurried,
    /// It was not sent: it would be the first of a session whose index was learned too long ago.
    IndexTooOld,
}

async fn hurried(hurry: Option<&CancellationToken>) {
    match hurry {
        Some(hurry) => hurry.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Codes of a node that cannot lead at present.
fn leads_no_more(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeader | ErrorCode::NoLeader | ErrorCode::ShuttingDown | ErrorCode::NotConfirmed
    )
}
