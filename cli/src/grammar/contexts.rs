//! Contexts: clusters by name, so that no command has to list servers. They are kept in a file of this user alone.
//!
//! ```toml
//! current = "prod"
//! [contexts.prod]
//! servers = ["mq1:7410", "mq2:7410", "mq3:7410"]
//! token_file = "prod.token"         # beside this file, if it is not absolute
//! token_command = "pass show mq"    # or what prints the token, run by sh
//! tls_ca = "/etc/queued/ca.crt"    # or tls_pin = "sha256:…", or tls = true for the authorities of this system
//! ```
//!
//! Other keys that begin with `tls_`, `token_` or `login` have their place beside them. This version does not know them: it keeps them,
//! and refuses to use such a context rather than to go without what it asks for.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use queue_protocol::values::server;
use toml::Table;

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::{Secure, Variables};

/// What a context may ask for that this version does not speak.
const LATER: [&str; 3] = ["tls_", "token_", "login"];
pub(crate) const TLS: &str = "tls";
pub(crate) const TLS_CA: &str = "tls_ca";
pub(crate) const TLS_PIN: &str = "tls_pin";
pub(crate) const TOKEN_FILE: &str = "token_file";
pub(crate) const TOKEN_COMMAND: &str = "token_command";

/// A context: nodes to ask, and whom to trust there.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) servers: Vec<String>,
    pub(crate) secure: Secure,
}

/// The contexts of a user.
#[derive(Debug)]
pub(crate) struct Contexts {
    path: Option<PathBuf>,
    pub(crate) table: Table,
}

impl Contexts {
    /// Reads them; none if there is no file.
    ///
    /// # Errors
    /// `config` if the file cannot be read or does not parse.
    pub(crate) fn load(variables: Variables<'_>) -> Result<Self, Failure> {
        let Some(path) = path(variables) else { return Ok(Self { path: None, table: Table::new() }) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(config(format!("cannot read {}: {error}", path.display()))),
        };
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            config(format!("{} line {line}: {}", path.display(), error.message()))
        })?;
        Ok(Self { path: Some(path), table })
    }

    /// Where they are kept.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The name of the one that is used if none is named.
    pub(crate) fn current(&self) -> Option<&str> {
        self.table.get("current").and_then(toml::Value::as_str)
    }

    pub(crate) fn all(&self) -> Option<&Table> {
        self.table.get("contexts").and_then(toml::Value::as_table)
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Table, Failure> {
        let found = self.all().and_then(|all| all.get(name)).and_then(toml::Value::as_table);
        found.ok_or_else(|| {
            Failure::new("context_not_found", Exit::Config, format!("no context named \"{name}\""))
                .hint("`queuectl context ls` lists them")
        })
    }

    /// What a context says.
    ///
    /// # Errors
    /// `context_not_found`; `config` if it names no servers that make sense, or asks for what this version does not speak.
    pub(crate) fn get(&self, name: &str) -> Result<Context, Failure> {
        Ok(Context { servers: self.servers(name)?, secure: self.secure(name)? })
    }

    fn servers(&self, name: &str) -> Result<Vec<String>, Failure> {
        let context = self.find(name)?;
        let is_later = |key: &&String| {
            ![TLS_CA, TLS_PIN, TOKEN_FILE, TOKEN_COMMAND].contains(&key.as_str())
                && LATER.iter().any(|later| key.starts_with(later))
        };
        if let Some(key) = context.keys().find(is_later) {
            let what = format!("context \"{name}\" has {key}, which this version does not know");
            return Err(config(what).hint("use a newer queuectl"));
        }
        let words = context.get("servers").and_then(toml::Value::as_array);
        let words: Option<Vec<&str>> =
            words.and_then(|words| words.iter().map(toml::Value::as_str).collect());
        let words = words.filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| config(format!("context \"{name}\" names no servers")))?;
        let servers: Result<Vec<String>, String> = words.into_iter().map(server).collect();
        servers.map_err(|why| config(format!("context \"{name}\": {why}")))
    }

    fn secure(&self, name: &str) -> Result<Secure, Failure> {
        let context = self.find(name)?;
        let odd = |key: &str, what: &str| config(format!("context \"{name}\": {key} is not {what}"));
        let text = |key: &str| {
            let value = context.get(key).map(|value| value.as_str().ok_or_else(|| odd(key, "a text")));
            value.transpose()
        };
        let tls = context.get(TLS).map(|value| value.as_bool().ok_or_else(|| odd(TLS, "true or false")));
        // What is not absolute is beside the file.
        let dir = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let file = text(TLS_CA)?.map(|file| dir.join(file));
        let token_file = text(TOKEN_FILE)?.map(|file| dir.join(file));
        let token_command = text(TOKEN_COMMAND)?.map(str::to_owned);
        if token_file.is_some() && token_command.is_some() {
            return Err(config(format!(
                "context \"{name}\": {TOKEN_FILE} and {TOKEN_COMMAND}: use one of them"
            )));
        }
        let secure = Secure::of(tls.transpose()?.unwrap_or_default(), file, text(TLS_PIN)?);
        let secure = secure.map(|secure| Secure { token_file, token_command, ..secure });
        secure.map_err(|why| config(format!("context \"{name}\": {why}")))
    }

    /// Whether others than this user can read or change the file.
    pub(crate) fn is_open_to_others(&self) -> bool {
        let mode =
            self.path.as_ref().and_then(|path| std::fs::metadata(path).ok()).map(|found| found.permissions());
        mode.is_some_and(|mode| mode.mode() & 0o077 != 0)
    }

    pub(crate) fn save(&self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            return Err(config("neither HOME nor XDG_CONFIG_HOME names a directory for the contexts"));
        };
        let failed = |error: std::io::Error| config(format!("cannot write {}: {error}", path.display()));
        let dir = path.parent().expect("it is a file in a directory");
        // A missing home is not made.
        let base = dir.parent().expect("it is below one of the user's");
        for dir in [base, dir] {
            match std::fs::DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        // Made with 0600, and in its place whole or not at all.
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        file.write_all(self.table.to_string().as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// `$XDG_CONFIG_HOME/queuectl/config.toml`, or below `.config` of the user.
fn path(variables: Variables<'_>) -> Option<PathBuf> {
    let dir = |name: &str| variables(name).filter(|dir: &OsString| !dir.is_empty()).map(PathBuf::from);
    // A relative one is to be ignored (XDG Base Directory Specification).
    let base = dir("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let base = base.or_else(|| dir("HOME").map(|home| home.join(".config")))?;
    Some(base.join("queuectl").join("config.toml"))
}

pub(crate) fn config(what: impl Into<String>) -> Failure {
    Failure::new("config", Exit::Config, what)
}

/// The name of a context: what a file of TOML has bare keys for.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn context_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 64 letters, digits, - and _, and does not begin with -".to_owned())
    }
}
