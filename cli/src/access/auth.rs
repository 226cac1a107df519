//! `auth`, `whoami`, `can`.

use queue_protocol::wire::auth::{AuthChange, Can, KeyId};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::rights::Verb;
use serde_json::json;

use super::{change, grants, principals};
use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::{AuthCmd, CanArgs, Reasons};
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;

/// Runs an `auth` command.
pub(crate) async fn run(shell: &mut Shell, cmd: AuthCmd) -> Done {
    match cmd {
        AuthCmd::Status => status(shell).await,
        AuthCmd::On(reasons) => {
            let (_, all) = principals(shell, None).await?;
            let others: Vec<String> =
                all.iter().map(|who| format!("{} ({})", who.name, grants(&who.grants))).collect();
            let what = format!(
                "only who is logged in is served from now on; all other connections end. There is: {}",
                others.join(", ")
            );
            shell.confirm(&what, "auth on").await?;
            switch(shell, true, &reasons).await
        }
        AuthCmd::Off(reasons) => {
            shell.confirm("everybody who reaches a node may do everything", "auth off").await?;
            switch(shell, false, &reasons).await
        }
    }
}

async fn switch(shell: &mut Shell, required: bool, reasons: &Reasons) -> Done {
    let version = change(shell, AuthChange::Require(required), reasons).await?;
    if shell.settings.json {
        shell.out.document(&json!({"schema": "auth/v1", "required": required, "version": version}));
    }
    shell.success(if required { "logins are required" } else { "logins are not required" });
    Ok(Exit::Done)
}

async fn status(shell: &mut Shell) -> Done {
    let (list, _) = principals(shell, None).await?;
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "auth_status/v1",
            "required": list.required,
            "version": list.version,
            "principals": list.count,
            "admins": list.admins,
        }));
        return Ok(Exit::Done);
    }
    let fields = [
        ("logins", if list.required { "required" } else { "not required" }.to_owned()),
        ("principals", render::count(list.count.into())),
        ("may change them", render::count(list.admins.into())),
        ("version", render::count(list.version)),
    ];
    shell.out.add(render::fields(&fields).as_bytes());
    Ok(Exit::Done)
}

/// Runs `whoami`.
pub(crate) async fn whoami(shell: &mut Shell) -> Done {
    let view = *shell.ask(ask::Whoami, None).await?;
    let root = view.key == Some(KeyId::SECRET);
    let texts: Vec<String> = view.grants.iter().map(ToString::to_string).collect();
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "whoami/v1",
            "required": view.required,
            "principal": view.principal.as_deref(),
            "key": view.key.filter(|_| !root).map(|key| key.to_string()),
            "secret": root,
            "key_until": view.ends_ms.map(clock::rfc3339),
            "grants": texts,
        }));
        return Ok(Exit::Done);
    }
    let who = match (&view.principal, root) {
        (Some(name), _) => name.to_string(),
        (None, true) => "whoever has the cluster's secret".to_owned(),
        (None, false) => "nobody: not logged in".to_owned(),
    };
    let may = match (view.principal.is_some(), root || !view.required) {
        (_, true) => "everything".to_owned(),
        (true, false) => grants(&view.grants),
        (false, false) => "nothing".to_owned(),
    };
    let mut fields = vec![("principal", who)];
    if let Some(key) = view.key.filter(|_| !root) {
        let until = view
            .ends_ms
            .map_or_else(|| "without an end".to_owned(), |at| format!("until {}", clock::rfc3339(at)));
        fields.push(("key", format!("{key}, {until}")));
    }
    fields.push(("may do", may));
    if !view.required {
        fields.push(("logins", "not required: everybody may do everything".to_owned()));
        if !texts.is_empty() {
            fields.push(("grants", texts.join(" ")));
        }
    }
    shell.out.add(render::fields(&fields).as_bytes());
    Ok(Exit::Done)
}

/// Runs `can`.
pub(crate) async fn can(shell: &mut Shell, args: CanArgs) -> Done {
    let CanArgs { name, verb, queue } = args;
    if queue.is_none() && !verb.is_whole() {
        let what = format!("{verb} is done on a queue: name it, as in `queuectl can {name} {verb} orders`");
        return Err(Failure::usage(what).into());
    }
    let who = (&*name != "me").then(|| name.clone());
    let said = shell.ask(ask::Can(Can { name: who, verb, queue: queue.clone() }), None).await?;
    let shown = if said.name.is_empty() { name.to_string() } else { said.name.to_string() };
    let what = match &queue {
        Some(queue) => format!("{verb} {queue}"),
        None => verb.to_string(),
    };
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "can/v1",
            "principal": shown,
            "verb": verb.as_str(),
            "queue": queue.as_ref().map(|queue| queue.as_str()),
            "allowed": said.allowed,
            "by": said.by.as_ref().map(ToString::to_string),
        }));
    } else if said.allowed {
        let by = said.by.map(|grant| format!(": granted by {grant}")).unwrap_or_default();
        shell.success(&format!("{shown} may {what}{by}"));
    } else {
        let right = right(verb, queue.as_ref().map(|queue| queue.as_str()));
        shell.success(&format!("{shown} may not {what}: `queuectl principal grant {shown} {right}`"));
    }
    Ok(if said.allowed { Exit::Done } else { Exit::No })
}

fn right(verb: Verb, queue: Option<&str>) -> String {
    match queue.filter(|_| !verb.is_whole()) {
        Some(queue) => format!("{verb}:{queue}"),
        None => verb.to_string(),
    }
}
