//! What the conformance kit drives: reads requests as lines of JSON, does them with the Rust client, writes the results.
//! `protocol/clients/conformance/README.md` says what there is.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the kit reads both")]

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use queue_protocol::client::tls::Trust;
use queue_protocol::client::worker::{Job, Outcome, Stage, Verdict, WorkerEvent};
use queue_protocol::client::{
    Client, ClientError, ConnectOptions, Error, Leased, Pushed, Queue, TokenSource,
};
use queue_protocol::error::ErrorCode;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Messages that are held beyond those that are worked on, as the kit's other workers hold them.
const HOLD: usize = 64;

/// One client, and the messages that it has leased, by name or id.
#[derive(Default)]
struct Driver {
    client: OnceLock<Client>,
    leased: Mutex<BTreeMap<String, Leased>>,
}

/// Why a step has no result: what is answered in place of it.
struct Failed(Value);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        eprintln!("{error}");
        Self(match &error {
            Error::Unavailable { .. } => json!({"error": "unavailable"}),
            Error::Unknown { .. } => json!({"error": "unknown"}),
            Error::Incompatible(_) => json!({"error": "incompatible"}),
            Error::Untrusted { .. } => json!({"error": "untrusted"}),
            Error::StaleReceipt { .. } => json!({"error": "lost"}),
            refused => json!({"error": "refused", "code": refused.code().map(ErrorCode::as_str)}),
        })
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Error::from(error).into()
    }
}

type Done = Result<Value, Failed>;

fn text<'a>(step: &'a Value, name: &str) -> &'a str {
    step[name].as_str().unwrap_or_else(|| panic!("{name} of {step}"))
}

fn number(step: &Value, name: &str) -> Option<u64> {
    step[name].as_u64()
}

fn needed(step: &Value, name: &str) -> u64 {
    number(step, name).unwrap_or_else(|| panic!("{name} of {step}"))
}

fn count(step: &Value, name: &str) -> usize {
    usize::try_from(needed(step, name)).expect("a small number")
}

fn ms(step: &Value, name: &str) -> Option<Duration> {
    number(step, name).map(Duration::from_millis)
}

fn list<'a>(step: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    step[name].as_array().into_iter().flatten()
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name of the kit's or the id of a message.
fn name_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The ids of what was stored; null for what was refused.
fn ids(pushed: Vec<Result<Pushed, Error>>) -> Vec<Value> {
    pushed.into_iter().map(|one| one.map_or(Value::Null, |pushed| pushed.id.0.into())).collect()
}

impl Driver {
    fn client(&self) -> &Client {
        self.client.get().expect("connect comes first")
    }

    fn queue(&self, step: &Value) -> Result<Queue, Failed> {
        Ok(self.client().queue(text(step, "queue"))?)
    }

    async fn run(&self, step: &Value) -> Done {
        tokio::time::sleep(ms(step, "after_ms").unwrap_or_default()).await;
        match text(step, "op") {
            "connect" => self.connect(step),
            "push" => self.push(step).await,
            "lease" => self.lease(step).await,
            "ack" => self.ack(step).await,
            "work" => self.work(step).await,
            "produce" => self.produce(step).await,
            "consume" => self.consume(step).await,
            "counts" => self.counts(step).await,
            "close" => {
                self.client().close_session().await;
                Ok(json!({}))
            }
            other => panic!("no such op: {other}"),
        }
    }

    fn connect(&self, step: &Value) -> Done {
        let servers: Vec<&str> = list(step, "servers").filter_map(Value::as_str).collect();
        let mut options = ConnectOptions::new().timeout(ms(step, "timeout_ms").expect("a time"));
        if let Some(tls) = step["tls"].as_object() {
            options = options.tls(match (&tls.get("ca"), &tls.get("pin")) {
                (Some(ca), _) => Trust::Authorities(ca.as_str().expect("a path").into()),
                (None, Some(pin)) => {
                    Trust::Pin(pin.as_str().and_then(|pin| pin.parse().ok()).expect("a pin"))
                }
                (None, None) => panic!("no trust in {step}"),
            });
        }
        if let Some(token) = step["token"].as_str() {
            options = options.token(TokenSource::Given(token.parse().expect("a token")));
        }
        if let Some(path) = step["token_file"].as_str() {
            options = options.token(TokenSource::File(path.into()));
        }
        let client = options.connect_lazily(servers.join(","))?;
        assert!(self.client.set(client).is_ok(), "it connects once");
        Ok(json!({}))
    }

    async fn push(&self, step: &Value) -> Done {
        let bodies = list(step, "bodies").map(|body| body.as_str().expect("a text").to_owned());
        let mut batch = self.queue(step)?.push_all(bodies);
        if step["create"] == true {
            batch = batch.create_queue();
        }
        Ok(json!({"ids": ids(batch.send().await?)}))
    }

