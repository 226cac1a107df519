//! What is done to all messages of a queue that a filter chooses: purge, move, put back, delete. The cluster does a
//! bounded part at a time; before what needs consent, and with `--dry-run`, they are counted.

use queue_json::words;
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{Action, MessageState, Select, Sweep};
use queue_protocol::wire::response::Swept;
use serde_json::{Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{Filter, MoveArgs, PurgeArgs, milliseconds};
use crate::queues;
use crate::shell::Shell;
use crate::show::render;

/// A sweep with the words for it.
pub(crate) struct Plan {
    pub(crate) queue: QueueName,
    /// Only this state.
    pub(crate) state: Option<MessageState>,
    pub(crate) filter: Filter,
    pub(crate) action: Action,
    /// Schema of the document.
    pub(crate) schema: &'static str,
    /// "purged"
    pub(crate) done: &'static str,
    /// "from jobs"
    pub(crate) place: String,
    /// What is asked about so many messages, and the command that does it with `--yes`; `None` if it can be undone.
    pub(crate) consent: Option<Consent>,
}

/// See [`Plan`].
pub(crate) struct Consent {
    pub(crate) question: Box<dyn Fn(u64) -> String + Send>,
    pub(crate) command: String,
}

/// Runs `queue purge`.
pub(crate) async fn purge(shell: &mut Shell, args: PurgeArgs) -> Done {
    let queue = args.queue;
    let state: Option<MessageState> = args.state.map(Into::into);
    let kind = state.map_or_else(String::new, |state| format!(" that are {}", words::state(state)));
    let flag = state.map_or_else(String::new, |state| format!(" --state {}", words::state(state)));
    let place = format!("from {queue}");
    let asked = place.clone();
    let plan = Plan {
        state,
        action: Action::Delete,
        schema: "queue_purge/v1",
        done: "purged",
        place,
        consent: Some(Consent {
            question: Box::new(move |count| {
                format!("purge removes {}{kind} {asked} for good", render::messages(count))
            }),
            command: format!("queue purge {queue}{flag}{}", options(&args.filter)),
        }),
        filter: args.filter,
        queue,
    };
    run(shell, plan).await
}

/// Runs `queue move`.
pub(crate) async fn move_all(shell: &mut Shell, args: MoveArgs) -> Done {
    let plan = Plan {
        state: args.state.map(Into::into),
        filter: args.filter,
        schema: "queue_move/v1",
        done: "moved",
        place: format!("from {} to {}", args.from, args.to),
        consent: None,
        action: Action::Move { to: args.to },
        queue: args.from,
    };
    run(shell, plan).await
}

/// Counts, asks where that is needed, does it, and says so.
///
/// # Errors
/// As the leader says; a quiet end if the answer was no.
pub(crate) async fn run(shell: &mut Shell, plan: Plan) -> Done {
    let select = select(&plan)?;
    let limit = plan.filter.limit.unwrap_or(u64::MAX);
    let sweep = Sweep { limit, ..Sweep::all(plan.queue.clone(), select, plan.action.clone()) };
    let dry_run = plan.filter.dry_run;
    let Swept { count, skipped, .. } = if dry_run {
        shell.sweep(Sweep { dry_run, ..sweep }).await?
    } else {
        if let Some(consent) = plan.consent.as_ref().filter(|_| !shell.settings.yes) {
            let count = count(shell, &plan, &sweep).await?;
            shell.confirm(&(consent.question)(count), &consent.command).await?;
        }
        shell.sweep(sweep).await?
    };
    if shell.settings.json {
        let to = match &plan.action {
            Action::Move { to } | Action::Redrive { to: Some(to) } => Value::from(to.as_str()),
            Action::Delete | Action::Redrive { to: None } => Value::Null,
        };
        let elapsed = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(&json!({"schema": plan.schema, "queue": plan.queue.as_str(), "to": to,
            "messages": count, "skipped": skipped, "dry_run": dry_run, "elapsed_ms": elapsed}));
    }
    let (messages, place) = (render::messages(count), plan.place);
    shell.success(&if dry_run {
        format!("would have {} {messages} {place}", plan.done)
    } else {
        format!("{} {messages} {place}{}", plan.done, skipped_text(skipped))
    });
    Ok(Exit::Done)
}

/// How many it will be about: from the queue's own counts where they tell.
async fn count(shell: &Shell, plan: &Plan, sweep: &Sweep) -> Result<u64, End> {
    if plan.filter.is_empty() {
        let view = queues::existing(shell, &plan.queue).await?;
        return Ok(match plan.state {
            None => view.ready + view.delayed + view.dead,
            Some(MessageState::Ready) => view.ready,
            Some(MessageState::Leased) => view.leased,
            Some(MessageState::Delayed) => view.delayed,
            Some(MessageState::Dead) => view.dead,
        });
    }
    Ok(shell.sweep(Sweep { dry_run: true, ..sweep.clone() }).await?.count)
}

/// What stayed where it is, behind what was done.
fn skipped_text(skipped: u64) -> String {
    match skipped {
        0 => String::new(),
        1 => ", skipped 1 whose unique key another message holds".to_owned(),
        _ => format!(", skipped {} whose unique keys other messages hold", render::count(skipped)),
    }
}

/// Ages are counted by the cluster, on the clock that durations run on.
fn select(plan: &Plan) -> Result<Select, End> {
    let filter = &plan.filter;
    let text = |text: &String| Text::new(text).map_err(|error| Failure::usage(format!("--error: {error}")));
    Ok(Select {
        state: plan.state,
        older_than_ms: filter.older_than.map(milliseconds),
        died_within_ms: filter.since.map(milliseconds),
        reason: filter.reason.map(Into::into),
        error: filter.error.as_ref().map(text).transpose()?,
        ..Select::default()
    })
}

/// The options that make this filter.
pub(crate) fn options(filter: &Filter) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {value}"));
        }
    };
    let length = |length| humantime::format_duration(length).to_string().replace(' ', "");
    add("--older-than", filter.older_than.map(length));
    add("--reason", filter.reason.map(|reason| words::dead_reason(reason.into()).to_owned()));
    add("--since", filter.since.map(length));
    add("--error", filter.error.as_ref().map(|text| format!("'{}'", text.replace('\'', r"'\''"))));
    add("--limit", filter.limit.map(|limit| limit.to_string()));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::grammar::Reason;

    #[test]
    fn the_options_of_a_filter_can_be_pasted() {
        assert_eq!(options(&Filter::default()), "");
        let filter = Filter {
            older_than: Some(Duration::from_secs(90)),
            reason: Some(Reason::Expired),
            error: Some("it's".to_owned()),
            limit: Some(7),
            ..Filter::default()
        };
        assert_eq!(options(&filter), r" --older-than 1m30s --reason expired --error 'it'\''s' --limit 7");
    }
}
