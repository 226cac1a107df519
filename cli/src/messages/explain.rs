//! `explain`: why a queue, or one message of it, is not delivered now; `message position`: what comes before it.

use queue_json::words;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::explain::{AHEAD_COUNT_MAX, Explain, Explained, Hold};
use queue_protocol::wire::request::Consistency;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Age;
use serde_json::json;

use crate::failure::exit::Exit;
use crate::failure::{Done, End};
use crate::grammar::ExplainArgs;
use crate::messages;
use crate::messages::peek;
use crate::shell::{Shell, with_age};
use crate::show::clock;
use crate::show::render;

/// Runs `message position`: 0 if the message is ready, 1 if it is not.
pub(crate) async fn position(shell: &mut Shell, queue: &QueueName, id: u64) -> Done {
    let consistency = Consistency::Linearizable;
    let explain = Explain { queue: queue.clone(), id: Some(MessageId(id)), consistency };
    let (explained, _) = ask(shell, explain).await?;
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "position/v1",
            "queue": queue.as_str(),
            "id": id.to_string(),
            "ahead": explained.ahead,
            "holds": queue_json::explain::holds(&explained.holds),
        }));
    } else {
        let subject = format!("message {id}");
        let holds = explained.holds.iter().map(|hold| text(queue, &subject, hold));
        let line = explained.ahead.map_or_else(|| format!("{subject} is not ready"), before);
        let lines: Vec<String> = std::iter::once(line).chain(holds).collect();
        shell.out.add(format!("{}\n", lines.join("\n")).as_bytes());
    }
    Ok(if explained.ahead.is_some() { Exit::Done } else { Exit::No })
}

async fn ask(shell: &Shell, explain: Explain) -> Result<(Explained, Age), End> {
    let queue = explain.queue.clone();
    let answered = shell.asked(ask::Explain(explain), Some(&queue)).await?;
    Ok((answered.answer, answered.age))
}

/// What holds the messages of a queue back, or that nothing does, a line each.
///
/// # Errors
/// As the leader says.
pub(crate) async fn of_queue(shell: &Shell, queue: &QueueName) -> Result<Vec<String>, End> {
    let explain = Explain { queue: queue.clone(), id: None, consistency: Consistency::Linearizable };
    let (explained, _) = ask(shell, explain).await?;
    Ok(lines(queue, queue.as_str(), &explained))
}

/// How many messages come before one.
fn before(ahead: u64) -> String {
    let more = if ahead < AHEAD_COUNT_MAX as u64 { "" } else { " or more" };
    format!("ready messages before it: {}{more}", render::count(ahead))
}

/// Runs the command: 0 if something is delivered to whoever asks, 1 if something holds it back.
pub(crate) async fn run(shell: &mut Shell, args: ExplainArgs) -> Done {
    let id = args.id.map(MessageId);
    let explain = Explain { queue: args.queue.clone(), id, consistency: args.reading.consistency() };
    let (explained, age) = ask(shell, explain).await?;
    shell.tell_age(args.reading, age);
    let subject = args.id.map_or_else(|| args.queue.to_string(), |id| format!("message {id}"));
    let expires = expires_first(shell, &args.queue, id, &explained.holds).await?;
    if shell.settings.json {
        let mut document = queue_json::explain::document(&args.queue, args.id, &explained);
        if let Some(at) = expires {
            document["expires_at"] = clock::rfc3339(at).into();
        }
        shell.out.document(&with_age(document, args.reading, age));
    } else {
        if let Some(at) = expires {
            shell.out.add(
                format!("{subject} expires first, at {}: it is never delivered\n", clock::rfc3339(at))
                    .as_bytes(),
            );
        }
        for line in lines(&args.queue, &subject, &explained) {
            shell.out.add(format!("{line}\n").as_bytes());
        }
    }
    Ok(if explained.holds.is_empty() { Exit::Done } else { Exit::No })
}

