//! `lease ls`: the leases of a queue, and who holds them.

use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::wire::request::{Cursor, MessageState, Peek};
use queue_protocol::wire::response::MessageView;

use crate::failure::Done;
use crate::failure::exit::Exit;
use crate::grammar::LeaseLsArgs;
use crate::messages::Seen;
use crate::messages::holder::{name_of, session};
use crate::messages::peek;
use crate::queues;
use crate::shell::{Shell, with_age};
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs `lease ls`: the leases of a queue, page by page.
pub(crate) async fn run(shell: &mut Shell, args: LeaseLsArgs) -> Done {
    use Align::{Left, Right};
    let LeaseLsArgs { queue: name, part, after, reading } = args;
    let columns = [
        ("ID", Right),
        ("HOLDER", Left),
        ("ADDRESS", Left),
        ("SESSION", Left),
        ("SINCE", Right),
        ("LEFT", Right),
        ("ATTEMPT", Right),
        ("BODY", Left),
    ];
    let drops = ["SESSION", "ATTEMPT", "ADDRESS", "SINCE"];
    let mut table = Table::new(&columns, &drops, shell.out.width());
    let (mut left, mut after, mut is_first) = (part.limit.unwrap_or(u64::MAX), after, true);
    loop {
        let peek = Peek {
            queue: name.clone(),
            state: Some(MessageState::Leased),
            id: None,
            max_messages: u16::try_from(left.min(LEASE_COUNT_MAX as u64)).expect("the limit is small"),
            max_bytes: peek::ANSWER_SIZE_MAX,
            after,
            consistency: reading.consistency(),
        };
        let page = peek::page(shell, peek).await?;
        if is_first {
            shell.tell_age(reading, page.age);
            is_first = false;
        }
        left -= page.seen.len() as u64;
        let is_last = left == 0 || page.next.is_none();
        let next: Option<Cursor> = page.next.filter(|_| is_last);
        if shell.settings.json {
            for (row, seen) in page.seen.iter().enumerate() {
                let mut document = with_age(seen.document(), reading, page.age);
                if row + 1 == page.seen.len() {
                    queues::add_next(&mut document, next.map(|next| next.to_string()));
                }
                shell.out.document(&document);
            }
        } else if !page.seen.is_empty() {
            let rows: Vec<Vec<String>> = page.seen.iter().map(lease_row).collect();
            shell.out.add(table.page(&rows).as_bytes());
        }
        shell.out.flush().await?;
        if is_last {
            if let Some(next) = next {
                shell.remark(&format!("there are more: `queuectl lease ls {name} --after {next}`"));
            } else if table.is_empty() && !shell.settings.json {
                shell.remark(&format!("nothing is leased from {name}"));
            }
            return Ok(Exit::Done);
        }
        after = page.next;
    }
}

fn lease_row(seen: &Seen) -> Vec<String> {
    let MessageView { id, holder, until_ms, attempts, .. } = &seen.view;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let holder = holder.as_ref();
    let address = holder.and_then(|holder| holder.heard.as_ref()).map(|heard| heard.address.to_string());
    vec![
        id.to_string(),
        or_unknown(holder.map(name_of)),
        or_unknown(address),
        or_unknown(holder.and_then(|holder| holder.session).map(session)),
        or_unknown(holder.map(|holder| format!("{} ago", render::age(holder.held_ms)))),
        or_unknown(until_ms.map(render::age)),
        render::count((*attempts).into()),
        render::preview(&seen.body, 60),
    ]
}
