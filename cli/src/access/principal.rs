//! `principal`: who there is and what each may do.

use queue_protocol::wire::auth::{AuthChange, PrincipalName, PrincipalView};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::rights::Grant;
use serde_json::{Value, json};

use super::{change, grants, key, principals};
use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::PrincipalCmd;
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs a `principal` command.
pub(crate) async fn run(shell: &mut Shell, cmd: PrincipalCmd) -> Done {
    match cmd {
        PrincipalCmd::Ls => ls(shell).await,
        PrincipalCmd::Show { name } => show(shell, name).await,
        PrincipalCmd::Add { name, grants, note, reasons } => {
            let made = AuthChange::AddPrincipal { name: name.clone(), grants: bounded(grants)?, note };
            change(shell, made, &reasons).await?;
            let text = format!("made principal {name}; a key for it: queuectl key add {name}");
            done(shell, "principal_add/v1", &name, &text)
        }
        PrincipalCmd::Rm { name, reasons } => {
            let what = format!("{name} is removed with its keys, and its connections end");
            shell.confirm(&what, &format!("principal rm {name}")).await?;
            change(shell, AuthChange::RemovePrincipal(name.clone()), &reasons).await?;
            done(shell, "principal_rm/v1", &name, &format!("removed principal {name}"))
        }
        PrincipalCmd::Grant { name, grants, reasons } => {
            let more = AuthChange::Grant { name: name.clone(), grants: bounded(grants)? };
            change(shell, more, &reasons).await?;
            done(shell, "principal_grant/v1", &name, &format!("{name} may do more"))
        }
        PrincipalCmd::Revoke { name, grants, reasons } => {
            let less = AuthChange::Revoke { name: name.clone(), grants: bounded(grants)? };
            change(shell, less, &reasons).await?;
            done(shell, "principal_revoke/v1", &name, &format!("{name} may do less"))
        }
        PrincipalCmd::Disable { name, undo, reasons } => {
            let shut = AuthChange::Disable { name: name.clone(), disabled: !undo };
            change(shell, shut, &reasons).await?;
            let now = if undo { "let in again" } else { "shut out" };
            done(shell, "principal_disable/v1", &name, &format!("{name} is {now}"))
        }
    }
}

fn bounded(grants: Vec<Grant>) -> Result<queue_protocol::wire::auth::Grants, Failure> {
    Bounded::new(grants).map_err(|error| Failure::usage(format!("grants: {error}")))
}

fn done(shell: &mut Shell, schema: &str, name: &PrincipalName, text: &str) -> Done {
    if shell.settings.json {
        shell.out.document(&json!({"schema": schema, "name": &**name}));
    }
    shell.success(text);
    Ok(Exit::Done)
}

/// A principal as a document.
fn document(view: &PrincipalView) -> Value {
    let grants: Vec<String> = view.grants.iter().map(ToString::to_string).collect();
    let keys: Vec<Value> = view.keys.iter().map(|key| key::document(&view.name, key)).collect();
    json!({
        "name": &*view.name,
        "number": view.number,
        "note": &*view.note,
        "disabled": view.disabled,
        "grants": grants,
        "keys": keys,
    })
}

async fn ls(shell: &mut Shell) -> Done {
    let (list, all) = principals(shell, None).await?;
    if shell.settings.json {
        let rows: Vec<Value> = all.iter().map(document).collect();
        shell
            .out
            .document(&json!({"schema": "principal_list/v1", "required": list.required, "principals": rows}));
        return Ok(Exit::Done);
    }
    if all.is_empty() {
        shell.remark("no principals: `queuectl principal add NAME --grant …` makes one");
        return Ok(Exit::Done);
    }
    let row = |view: &PrincipalView| {
        let state = if view.disabled { "shut out" } else { "ok" };
        let keys = render::count(view.keys.len() as u64);
        vec![view.name.to_string(), state.to_owned(), keys, grants(&view.grants), view.note.to_string()]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let columns = [
        ("PRINCIPAL", Align::Left),
        ("STATE", Align::Left),
        ("KEYS", Align::Right),
        ("MAY", Align::Left),
        ("NOTE", Align::Left),
    ];
    let table = Table::new(&columns, &["NOTE", "STATE"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
    Ok(Exit::Done)
}

async fn show(shell: &mut Shell, name: PrincipalName) -> Done {
    let (_, all) = principals(shell, Some(name)).await?;
    let view = all.into_iter().next().expect("one that does not exist is refused");
    if shell.settings.json {
        shell.out.document(&json!({"schema": "principal/v1", "principal": document(&view)}));
        return Ok(Exit::Done);
    }
    let mut fields = vec![
        ("principal", view.name.to_string()),
        ("state", if view.disabled { "shut out" } else { "ok" }.to_owned()),
        ("may", grants(&view.grants)),
    ];
    if !view.note.is_empty() {
        fields.push(("note", view.note.to_string()));
    }
    fields.extend(view.keys.iter().map(|key| ("key", key::line(key))));
    shell.out.add(render::fields(&fields).as_bytes());
    Ok(Exit::Done)
}