fn lines(queue: &QueueName, subject: &str, explained: &Explained) -> Vec<String> {
    let mut lines: Vec<String> = explained.holds.iter().map(|hold| text(queue, subject, hold)).collect();
    let waiting = match explained.waiting {
        0 => "no consumer waits at the leader".to_owned(),
        1 => "1 consumer waits at the leader".to_owned(),
        count => format!("{count} consumers wait at the leader"),
    };
    if lines.is_empty() {
        lines.push(format!("nothing holds {subject} back; {waiting}"));
    }
    if let Some(ahead) = explained.ahead {
        lines.push(before(ahead));
    }
    lines.extend(
        explained.refusals.iter().map(|refusal| format!("pushes are refused: {}", &*refusal.message)),
    );
    let clock = render::clock_off(explained.clock_off_ms);
    lines.extend(clock.map(|clock| format!("the node that answers: {clock}")));
    lines
}

/// When a delayed message that is asked for expires, if that is before it is due.
async fn expires_first(
    shell: &Shell,
    queue: &QueueName,
    id: Option<MessageId>,
    holds: &[Hold],
) -> Result<Option<u64>, End> {
    if id.is_none() || !holds.iter().any(|hold| matches!(hold, Hold::Delayed { .. })) {
        return Ok(None);
    }
    let seen = peek::look(shell, queue, None, id, 1).await?;
    Ok(seen.first().and_then(|seen| messages::expires_first(&seen.view)))
}

/// What a hold says of a group: the message, if it was found.
fn by(id: Option<MessageId>) -> String {
    id.map_or_else(|| "one of its messages".to_owned(), |id| format!("its message {id}"))
}

fn text(queue: &QueueName, subject: &str, hold: &Hold) -> String {
    match hold {
        Hold::Paused => format!("deliveries are paused: `queuectl queue resume {queue}`"),
        Hold::Empty => format!("{subject} is empty"),
        Hold::Leased { id, left_ms } => format!("message {id} is leased for {} more", render::age(*left_ms)),
        Hold::Delayed { id, left_ms: Some(left), .. } => {
            format!("message {id} is delayed: due in {}", render::age(*left))
        }
        Hold::Delayed { id, due_at_ms, left_ms: None } => {
            format!("message {id} is delayed until {}", clock::rfc3339(*due_at_ms))
        }
        Hold::Dead { id, reason } => {
            let reason = words::dead_reason(*reason);
            format!("message {id} is dead: {reason}; `queuectl dead retry {queue} {id}`")
        }
        Hold::GroupLeased { group, id, left_ms } => {
            let left = left_ms.map(|left| format!(" for {} more", render::age(left))).unwrap_or_default();
            format!("group {group}: {} is leased{left}", by(*id))
        }
        Hold::GroupWaits { group, id, due_at_ms, left_ms } => {
            let until = || due_at_ms.map(|at| format!(" until {}", clock::rfc3339(at))).unwrap_or_default();
            let waits = left_ms.map_or_else(until, |left| format!(": due in {}", render::age(left)));
            format!("group {group}: {} failed and waits{waits}", by(*id))
        }
        Hold::GroupBlocked { group, id } => {
            format!("group {group} is blocked: {} is dead; retry or remove it", by(*id))
        }
        Hold::GroupParked { group } => format!("group {group} is being parked: one of its messages died"),
        Hold::GroupFull { group } => {
            format!("group {group}: as many messages are leased as its queue allows")
        }
        Hold::Rate { wait_ms } => {
            let wait = render::age(*wait_ms);
            format!("{subject} has given as many messages as its rate allows; next in {wait}")
        }
        Hold::Active { session, epoch, left_ms } => {
            let left = render::age(*left_ms);
            format!(
                "{subject} is for one consumer: session {session} has it (epoch {epoch}), for {left} unless it goes on"
            )
        }
        Hold::GroupRate { group, wait_ms } => {
            let next = wait_ms.map(|wait| format!("; next in {}", render::age(wait))).unwrap_or_default();
            format!("group {group} was given as many messages as its rate allows{next}")
        }
    }
}
