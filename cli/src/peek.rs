//! `peek`: look at messages without changing anything.

use queue_protocol::bounded::Bounded;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::request::{Consistency, MessageState, Peek, Request};
use queue_protocol::response::{Age, Answer, MessageView};

use crate::errors::{Done, End, Failure};
use crate::exit::Exit;
use crate::grammar::PeekArgs;
use crate::message::{self, Seen};
use crate::render::{self, with_age};
use crate::shell::{Shell, unexpected};

/// Contents in one answer.
const ANSWER_SIZE_MAX: u32 = 4 << 20;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: PeekArgs) -> Done {
    let (state, max) = match args.id {
        Some(_) => (None, 1),
        None => (Some(args.state.into()), args.count),
    };
    let id = args.id.map(MessageId);
    let (seen, age) = look_as(shell, &args.queue, state, id, max, args.reading.consistency()).await?;
    shell.tell_age(args.reading, age);
    if seen.is_empty() {
        if let Some(id) = args.id {
            let message = format!("no message {id} in {}", args.queue);
            return Err(Failure::new("message_not_found", Exit::NotFound, message).into());
        }
        shell.remark(&format!("no {} messages in {}", message::name(args.state.into()), args.queue));
        return Ok(Exit::No);
    }
    for seen in &seen {
        if shell.settings.json {
            shell.out.document(&with_age(seen.document(), args.reading, age));
            continue;
        }
        if shell.out.is_terminal() {
            shell.remark(&describe(&seen.queue, &seen.view));
        }
        shell.out.add(&seen.body);
        shell.out.add(b"\n");
        if shell.out.is_terminal() {
            shell.out.flush().await?;
        }
    }
    Ok(Exit::Done)
}

/// Messages of one state in delivery order, or the one named.
///
/// # Errors
/// As the leader says.
pub(crate) async fn look(
    shell: &Shell,
    queue: &QueueName,
    state: Option<MessageState>,
    id: Option<MessageId>,
    max_messages: u16,
) -> Result<Vec<Seen>, End> {
    let looked = look_as(shell, queue, state, id, max_messages, Consistency::Linearizable).await;
    looked.map(|(seen, _)| seen)
}

async fn look_as(
    shell: &Shell,
    queue: &QueueName,
    state: Option<MessageState>,
    id: Option<MessageId>,
    max_messages: u16,
    consistency: Consistency,
) -> Result<(Vec<Seen>, Age), End> {
    let peek =
        Peek { queue: queue.clone(), state, id, max_messages, max_bytes: ANSWER_SIZE_MAX, consistency };
    let answered = shell.client.call(Request::Peek(peek), Vec::new()).await;
    let answered = answered.map_err(|error| Failure::of(error, Some(queue)))?;
    let Answer::Peeked(views) = answered.answer else { return Err(unexpected(&answered.answer)) };
    let views: Bounded<MessageView, _> = views;
    let seen: Result<Vec<Seen>, End> = views
        .into_iter()
        .zip(&answered.contents)
        .map(|(view, content)| {
            let (headers, body) = message::split(content, &format!("message {} of {queue}", view.id))?;
            Ok(Seen { queue: queue.clone(), view, headers, body })
        })
        .collect();
    Ok((seen?, answered.age))
}

/// One line about a message.
fn describe(queue: &QueueName, view: &MessageView) -> String {
    let mut text = format!("{queue} {}  {}  attempts {}", view.id, message::name(view.state), view.attempts);
    if let (MessageState::Leased, Some(left)) = (view.state, view.until_ms) {
        text.push_str(&format!("  {} left", render::age(left)));
    }
    if let Some(reason) = view.dead {
        text.push_str(&format!("  {}", message::reason_name(reason)));
    }
    if let Some(error) = view.last_error.as_deref().filter(|error| !error.is_empty()) {
        text.push_str(&format!("  {}", render::preview(error.as_bytes(), 60)));
    }
    text
}
