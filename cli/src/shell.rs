//! What a command runs in: the client, the output, the settings of this command and the leases held here.
//! One command line has one; the interactive shell keeps one from line to line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use queue_protocol::client::{Answered, Client, ClientConfig, ClientError, Notice};
use queue_protocol::names::{QueueName, Receipt};
use queue_protocol::wire::request::{Consistency, Queues, Sweep};
use queue_protocol::wire::requests::{Ask, ask};
use queue_protocol::wire::response::{Age, QueueView, Swept};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::failure::exit::Exit;
use crate::failure::{End, Failure};
use crate::grammar::{Reach, Reading, Settings, TIMEOUT_DEFAULT};
use crate::show::render;
use crate::terminal::output::{Output, Talk};
use crate::terminal::stop::Stop;

/// No server was reached for so long: it is said which, and why.
const UNREACHED: Duration = Duration::from_millis(300);
/// What the program calls itself to nodes.
pub(crate) const CLIENT_NAME: &str = concat!("queuectl/", env!("CARGO_PKG_VERSION"));
/// Level of talk that wants none.
const QUIET: u8 = u8::MAX;

/// What standard input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A person who can be asked.
    Terminal,
    /// Data for a push.
    Data,
    /// Commands: it belongs to the shell.
    Commands,
}

/// Who runs the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A command line of its own.
    OneShot,
    /// A line of a file or pipe.
    Batch,
    /// A line typed into the shell.
    Interactive,
}

/// Asks the person at the terminal through the line editor; `None` if they would not answer.
pub(crate) type Asker = Arc<dyn Fn(String) -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// See the module.
pub(crate) struct Shell {
    pub(crate) client: Client,
    pub(crate) reach: Reach,
    pub(crate) settings: Settings,
    pub(crate) out: Output,
    pub(crate) talk: Talk,
    pub(crate) stop: Stop,
    pub(crate) input: Input,
    pub(crate) mode: Mode,
    pub(crate) held: Held,
    pub(crate) timing: bool,
    pub(crate) asker: Option<Asker>,
    /// When the command began.
    pub(crate) started: Instant,
    verbose: Arc<AtomicU8>,
}

impl Shell {
    /// A shell that has not connected yet.
    pub(crate) fn new(reach: Reach, settings: Settings, out: Output, talk: Talk, stop: Stop) -> Self {
        let verbose = Arc::new(AtomicU8::new(0));
        let timeout = settings.timeout.unwrap_or(TIMEOUT_DEFAULT);
        Self {
            client: connect(&reach, timeout, &talk, &verbose),
            reach,
            settings,
            out,
            talk,
            stop,
            input: Input::Data,
            mode: Mode::OneShot,
            held: Held::default(),
            timing: true,
            asker: None,
            started: Instant::now(),
            verbose,
        }
    }

    /// Begins a command with these settings.
    pub(crate) fn begin(&mut self, settings: Settings) {
        if settings.timeout != self.settings.timeout {
            self.settings.timeout = settings.timeout;
            self.reconnect();
        }
        let is_quiet = settings.quiet || settings.json;
        self.verbose.store(if is_quiet { QUIET } else { settings.verbose.min(QUIET - 1) }, Ordering::Relaxed);
        self.settings = settings;
        self.started = Instant::now();
    }

    /// How long a command may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.settings.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// A new client in place of the old one. With the old one's connection the requests it left parked end, so
    /// that nothing is leased to a command that is no more.
    pub(crate) fn reconnect(&mut self) {
        self.client = connect(&self.reach, self.timeout(), &self.talk, &self.verbose);
    }

