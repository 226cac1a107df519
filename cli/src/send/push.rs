//! `push`: bodies from the command line, from files, or from standard input as it comes.
//!
//! ```text
//! source → Splitter → batch (size, count, linger) → requests in flight, begun in order → Tally
//! ```
//!
//! The first failure ends reading; what is in flight is waited for, so that the report says of every message
//! whether it is stored, not stored, or unknown.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use queue_protocol::client::{Answered, ClientError};
use queue_protocol::content::{self, ContentSpec, Headers};
use queue_protocol::limits::{BODY_SIZE_MAX, PRIORITY_DEFAULT, TAIL_SIZE_MAX};
use queue_protocol::names::{BadKey, Key};
use queue_protocol::values;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{Due, Push, PushMessage, PushOptions, Unique, UniqueHeld};
use queue_protocol::wire::requests::{Ask, ask};
use tokio::time::{Instant, sleep_until};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{PushArgs, milliseconds, of_process, trace};
use crate::send::lines::too_big;
use crate::send::source::{self, Source};
use crate::send::tally::Tally;
use crate::shell::Shell;
use crate::show::render;

/// Contents in one request, unless one message alone is larger.
const REQUEST_SIZE_MAX: usize = 1 << 20;
/// How often the progress line is redrawn.
const REDRAW: Duration = Duration::from_millis(250);

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: PushArgs) -> Done {
    let headers = headers(&trace::with(args.headers.clone(), of_process))?;
    let (source, unit) = source::open(shell, &args)?;
    let streams = matches!(source, Source::Stream { .. });
    let options = PushOptions {
        priority: args.priority.unwrap_or(PRIORITY_DEFAULT),
        due: match (args.delay, args.not_before) {
            (Some(delay), _) => Due::AfterMs(milliseconds(delay)),
            (None, Some(at)) => Due::AtMs(at),
            (None, None) => Due::Now,
        },
        ttl_ms: args.ttl.map(milliseconds),
        dedup_key: args.dedup_key.clone(),
        unique: args.unique.clone().map(|key| {
            let held = args.on_held.map_or(UniqueHeld::Reject, Into::into);
            Unique { key, held }
        }),
        group: args.group.clone(),
    };
    check_keys(&args, &source)?;
    let total = match &source {
        Source::Bodies(bodies) => Some(bodies.len() as u64),
        Source::Stream { .. } => None,
    };
    let mut pipe = Pipe {
        source,
        unit,
        headers,
        options,
        batch: Batch::default(),
        held_back: None,
        in_flight: FuturesOrdered::new(),
        tally: Tally::of(total),
        reading: Reading::On,
    };
    pipe.run(shell, &args).await;
    shell.talk.status(None);
    let (delay, ttl) = (args.delay.map(milliseconds), args.ttl);
    let done = pipe.conclude(shell, &args, streams);
    if let (Some(delay), None, true) = (delay, ttl, shell.settings.verbose > 0) {
        let ttl_ms = shell.queue(&args.queue).await?.map_or(0, |view| view.settings.ttl_ms);
        if ttl_ms > 0 && ttl_ms <= delay {
            let ttl = humantime::format_duration(Duration::from_millis(ttl_ms));
            shell.talk.line(&format!(
                "note: the queue's time to live of {ttl} passes before the delay: these messages expire undelivered"
            ));
        }
    }
    done
}

/// A key names one message.
fn check_keys(args: &PushArgs, source: &Source) -> Result<(), Failure> {
    if let Source::Bodies(bodies) = source
        && bodies.len() > 1
        && has_key(args)
    {
        return Err(one_key());
    }
    match args.dedup_prefix.as_deref().map(|prefix| key_of(prefix, u64::MAX)) {
        Some(Err(error)) => Err(Failure::usage(format!("--dedup-prefix with a number behind it: {error}"))),
        _ => Ok(()),
    }
}

fn has_key(args: &PushArgs) -> bool {
    args.dedup_key.is_some() || args.unique.is_some()
}

fn one_key() -> Failure {
    Failure::usage("--dedup-key and --unique are for one message, and there are more")
        .hint("for many: `--dedup-prefix`; for one of several lines: `--whole`")
}

fn key_of(prefix: &str, number: u64) -> Result<Key, BadKey> {
    format!("{prefix}-{number}").parse()
}

