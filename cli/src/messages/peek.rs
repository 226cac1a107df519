//! `peek`: look at messages without changing anything.

use queue_json::words;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::request::{Consistency, Cursor, MessageState, Peek};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Age, MessageView};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{PeekArgs, Reading};
use crate::messages::{self, Seen};
use crate::queues;
use crate::shell::{Shell, with_age};
use crate::show::render;

/// Contents in one answer.
pub(crate) const ANSWER_SIZE_MAX: u32 = 4 << 20;

/// Runs the command. What does not fit in one answer is asked for again, so `-n` messages are shown if there are so many.
pub(crate) async fn run(shell: &mut Shell, args: PeekArgs) -> Done {
    shell.out.set_raw(args.raw);
    let id = args.id.map(MessageId);
    let consistency = args.reading.consistency();
    let (mut left, mut after, mut is_first) = (args.count, args.after, true);
    loop {
        let state = id.is_none().then_some(args.state.into());
        let max_messages = if id.is_some() { 1 } else { left };
        let max_bytes = ANSWER_SIZE_MAX;
        let peek = Peek { queue: args.queue.clone(), state, id, max_messages, max_bytes, after, consistency };
        let Page { seen, next, age } = page(shell, peek).await?;
        if is_first {
            shell.tell_age(args.reading, age);
        }
        if seen.is_empty() && is_first {
            if let Some(id) = args.id {
                let message = format!("no message {id} in {}", args.queue);
                return Err(Failure::new("message_not_found", Exit::NotFound, message).into());
            }
            shell.remark(&format!("no {} messages in {}", words::state(args.state.into()), args.queue));
            return Ok(Exit::No);
        }
        left = left.saturating_sub(u16::try_from(seen.len()).unwrap_or(u16::MAX));
        let is_last = left == 0 || next.is_none() || seen.is_empty();
        let mark = next.filter(|_| is_last);
        show(shell, &seen, args.reading, age, mark).await?;
        if is_last {
            if let Some(next) = mark.filter(|_| args.count > 1) {
                shell.remark(&format!("there are more: --after {next}"));
            }
            return Ok(Exit::Done);
        }
        (after, is_first) = (next, false);
    }
}

/// Shows messages; the last document says where the next page begins.
async fn show(
    shell: &mut Shell,
    all: &[Seen],
    reading: Reading,
    age: Age,
    next: Option<Cursor>,
) -> Result<(), End> {
    for (at, seen) in all.iter().enumerate() {
        if shell.settings.json {
            let mut document = with_age(seen.document(), reading, age);
            if at + 1 == all.len() {
                queues::add_next(&mut document, next.map(|next| next.to_string()));
            }
            shell.out.document(&document);
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
    shell.out.flush().await
}

/// The first messages of one state, or the one named.
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
    let (max_bytes, consistency) = (ANSWER_SIZE_MAX, Consistency::Linearizable);
    let peek = Peek { queue: queue.clone(), state, id, max_messages, max_bytes, after: None, consistency };
    page(shell, peek).await.map(|page| page.seen)
}

/// What one answer shows.
pub(crate) struct Page {
    pub(crate) seen: Vec<Seen>,
    /// Where the next page begins, if there is more.
    pub(crate) next: Option<Cursor>,
    pub(crate) age: Age,
}

/// Messages of one state, as many as are asked for and fit in an answer.
///
/// # Errors
/// As the leader says.
pub(crate) async fn page(shell: &Shell, peek: Peek) -> Result<Page, End> {
    let queue = peek.queue.clone();
    let answered = shell.asked(ask::Peek(peek), Some(&queue)).await?;
    let peeked = answered.answer;
    let seen: Result<Vec<Seen>, End> = peeked
        .messages
        .into_iter()
        .zip(&answered.contents)
        .map(|(view, content)| {
            let (headers, body) = messages::split(content, &format!("message {} of {queue}", view.id))?;
            Ok(Seen { queue: queue.clone(), view, headers, body })
        })
        .collect();
    Ok(Page { seen: seen?, next: peeked.next, age: answered.age })
}

/// One line about a message.
fn describe(queue: &QueueName, view: &MessageView) -> String {
    let mut text = format!("{queue} {}  {}  attempts {}", view.id, words::state(view.state), view.attempts);
    if let (MessageState::Leased, Some(left)) = (view.state, view.until_ms) {
        text.push_str(&format!("  {} left", render::age(left)));
    }
    if let Some(reason) = view.dead {
        text.push_str(&format!("  {}", words::dead_reason(reason)));
    }
    if let Some(error) = view.last_error.as_deref().filter(|error| !error.is_empty()) {
        text.push_str(&format!("  {}", render::preview(error.as_bytes(), 60)));
    }
    text
}