    /// Lets the cluster forget this client, if that is quickly done: a script that starts thousands of commands
    /// must not fill its memory.
    pub(crate) async fn close(&mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.client.close_session() => {}
            _ = stop.wait() => {}
        }
    }

    /// A reader that is not a script.
    pub(crate) fn is_interactive(&self) -> bool {
        self.mode == Mode::Interactive
    }

    /// Adds the line that says what was done; in the interactive shell with the time it took.
    pub(crate) fn success(&mut self, text: &str) {
        /// Where the elapsed time begins.
        const COLUMN: usize = 60;
        if self.settings.quiet || self.settings.json {
            return;
        }
        let line = if self.is_interactive() && self.timing {
            let took = render::took(self.started.elapsed());
            let width = self.out.width().unwrap_or(usize::MAX);
            let room = width.saturating_sub(took.len() + 1);
            // Where there is no room behind the text, the time is left out.
            if text.chars().count() > room {
                format!("{text}\n")
            } else {
                format!("{text:column$} {took}\n", column = COLUMN.min(room))
            }
        } else {
            format!("{text}\n")
        };
        self.out.add(line.as_bytes());
    }

    /// Talk for a person at a terminal, unless they want quiet.
    pub(crate) fn remark(&self, text: &str) {
        if self.talk.is_terminal() && !self.settings.quiet && !self.settings.json {
            self.talk.line(text);
        }
    }

    /// Reports an error on standard error, in the form that was asked for.
    pub(crate) fn report(&self, end: &End) {
        let End::Failed(failure) = end else { return };
        if self.settings.json {
            self.talk.line(&failure.document().to_string());
        } else {
            self.talk.line(&failure.text(self.talk.color(), self.is_interactive()));
        }
    }

    /// Asks before something that cannot be undone. `what` reads on from "this": `removes 3 messages`;
    /// `command` can be pasted.
    ///
    /// # Errors
    /// `confirm_required` if there is nobody to ask; quietly with 1 if the answer is no.
    pub(crate) async fn confirm(&mut self, what: &str, command: &str) -> Result<(), End> {
        if self.settings.yes {
            return Ok(());
        }
        let question = format!("{what}. Continue? [y/N] ");
        let answer = match (&self.asker, self.input) {
            (Some(asker), _) => asker(question).await,
            (None, Input::Terminal) if self.talk.is_terminal() => self.talk.ask(question).await,
            _ => {
                let message = format!("{what}; no terminal to ask on");
                return Err(Failure::new("confirm_required", Exit::Usage, message)
                    .hint(format!("add `--yes`: `queuectl {command} --yes`"))
                    .into());
            }
        };
        let yes = answer.is_some_and(|text| matches!(text.trim(), "y" | "Y" | "yes" | "Yes"));
        // The time a person takes to answer is not the command's.
        self.started = Instant::now();
        if yes { Ok(()) } else { Err(End::Quiet(Exit::No)) }
    }

    /// Sweeps a queue part by part until nothing is left; how many messages it was, and how many stayed where they are.
    ///
    /// # Errors
    /// As [`Shell::ask`]; the parts before are done nevertheless.
    pub(crate) async fn sweep(&self, sweep: Sweep) -> Result<Swept, End> {
        let queue = sweep.queue.clone();
        match self.client.sweep(sweep, |_| {}).await {
            Ok(answered) => Ok(answered.answer),
            Err(error) => Err(Failure::of(error, Some(&queue)).into()),
        }
    }

    /// Says, of a read that did not ask the leader, how old what it shows may be; in a document it is `age_ms`.
    pub(crate) fn tell_age(&self, reading: Reading, age: Age) {
        if !reading.stale || self.settings.quiet || self.settings.json {
            return;
        }
        self.talk.line(&match age {
            Age::Now => "as it is now".to_owned(),
            Age::AtMostMs(ms) => format!("as it was at most {} ago", render::took(Duration::from_millis(ms))),
            Age::Unknown => "as old as it may be: this node has heard of no leader yet".to_owned(),
        });
    }

    /// Asks the leader; an error is told in terms of `queue`.
    pub(crate) async fn ask<A: Ask>(&self, ask: A, queue: Option<&QueueName>) -> Result<A::Answer, End> {
        Ok(self.asked(ask, queue).await?.answer)
    }

    /// The same with all that is known of the answer.
    pub(crate) async fn asked<A: Ask>(
        &self,
        ask: A,
        queue: Option<&QueueName>,
    ) -> Result<Answered<A::Answer>, End> {
        Ok(self.client.ask(ask).await.map_err(|error| Failure::of(error, queue))?)
    }

    /// The counts of one queue; `None` if there is no such queue.
    pub(crate) async fn queue(&self, queue: &QueueName) -> Result<Option<QueueView>, End> {
        let request =
            Queues { only: Some(queue.clone()), after: None, consistency: Consistency::Linearizable };
        match self.client.ask(ask::Queues(request)).await {
            Ok(answered) => Ok(answered.answer.into_iter().find(|view| view.name == *queue)),
            Err(ClientError::Refused(error))
                if error.code == queue_protocol::error::ErrorCode::QueueNotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::of(error, Some(queue)).into()),
        }
    }
}

