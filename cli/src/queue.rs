//! `queue`: list, look at, make, remove and empty queues.

use queue_protocol::names::QueueName;
use queue_protocol::request::{
    Action, Consistency, CreateQueue, MessageState, Queues, RemoveQueue, Request, Select, Sweep,
};
use queue_protocol::response::{Answer, QueueView};
use queue_protocol::settings::QueueSettings;
use serde_json::{Value, json};

use crate::errors::{Done, End, Failure};
use crate::exit::Exit;
use crate::grammar::{QueueCmd, QueueCreateArgs, QueueLsArgs, QueueRmArgs, Sort, State, milliseconds};
use crate::message;
use crate::render::{self, Align};
use crate::shell::{Shell, unexpected};

/// Runs a `queue` command.
pub(crate) async fn run(shell: &mut Shell, cmd: QueueCmd) -> Done {
    match cmd {
        QueueCmd::Ls(args) => ls(shell, args).await,
        QueueCmd::Info { queue } => info(shell, &queue).await,
        QueueCmd::Create(args) => create(shell, args).await,
        QueueCmd::Rm(args) => rm(shell, args).await,
        QueueCmd::Purge { queue, state } => purge(shell, &queue, state).await,
    }
}

/// Every queue, by name.
///
/// # Errors
/// As the leader says.
pub(crate) async fn all(shell: &Shell) -> Result<Vec<QueueView>, End> {
    let mut queues: Vec<QueueView> = Vec::new();
    loop {
        let after = queues.last().map(|view| view.name.clone());
        let request = Queues { only: None, after, consistency: Consistency::Linearizable };
        match shell.call(Request::Queues(request), None).await? {
            Answer::Queues(page) if page.is_empty() => return Ok(queues),
            Answer::Queues(page) => queues.extend(page),
            other => return Err(unexpected(&other)),
        }
    }
}

/// Runs `queue ls`.
pub(crate) async fn ls(shell: &mut Shell, args: QueueLsArgs) -> Done {
    let mut queues = all(shell).await?;
    if let Some(pattern) = &args.pattern {
        queues.retain(|view| matches(pattern.as_bytes(), view.name.as_str().as_bytes()));
    }
    match args.sort {
        Sort::Name => {}
        Sort::Ready => queues.sort_by_key(|view| std::cmp::Reverse(view.ready)),
        Sort::Oldest => queues.sort_by_key(|view| std::cmp::Reverse(oldest_ms(view))),
        Sort::Dead => queues.sort_by_key(|view| std::cmp::Reverse(view.dead)),
    }
    if shell.settings.json {
        let queues: Vec<Value> = queues.iter().map(document).collect();
        shell.out.document(&json!({"schema": "queue_list/v1", "queues": queues}));
    } else if queues.is_empty() {
        shell.remark("no queues");
    } else {
        shell.out.add(table(&queues).as_bytes());
    }
    Ok(Exit::Done)
}

fn table(queues: &[QueueView]) -> String {
    let columns = [
        ("QUEUE", Align::Left),
        ("READY", Align::Right),
        ("LEASED", Align::Right),
        ("DELAYED", Align::Right),
        ("DEAD", Align::Right),
        ("OLDEST", Align::Right),
    ];
    let rows: Vec<Vec<String>> = queues
        .iter()
        .map(|view| {
            let counts = [view.ready, view.leased, view.delayed, view.dead];
            let mut row = vec![view.name.to_string()];
            row.extend(counts.map(render::count));
            row.push(oldest_ms(view).map_or_else(|| "-".into(), render::age));
            row
        })
        .collect();
    render::table(&columns, &rows)
}

fn oldest_ms(view: &QueueView) -> Option<u64> {
    view.oldest_ready_at_ms.map(|at| view.now_ms.saturating_sub(at))
}

