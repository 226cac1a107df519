//! `key`: with what principals come.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use queue_protocol::values::milliseconds;
use queue_protocol::wire::auth::{AuthChange, KeyView, PrincipalName, Token};
use serde_json::{Value, json};

use super::{change, principals};
use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::{KeyCmd, NewKey};
use crate::shell::{Shell, random};
use crate::show::clock;
use crate::show::table::{Align, Table};

/// Runs a `key` command.
pub(crate) async fn run(shell: &mut Shell, cmd: KeyCmd) -> Done {
    match cmd {
        KeyCmd::Ls { name } => ls(shell, name).await,
        KeyCmd::Add(key) => add(shell, key, None).await,
        KeyCmd::Rotate { key, overlap } => add(shell, key, Some(overlap)).await,
        KeyCmd::Revoke { id, reasons } => {
            let what = format!("key {id} lets nobody in any more, and its connections end");
            shell.confirm(&what, &format!("key revoke {id}")).await?;
            change(shell, AuthChange::RevokeKey(id), &reasons).await?;
            if shell.settings.json {
                shell.out.document(&json!({"schema": "key_revoke/v1", "key": id.to_string()}));
            }
            shell.success(&format!("revoked key {id}"));
            Ok(Exit::Done)
        }
    }
}

/// The secret of a key is drawn here and stays here: the cluster gets what checks it.
async fn add(shell: &mut Shell, new: NewKey, overlap: Option<Duration>) -> Done {
    let NewKey { name, ttl, out, note, reasons } = new;
    let token = Token::new(random(), random());
    // Before it counts, so that there is no key whose token nobody has.
    let file = out.as_ref().map(|path| {
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|error| Failure::io(format!("{}: {error}", path.display())))
    });
    if let (Some(file), Some(path)) = (file.transpose()?, &out) {
        let mut file = file;
        let written = writeln!(file, "{}", token.reveal()).and_then(|()| file.sync_all());
        written.map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
    }
    let made = AuthChange::AddKey {
        name: name.clone(),
        key: token.id,
        verifier: token.verifier(),
        ttl_ms: ttl.map(milliseconds),
        note,
        others_end_ms: overlap.map(milliseconds),
    };
    if let Err(end) = change(shell, made, &reasons).await {
        // One that may have been made has its token still.
        let unknown = matches!(&end, crate::failure::End::Failed(failure) if failure.exit == Exit::Unknown);
        if let Some(path) = out.filter(|_| !unknown) {
            let _ = std::fs::remove_file(path);
        }
        return Err(end);
    }
    let path = out.as_ref().map(|path| path.display().to_string());
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "key_add/v1",
            "principal": &*name,
            "key": token.id.to_string(),
            "token": if path.is_some() { Value::Null } else { token.reveal().into() },
            "file": path,
        }));
        return Ok(Exit::Done);
    }
    match path {
        Some(path) => shell.success(&format!("made key {} of {name}; its token is in {path}", token.id)),
        None => {
            shell.out.add(format!("{}\n", token.reveal()).as_bytes());
            shell.remark(&format!("key {} of {name}: this is its token, which is not shown again", token.id));
        }
    }
    Ok(Exit::Done)
}

/// A key as a document.
pub(super) fn document(name: &PrincipalName, key: &KeyView) -> Value {
    json!({
        "key": key.id.to_string(),
        "principal": &**name,
        "made": clock::rfc3339(key.made_ms),
        "until": key.ends_ms.map(clock::rfc3339),
        "used": key.used_ms.map(clock::rfc3339),
        "note": &*key.note,
    })
}

/// A key in one line.
pub(super) fn line(key: &KeyView) -> String {
    let until =
        key.ends_ms.map_or_else(|| "without an end".to_owned(), |at| format!("until {}", clock::rfc3339(at)));
    let used =
        key.used_ms.map_or_else(|| "not used yet".to_owned(), |at| format!("used {}", clock::rfc3339(at)));
    format!("{}, {until}, {used}", key.id)
}

async fn ls(shell: &mut Shell, name: Option<PrincipalName>) -> Done {
    let (_, all) = principals(shell, name).await?;
    let keys = || all.iter().flat_map(|who| who.keys.iter().map(move |key| (&who.name, key)));
    if shell.settings.json {
        let rows: Vec<Value> = keys().map(|(name, key)| document(name, key)).collect();
        shell.out.document(&json!({"schema": "key_list/v1", "keys": rows}));
        return Ok(Exit::Done);
    }
    let shown = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), clock::rfc3339);
    let row = |(name, key): (&PrincipalName, &KeyView)| {
        let made = clock::rfc3339(key.made_ms);
        vec![
            key.id.to_string(),
            name.to_string(),
            made,
            shown(key.ends_ms),
            shown(key.used_ms),
            key.note.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = keys().map(row).collect();
    if rows.is_empty() {
        shell.remark("no keys: `queuectl key add PRINCIPAL` makes one");
        return Ok(Exit::Done);
    }
    let columns = [
        ("KEY", Align::Left),
        ("PRINCIPAL", Align::Left),
        ("MADE", Align::Left),
        ("UNTIL", Align::Left),
        ("LAST USED", Align::Left),
        ("NOTE", Align::Left),
    ];
    let table = Table::new(&columns, &["NOTE", "MADE"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
    Ok(Exit::Done)
}
