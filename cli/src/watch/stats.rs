//! `stats` and `ping`: totals of the cluster, round trips to its nodes.

use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::StageView;
use serde_json::json;
use tokio::time::timeout;

use crate::failure::Done;
use crate::failure::exit::Exit;
use crate::grammar::{PingArgs, Reading, StatsArgs};
use crate::nodes::{self, Node};
use crate::queues;
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs `stats`.
pub(crate) async fn run(shell: &mut Shell, args: StatsArgs) -> Done {
    if let Some(name) = &args.queue {
        return queues::info(shell, name, Reading { stale: false }).await;
    }
    let stats = shell.ask(ask::Stats, None).await?;
    if args.stages {
        show_stages(shell, &stats.stages);
        return Ok(Exit::Done);
    }
    if shell.settings.json {
        let mut document = json!({"schema": "stats/v1"});
        if let Some(fields) = document.as_object_mut() {
            fields.extend(queue_json::stats::all(&stats));
        }
        shell.out.document(&document);
        return Ok(Exit::Done);
    }
    let text = render::fields(&[
        ("queues", render::count(stats.queues)),
        ("ready", render::count(stats.ready)),
        ("leased", render::count(stats.leased)),
        ("delayed", render::count(stats.delayed)),
        ("dead", render::count(stats.dead)),
        ("size", render::size(stats.bytes)),
        ("pushed", render::count(stats.pushed_total)),
        ("leases granted", render::count(stats.leased_total)),
        ("acked", render::count(stats.acked_total)),
        ("sessions", render::count(stats.sessions)),
        ("connections", render::count(stats.connections)),
        ("waiting leases", render::count(stats.waiting)),
    ]);
    shell.out.add(text.as_bytes());
    Ok(Exit::Done)
}

fn show_stages(shell: &mut Shell, stages: &[StageView]) {
    if shell.settings.json {
        let stages: Vec<_> = stages
            .iter()
            .map(|view| {
                json!({
                    "stage": view.stage.as_str(),
                    "count": view.count,
                    "mean_us": micros(view.mean_ns),
                    "p50_us": micros(view.p50_ns),
                    "p90_us": micros(view.p90_ns),
                    "p99_us": micros(view.p99_ns),
                    "p999_us": micros(view.p999_ns),
                    "max_us": micros(view.max_ns),
                })
            })
            .collect();
        return shell.out.document(&json!({"schema": "stages/v1", "stages": stages}));
    }
    let left = [("STAGE", Align::Left)];
    let right = ["COUNT", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"].map(|name| (name, Align::Right));
    let columns: Vec<_> = left.into_iter().chain(right).collect();
    let rows: Vec<Vec<String>> = stages
        .iter()
        .map(|view| {
            let measures = [view.mean_ns, view.p50_ns, view.p90_ns, view.p99_ns, view.p999_ns, view.max_ns];
            let mut row = vec![view.stage.as_str().to_owned(), render::count(view.count)];
            row.extend(measures.map(|ns| format!("{:.1}us", micros(ns))));
            row
        })
        .collect();
    let table = Table::new(&columns, &["P99.9", "P90", "COUNT", "P50"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
}

/// Nanoseconds as microseconds with at most three digits behind the point, which no arithmetic may blur.
fn micros(ns: u64) -> f64 {
    // Both are exact up to 2^53 ns, a hundred days, so the quotient is the nearest number to the decimal one.
    ns as f64 / 1e3
}

/// Runs `ping`: exit 1 if a member does not answer.
pub(crate) async fn ping(shell: &mut Shell, args: PingArgs) -> Done {
    let nodes = nodes::gather(&shell.client, &shell.reach.servers, shell.timeout()).await?;
    let leader = nodes.judge().leader.map(|leader| leader.node);
    let results = join_all(nodes.iter().map(|node| round_trips(shell, node, args.count))).await;
    let all = results.iter().all(Result::is_ok);
    if shell.settings.json {
        let nodes: Vec<_> = nodes
            .iter()
            .zip(&results)
            .map(|(node, result)| match result {
                Ok(trips) => json!({
                    "id": node.name(),
                    "client": node.address,
                    "reachable": true,
                    "rtt_ms": trips.iter().map(|trip| trip.as_secs_f64() * 1_000.0).collect::<Vec<_>>(),
                }),
                Err(why) => {
                    json!({"id": node.name(), "client": node.address, "reachable": false, "error": why})
                }
            })
            .collect();
        shell.out.document(&json!({"schema": "ping/v1", "nodes": nodes}));
    } else {
        let columns = [
            ("NODE", Align::Left),
            ("ROLE", Align::Left),
            ("CLIENT ADDRESS", Align::Left),
            ("MIN", Align::Right),
            ("MEDIAN", Align::Right),
            ("MAX", Align::Right),
        ];
        let rows: Vec<Vec<String>> = nodes
            .iter()
            .zip(&results)
            .map(|(node, result)| {
                let leads = node.status.as_ref().is_ok_and(|(status, _)| Some(status.node) == leader);
                let role = if result.is_err() {
                    "UNREACHABLE"
                } else if leads {
                    "leader"
                } else {
                    "-"
                };
                let mut row = vec![node.name(), role.to_owned(), node.address.clone()];
                row.extend(spread(result.as_deref().unwrap_or_default()));
                row
            })
            .collect();
        let table = Table::new(&columns, &["MIN", "MAX"], shell.out.width()).page(&rows);
        shell.out.add(table.as_bytes());
    }
    Ok(if all { Exit::Done } else { Exit::No })
}

/// Smallest, middle and largest.
fn spread(trips: &[Duration]) -> [String; 3] {
    let mut sorted = trips.to_vec();
    sorted.sort();
    let shown = |trip: Option<&Duration>| {
        trip.map_or_else(|| "-".into(), |trip| format!("{:.2}ms", trip.as_secs_f64() * 1_000.0))
    };
    [shown(sorted.first()), shown(sorted.get(sorted.len() / 2)), shown(sorted.last())]
}

async fn round_trips(shell: &Shell, node: &Node, count: u32) -> Result<Vec<Duration>, String> {
    if let Err(why) = &node.status {
        return Err(why.clone());
    }
    let mut trips = Vec::new();
    for _ in 0..count {
        match timeout(shell.timeout(), shell.client.ping(&node.address)).await {
            Ok(Ok(trip)) => trips.push(trip),
            Ok(Err(error)) => return Err(nodes::reason(&node.address, &error)),
            Err(_) => return Err("timed out".to_owned()),
        }
    }
    Ok(trips)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_round_trips_is_sorted() {
        let trips = [300, 100, 200].map(Duration::from_micros);
        assert_eq!(spread(&trips), ["0.10ms", "0.20ms", "0.30ms"]);
        assert_eq!(spread(&[]), ["-", "-", "-"]);
    }
}