    async fn lease(&self, step: &Value) -> Done {
        let mut lease = self.queue(step)?.lease();
        if number(step, "max_messages").is_some() {
            lease = lease.max(count(step, "max_messages"));
        }
        lease = lease.wait(ms(step, "wait_ms").unwrap_or_default());
        if let Some(length) = ms(step, "lease_ms") {
            lease = lease.length(length);
        }
        let sent = match ms(step, "stop_after_ms") {
            Some(time) => lease.send_until(tokio::time::sleep(time)).await?,
            None => lease.send().await?,
        };
        let mut all = locked(&self.leased);
        let names = list(step, "names").map(Some).chain(std::iter::repeat(None));
        let mut messages = Vec::new();
        for (message, name) in sent.into_iter().zip(names) {
            messages.push(json!({
                "id": message.id.0, "token": message.fencing_token(), "body": message.text(), "attempt": message.attempt,
            }));
            all.insert(message.id.0.to_string(), message.clone());
            if let Some(name) = name {
                all.insert(name_of(name), message);
            }
        }
        Ok(json!({"messages": messages}))
    }

    async fn ack(&self, step: &Value) -> Done {
        let names = if step["ids"].is_array() { "ids" } else { "names" };
        let mut settled = Vec::new();
        for name in list(step, names).map(name_of) {
            let message = locked(&self.leased).get(&name).cloned();
            settled.push(match message.expect("it was leased").ack().await {
                Ok(()) => "ok",
                Err(Error::StaleReceipt { .. }) => "lost",
                Err(error) => return Err(error.into()),
            });
        }
        Ok(json!({"settled": settled}))
    }

    async fn work(&self, step: &Value) -> Done {
        let hold = ms(step, "hold_ms").expect("a time");
        let (worked, mut done) = mpsc::unbounded_channel();
        let worker = self.queue(step)?.worker().lease(ms(step, "lease_ms")).max(1);
        worker
            .run(move |job| {
                let _ = worked.send(json!([String::from_utf8_lossy(&job.body), job.delivery.attempt]));
                async move {
                    tokio::time::sleep(hold).await;
                    Verdict::Ack
                }
            })
            .await?;
        let mut all = Vec::new();
        while let Ok(one) = done.try_recv() {
            all.push(one);
        }
        Ok(json!({"worked": all}))
    }

    /// Pushes numbered bodies in batches.
    async fn produce(&self, step: &Value) -> Done {
        let (first, batch) = (needed(step, "first"), needed(step, "batch"));
        let end = first + needed(step, "count");
        let (queue, next) = (self.queue(step)?, Arc::new(AtomicU64::new(first)));
        let mut producers = JoinSet::new();
        for _ in 0..needed(step, "parallel") {
            let (queue, next) = (queue.clone(), Arc::clone(&next));
            producers.spawn(async move {
                let mut all = Vec::new();
                loop {
                    let from = next.fetch_add(batch, Ordering::Relaxed);
                    if from >= end {
                        return Ok(all);
                    }
                    let bodies = (from..end.min(from + batch)).map(|number| number.to_string());
                    all.extend(ids(queue.push_all(bodies).send().await?));
                }
            });
        }
        let mut all = Vec::new();
        for produced in producers.join_all().await {
            let produced: Result<_, Error> = produced;
            all.extend(produced?);
        }
        Ok(json!({"ids": all}))
    }

    /// Works until as many were acked, or it takes too long.
    async fn consume(&self, step: &Value) -> Done {
        let enough = needed(step, "count");
        let (stop, stage) = watch::channel(Stage::Working);
        let stop = Arc::new(stop);
        let done = Arc::new(Mutex::new(Vec::new()));
        let (ended, time) = (Arc::clone(&stop), ms(step, "timeout_ms").expect("a time"));
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            ended.send_replace(Stage::Finishing);
        });
        let worker = self.queue(step)?.worker().parallel(count(step, "parallel")).hold(HOLD).stop_by(stage);
        let bodies = Arc::new(Mutex::new(BTreeMap::new()));
        let (acked, ran) = (Arc::clone(&done), Arc::clone(&bodies));
        let worker = worker.observe(move |event| {
            if let WorkerEvent::Ended { delivery, outcome: Outcome::Settled, .. } = event {
                let mut acked = locked(&acked);
                acked.extend(locked(&ran).remove(&delivery.id));
                if acked.len() as u64 >= enough {
                    stop.send_replace(Stage::Finishing);
                }
            }
        });
        let handle = move |job: Job| {
            let body: i64 = String::from_utf8_lossy(&job.body).parse().expect("a number");
            locked(&bodies).insert(job.delivery.id, body);
            std::future::ready(Verdict::Ack)
        };
        worker.run(handle).await?;
        alarm.abort();
        let done = std::mem::take(&mut *locked(&done));
        Ok(json!({"done": done}))
    }

    async fn counts(&self, step: &Value) -> Done {
        let view = self.queue(step)?.stats().await?;
        Ok(json!({
            "ready": view.ready, "leased": view.leased, "delayed": view.delayed, "dead": view.dead,
            "pushed_total": view.pushed_total, "acked_total": view.acked_total,
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (steps, mut came) = mpsc::unbounded_channel();
    // Standard input has no other way to be waited for.
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for line in lines {
            let step: Value = serde_json::from_str(&line).expect("a step");
            if steps.send(step).is_err() {
                return;
            }
        }
    });
    let driver = Arc::new(Driver::default());
    while let Some(step) = came.recv().await {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move {
            let result = driver.run(&step).await.unwrap_or_else(|Failed(error)| error);
            println!("{}", json!({"id": step["id"], "result": result}));
        });
    }
}