/// Runs `queue info`.
pub(crate) async fn info(shell: &mut Shell, queue: &QueueName) -> Done {
    let view = existing(shell, queue).await?;
    if shell.settings.json {
        let mut document = json!({"schema": "queue/v1"});
        if let (Some(fields), Value::Object(more)) = (document.as_object_mut(), document_fields(&view)) {
            fields.extend(more);
        }
        shell.out.document(&document);
        return Ok(Exit::Done);
    }
    let settings = &view.settings;
    let length = |value: Option<u64>| value.map_or_else(|| "-".into(), render::age);
    let text = render::fields(&[
        ("queue", view.name.to_string()),
        ("ready", render::count(view.ready)),
        ("leased", render::count(view.leased)),
        ("delayed", render::count(view.delayed)),
        ("dead", render::count(view.dead)),
        ("size", render::size(view.bytes)),
        ("oldest ready", length(oldest_ms(&view))),
        ("next due in", length(view.next_due_at_ms.map(|due| due.saturating_sub(view.now_ms)))),
        ("pushed", render::count(view.pushed_total)),
        ("leases granted", render::count(view.leased_total)),
        ("acked", render::count(view.acked_total)),
        ("waiting leases", render::count(view.waiting.into())),
        ("max failures", render::count(settings.max_failures.into())),
        ("lease", length(Some(settings.lease_ms))),
        ("back-off", length(Some(settings.backoff_ms).filter(|first| *first > 0))),
        ("back-off max", length(Some(settings.backoff_ms_max))),
    ]);
    shell.out.add(text.as_bytes());
    Ok(Exit::Done)
}

/// The queue, or the leader's words that there is none, which name a similar one.
pub(crate) async fn existing(shell: &Shell, queue: &QueueName) -> Result<QueueView, End> {
    let request = Queues { only: Some(queue.clone()), after: None, consistency: Consistency::Linearizable };
    match shell.call(Request::Queues(request), Some(queue)).await? {
        Answer::Queues(views) => views.into_iter().find(|view| view.name == *queue).ok_or_else(|| {
            Failure::new("queue_not_found", Exit::NotFound, format!("no queue named \"{queue}\""))
                .hint(format!("create it: `queuectl queue create {queue}`"))
                .detail("queue", queue.as_str())
                .into()
        }),
        other => Err(unexpected(&other)),
    }
}

fn document(view: &QueueView) -> Value {
    document_fields(view)
}

fn document_fields(view: &QueueView) -> Value {
    json!({
        "name": view.name.as_str(),
        "ready": view.ready,
        "leased": view.leased,
        "delayed": view.delayed,
        "dead": view.dead,
        "bytes": view.bytes,
        "oldest_ready_age_ms": oldest_ms(view),
        "next_due_in_ms": view.next_due_at_ms.map(|due| due.saturating_sub(view.now_ms)),
        "pushed_total": view.pushed_total,
        "leased_total": view.leased_total,
        "acked_total": view.acked_total,
        "waiting": view.waiting,
        "settings": {
            "max_failures": view.settings.max_failures,
            "lease_ms": view.settings.lease_ms,
            "backoff_ms": view.settings.backoff_ms,
            "backoff_max_ms": view.settings.backoff_ms_max,
        },
    })
}

async fn create(shell: &mut Shell, args: QueueCreateArgs) -> Done {
    let settings = QueueSettings {
        max_failures: args.max_failures,
        lease_ms: args.lease.map(milliseconds),
        backoff_ms: args.backoff.map(milliseconds),
        backoff_ms_max: args.backoff_max.map(milliseconds),
        ..QueueSettings::default()
    };
    let queue = args.queue;
    let request = CreateQueue { queue: queue.clone(), settings, if_not_exists: args.if_not_exists };
    let Answer::Created(created) = expect(shell, Request::CreateQueue(request), &queue).await? else {
        return Ok(Exit::Done);
    };
    changed(shell, "queue_create/v1", &queue, "created", created.into());
    shell.success(&if created { format!("created {queue}") } else { format!("{queue} exists already") });
    Ok(Exit::Done)
}

