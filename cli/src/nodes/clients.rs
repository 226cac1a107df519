//! `cluster clients`: who is connected.

use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::names::QueueName;
use queue_protocol::wire::clients::{ClientView, Clients};
use queue_protocol::wire::requests::ask;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::ClientsArgs;
use crate::messages::holder::{program_of, session};
use crate::nodes::cluster;
use crate::nodes::{self, reason};
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// How long one node may take.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

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