/// A whole listing that comes in pages of `full`; `page` gets the last of the page before.
pub(crate) async fn all_pages<T>(
    full: usize,
    page: impl AsyncFn(Option<&T>) -> Result<Vec<T>, ClientError>,
) -> Result<Vec<T>, ClientError> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let next = page(all.last()).await?;
        let more = next.len() >= full;
        all.extend(next);
        if !more {
            return Ok(all);
        }
    }
}

/// Random bits, from which the sessions of a client get their ids.
fn seed() -> u128 {
    u128::from_le_bytes(random())
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the system has no randomness: {error}"),
        }
    }
    bytes
}

/// A client and the task that tells what happens to it.
fn connect(reach: &Reach, timeout: Duration, talk: &Talk, verbose: &Arc<AtomicU8>) -> Client {
    let config =
        ClientConfig { servers: reach.servers.clone(), timeout, follow: !reach.no_follow, seed: seed() };
    let client = Client::named(CLIENT_NAME, config, reach.secure.dial());
    if reach.no_wait {
        client.give_up_at_once();
    }
    let (mut notices, talk, verbose) = (client.notices(), talk.clone(), Arc::clone(verbose));
    tokio::spawn(async move {
        let mut told = Duration::MAX;
        while let Some(notice) = notices.recv().await {
            let level = verbose.load(Ordering::Relaxed);
            if let Some(line) = unreached(&notice, timeout, &mut told).filter(|_| level != QUIET) {
                talk.line(&line);
            }
            tell(&notice, timeout, &talk, level != QUIET && level > 0);
        }
    });
    client
}

/// A client of its own for what goes on beside the commands; it says nothing.
pub(crate) fn connect_silently(reach: &Reach, timeout: Duration) -> Client {
    let config = ClientConfig { servers: reach.servers.clone(), timeout, follow: true, seed: seed() };
    Client::named(CLIENT_NAME, config, reach.secure.dial())
}

/// What is said, once a wait, when no server is reached after [`UNREACHED`]; `told` is when in the wait it was last said.
fn unreached(notice: &Notice, timeout: Duration, told: &mut Duration) -> Option<String> {
    let Notice::Waiting { elapsed, unreached, .. } = notice else { return None };
    // Another wait began.
    if *elapsed < *told {
        *told = Duration::MAX;
    }
    if unreached.is_empty() || *elapsed < UNREACHED || *told != Duration::MAX {
        return None;
    }
    *told = *elapsed;
    let tried: Vec<String> = unreached.iter().map(|(address, why)| format!("{address} {why}")).collect();
    let limit = humantime::format_duration(timeout);
    Some(format!(
        "not reached: {}; trying again for up to {limit} (--no-wait gives up at once)",
        tried.join(", ")
    ))
}

fn tell(notice: &Notice, timeout: Duration, talk: &Talk, verbose: bool) {
    /// A wait shorter than this is not worth a line.
    const PATIENCE: Duration = Duration::from_millis(500);
    match notice {
        Notice::Waiting { elapsed, answering, .. } if *elapsed >= PATIENCE => {
            talk.status(Some(&waiting(*elapsed, timeout, answering)));
        }
        Notice::Redirected { from, to } if verbose => talk.line(&format!(
            "note: {from} is a follower; leader is {} at {} (term {})",
            to.name, to.address, to.term
        )),
        Notice::LeaderChanged { from, to } if verbose => {
            talk.line(&format!("note: leader moved {from} → {} (term {})", to.name, to.term));
        }
        Notice::Lost { address, why } if verbose => {
            talk.line(&format!("note: lost the connection to {address}: {why}"));
        }
        _ => {}
    }
}

fn waiting(elapsed: Duration, timeout: Duration, answering: &[String]) -> String {
    let who = match answering {
        [] => "no node answers".to_owned(),
        [one] => format!("{one} answers"),
        [most @ .., last] => format!("{} and {last} answer", most.join(", ")),
    };
    let limit = humantime::format_duration(timeout);
    format!("waiting for a leader… {:.1} s of {limit}, {who}", elapsed.as_secs_f64())
}