async fn rm(shell: &mut Shell, args: QueueRmArgs) -> Done {
    let queue = args.queue;
    if let Some(view) = shell.queue(&queue).await? {
        let total = view.ready + view.leased + view.delayed + view.dead;
        let what = format!("this removes {queue} with {}", render::messages(total));
        shell.confirm(&what, &format!("queue rm {queue}")).await?;
    }
    let request = RemoveQueue { queue: queue.clone(), if_exists: args.if_exists, if_empty: args.if_empty };
    if let Answer::Count(count) = expect(shell, Request::RemoveQueue(request), &queue).await? {
        changed(shell, "queue_rm/v1", &queue, "messages", count.into());
        shell.success(&format!("removed {queue} with {}", render::messages(count)));
    }
    Ok(Exit::Done)
}

async fn purge(shell: &mut Shell, queue: &QueueName, state: Option<State>) -> Done {
    let state: Option<MessageState> = state.map(Into::into);
    if state == Some(MessageState::Leased) {
        let message = "leased messages are not purged: whoever leased them may still settle them";
        return Err(Failure::usage(message).into());
    }
    if let Some(view) = shell.queue(queue).await? {
        let count = match state {
            None => view.ready + view.delayed + view.dead,
            Some(MessageState::Ready) => view.ready,
            Some(MessageState::Leased) => view.leased,
            Some(MessageState::Delayed) => view.delayed,
            Some(MessageState::Dead) => view.dead,
        };
        let kind = state.map_or_else(String::new, |state| format!(" that are {}", message::name(state)));
        let flag = state.map_or_else(String::new, |state| format!(" --state {}", message::name(state)));
        let what = format!("purge removes {}{kind} from {queue} for good", render::messages(count));
        shell.confirm(&what, &format!("queue purge {queue}{flag}")).await?;
    }
    let select = Select { state, ..Select::default() };
    let count = shell.sweep(Sweep::all(queue.clone(), select, Action::Delete)).await?;
    changed(shell, "queue_purge/v1", queue, "messages", count.into());
    shell.success(&format!("purged {} from {queue}", render::messages(count)));
    Ok(Exit::Done)
}

/// The answer, which must be one to a change of a queue.
async fn expect(shell: &Shell, request: Request, queue: &QueueName) -> Result<Answer, End> {
    match shell.call(request, Some(queue)).await? {
        answer @ (Answer::Created(_) | Answer::Count(_)) => Ok(answer),
        other => Err(unexpected(&other)),
    }
}

fn changed(shell: &mut Shell, schema: &str, queue: &QueueName, name: &str, value: Value) {
    if shell.settings.json {
        let elapsed = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(
            &json!({"schema": schema, "queue": queue.as_str(), name: value, "elapsed_ms": elapsed}),
        );
    }
}

/// Whether a name matches a pattern of `*`, `?` and plain characters.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if the newest `*` takes one more character.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use queue_protocol::settings::Settings;

    use super::*;

    fn view(name: &str, ready: u64, oldest: Option<u64>) -> QueueView {
        QueueView {
            name: name.parse().unwrap(),
            ready,
            leased: 64,
            delayed: 0,
            dead: 7,
            bytes: 88_213,
            oldest_ready_at_ms: oldest,
            next_due_at_ms: None,
            now_ms: 10_000,
            pushed_total: 0,
            leased_total: 0,
            acked_total: 0,
            settings: Settings::default(),
            waiting: 0,
            version: 1,
        }
    }

    #[test]
    fn the_listing_has_the_states_in_their_order() {
        assert_eq!(
            table(&[view("emails", 12, Some(9_600)), view("jobs", 1_204, None)]),
            "QUEUE   READY  LEASED  DELAYED  DEAD  OLDEST\n\
             emails     12      64        0     7    0.4s\n\
             jobs    1,204      64        0     7       -\n"
        );
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "jobs", true),
            ("j*", "jobs", true),
            ("*bs", "jobs", true),
            ("j?bs", "jobs", true),
            ("*o*s", "jobs", true),
            ("a*b*c", "aXbXbXc", true),
            ("jobs", "jobs", true),
            ("job", "jobs", false),
            ("?", "jobs", false),
            ("a*b*c", "aXbX", false),
            ("", "jobs", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