pub(crate) fn headers(pairs: &[(String, String)]) -> Result<Headers, Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new("message_too_big", Exit::BadData, format!("headers: {error}"))
    };
    if let Some(name) = values::repeated(pairs) {
        return Err(Failure::usage(format!(
            "header {name:?} is given twice; a message has one value for each"
        )));
    }
    let mut headers = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        headers.push((
            Text::new(name).map_err(|error| bad(&error))?,
            Text::new(value).map_err(|error| bad(&error))?,
        ));
    }
    let headers = Headers::new(headers).map_err(|error| bad(&error))?;
    content::encode(&headers, b"").map_err(|_| bad(&"more than 4 KiB together"))?;
    Ok(headers)
}

/// Messages that go in one request.
#[derive(Default)]
struct Batch {
    contents: Vec<Bytes>,
    size: usize,
    /// Nothing more fits.
    full: bool,
    /// When it is sent although it is not full.
    due: Option<Instant>,
}

/// A request that was answered or not.
struct Sent {
    first: u64,
    count: u64,
    result: Result<Answered<<ask::Push as Ask>::Answer>, ClientError>,
}

/// Why reading ended, if it did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It goes on.
    On,
    /// The source is used up.
    Done,
    /// By a signal: what was read is still sent.
    Stopped(Exit),
    /// By a failure: nothing more is sent.
    Failed,
}

struct Pipe {
    source: Source,
    unit: &'static str,
    headers: Headers,
    options: PushOptions,
    batch: Batch,
    /// Did not fit the batch: begins the next one.
    held_back: Option<Bytes>,
    in_flight: FuturesOrdered<BoxFuture<'static, Sent>>,
    tally: Tally,
    reading: Reading,
}

