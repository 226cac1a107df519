//! `cluster rotate-secret|tls-forget`: what nodes prove themselves with, and how they are dialed.

use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::wire::proof::Fingerprint;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::security::{RotationPhase, RotationView};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::nodes::cluster::{find, gather};
use crate::nodes::{Nodes, reason};
use crate::shell::Shell;
use crate::show::render;

/// How long a rotation may take if `--timeout` does not say.
const ROTATED_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// As people and documents show it.
pub(crate) fn shown(fingerprint: &Fingerprint) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A rotation as a document.
pub(crate) fn document(rotation: &RotationView) -> Value {
    let numbers = |nodes: &[queue_protocol::names::NodeId]| -> Vec<String> {
        nodes.iter().map(ToString::to_string).collect()
    };
    json!({
        "generation": rotation.generation,
        "fingerprint": shown(&rotation.fingerprint),
        "phase": rotation.phase.as_str(),
        "waits_for": numbers(&rotation.waits_for),
        "left_out": numbers(&rotation.left_out),
    })
}

/// Gives the cluster another secret, and waits until the old one lets nobody in any more.
pub(crate) async fn rotate(shell: &mut Shell, force: bool) -> Done {
    if force {
        shell.confirm("members that do not answer are locked out", "cluster rotate-secret --force").await?;
    }
    let begun = shell.ask(ask::RotateSecret(force), None).await?;
    let nodes = done(shell, &begun).await?;
    let left_out = nodes.names(&begun.left_out);
    let fingerprint = shown(&begun.fingerprint);
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "secret_rotated/v1",
            "generation": begun.generation,
            "fingerprint": fingerprint,
            "left_out": left_out,
            "elapsed_ms": render::elapsed_ms(shell.started.elapsed()),
        }));
        return Ok(Exit::Done);
    }
    let took = render::took(shell.started.elapsed());
    let number = begun.generation;
    shell
        .success(&format!("the cluster's secret is number {number} now, fingerprint {fingerprint} ({took})"));
    for name in left_out {
        shell.talk.line(&format!(
            "{name} was left out: copy the SECRET file of another member into its data directory before it starts"
        ));
    }
    Ok(Exit::Done)
}

/// Waits until the leader says that the rotation, or one that took its place, is over.
async fn done(shell: &Shell, begun: &RotationView) -> Result<Nodes, End> {
    let limit = shell.settings.timeout.unwrap_or(ROTATED_WITHIN);
    let deadline = Instant::now() + limit;
    loop {
        let nodes = gather(shell).await.ok();
        let why = match nodes.as_ref().map(|nodes| (nodes.leaders_secret(), nodes.rotation())) {
            None => "no node answers".to_owned(),
            Some((None, _)) => "nobody leads".to_owned(),
            Some((Some(secret), said)) => {
                // Disks that are away keep the old one; it lets nobody in any more.
                let open = secret.rotation.as_ref().filter(|now| now.phase != RotationPhase::Dropping);
                let dropped = secret.rotation.as_ref().is_none_or(|now| now.waits_for.is_empty());
                if open.is_none() && secret.generation >= begun.generation && dropped {
                    return Ok(nodes.expect("it was just read"));
                }
                said.unwrap_or_else(|| "the leader has not begun".to_owned())
            }
        };
        if Instant::now() >= deadline {
            let what = format!(
                "the secret is being rotated and is not through with it after {}",
                render::took(limit)
            );
            return Err(Failure::new("timed_out", Exit::Retry, what)
                .fact(why)
                .fact("it goes on by itself as soon as the members that it waits for answer")
                .hint("`queuectl cluster status`; --force does not wait for those that do not answer")
                .into());
        }
        shell.talk.status(Some(&format!("waiting… {why}")));
        sleep(LOOK_EVERY).await;
    }
}

/// Tells every node that answers to dial a member in the clear again if it speaks no TLS.
pub(crate) async fn tls_forget(shell: &mut Shell, node: &str) -> Done {
    let nodes = gather(shell).await?;
    let node = find(&nodes, node)?;
    let others: Vec<_> = nodes.members().into_iter().filter(|member| member.node != node).collect();
    let client = &shell.client;
    let asked = join_all(others.iter().map(async |member| {
        match client.ask_node(&member.address, ask::TlsForget(node)).await {
            Ok(answered) => Ok(answered.answer),
            Err(error) => Err(format!("{}: {}", member.name, reason(&member.address, &error))),
        }
    }))
    .await;
    let name = nodes.names(&[node]).join("");
    let failed: Vec<String> = asked.iter().filter_map(|said| said.clone().err()).collect();
    let knew = asked.iter().filter(|said| **said == Ok(true)).count();
    if !failed.is_empty() {
        let what = format!("not every node was told that {name} may be dialed in the clear");
        let failure = Failure::new("not_forgotten", Exit::Retry, what);
        return Err(failed.into_iter().fold(failure, Failure::fact).into());
    }
    if shell.settings.json {
        let elapsed_ms = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(
            &json!({"schema": "tls_forgotten/v1", "node": name, "nodes": knew, "elapsed_ms": elapsed_ms}),
        );
    } else {
        shell.success(&format!(
            "{name} may be dialed in the clear again ({knew} nodes had seen it speak TLS)"
        ));
    }
    Ok(Exit::Done)
}