/// A lease taken in this shell and not settled yet.
#[derive(Clone, Debug)]
pub(crate) struct HeldLease {
    /// `#1` and so on.
    pub(crate) short: u32,
    /// In full.
    pub(crate) receipt: Receipt,
    /// When it ends, at the earliest.
    pub(crate) until: Instant,
}

/// The leases of this shell, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    leases: Vec<HeldLease>,
    last: u32,
}

impl Held {
    /// Keeps a lease and numbers it.
    pub(crate) fn add(&mut self, receipt: Receipt, until: Instant) -> u32 {
        self.last += 1;
        self.leases.push(HeldLease { short: self.last, receipt, until });
        self.last
    }

    /// The receipt of a number.
    pub(crate) fn find(&self, short: u32) -> Option<&Receipt> {
        self.leases.iter().find(|lease| lease.short == short).map(|lease| &lease.receipt)
    }

    /// Forgets a lease.
    pub(crate) fn remove(&mut self, receipt: &Receipt) {
        self.leases.retain(|lease| lease.receipt != *receipt);
    }

    /// A lease now ends at `until`.
    pub(crate) fn extend(&mut self, receipt: &Receipt, until: Instant) {
        for lease in self.leases.iter_mut().filter(|lease| lease.receipt == *receipt) {
            lease.until = until;
        }
    }

    /// All of them.
    pub(crate) fn leases(&self) -> &[HeldLease] {
        &self.leases
    }
}

/// The document of a read, with how old what it shows may be if the leader was not asked; `null` if nobody can tell.
pub(crate) fn with_age(mut document: Value, reading: Reading, age: Age) -> Value {
    if reading.stale {
        let age_ms = match age {
            Age::Now => json!(0),
            Age::AtMostMs(ms) => json!(ms),
            Age::Unknown => Value::Null,
        };
        document.as_object_mut().expect("documents are objects").insert("age_ms".into(), age_ms);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waiting_line_names_who_answers() {
        let text = |who: &[&str]| {
            let who: Vec<String> = who.iter().map(ToString::to_string).collect();
            waiting(Duration::from_millis(1_800), Duration::from_secs(5), &who)
        };
        assert_eq!(text(&["n2", "n3"]), "waiting for a leader… 1.8 s of 5s, n2 and n3 answer");
        assert_eq!(text(&["n2"]), "waiting for a leader… 1.8 s of 5s, n2 answers");
        assert_eq!(text(&[]), "waiting for a leader… 1.8 s of 5s, no node answers");
    }

    #[test]
    fn that_no_server_is_reached_is_said_once_a_wait_after_a_moment() {
        let mut told = Duration::MAX;
        let mut said = |ms, why: Option<&str>| {
            let unreached = why.map(|why| ("mq1:7410".to_owned(), why.to_owned())).into_iter().collect();
            let elapsed = Duration::from_millis(ms);
            let notice = Notice::Waiting { elapsed, answering: Vec::new(), unreached };
            super::unreached(&notice, Duration::from_secs(5), &mut told)
        };
        assert_eq!(said(290, Some("refused")), None);
        let line = "not reached: mq1:7410 refused; trying again for up to 5s (--no-wait gives up at once)";
        assert_eq!(said(300, Some("refused")).as_deref(), Some(line));
        assert_eq!(said(450, Some("refused")), None, "once");
        assert_eq!(said(10, Some("refused")), None);
        assert!(said(310, Some("refused")).is_some(), "another wait");
        assert_eq!(said(900, None), None, "a node answers");
    }

    #[tokio::test]
    async fn short_receipts_are_never_given_twice() {
        let receipt = |text: &str| text.parse::<Receipt>().unwrap();
        let mut held = Held::default();
        assert_eq!(held.add(receipt("jobs/1/1"), Instant::now()), 1);
        assert_eq!(held.add(receipt("jobs/2/2"), Instant::now()), 2);
        held.remove(&receipt("jobs/2/2"));
        assert_eq!(held.add(receipt("jobs/3/3"), Instant::now()), 3);
        assert_eq!((held.find(1), held.find(2)), (Some(&receipt("jobs/1/1")), None));
    }
}
