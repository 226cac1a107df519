//! Who is connected, and who holds a message: `cluster clients` and `lease ls`.

use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::clients::{ClientView, Clients, LeaseHolder};
use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::request::{Cursor, MessageState, Peek};
use queue_protocol::requests::ask;
use queue_protocol::response::MessageView;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::clock;
use crate::cluster;
use crate::errors::{Done, Failure};
use crate::exit::Exit;
use crate::grammar::{ClientsArgs, LeaseLsArgs};
use crate::message::Seen;
use crate::nodes::{self, reason};
use crate::peek;
use crate::queue;
use crate::render;
use crate::shell::Shell;
use crate::table::{Align, Table};

/// How long one node may take.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// Characters of a session that are shown.
const SESSION_SHOWN: usize = 8;

/// The connections of one node, or why they are not known.
struct Asked {
    node: String,
    clients: Result<Vec<ClientView>, String>,
}

/// Runs `cluster clients`: the connections of the leader, of one node, or of every node.
pub(crate) async fn run(shell: &mut Shell, args: ClientsArgs) -> Done {
    let nodes = cluster::gather(shell).await?;
    let leader = nodes.judge().leader.map(|leader| leader.node);
    let only = match &args.node {
        Some(word) => Some(cluster::find(&nodes, word)?),
        None if args.all => None,
        None => Some(leader.ok_or_else(|| {
            Failure::new("no_leader", Exit::Retry, "the cluster has no leader")
                .hint("ask every node: `queuectl cluster clients --all`")
        })?),
    };
    let limit = shell.timeout().min(NODE_TIMEOUT);
    let chosen = nodes.iter().filter(|node| only.is_none() || node.id() == only);
    let asked = join_all(chosen.map(|node| ask(&shell.client, node, limit))).await;
    if shell.settings.json {
        let nodes: Vec<Value> = asked.iter().map(document).collect();
        shell.out.document(&json!({"schema": "clients/v1", "nodes": nodes}));
    } else {
        show(shell, &asked);
    }
    Ok(if asked.iter().all(|asked| asked.clients.is_ok()) { Exit::Done } else { Exit::Part })
}

async fn ask(client: &Client, node: &nodes::Node, limit: Duration) -> Asked {
    let clients = match &node.status {
        Err(why) => Err(why.clone()),
        Ok(_) => match timeout(limit, all(client, &node.address)).await {
            Ok(Ok(clients)) => Ok(clients),
            Ok(Err(error)) => Err(reason(&node.address, &error)),
            Err(_) => Err(format!("timed out after {}", humantime::format_duration(limit))),
        },
    };
    Asked { node: node.name(), clients }
}

/// Every connection of a node, page by page.
///
/// # Errors
/// As the node says.
pub(crate) async fn all(client: &Client, address: &str) -> Result<Vec<ClientView>, ClientError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = client.ask_node(address, ask::Clients(Clients { after })).await?.answer;
        all.extend(page.clients);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn show(shell: &mut Shell, asked: &[Asked]) {
    use Align::{Left, Right};
    let columns = [
        ("NODE", Left),
        ("PROGRAM", Left),
        ("VERSION", Left),
        ("ADDRESS", Left),
        ("SESSION", Left),
        ("OPEN", Right),
        ("LEASED", Right),
        ("PARKED", Right),
        ("ON", Left),
        ("CONNECTED", Right),
    ];
    let row = |node: &str, view: &ClientView| {
        let (program, version) = program_of(&view.client);
        let parked = view.parked_on.iter().map(QueueName::as_str).collect::<Vec<_>>().join(",");
        vec![
            node.to_owned(),
            program,
            version,
            view.address.to_string(),
            session(view.session),
            render::count(view.in_flight.into()),
            render::count(view.leased.into()),
            render::count(view.parked.into()),
            if parked.is_empty() { "-".to_owned() } else { parked },
            render::age(view.connected_ms),
        ]
    };
    let rows: Vec<Vec<String>> = asked
        .iter()
        .flat_map(|asked| asked.clients.iter().flatten().map(|view| row(&asked.node, view)))
        .collect();
    let drops = ["CONNECTED", "OPEN", "SESSION", "VERSION", "NODE"];
    let text = Table::new(&columns, &drops, shell.out.width()).page(&rows);
    shell.out.add(text.as_bytes());
    for asked in asked {
        if let Err(why) = &asked.clients {
            shell.out.add(format!("{}  unknown: {why}\n", asked.node).as_bytes());
        }
    }
}

