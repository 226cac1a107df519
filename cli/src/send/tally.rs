//! What became of each message of a push: stored, refused, or unknown; and how that is told.

use std::time::Duration;

use queue_protocol::client::{Answered, ClientError};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::QueueName;
use queue_protocol::wire::requests::{Ask, ask};
use queue_protocol::wire::response::PushOutcome;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::show::render;

/// Ids listed one by one in JSON; beyond that first and last must do.
const IDS_LISTED_MAX: u64 = 1_000;

/// Runs of positions, counted from 1, in order and apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds `count` positions from `first` on.
    fn add(&mut self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        let at = self.0.partition_point(|(_, last)| last + 1 < first);
        match self.0.get_mut(at) {
            Some((_, last)) if *last + 1 == first => {
                *last += count;
                let last = *last;
                if self.0.get(at + 1).is_some_and(|(next, _)| *next == last + 1) {
                    self.0[at].1 = self.0.remove(at + 1).1;
                }
            }
            Some((start, _)) if *start == first + count => *start = first,
            _ => self.0.insert(at, (first, first + count - 1)),
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The first position that is not in here.
    fn first_missing(&self) -> u64 {
        match self.0.first() {
            Some((1, last)) => last + 1,
            _ => 1,
        }
    }

    /// `lines 1–18500`
    fn text(&self, unit: &str) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") })
            .collect();
        let plural = if self.count() == 1 { "" } else { "s" };
        format!("{unit}{plural} {}", parts.join(", "))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bodies read from the source.
    pub(crate) read: u64,
    /// Bodies handed to the client.
    pub(crate) sent: u64,
    /// All that there are, where that is known.
    pub(crate) total: Option<u64>,
    stored: Runs,
    refused: Runs,
    unknown: Runs,
    /// Of those stored, the ones that were there already.
    duplicates: u64,
    ids: Vec<(u64, u64)>,
    failure: Option<Failure>,
    refusal: bool,
    redirects: u32,
    leader: Option<String>,
}

impl Tally {
    /// Before the first; with how many there are, where that is known.
    pub(crate) fn of(total: Option<u64>) -> Self {
        Self { total, ..Self::default() }
    }

    /// Messages that are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.count()
    }

    /// Messages whose request came to an end.
    pub(crate) fn answered(&self) -> u64 {
        self.stored.count() + self.refused.count() + self.unknown.count()
    }

    /// A request failed or was refused, so sending on makes no sense.
    pub(crate) fn has_refusal(&self) -> bool {
        self.refusal
    }

    /// Something here went wrong; the first one is what is told.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Counts the answer to a request of `count` messages from position `first` on.
    pub(crate) fn add(
        &mut self,
        first: u64,
        count: u64,
        result: Result<Answered<<ask::Push as Ask>::Answer>, ClientError>,
        queue: &QueueName,
    ) {
        let failure = match result {
            Ok(answered) => {
                self.redirects += answered.redirects;
                if let Some(leader) = answered.leader {
                    self.leader = Some(leader.name.to_string());
                }
                return self.add_outcomes(first, count, &answered.answer, queue);
            }
            Err(error) => Failure::of(error, Some(queue)),
        };
        let runs = if failure.exit == Exit::Unknown || failure.exit == Exit::Protocol {
            &mut self.unknown
        } else {
            &mut self.refused
        };
        runs.add(first, count);
        self.refuse(failure);
    }

    fn add_outcomes(&mut self, first: u64, count: u64, outcomes: &[PushOutcome], queue: &QueueName) {
        let mut at = first;
        let end = first + count;
        for outcome in outcomes {
            match *outcome {
                PushOutcome::Stored { first_id, count } => {
                    let count = u64::from(count).min(end - at);
                    self.stored.add(at, count);
                    match self.ids.last_mut() {
                        Some((id, run)) if *id + *run == first_id.0 => *run += count,
                        _ => self.ids.push((first_id.0, count)),
                    }
                    at += count;
                }
                PushOutcome::Duplicate { id } => {
                    self.stored.add(at, 1);
                    self.duplicates += 1;
                    match self.ids.last_mut() {
                        Some((first, run)) if *first + *run == id.0 => *run += 1,
                        _ => self.ids.push((id.0, 1)),
                    }
                    at += 1;
                }
                PushOutcome::Refused { code, count } => {
                    let count = u64::from(count).min(end - at);
                    self.refused.add(at, count);
                    let what = match code {
                        ErrorCode::UniqueHeld => {
                            "a message with that key is ready, leased or delayed".to_owned()
                        }
                        _ => format!("{} refused", render::messages(count)),
                    };
                    let error = Error::refused(code, what);
                    self.refuse(Failure::of(ClientError::Refused(error), Some(queue)));
                    at += count;
                }
            }
        }
        if at < end {
            self.unknown.add(at, end - at);
            self.refuse(Failure::new(
                "protocol",
                Exit::Protocol,
                "the node did not answer for every message",
            ));
        }
    }

    fn refuse(&mut self, failure: Failure) {
        self.refusal = true;
        self.fail(failure);
    }

    /// The error to report, with what became of every message; `None` if all went well. `file` is what standard
    /// input was read from, if that is a file.
    /// `prefix` is that of the dedup keys.
    pub(crate) fn failure(
        &self,
        unit: &str,
        queue: &QueueName,
        file: Option<&str>,
        prefix: Option<&str>,
    ) -> Option<Failure> {
        let mut failure = self.failure.clone()?;
        if self.read <= 1 {
            return Some(failure);
        }
        failure.facts.retain(|fact| {
            !matches!(fact.as_str(), "nothing was changed" | "it may or may not have been done")
        });
        let what = |name: &str, text: String| format!("{name:12}{text}");
        if self.stored.count() > 0 {
            failure.facts.push(what("stored", self.stored.text(unit)));
        }
        if self.unknown.count() > 0 {
            failure.facts.push(what("unknown", format!("{} (sent, not confirmed)", self.unknown.text(unit))));
        }
        if self.refused.count() > 0 {
            failure.facts.push(what("not stored", self.refused.text(unit)));
        }
        match self.total {
            Some(total) if total <= self.sent => {}
            Some(total) => {
                let mut rest = Runs::default();
                rest.add(self.sent + 1, total - self.sent);
                failure.facts.push(what("not sent", rest.text(unit)));
            }
            None => failure.facts.push(what("not sent", format!("from {unit} {}", self.sent + 1))),
        }
        if self.stored.count() > 0 {
            // The node speaks of the last request.
            failure.message = failure.message.replace(". Nothing was stored;", ". The rest was not stored;");
        }
        if self.unknown.count() > 0 {
            failure.exit = Exit::Unknown;
            failure.retryable = false;
            failure.applied = queue_protocol::error::Applied::Unknown;
        } else if self.stored.count() > 0 && !matches!(failure.exit, Exit::BadData | Exit::Io) {
            failure.exit = Exit::Part;
            failure.retryable = false;
        }
        let resume = self.stored.first_missing();
        if let (Some(file), "line", Exit::Unknown | Exit::Part | Exit::Retry | Exit::Unreachable) =
            (file, unit, failure.exit)
        {
            let repeats = self.stored.count() + 1 + self.unknown.count() - resume;
            let may =
                if repeats > 0 { format!("    # may repeat up to {repeats} lines") } else { String::new() };
            failure.hints.push(match prefix {
                // The keys count from the first line, so all of it is to come again.
                Some(prefix) => format!(
                    "queuectl push {queue} --dedup-prefix {prefix} < {file}    # stores nothing twice"
                ),
                None => format!("tail -n +{resume} {file} | queuectl push {queue}{may}"),
            });
        }
        failure = failure.detail("stored", self.stored.count()).detail("unknown", self.unknown.count());
        Some(
            failure
                .detail("not_stored", self.refused.count())
                .detail("sent", self.sent)
                .detail("resume_at", resume),
        )
    }

    /// The line for people. `streamed` is for input that came over time.
    pub(crate) fn summary(
        &self,
        queue: &QueueName,
        elapsed: Duration,
        streamed: bool,
        verbose: bool,
    ) -> String {
        let stored = self.stored.count();
        let last = self.ids.last().map(|(first, count)| first + count - 1);
        let id = match (self.ids.as_slice(), last) {
            ([(id, 1)], _) => Some(format!("id {id}")),
            ([(first, _)], Some(last)) if !streamed => Some(format!("ids {first}–{last}")),
            (_, Some(last)) => Some(format!("last id {last}")),
            (_, None) => None,
        };
        let mut facts: Vec<String> = id.into_iter().collect();
        if self.duplicates > 0 {
            facts.push(format!("{} there already", render::count(self.duplicates)));
        }
        if verbose {
            facts.push(render::took(elapsed));
            if self.redirects > 0 {
                let plural = if self.redirects == 1 { "" } else { "s" };
                facts.push(format!("{} redirect{plural}", self.redirects));
            }
        }
        let took =
            if streamed && stored > 1 { format!(" in {}", render::took(elapsed)) } else { String::new() };
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        format!("pushed {} to {queue}{took}{facts}", render::count(stored - self.duplicates))
    }

    /// The document for scripts.
    pub(crate) fn document(&self, queue: &QueueName, elapsed: Duration) -> Value {
        let mut document = json!({"schema": "push/v1", "queue": queue.as_str(),
            "count": self.stored.count() - self.duplicates, "deduplicated": self.duplicates});
        let fields = document.as_object_mut().expect("built as an object");
        if self.stored.count() <= IDS_LISTED_MAX {
            let ids: Vec<String> = self
                .ids
                .iter()
                .flat_map(|(first, count)| *first..first + count)
                .map(|id| id.to_string())
                .collect();
            fields.insert("ids".into(), ids.into());
        }
        if let (Some((first, _)), Some((start, count))) = (self.ids.first(), self.ids.last()) {
            fields.insert("first_id".into(), first.to_string().into());
            fields.insert("last_id".into(), (start + count - 1).to_string().into());
        }
        fields.insert("leader".into(), self.leader.clone().into());
        fields.insert("redirects".into(), self.redirects.into());
        fields.insert("elapsed_ms".into(), render::elapsed_ms(elapsed).into());
        document
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::MessageId;
    use queue_protocol::wire::response::{Age, At};

    use super::*;

    fn jobs() -> QueueName {
        "jobs".parse().unwrap()
    }

    fn stored(first_id: u64, count: u32) -> PushOutcome {
        PushOutcome::Stored { first_id: MessageId(first_id), count }
    }

    fn answered(outcomes: Vec<PushOutcome>) -> Result<Answered<<ask::Push as Ask>::Answer>, ClientError> {
        Ok(Answered {
            answer: outcomes.try_into().unwrap(),
            contents: Vec::new(),
            at: At::default(),
            repeated: false,
            lease_clock_ms: 0,
            age: Age::Now,
            leader: None,
            redirects: 0,
            elapsed: Duration::ZERO,
        })
    }

    fn lost() -> Result<Answered<<ask::Push as Ask>::Answer>, ClientError> {
        Err(ClientError::Unknown { what: "lost the leader; no answer within 5.0 s".into() })
    }

    #[test]
    fn runs_grow_in_any_order() {
        let mut runs = Runs::default();
        for (first, count) in [(11, 5), (1, 5), (21, 1), (6, 5), (30, 0), (16, 5)] {
            runs.add(first, count);
        }
        assert_eq!(runs, Runs(vec![(1, 21)]));
        runs.add(30, 1);
        assert_eq!((runs.count(), runs.first_missing()), (22, 22));
        assert_eq!(runs.text("line"), "lines 1–21, 30");
        assert_eq!(Runs(vec![(3, 4)]).first_missing(), 1);
    }

    #[test]
    fn a_broken_pipe_into_a_queue_tells_what_became_of_every_line() {
        let mut tally = Tally { read: 18_600, sent: 18_564, ..Tally::default() };
        tally.add(1, 18_500, answered(vec![stored(1, 18_500)]), &jobs());
        tally.add(18_501, 64, lost(), &jobs());
        assert_eq!(
            tally.failure("line", &jobs(), Some("huge.txt"), None).unwrap().text(false, false),
            "error[not_confirmed]: lost the leader; no answer within 5.0 s\n  \
             stored      lines 1–18500\n  \
             unknown     lines 18501–18564 (sent, not confirmed)\n  \
             not sent    from line 18565\n  \
             hint: tail -n +18501 huge.txt | queuectl push jobs    # may repeat up to 64 lines"
        );
    }

    #[test]
    fn a_part_that_is_stored_is_never_reported_as_nothing_changed() {
        let refusal =
            || Err(ClientError::Unavailable { what: "nobody leads".into(), reached: true, leader: None });
        let mut tally = Tally { read: 20, sent: 20, ..Tally::default() };
        tally.add(1, 10, answered(vec![stored(1, 10)]), &jobs());
        tally.add(11, 10, refusal(), &jobs());
        let failure = tally.failure("line", &jobs(), None, None).unwrap();
        assert_eq!((failure.exit, failure.retryable), (Exit::Part, false));
        assert!(!failure.facts.iter().any(|fact| fact == "nothing was changed"));

        let mut tally = Tally { read: 10, sent: 10, ..Tally::default() };
        tally.add(1, 10, refusal(), &jobs());
        assert_eq!(tally.failure("line", &jobs(), None, None).unwrap().exit, Exit::Retry);
    }

    #[test]
    fn what_is_not_there_is_not_called_unsent_and_a_node_speaks_of_its_request_alone() {
        let full = || {
            let what = "n1 refuses pushes: 1 GiB free. Nothing was stored; pops and acks still work";
            Err(ClientError::Refused(Error::refused(ErrorCode::DiskReserve, what)))
        };
        let mut tally = Tally { read: 3, sent: 2, total: Some(2), ..Tally::default() };
        tally.add(1, 1, answered(vec![stored(1, 1)]), &jobs());
        tally.add(2, 1, full(), &jobs());
        let failure = tally.failure("message", &jobs(), None, None).unwrap();
        assert_eq!(failure.facts, ["stored      message 1", "not stored  message 2"]);
        assert_eq!(
            failure.message,
            "n1 refuses pushes: 1 GiB free. The rest was not stored; pops and acks still work"
        );
        let tally = Tally { total: Some(9), ..tally };
        let failure = tally.failure("message", &jobs(), None, None).unwrap();
        assert_eq!(failure.facts.last().map(String::as_str), Some("not sent    messages 3–9"));
    }

    #[test]
    fn messages_refused_one_by_one_are_named() {
        let mut tally = Tally { read: 3, sent: 3, ..Tally::default() };
        let refused = PushOutcome::Refused { code: ErrorCode::MessageTooBig, count: 1 };
        tally.add(1, 3, answered(vec![stored(7, 1), refused, stored(8, 1)]), &jobs());
        let failure = tally.failure("message", &jobs(), None, None).unwrap();
        assert_eq!((failure.code, failure.exit), ("message_too_big", Exit::BadData));
        assert_eq!(failure.facts[..2], ["stored      messages 1, 3", "not stored  message 2"]);
    }

    #[test]
    fn an_answer_that_leaves_messages_out_makes_them_unknown() {
        let mut tally = Tally { read: 3, sent: 3, ..Tally::default() };
        tally.add(1, 3, answered(vec![stored(7, 2)]), &jobs());
        assert_eq!(tally.failure("message", &jobs(), None, None).unwrap().exit, Exit::Unknown);
    }

    #[test]
    fn success_is_one_line_with_the_ids() {
        let summary = |runs: &[(u64, u32)], streamed| {
            let mut tally = Tally::default();
            for (first_id, count) in runs {
                let first = tally.sent + 1;
                tally.sent += u64::from(*count);
                tally.add(first, u64::from(*count), answered(vec![stored(*first_id, *count)]), &jobs());
            }
            tally.summary(&jobs(), Duration::from_millis(12_120), streamed, false)
        };
        assert_eq!(summary(&[(2, 1)], false), "pushed 1 to jobs (id 2)");
        assert_eq!(summary(&[(2, 3)], false), "pushed 3 to jobs (ids 2–4)");
        assert_eq!(summary(&[(2, 3), (9, 1)], false), "pushed 4 to jobs (last id 9)");
        assert_eq!(summary(&[(1, 12_472)], true), "pushed 12,472 to jobs in 12.1 s (last id 12472)");
        assert_eq!(summary(&[], true), "pushed 0 to jobs");
    }

    #[test]
    fn the_document_lists_ids_as_strings() {
        let mut tally = Tally { sent: 2, ..Tally::default() };
        tally.add(1, 2, answered(vec![stored(4812, 2)]), &jobs());
        assert_eq!(
            tally.document(&jobs(), Duration::from_micros(2_440)).to_string(),
            r#"{"schema":"push/v1","queue":"jobs","count":2,"deduplicated":0,"ids":["4812","4813"],"first_id":"4812","#
                .to_owned()
                + r#""last_id":"4813","leader":null,"redirects":0,"elapsed_ms":2.4}"#
        );
    }
}