impl Pipe {
    async fn run(&mut self, shell: &Shell, args: &PushArgs) {
        let mut stop = shell.stop.clone();
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            let full = self.fill(args);
            let may_send = self.in_flight.len() < usize::from(args.in_flight);
            let is_due = full
                || self.reading != Reading::On
                || self.batch.due.is_some_and(|due| due <= Instant::now());
            if may_send && is_due && !self.batch.contents.is_empty() && self.reading != Reading::Failed {
                self.send(shell, args);
                continue;
            }
            let more_to_send = !self.batch.contents.is_empty() && self.reading != Reading::Failed;
            if self.reading != Reading::On && self.in_flight.is_empty() && !more_to_send {
                return;
            }
            let linger = self.batch.due.filter(|_| may_send && more_to_send);
            let (reads, flying) = (self.reading == Reading::On, !self.in_flight.is_empty());
            tokio::select! {
                biased;
                exit = stop.wait(), if reads => self.reading = Reading::Stopped(exit),
                Some(sent) = self.in_flight.next(), if flying => self.add(sent, args),
                chunk = self.source.next_chunk(), if reads && !full => self.take(chunk),
                () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => {}
                _ = redraw.tick() => self.draw(shell, args),
            }
        }
    }

    /// Moves bodies into the batch; true if it is full.
    fn fill(&mut self, args: &PushArgs) -> bool {
        while self.reading != Reading::Failed {
            if self.batch.full || self.batch.contents.len() >= usize::from(args.batch) {
                return true;
            }
            let content = match self.held_back.take() {
                Some(content) => content,
                None => match self.next_content(has_key(args)) {
                    Ok(Some(content)) => content,
                    Ok(None) => return false,
                    Err(failure) => {
                        self.tally.fail(failure);
                        // What was read before it is good, and is sent.
                        self.reading = Reading::Done;
                        self.source = Source::Bodies(VecDeque::new());
                        return false;
                    }
                },
            };
            let fits =
                self.batch.size + content.len() <= REQUEST_SIZE_MAX && content.len() <= BODY_SIZE_MAX / 2;
            if !fits && !self.batch.contents.is_empty() {
                self.held_back = Some(content);
                return true;
            }
            self.batch.size += content.len();
            self.batch.contents.push(content);
            self.batch.due.get_or_insert_with(|| Instant::now() + args.linger);
            // A large one goes alone, so that nothing else is refused with it.
            self.batch.full = !fits;
        }
        false
    }

    /// The next body with the headers before it.
    fn next_content(&mut self, only_one: bool) -> Result<Option<Bytes>, Failure> {
        let body = match &mut self.source {
            Source::Bodies(bodies) => {
                let body = bodies.pop_front();
                if body.is_none() && self.reading == Reading::On {
                    self.reading = Reading::Done;
                }
                body
            }
            Source::Stream { splitter, .. } => splitter.next()?,
        };
        let Some(body) = body else { return Ok(None) };
        if only_one && self.tally.read > 0 {
            return Err(one_key());
        }
        self.tally.read += 1;
        let content = content::encode(&self.headers, &body)
            .map_err(|error| Failure::new("message_too_big", Exit::BadData, error.to_string()))?;
        if content.len() > TAIL_SIZE_MAX {
            self.tally.read -= 1;
            return Err(too_big(&format!("{} {}", self.unit, self.tally.read + 1), body.len()));
        }
        Ok(Some(content))
    }

    fn take(&mut self, chunk: Option<std::io::Result<Vec<u8>>>) {
        let Source::Stream { splitter, .. } = &mut self.source else { return };
        match chunk {
            Some(Ok(chunk)) => splitter.add(&chunk),
            Some(Err(error)) => {
                self.tally.fail(Failure::io(format!("cannot read standard input: {error}")));
                self.reading = Reading::Done;
            }
            None => {
                splitter.end();
                // One more round takes what is left; then the source is empty.
                let rest = self.drain();
                self.tally.total =
                    Some(self.tally.read + rest.len() as u64 + u64::from(self.held_back.is_some()));
                self.source = Source::Bodies(rest);
            }
        }
    }

    /// Whole bodies left in the splitter after its end. A bad one is reported behind those before it.
    fn drain(&mut self) -> VecDeque<Bytes> {
        let mut rest = VecDeque::new();
        let Source::Stream { splitter, .. } = &mut self.source else { return rest };
        loop {
            match splitter.next() {
                Ok(Some(body)) => rest.push_back(body),
                Ok(None) => return rest,
                Err(failure) => {
                    self.tally.fail(failure);
                    return rest;
                }
            }
        }
    }

    /// Begins a request. They reach the connection in the order in which they are begun.
    fn send(&mut self, shell: &Shell, args: &PushArgs) {
        let batch = std::mem::take(&mut self.batch);
        let (first, count) = (self.tally.sent + 1, batch.contents.len() as u64);
        self.tally.sent += count;
        let messages = batch.contents.iter().zip(first..).map(|(content, number)| {
            let mut options = self.options.clone();
            if let Some(prefix) = &args.dedup_prefix {
                options.dedup_key = Some(key_of(prefix, number).expect("a longer one was checked"));
            }
            PushMessage { content: ContentSpec::of(content), options }
        });
        let push = Push {
            queue: args.queue.clone(),
            create: args.create,
            atomic: false,
            messages: Bounded::new(messages.collect()).expect("a batch is within the limit of a push"),
        };
        let client = shell.client.clone();
        self.in_flight.push_back(Box::pin(async move {
            let result = client.ask_with(ask::Push(push), batch.contents).await;
            Sent { first, count, result }
        }));
    }

    fn add(&mut self, sent: Sent, args: &PushArgs) {
        self.tally.add(sent.first, sent.count, sent.result, &args.queue);
        if self.tally.has_refusal() {
            self.reading = Reading::Failed;
        }
    }

    fn draw(&self, shell: &Shell, args: &PushArgs) {
        let elapsed = shell.started.elapsed();
        let streams = matches!(self.source, Source::Stream { .. });
        if !streams || elapsed < 2 * REDRAW || shell.settings.quiet || shell.settings.json {
            return;
        }
        let flying = self.tally.sent - self.tally.answered();
        let rate = self.tally.stored() * 1_000 / milliseconds(elapsed).max(1);
        shell.talk.status(Some(&format!(
            "{}  {} stored  {}/s  {} in flight  {} failed",
            args.queue,
            render::count(self.tally.stored()),
            render::count(rate),
            render::count(flying),
            render::count(self.tally.answered() - self.tally.stored()),
        )));
    }

    fn conclude(self, shell: &mut Shell, args: &PushArgs, streams: bool) -> Done {
        let elapsed = shell.started.elapsed();
        let tally = self.tally;
        let file = if streams { source::stdin_file() } else { None };
        if let Some(failure) =
            tally.failure(self.unit, &args.queue, file.as_deref(), args.dedup_prefix.as_deref())
        {
            return Err(failure.into());
        }
        if shell.settings.json {
            shell.out.document(&tally.document(&args.queue, elapsed));
        } else {
            let text = tally.summary(&args.queue, elapsed, streams, shell.settings.verbose > 0);
            shell.success(&text);
        }
        match self.reading {
            Reading::Stopped(exit) => Err(End::Quiet(exit)),
            _ => Ok(Exit::Done),
        }
    }
}