fn document(asked: &Asked) -> Value {
    let client = |view: &ClientView| {
        let (program, version) = program_of(&view.client);
        json!({
            "connection": view.connection.to_string(),
            "program": program,
            "version": version,
            "address": &*view.address,
            "session": view.session.to_string(),
            "connected_ms": view.connected_ms,
            "in_flight": view.in_flight,
            "leased": view.leased,
            "parked": view.parked,
            "parked_on": view.parked_on.iter().map(QueueName::as_str).collect::<Vec<_>>(),
        })
    };
    match &asked.clients {
        Ok(clients) => json!({
            "node": asked.node,
            "reachable": true,
            "clients": clients.iter().map(client).collect::<Vec<_>>(),
        }),
        Err(why) => json!({"node": asked.node, "reachable": false, "error": why}),
    }
}

/// Program and version of what a client calls itself.
fn program_of(client: &str) -> (String, String) {
    let known =
        |text: &str| if text.is_empty() { "?".to_owned() } else { render::preview(text.as_bytes(), 64) };
    match client.split_once('/') {
        Some((program, version)) => (known(program), known(version)),
        None => (known(client), "?".to_owned()),
    }
}

/// As much of a session as tells it from others.
fn session(session: SessionId) -> String {
    let text = session.to_string();
    text.get(..SESSION_SHOWN).unwrap_or(&text).to_owned()
}

/// Runs `lease ls`: the leases of a queue, page by page.
pub(crate) async fn leases(shell: &mut Shell, args: LeaseLsArgs) -> Done {
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
                let mut document = render::with_age(seen.document(), reading, page.age);
                if row + 1 == page.seen.len() {
                    queue::add_next(&mut document, next.map(|next| next.to_string()));
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

/// What the holder of a lease calls itself, if that is known.
pub(crate) fn name_of(holder: &LeaseHolder) -> String {
    match (&holder.session, &holder.heard) {
        (None, _) => "the broker".to_owned(),
        (Some(_), None) => "not heard yet".to_owned(),
        (Some(_), Some(heard)) => {
            let name = shown_name(&heard.client);
            if heard.connected { name } else { format!("{name} (gone)") }
        }
    }
}

/// What a client calls itself, for people.
pub(crate) fn shown_name(client: &str) -> String {
    match client {
        "" => "unnamed".to_owned(),
        name => render::preview(name.as_bytes(), 64),
    }
}

/// Who holds a message and since when, for people.
pub(crate) fn holds(holder: &LeaseHolder) -> String {
    let since = format!("since {} ({} ago)", clock::rfc3339(holder.since_ms), render::age(holder.held_ms));
    let at = holder.heard.as_ref().map_or_else(String::new, |heard| format!(" at {}", heard.address));
    let of = holder.session.map_or_else(String::new, |id| format!(", session {}", session(id)));
    format!("{}{at}{of}, {since}", name_of(holder))
}

/// The same for scripts.
pub(crate) fn holder(holder: &LeaseHolder) -> Value {
    let heard = holder.heard.as_ref().map(|heard| {
        let (program, version) = program_of(&heard.client);
        json!({
            "program": program,
            "version": version,
            "address": &*heard.address,
            "connected": heard.connected,
        })
    });
    json!({
        "session": holder.session.map(|session| session.to_string()),
        "since": clock::rfc3339(holder.since_ms),
        "held_ms": holder.held_ms,
        "client": heard,
    })
}

#[cfg(test)]
mod tests {
    use queue_protocol::bounded::Text;
    use queue_protocol::clients::Heard;

    use super::*;

    #[test]
    fn a_client_is_its_program_and_its_version() {
        let shown = |text| program_of(text);
        assert_eq!(shown("queuectl/0.1.0"), ("queuectl".into(), "0.1.0".into()));
        assert_eq!(shown("billing"), ("billing".into(), "?".into()));
        assert_eq!(shown(""), ("?".into(), "?".into()));
        assert_eq!(shown("a\u{1b}[2J/1"), ("a\\u{1b}[2J".into(), "1".into()), "it steers no terminal");
    }

    #[test]
    fn a_holder_is_named_if_it_was_heard() {
        let heard = |connected| {
            Some(Heard { client: Text::cut("worker/2"), address: Text::cut("10.0.0.9:5"), connected })
        };
        let holder = |heard| LeaseHolder { session: Some(SessionId(7)), since_ms: 0, held_ms: 4_000, heard };
        assert_eq!(name_of(&holder(heard(true))), "worker/2");
        assert_eq!(name_of(&holder(heard(false))), "worker/2 (gone)");
        assert_eq!(name_of(&holder(None)), "not heard yet");
        assert_eq!(name_of(&LeaseHolder { session: None, ..holder(None) }), "the broker");
        let text = holds(&holder(heard(true)));
        assert_eq!(
            text,
            "worker/2 at 10.0.0.9:5, session 00000000, since 1970-01-01T00:00:00.000Z (4.0s ago)"
        );
    }
}
