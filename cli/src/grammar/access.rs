//! `auth`, `principal`, `key`, `can`: who may do what.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use queue_protocol::names::QueueName;
use queue_protocol::wire::auth::{KeyId, NOTE_SIZE_MAX, PrincipalName, principal_name};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::rights::{Grant, Verb};

use super::values::duration;

/// Why something is changed, and whether it is forced.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reasons {
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = note)]
    pub(crate) because: Text<NOTE_SIZE_MAX>,
    /// Also if no live key is left that may change principals and keys
    #[arg(long)]
    pub(crate) force: bool,
}

/// `auth …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum AuthCmd {
    /// Are logins required, how many principals there are, and who may change them
    Status,
    /// Serve only who is logged in, as far as it may. The login needs a live key with the right `auth`
    On(Reasons),
    /// Serve everybody again
    Off(Reasons),
}

/// `principal …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum PrincipalCmd {
    /// List principals with what they may do
    Ls,
    /// Show a principal with its keys
    Show {
        /// The principal
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
    },
    /// Make a principal; it needs a key too: `key add`
    Add {
        /// 1 to 64 of A-Z a-z 0-9 . _ - @
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
        /// What it may do: push,take:orders.* look:* cluster auth, or producer, worker, viewer, operator:QUEUES, admin
        #[arg(long = "grant", value_name = "VERBS:QUEUES", value_parser = grant)]
        grants: Vec<Grant>,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = note)]
        note: Text<NOTE_SIZE_MAX>,
        #[command(flatten)]
        reasons: Reasons,
    },
    /// Remove a principal with its keys; its connections end
    Rm {
        /// The principal
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
        #[command(flatten)]
        reasons: Reasons,
    },
    /// Let a principal do more
    Grant {
        /// The principal
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
        /// As of `principal add --grant`
        #[arg(required = true, value_name = "VERBS:QUEUES", value_parser = grant)]
        grants: Vec<Grant>,
        #[command(flatten)]
        reasons: Reasons,
    },
    /// Let a principal do less: verbs go from the grants of the same queues
    Revoke {
        /// The principal
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
        /// As of `principal add --grant`
        #[arg(required = true, value_name = "VERBS:QUEUES", value_parser = grant)]
        grants: Vec<Grant>,
        #[command(flatten)]
        reasons: Reasons,
    },
    /// Shut a principal out, and keep it with its keys; its connections end
    Disable {
        /// The principal
        #[arg(value_parser = principal_name)]
        name: PrincipalName,
        /// Let it in again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        reasons: Reasons,
    },
}

/// What is said of a new key.
#[derive(Args, Clone, Debug)]
pub(crate) struct NewKey {
    /// The principal
    #[arg(value_parser = principal_name)]
    pub(crate) name: PrincipalName,
    /// Its end, from now; none if it is not given
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Write the token into this new file, for its owner only, instead of printing it
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = note)]
    pub(crate) note: Text<NOTE_SIZE_MAX>,
    #[command(flatten)]
    pub(crate) reasons: Reasons,
}

/// `key …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum KeyCmd {
    /// List keys: whose, until when, last used
    Ls {
        /// Only those of this principal
        #[arg(value_parser = principal_name)]
        name: Option<PrincipalName>,
    },
    /// Make a key and print its token, which nobody can print again
    Add(NewKey),
    /// The same, and let the principal's other keys end after a while
    Rotate {
        #[command(flatten)]
        key: NewKey,
        /// How long the other keys still count
        #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
        overlap: Duration,
    },
    /// End a key now; its connections end
    Revoke {
        /// As `key ls` shows it
        #[arg(value_parser = key_id)]
        id: KeyId,
        #[command(flatten)]
        reasons: Reasons,
    },
}

/// `audit`
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) cmd: Option<AuditCmd>,
    /// Only what was changed in this time up to now
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// Only what this principal changed
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal_name)]
    pub(crate) by: Option<PrincipalName>,
    /// Only what was changed of this queue
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<QueueName>,
    /// Go on with what is changed from now on, until stopped
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `audit …`
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum AuditCmd {
    /// Read every node's copy and name the first record that was edited. Exit 0 or 1
    Verify,
}

/// `can`
#[derive(Args, Clone, Debug)]
pub(crate) struct CanArgs {
    /// The principal; `me` is the one that is logged in
    #[arg(value_parser = principal_name)]
    pub(crate) name: PrincipalName,
    /// push, take, look, read, redrive, manage, destroy, feed, cluster or auth
    pub(crate) verb: Verb,
    /// On which queue; none of cluster and auth
    pub(crate) queue: Option<QueueName>,
}

fn note(text: &str) -> Result<Text<NOTE_SIZE_MAX>, String> {
    Text::new(text).map_err(|error| error.to_string())
}

fn grant(text: &str) -> Result<Grant, String> {
    text.parse()
}

fn key_id(text: &str) -> Result<KeyId, String> {
    text.parse().map_err(|_| "a key is 16 letters and digits, as `queuectl key ls` shows it".to_owned())
}
