//! What a worker says: a line for each message that is done with, one when the cluster is away, one at the end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue_protocol::client::Notice;
use queue_protocol::client::worker::{Outcome, Report, Verdict, WorkerEvent};
use queue_protocol::names::LeaseToken;
use queue_protocol::wire::response::Delivery;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::handler::Ran;
use crate::grammar::WorkArgs;
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;

/// Something to print.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Talk(String),
    Document(Value),
}

/// Puts what happens into words; shared by the worker and its handlers.
pub(super) struct Lines {
    json: bool,
    max_failures: u32,
    several: bool,
    sender: UnboundedSender<Line>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why handlers ended as they did, until the cluster has it.
    why: BTreeMap<LeaseToken, String>,
    running: u64,
    /// By a failure that was the last.
    dead: u64,
    /// Comes again later without blame.
    later: u64,
    unusable: Option<String>,
}

/// The words and where they come out; says that the worker begins.
pub(super) fn lines(
    shell: &Shell,
    args: &WorkArgs,
    words: &[OsString],
    max_failures: u32,
) -> (Lines, UnboundedReceiver<Line>) {
    let (sender, receiver) = unbounded_channel();
    let lines = Lines {
        json: shell.settings.json,
        max_failures,
        several: args.queues.len() > 1,
        sender,
        state: Mutex::default(),
    };
    let queues: Vec<&str> = args.queues.iter().map(|queue| queue.as_str()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let text = format!(
        "worker  {}  {} at a time  lease {}, renewed  handler {}",
        queues.join(" "),
        args.parallel,
        args.lease
            .map_or_else(|| "of the queue".into(), |lease| humantime::format_duration(lease).to_string()),
        args.shell.clone().unwrap_or_else(|| words.join(" ")),
    );
    lines.say(text, || json!({"event": "started", "queues": queues, "parallel": args.parallel}));
    (lines, receiver)
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: String, document: impl FnOnce() -> Value) {
        let line = if self.json {
            let mut whole = json!({"schema": "work/v1"});
            if let (Some(fields), Value::Object(more)) = (whole.as_object_mut(), document()) {
                fields.extend(more);
            }
            Line::Document(whole)
        } else {
            Line::Talk(text)
        };
        // The receiver lives as long as the command.
        let _ = self.sender.send(line);
    }

    /// A handler begins.
    pub(super) fn begin(&self) {
        self.state().running += 1;
    }

    /// A handler has ended.
    pub(super) fn ran(&self, delivery: &Delivery, ran: &Ran) {
        let mut state = self.state();
        state.running -= 1;
        state.why.insert(delivery.token, ran.why.clone());
        if ran.unusable {
            state.unusable.get_or_insert_with(|| ran.why.clone());
        }
    }

    /// Why the handler cannot be run, if it cannot.
    pub(super) fn unusable(&self) -> Option<String> {
        self.state().unusable.clone()
    }

    /// Something happened to the worker.
    pub(super) fn event(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::Ended { delivery, verdict, outcome, ran } => {
                self.ended(&delivery, &verdict, &outcome, ran);
            }
            WorkerEvent::Away(error) => {
                self.say(
                    format!("waiting for a leader… ({error})"),
                    || json!({"event": "away", "error": error.to_string()}),
                );
            }
            WorkerEvent::Back => self.say("the cluster is back".into(), || json!({"event": "back"})),
        }
    }

    fn ended(&self, delivery: &Delivery, verdict: &Verdict, outcome: &Outcome, ran: Duration) {
        let why = self.state().why.remove(&delivery.token);
        let is_last = delivery.failures + 1 >= self.max_failures;
        let (word, text) = words(delivery, verdict, outcome, why.as_deref(), is_last, ran);
        match (word, verdict) {
            ("dead", Verdict::Fail { .. }) => self.state().dead += 1,
            ("retry", _) => self.state().later += 1,
            _ => {}
        }
        let queue = if self.several { format!("{}  ", delivery.queue) } else { String::new() };
        let at = clock::time_of_day(clock::unix_ms_in(Duration::ZERO));
        let text = format!("{at}  {queue}{}  {word:<8}{text}", delivery.id);
        self.say(text.trim_end().to_owned(), || {
            json!({
                "event": word,
                "queue": delivery.queue.as_str(),
                "id": delivery.id.to_string(),
                "token": delivery.token.to_string(),
                "attempt": delivery.attempt,
                "ran_ms": render::elapsed_ms(ran),
                "why": why,
                "error": match verdict {
                    Verdict::Fail { error, .. } => Some(error.as_str()),
                    Verdict::Reject { reason } => Some(reason.as_str()),
                    Verdict::Ack | Verdict::Release { .. } => None,
                },
            })
        });
    }

    /// News of the connection.
    pub(super) fn notice(&self, notice: &Notice) {
        if let Notice::LeaderChanged { from, to } = notice {
            let running = self.state().running;
            let text = format!(
                "* leader moved {from} → {} (term {}); {} kept",
                to.name,
                to.term,
                counted(running, "lease")
            );
            self.say(text, || json!({"event": "leader", "from": from, "to": to.name.to_string(), "term": to.term.to_string()}));
        }
    }

    /// The first signal came.
    pub(super) fn stopping(&self, grace: Duration) {
        let running = self.state().running;
        let limit = humantime::format_duration(grace);
        let text = format!("stopping: {running} running, up to {limit} (Ctrl-C again gives them back now)");
        self.say(text, || json!({"event": "stopping", "running": running}));
    }

    /// The last line.
    pub(super) fn done(&self, report: &Report, elapsed: Duration) -> Line {
        let (by_failure, later) = {
            let state = self.state();
            (state.dead, state.later)
        };
        let dead = report.rejected + by_failure;
        let (retried, given_back) = (report.failed - by_failure + later, report.released - later);
        if self.json {
            return Line::Document(json!({
                "schema": "work/v1", "event": "done", "ok": report.acked, "retried": retried, "dead": dead,
                "given_back": given_back, "lost": report.lost, "elapsed_ms": render::elapsed_ms(elapsed),
            }));
        }
        let lost = if report.lost > 0 { format!(", {} lost", report.lost) } else { String::new() };
        Line::Talk(format!(
            "done in {}: {} ok, {retried} retried, {dead} dead, {given_back} given back{lost}",
            render::took(elapsed),
            render::count(report.acked),
        ))
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The word for how a message ended, and what more there is to say.
fn words(
    delivery: &Delivery,
    verdict: &Verdict,
    outcome: &Outcome,
    why: Option<&str>,
    is_last: bool,
    ran: Duration,
) -> (&'static str, String) {
    let why = why.unwrap_or("not run");
    match outcome {
        Outcome::Lost => return ("lost", format!("{why}; the lease had ended, somebody else has it")),
        Outcome::NotSettled(error) => return ("unknown", format!("{why}; {error}")),
        Outcome::Settled => {}
    }
    let show = format!("queuectl peek {} {}", delivery.queue, delivery.id);
    let attempt = delivery.attempt;
    match verdict {
        Verdict::Ack => ("ok", format!("{:.2}s", ran.as_secs_f64())),
        Verdict::Reject { reason } => {
            ("dead", format!("{why}: \"{}\"     {show}", render::preview(reason.as_bytes(), 60)))
        }
        Verdict::Fail { error, .. } if is_last => {
            ("dead", format!("{why}: \"{}\"     {show}", render::preview(error.as_bytes(), 60)))
        }
        Verdict::Fail { delay_ms, .. } => {
            let again = delay_ms.map(|delay| format!(", again in {}", render::age(delay)));
            ("failed", format!("{why}, attempt {attempt}{}", again.unwrap_or_default()))
        }
        Verdict::Release { delay_ms: 0 } => ("back", format!("{why}, given back")),
        Verdict::Release { delay_ms } => {
            ("retry", format!("{why}, attempt {attempt}, again in {}", render::age(*delay_ms)))
        }
    }
}
