//! `cluster add|promote|remove|replace|set-address|drain|safe-to-stop`: who the members are, and which may be stopped.

use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::membership::{MemberChange, Standing};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::MemberView;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::nodes::cluster::{find, gather};
use crate::nodes::secret;
use crate::nodes::{Nodes, reason};
use crate::shell::Shell;
use crate::show::render;

/// How long a new member may take to catch up if `--timeout` does not say.
const CATCH_UP_DEFAULT: Duration = Duration::from_secs(600);
/// Without a terminal: what is waited for is said after this time, and then again and again.
const TELL_AFTER: Duration = Duration::from_secs(3);
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

async fn change(shell: &Shell, change: MemberChange) -> Result<MemberView, End> {
    shell.ask(ask::ChangeMembers(change), None).await
}

fn tell(shell: &mut Shell, schema: &str, member: &MemberView, text: &str) -> Exit {
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": schema,
            "id": member.node.to_string(),
            "name": &*member.name,
            "address": &*member.address,
            "voter": member.voter,
            "elapsed_ms": render::elapsed_ms(shell.started.elapsed()),
        }));
    } else {
        shell.success(text);
    }
    Exit::Done
}

fn address(text: &str) -> Result<Text<256>, End> {
    Text::new(text).map_err(|_| Failure::new("usage", Exit::Usage, "an address has at most 256 bytes").into())
}

/// Takes in the node that waits at an address, and waits until it is what it should be.
pub(crate) async fn add(shell: &mut Shell, at: &str, learner: bool) -> Done {
    let standing = if learner { Standing::Learner } else { Standing::Voter };
    let added = change(shell, MemberChange::Add { address: address(at)?, standing }).await?;
    let member = if learner { added } else { caught_up(shell, &added, None).await? };
    let what = if learner { "learner" } else { "voter" };
    let text = format!("{} at {} is a {what} (number {})", member.name, member.address, member.node);
    Ok(tell(shell, "member_added/v1", &member, &text))
}

/// Puts the node that waits at an address in the place of a member, and waits until the cluster is whole.
pub(crate) async fn replace(shell: &mut Shell, old: &str, at: &str) -> Done {
    let nodes = gather(shell).await?;
    let old = find(&nodes, old)?;
    let name = name_of(&nodes, old);
    shell
        .confirm(&format!("{name} leaves the cluster for good"), &format!("cluster replace {name} {at}"))
        .await?;
    let standing = Standing::InsteadOf(old);
    let added = change(shell, MemberChange::Add { address: address(at)?, standing }).await?;
    let member = caught_up(shell, &added, Some(old)).await?;
    let took = render::took(shell.started.elapsed());
    let text = format!("{} at {} votes instead of {name} ({took})", member.name, member.address);
    Ok(tell(shell, "member_replaced/v1", &member, &text))
}

