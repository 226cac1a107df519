//! `context`: adds, lists, chooses and removes contexts. None of this asks a node.

use serde_json::{Value, json};
use toml::Table;

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::contexts::{Contexts, TLS, TLS_CA, TLS_PIN, TOKEN_FILE, config};
use crate::grammar::{ContextCmd, Secure, of_process};
use crate::shell::Shell;
use crate::show::table::{Align, Table as Rows};

/// Runs a `context` command. None of them asks a node.
pub(crate) fn run(shell: &mut Shell, cmd: ContextCmd) -> Done {
    let mut contexts = Contexts::load(&of_process)?;
    match cmd {
        ContextCmd::Ls => ls(shell, &contexts),
        ContextCmd::Add { name, servers, replace, select } => {
            if contexts.find(&name).is_ok() && !replace {
                return Err(Failure::new("config", Exit::Conflict, format!("context \"{name}\" exists"))
                    .hint("add `--replace` to change it")
                    .into());
            }
            let is_first = contexts.all().is_none_or(Table::is_empty);
            let all = contexts.table.entry("contexts").or_insert_with(|| Table::new().into());
            let all = all.as_table_mut().ok_or_else(|| config("`contexts` of the file is no table"))?;
            let context = all.entry(name.as_str()).or_insert_with(|| Table::new().into());
            let context =
                context.as_table_mut().ok_or_else(|| config(format!("context \"{name}\" is no table")))?;
            let words: Vec<toml::Value> = servers.iter().cloned().map(toml::Value::from).collect();
            context.insert("servers".to_owned(), words.into());
            trust(context, &shell.reach.secure)?;
            let uses = select || is_first;
            if uses {
                contexts.table.insert("current".to_owned(), name.as_str().into());
            }
            contexts.save()?;
            let now = if uses { ", which is used from now on" } else { "" };
            done(shell, "context_add/v1", &name, &format!("added context {name}: {}{now}", servers.join(",")))
        }
        ContextCmd::Use { name } => {
            contexts.find(&name)?;
            contexts.table.insert("current".to_owned(), name.as_str().into());
            contexts.save()?;
            done(shell, "context_use/v1", &name, &format!("context {name} is used from now on"))
        }
        ContextCmd::Rm { name } => {
            contexts.find(&name)?;
            if let Some(all) = contexts.table.get_mut("contexts").and_then(toml::Value::as_table_mut) {
                all.remove(&name);
            }
            let was_current = contexts.current() == Some(&name);
            if was_current {
                contexts.table.remove("current");
            }
            contexts.save()?;
            let now = if was_current { ", which was in use; none is now" } else { "" };
            done(shell, "context_rm/v1", &name, &format!("removed context {name}{now}"))
        }
    }
}

/// Has a context trust whom the flags say; they say nothing of one that is to stay as it is.
fn trust(context: &mut Table, secure: &Secure) -> Result<(), Failure> {
    if let Some(file) = &secure.token_file {
        let file = std::path::absolute(file).ok().and_then(|file| file.to_str().map(str::to_owned));
        let file = file.ok_or_else(|| config("the name of the file of the token is not UTF-8"))?;
        context.insert(TOKEN_FILE.to_owned(), file.into());
    }
    if !secure.is_on() {
        return Ok(());
    }
    secure.usable()?;
    for key in [TLS, TLS_CA, TLS_PIN] {
        context.remove(key);
    }
    if let Some(file) = &secure.tls_ca {
        let file = std::path::absolute(file).ok().and_then(|file| file.to_str().map(str::to_owned));
        let file = file.ok_or_else(|| config("the name of the file of authorities is not UTF-8"))?;
        context.insert(TLS_CA.to_owned(), file.into());
    } else if let Some(pin) = &secure.tls_pin {
        context.insert(TLS_PIN.to_owned(), pin.as_str().into());
    } else {
        context.insert(TLS.to_owned(), true.into());
    }
    Ok(())
}

fn done(shell: &mut Shell, schema: &str, name: &str, text: &str) -> Done {
    if shell.settings.json {
        shell.out.document(&json!({"schema": schema, "name": name}));
    }
    shell.success(text);
    Ok(Exit::Done)
}

fn ls(shell: &mut Shell, contexts: &Contexts) -> Done {
    let names: Vec<&String> = contexts.all().into_iter().flat_map(Table::keys).collect();
    if shell.settings.json {
        let row = |name: &&String| {
            let (context, error) = match contexts.get(name) {
                Ok(context) => (Some(context), None),
                Err(failure) => (None, Some(failure.message)),
            };
            let secure = context.as_ref().map(|context| &context.secure);
            let file =
                secure.and_then(|secure| secure.tls_ca.as_ref()).map(|file| file.display().to_string());
            let token =
                secure.and_then(|secure| secure.token_file.as_ref()).map(|file| file.display().to_string());
            json!({"name": name, "current": contexts.current() == Some(name.as_str()),
                "servers": context.as_ref().map_or(&[][..], |context| &context.servers),
                "tls": secure.is_some_and(Secure::is_on), "tls_ca": file,
                "tls_pin": secure.and_then(|secure| secure.tls_pin.as_deref()), "token_file": token,
                "token_command": secure.and_then(|secure| secure.token_command.as_deref()),
                "error": error})
        };
        let rows: Vec<Value> = names.iter().map(row).collect();
        let path = contexts.path().map(|path| path.display().to_string());
        shell.out.document(&json!({"schema": "context_list/v1", "file": path, "contexts": rows}));
        return Ok(Exit::Done);
    }
    if names.is_empty() {
        shell.remark("no contexts: `queuectl context add NAME HOST:PORT…` makes one");
        return Ok(Exit::Done);
    }
    let row = |name: &&String| {
        let mark = if contexts.current() == Some(name.as_str()) { "*" } else { "" };
        let (servers, trust) = match contexts.get(name) {
            Ok(context) => (context.servers.join(","), trusted(&context.secure)),
            Err(failure) => (failure.message, "?".to_owned()),
        };
        vec![mark.to_owned(), (*name).clone(), servers, trust]
    };
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    let columns =
        [("", Align::Left), ("CONTEXT", Align::Left), ("SERVERS", Align::Left), ("TLS", Align::Left)];
    let table = Rows::new(&columns, &["TLS"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
    Ok(Exit::Done)
}

/// Whom a context trusts, for people.
fn trusted(secure: &Secure) -> String {
    /// Of a pin, so that two can be told apart.
    const PIN_SIZE: usize = "sha256:".len() + 12;
    match (&secure.tls_pin, &secure.tls_ca) {
        (Some(pin), _) => pin.chars().take(PIN_SIZE).chain(['…']).collect(),
        (None, Some(file)) => file.display().to_string(),
        (None, None) if secure.tls => "this system's".to_owned(),
        (None, None) => "-".to_owned(),
    }
}
