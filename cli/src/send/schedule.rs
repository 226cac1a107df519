//! `schedule`: recurring pushes.

use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use queue_protocol::content::{self, ContentSpec};
use queue_protocol::limits::{PRIORITY_DEFAULT, SCHEDULES_LISTED_MAX};
use queue_protocol::names::Key;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{Consistency, Due, PushMessage, PushOptions, Unique, UniqueHeld};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::schedule::{ScheduleView, Schedules, SetSchedule, When};
use serde_json::{Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::{Part, ScheduleAddArgs, ScheduleCmd, milliseconds};
use crate::queues;
use crate::send::push;
use crate::shell::{Shell, all_pages};
use crate::show::clock;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs a `schedule` command.
pub(crate) async fn run(shell: &mut Shell, cmd: ScheduleCmd) -> Done {
    match cmd {
        ScheduleCmd::Ls { part, after } => ls(shell, part, after).await,
        ScheduleCmd::Add(args) => add(shell, *args).await,
        ScheduleCmd::Rm { name } => {
            shell.ask(ask::RemoveSchedule(name.clone()), None).await?;
            if shell.settings.json {
                shell.out.document(&json!({"schema": "schedule_rm/v1", "name": name.as_str()}));
            }
            shell.success(&format!("removed schedule {name}"));
            Ok(Exit::Done)
        }
    }
}

async fn add(shell: &mut Shell, args: ScheduleAddArgs) -> Done {
    let bad = |what: String| Failure::new("bad_request", Exit::BadData, what);
    let when = match (&args.cron, args.every) {
        (Some(pattern), _) => When::Cron {
            pattern: Text::new(pattern).map_err(|error| bad(format!("--cron: {error}")))?,
            zone: Text::new(&args.zone).map_err(|error| bad(format!("--zone: {error}")))?,
        },
        (None, every) => When::Every(milliseconds(every.expect("one of both is given"))),
    };
    let body = Bytes::from(args.body.into_vec());
    let content =
        content::encode(&push::headers(&args.headers)?, &body).map_err(|error| bad(error.to_string()))?;
    let options = PushOptions {
        priority: args.priority.unwrap_or(PRIORITY_DEFAULT),
        due: Due::Now,
        ttl_ms: args.ttl.map(milliseconds),
        dedup_key: None,
        unique: args.unique.map(|key| Unique { key, held: UniqueHeld::Keep }),
        group: args.group,
    };
    let set = SetSchedule {
        name: args.name.clone(),
        replace: args.replace,
        queue: args.queue.clone(),
        when,
        missed: args.missed,
        message: PushMessage { content: ContentSpec::of(&content), options },
    };
    let made = shell.client.ask_with(ask::SetSchedule(Box::new(set)), vec![content]).await;
    let made = made.map_err(|error| Failure::of(error, Some(&args.queue)))?.answer;
    if shell.settings.json {
        let name = args.name.as_str();
        shell.out.document(&json!({"schema": "schedule_add/v1", "name": name, "replaced": !made}));
    }
    let done = if made { "added" } else { "replaced" };
    shell.success(&format!("{done} schedule {} for {}", args.name, args.queue));
    Ok(Exit::Done)
}

async fn ls(shell: &mut Shell, part: Part, begin: Option<Key>) -> Done {
    let page = async |last: Option<&ScheduleView>| {
        let after = last.map(|view| view.name.clone()).or_else(|| begin.clone());
        let page = Schedules { after, consistency: Consistency::Linearizable };
        Ok(shell.client.ask(ask::Schedules(page)).await?.answer.into_vec())
    };
    let mut all = all_pages(SCHEDULES_LISTED_MAX, page).await.map_err(|error| Failure::of(error, None))?;
    let next = part.cut(&mut all).then(|| all.last().map(|view| view.name.to_string())).flatten();
    if shell.settings.json {
        let schedules: Vec<Value> = all.iter().map(queue_json::schedule::row).collect();
        let mut document = json!({"schema": "schedule_list/v1", "schedules": schedules});
        queues::add_next(&mut document, next);
        shell.out.document(&document);
    } else if all.is_empty() {
        shell.remark("no schedules");
    } else {
        let table = table(&all, shell.out.width());
        shell.out.add(table.as_bytes());
    }
    Ok(Exit::Done)
}

fn table(all: &[ScheduleView], width: Option<usize>) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("QUEUE", Align::Left),
        ("WHEN", Align::Left),
        ("NEXT", Align::Left),
        ("LAST", Align::Left),
        ("STORED", Align::Right),
        ("REFUSED", Align::Right),
    ];
    let time = |at_ms: Option<u64>| at_ms.map_or_else(|| "-".to_owned(), clock::rfc3339);
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|view| {
            vec![
                render::preview(view.name.as_str().as_bytes(), 40),
                view.queue.to_string(),
                match &view.when {
                    When::Cron { pattern, zone } => {
                        render::preview(format!("{} {}", &**pattern, &**zone).as_bytes(), 80)
                    }
                    When::Every(ms) => format!("every {}", span(*ms)),
                },
                time(view.next_at_ms),
                time(view.last_at_ms),
                render::count(view.stored),
                render::count(view.refused),
            ]
        })
        .collect();
    Table::new(&columns, &["LAST", "STORED", "REFUSED", "NEXT"], width).page(&rows)
}

fn span(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}