/// Waits until `added` votes and `gone` is no member.
async fn caught_up(shell: &Shell, added: &MemberView, gone: Option<NodeId>) -> Result<MemberView, End> {
    let limit = shell.settings.timeout.unwrap_or(CATCH_UP_DEFAULT);
    let deadline = Instant::now() + limit;
    let mut tell_at = Instant::now() + TELL_AFTER;
    loop {
        let nodes = gather(shell).await.ok();
        let why = nodes.as_ref().map_or_else(|| "no node answers".into(), |nodes| nodes.behind(added));
        let members = nodes.map(|nodes| nodes.members()).unwrap_or_default();
        let member = members.iter().find(|member| member.node == added.node);
        let left = gone.is_none_or(|gone| members.iter().all(|member| member.node != gone));
        if let Some(member) = member.filter(|member| member.voter && left) {
            return Ok(member.clone());
        }
        if Instant::now() >= deadline {
            let what = format!("{} is a member and has not caught up in {}", added.name, render::took(limit));
            return Err(Failure::new("timed_out", Exit::Retry, what)
                .fact(why)
                .fact("it votes as soon as it has: nothing more needs to be typed")
                .hint("is it running? `queued serve` on its machine, `queuectl cluster status` here")
                .into());
        }
        shell.talk.status(Some(&format!("waiting… {why}")));
        if !shell.talk.is_terminal() && Instant::now() >= tell_at {
            tell_at = Instant::now() + TELL_EVERY;
            shell.talk.line(&format!("waiting: {why}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Gives a learner a vote.
pub(crate) async fn promote(shell: &mut Shell, node: &str) -> Done {
    let node = find(&gather(shell).await?, node)?;
    let learner = change(shell, MemberChange::Promote(node)).await?;
    let member = caught_up(shell, &learner, None).await?;
    let text = format!("{} votes", member.name);
    Ok(tell(shell, "member_promoted/v1", &member, &text))
}

/// Removes a member for good.
pub(crate) async fn remove(shell: &mut Shell, node: &str, force: bool, rotate: bool) -> Done {
    let nodes = gather(shell).await?;
    let node = find(&nodes, node)?;
    let name = name_of(&nodes, node);
    shell.confirm(&format!("{name} leaves the cluster for good"), &format!("cluster remove {name}")).await?;
    let member = change(shell, MemberChange::Remove { node, force }).await?;
    let text = format!("removed {} (number {})", member.name, member.node);
    let done = tell(shell, "member_removed/v1", &member, &text);
    if rotate {
        return secret::rotate(shell, false).await;
    }
    shell.talk.line(&format!(
        "{} still has the cluster's secret: queuectl cluster rotate-secret gives the members another one",
        member.name
    ));
    Ok(done)
}

/// Makes the cluster know a member at another address.
pub(crate) async fn set_address(shell: &mut Shell, node: &str, at: &str) -> Done {
    let node = find(&gather(shell).await?, node)?;
    let member = change(shell, MemberChange::SetAddress { node, address: address(at)? }).await?;
    let text = format!("{} is known at {} (number {})", member.name, member.address, member.node);
    Ok(tell(shell, "member_moved/v1", &member, &text))
}

fn name_of(nodes: &Nodes, node: NodeId) -> String {
    let member = nodes.members().into_iter().find(|member| member.node == node);
    member.map_or_else(|| node.to_string(), |member| member.name.to_string())
}

/// Moves leadership away from a node and keeps it from leading, or lets it lead again.
pub(crate) async fn drain(shell: &mut Shell, node: &str, undo: bool) -> Done {
    let nodes = gather(shell).await?;
    let node = find(&nodes, node)?;
    let member = nodes.members().into_iter().find(|member| member.node == node).expect("it was found there");
    let asked = shell.client.ask_node(&member.address, ask::Drain(!undo)).await;
    asked.map_err(|error| failed(&member, &error))?;
    let text = if undo {
        format!("{} may lead again", member.name)
    } else {
        format!("{} does not lead and will not until it starts anew", member.name)
    };
    Ok(tell(shell, "member_drained/v1", &member, &text))
}

fn failed(member: &MemberView, error: &queue_protocol::client::ClientError) -> Failure {
    let why = reason(&member.address, error);
    Failure::new("not_drained", Exit::Retry, format!("{} was not drained: {why}", member.name))
        .hint("`queuectl cluster status`")
}

/// Would the cluster work on without this node?
pub(crate) async fn safe_to_stop(shell: &mut Shell, node: &str) -> Done {
    let nodes = gather(shell).await?;
    let node = find(&nodes, node)?;
    let name = name_of(&nodes, node);
    let without = nodes.judge().without(node, &name);
    let (safe, why) = match &without {
        Ok(why) => (true, why),
        Err(why) => (false, why),
    };
    if shell.settings.json {
        shell.out.document(&json!({"schema": "safe_to_stop/v1", "node": name, "safe": safe, "reason": why}));
    } else {
        let word = if safe { "yes" } else { "no" };
        shell.out.add(format!("{word}: {why}\n").as_bytes());
    }
    Ok(if safe { Exit::Done } else { Exit::No })
}
