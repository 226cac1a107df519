//! `queue`: list, look at, make, change, pause and remove queues.

pub(crate) mod group;
pub(crate) mod sweep;

use queue_protocol::names::QueueName;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{AlterQueue, Consistency, CreateQueue, Queues, RemoveQueue};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Age, QueueView};
use serde_json::{Map, Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{
    self, PauseArgs, QueueCmd, QueueCreateArgs, QueueLsArgs, QueueRmArgs, QueueSetArgs, Reading, SETTINGS,
    Sort,
};
use crate::shell::{Shell, with_age};
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs a `queue` command.
pub(crate) async fn run(shell: &mut Shell, cmd: QueueCmd) -> Done {
    match cmd {
        QueueCmd::Ls(args) => ls(shell, args).await,
        QueueCmd::Info { queue, reading } => info(shell, &queue, reading).await,
        QueueCmd::Create(args) => create(shell, *args).await,
        QueueCmd::Rm(args) => rm(shell, args).await,
        QueueCmd::Set(args) => set(shell, args).await,
        QueueCmd::Pause(args) => pause(shell, args, true).await,
        QueueCmd::Resume(args) => pause(shell, args, false).await,
        QueueCmd::Purge(args) => sweep::purge(shell, args).await,
        QueueCmd::Move(args) => sweep::move_all(shell, args).await,
    }
}

/// Every queue, by name.
///
/// # Errors
/// As the leader says.
pub(crate) async fn all(shell: &Shell) -> Result<Vec<QueueView>, End> {
    all_as(shell, Consistency::Linearizable).await.map(|(queues, _)| queues)
}

async fn all_as(shell: &Shell, consistency: Consistency) -> Result<(Vec<QueueView>, Age), End> {
    let (mut queues, mut age) = (Vec::<QueueView>::new(), None);
    loop {
        let after = queues.last().map(|view| view.name.clone());
        let answered = shell.asked(ask::Queues(Queues { only: None, after, consistency }), None).await?;
        // The first page is the oldest.
        let age = *age.get_or_insert(answered.age);
        if answered.answer.is_empty() {
            return Ok((queues, age));
        }
        queues.extend(answered.answer);
    }
}

/// Runs `queue ls`.
pub(crate) async fn ls(shell: &mut Shell, args: QueueLsArgs) -> Done {
    let (mut queues, age) = all_as(shell, args.reading.consistency()).await?;
    shell.tell_age(args.reading, age);
    if let Some(pattern) = &args.pattern {
        queues.retain(|view| matches(pattern.as_bytes(), view.name.as_str().as_bytes()));
    }
    match args.sort {
        Sort::Name => {}
        Sort::Ready => queues.sort_by_key(|view| std::cmp::Reverse(view.ready)),
        Sort::Oldest => queues.sort_by_key(|view| std::cmp::Reverse(view.oldest_ready_ms)),
        Sort::Dead => queues.sort_by_key(|view| std::cmp::Reverse(view.dead)),
    }
    if let Some(after) = &args.after {
        queues.retain(|view| view.name > *after);
    }
    let next = args.part.cut(&mut queues).then(|| queues.last().map(|view| view.name.to_string())).flatten();
    if shell.settings.json {
        let queues: Vec<Value> = queues.iter().map(document).collect();
        let mut document = json!({"schema": "queue_list/v1", "queues": queues});
        add_next(&mut document, next.filter(|_| args.sort == Sort::Name));
        shell.out.document(&with_age(document, args.reading, age));
    } else if queues.is_empty() {
        shell.remark("no queues");
    } else {
        let table = table(&queues, shell.out.width());
        shell.out.add(table.as_bytes());
    }
    Ok(Exit::Done)
}

/// Where a listing that was cut goes on.
pub(crate) fn add_next(document: &mut Value, next: Option<String>) {
    if let Some(next) = next {
        document["next"] = next.into();
    }
}

fn table(queues: &[QueueView], width: Option<usize>) -> String {
    let columns = [
        ("QUEUE", Align::Left),
        ("READY", Align::Right),
        ("LEASED", Align::Right),
        ("DELAYED", Align::Right),
        ("DEAD", Align::Right),
        ("OLDEST", Align::Right),
        ("STATE", Align::Left),
    ];
    let rows: Vec<Vec<String>> = queues
        .iter()
        .map(|view| {
            let counts = [view.ready, view.leased, view.delayed, view.dead];
            let mut row = vec![view.name.to_string()];
            row.extend(counts.map(render::count));
            row.push(view.oldest_ready_ms.map_or_else(|| "-".into(), render::age));
            row.push(queue_json::queue::state(view));
            row
        })
        .collect();
    Table::new(&columns, &["OLDEST", "DELAYED", "LEASED"], width).page(&rows)
}

/// Runs `queue info`.
pub(crate) async fn info(shell: &mut Shell, queue: &QueueName, reading: Reading) -> Done {
    let (view, age) = existing_as(shell, queue, reading.consistency()).await?;
    shell.tell_age(reading, age);
    if shell.settings.json {
        let mut whole = json!({"schema": "queue/v1"});
        if let (Some(fields), Value::Object(more)) = (whole.as_object_mut(), document(&view)) {
            fields.extend(more);
        }
        shell.out.document(&with_age(whole, reading, age));
        return Ok(Exit::Done);
    }
    let length = |value: Option<u64>| value.map_or_else(|| "-".into(), render::age);
    let mut fields = vec![
        ("queue", view.name.to_string()),
        ("state", queue_json::queue::state(&view)),
        ("ready", render::count(view.ready)),
        ("leased", render::count(view.leased)),
        ("delayed", render::count(view.delayed)),
        ("dead", render::count(view.dead)),
        ("size", render::size(view.bytes)),
        ("oldest ready", length(view.oldest_ready_ms)),
        ("next due in", length(view.next_due_in_ms)),
        ("pushed", render::count(view.pushed_total)),
        ("leases granted", render::count(view.leased_total)),
        ("acked", render::count(view.acked_total)),
        ("waiting leases", render::count(view.waiting.into())),
        ("version", view.version.to_string()),
    ];
    fields.extend(SETTINGS.iter().map(|setting| (setting.key, (setting.show)(&view.settings))));
    let text = render::fields(&fields);
    shell.out.add(text.as_bytes());
    Ok(Exit::Done)
}

/// The queue, or the leader's words that there is none, which name a similar one.
pub(crate) async fn existing(shell: &Shell, queue: &QueueName) -> Result<QueueView, End> {
    existing_as(shell, queue, Consistency::Linearizable).await.map(|(view, _)| view)
}

async fn existing_as(
    shell: &Shell,
    queue: &QueueName,
    consistency: Consistency,
) -> Result<(QueueView, Age), End> {
    let queues = Queues { only: Some(queue.clone()), after: None, consistency };
    let answered = shell.asked(ask::Queues(queues), Some(queue)).await?;
    let found = answered.answer.into_iter().find(|view| view.name == *queue);
    found.map(|view| (view, answered.age)).ok_or_else(|| {
        Failure::new("queue_not_found", Exit::NotFound, format!("no queue named \"{queue}\""))
            .hint(format!("create it: `queuectl queue create {queue}`"))
            .detail("queue", queue.as_str())
            .into()
    })
}

fn document(view: &QueueView) -> Value {
    let settings: Map<String, Value> =
        SETTINGS.iter().map(|setting| (setting.json.to_owned(), (setting.to_json)(&view.settings))).collect();
    let mut row = queue_json::queue::row(view);
    row.insert("settings".to_owned(), settings.into());
    row.into()
}

async fn create(shell: &mut Shell, args: QueueCreateArgs) -> Done {
    let queue = args.queue;
    let settings = args.settings.0;
    let request =
        CreateQueue { queue: queue.clone(), settings: settings.clone(), if_not_exists: args.if_not_exists };
    let created = shell.ask(ask::CreateQueue(Box::new(request)), Some(&queue)).await?;
    let differs = if created { Vec::new() } else { differences(&existing(shell, &queue).await?, &settings) };
    if shell.settings.json {
        let rows: Vec<Value> = differs
            .iter()
            .map(|(setting, asked, has)| json!({"setting": setting.json, "asked": asked.1, "has": has.1}))
            .collect();
        let elapsed = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(&json!({"schema": "queue_create/v1", "queue": queue.as_str(), "created": created,
            "differs": rows, "elapsed_ms": elapsed}));
    } else {
        for (setting, asked, has) in &differs {
            shell.talk.line(&format!("{queue} exists with {} {}, not {}", setting.key, has.0, asked.0));
        }
    }
    shell.success(&if created { format!("created {queue}") } else { format!("{queue} exists already") });
    Ok(Exit::Done)
}

/// A value for people and for scripts.
type Shown = (String, Value);

/// Settings that were asked for, and that the queue has otherwise.
fn differences(
    view: &QueueView,
    asked: &QueueSettings,
) -> Vec<(&'static grammar::QueueSetting, Shown, Shown)> {
    let wanted = view.settings.with(asked);
    let shown = |setting: &grammar::QueueSetting, of| ((setting.show)(of), (setting.to_json)(of));
    let each =
        SETTINGS.iter().map(|setting| (setting, shown(setting, &wanted), shown(setting, &view.settings)));
    each.filter(|(_, asked, has)| asked.1 != has.1).collect()
}

async fn rm(shell: &mut Shell, args: QueueRmArgs) -> Done {
    let queue = args.queue;
    if let Some(view) = shell.queue(&queue).await? {
        let total = view.ready + view.leased + view.delayed + view.dead;
        let what = format!("this removes {queue} with {}", render::messages(total));
        shell.confirm(&what, &format!("queue rm {queue}")).await?;
    }
    let request = RemoveQueue { queue: queue.clone(), if_exists: args.if_exists, if_empty: args.if_empty };
    let count = shell.ask(ask::RemoveQueue(request), Some(&queue)).await?;
    changed(shell, "queue_rm/v1", &queue, "messages", count.into());
    shell.success(&format!("removed {queue} with {}", render::messages(count)));
    Ok(Exit::Done)
}

async fn set(shell: &mut Shell, args: QueueSetArgs) -> Done {
    let change = grammar::change(&args.assignments);
    alter(shell, args.queue, change, args.if_version, "queue_set/v1", |queue| format!("changed {queue}"))
        .await
}

/// Pauses or resumes.
async fn pause(shell: &mut Shell, args: PauseArgs, paused: bool) -> Done {
    let leases = args.leases || !args.pushes;
    let change = QueueSettings {
        pushes_paused: args.pushes.then_some(paused),
        leases_paused: leases.then_some(paused),
        ..QueueSettings::default()
    };
    let what = match (args.pushes, leases) {
        (true, true) => "pushes and leases",
        (true, false) => "pushes",
        _ => "leases",
    };
    let (schema, done) = if paused { ("queue_pause/v1", "paused") } else { ("queue_resume/v1", "resumed") };
    alter(shell, args.queue, change, None, schema, |queue| format!("{done} {what} of {queue}")).await
}

async fn alter(
    shell: &mut Shell,
    queue: QueueName,
    change: QueueSettings,
    if_version: Option<u64>,
    schema: &str,
    text: impl Fn(&QueueName) -> String,
) -> Done {
    let request = AlterQueue { queue: queue.clone(), change, if_version };
    let version = shell.ask(ask::AlterQueue(Box::new(request)), Some(&queue)).await?;
    changed(shell, schema, &queue, "version", version.into());
    shell.success(&text(&queue));
    Ok(Exit::Done)
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
            oldest_ready_ms: oldest,
            next_due_in_ms: None,
            pushed_total: 0,
            leased_total: 0,
            acked_total: 0,
            settings: Settings::default(),
            waiting: 0,
            version: 1,
            full: false,
            blocked: false,
        }
    }

    #[test]
    fn the_listing_has_the_states_in_their_order() {
        assert_eq!(
            table(&[view("emails", 12, Some(400)), view("jobs", 1_204, None)], None),
            "QUEUE   READY  LEASED  DELAYED  DEAD  OLDEST  STATE\n\
             emails     12      64        0     7    0.4s  ok\n\
             jobs    1,204      64        0     7       -  ok\n"
        );
    }

    #[test]
    fn what_keeps_pushes_out_or_messages_in_is_the_state_of_a_queue() {
        let state = |pushes_paused, leases_paused, full, blocked| {
            let settings = Settings { pushes_paused, leases_paused, ..Settings::default() };
            queue_json::queue::state(&QueueView { settings, full, blocked, ..view("jobs", 1, None) })
        };
        assert_eq!(state(false, false, false, false), "ok");
        assert_eq!(state(true, false, false, false), "pushes paused");
        assert_eq!(state(true, true, true, false), "paused, full");
        assert_eq!(state(false, false, true, true), "full, blocked");
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
