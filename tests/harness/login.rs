//! Clusters that serve only who logs in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::{Client, ClientError, LoginDial, TokenSource};
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, Grants, Token};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::requests::ask;

use crate::LIMIT;
use crate::cluster::{Cluster, random};
use crate::dial::{client_over, trusting};

/// Who may change principals and keys in these clusters.
pub const ADMIN: &str = "admin";

/// What a principal may do.
pub fn grants(texts: &[&str]) -> Grants {
    Bounded::new(texts.iter().map(|text| text.parse().expect("a grant")).collect()).expect("few")
}

/// Changes who may do what.
///
/// # Errors
/// As the client's.
pub async fn change(client: &Client, change: AuthChange) -> Result<u64, ClientError> {
    let change = ChangeAuth { change, force: false, because: Text::default() };
    client.ask(ask::ChangeAuth(Box::new(change))).await.map(|answered| answered.answer)
}

/// A principal with a key, and its token.
pub async fn add(client: &Client, name: &str, may: &[&str]) -> Token {
    let (principal, note) = (Text::cut(name), Text::default());
    let made = AuthChange::AddPrincipal { name: principal, grants: grants(may), note };
    change(client, made).await.expect("it is new");
    add_key(client, name, None).await
}

/// Another key of a principal.
pub async fn add_key(client: &Client, name: &str, ttl: Option<Duration>) -> Token {
    let token = Token::new(random(), random());
    let (key, verifier, name) = (token.id, token.verifier(), Text::cut(name));
    let ttl_ms = ttl.map(queue_protocol::values::milliseconds);
    let note = Text::default();
    let made = AuthChange::AddKey { name, key, verifier, ttl_ms, note, others_end_ms: None };
    change(client, made).await.expect("it is new");
    token
}

impl Cluster {
    /// A client that is logged in.
    pub fn client_as(&self, source: TokenSource) -> Client {
        self.client_within(source, LIMIT)
    }

    /// The same with so much time for each call.
    pub fn client_within(&self, source: TokenSource, timeout: Duration) -> Client {
        let servers = self.servers().split(',').map(str::to_owned).collect();
        client_over(Arc::new(LoginDial::over(trusting(self.authority()), source)), servers, timeout)
    }

    /// A client with the cluster's secret.
    pub fn root(&self) -> Client {
        self.client_as(self.secret())
    }

    /// The file of the cluster's secret.
    pub fn secret(&self) -> TokenSource {
        TokenSource::Secret(self.secret_file(0))
    }

    /// Serves only who logs in from now on; a client of the admin, and its token.
    pub async fn require_logins(&mut self) -> (Client, Token) {
        let token = add(&self.root(), ADMIN, &["admin"]).await;
        let admin = self.client_as(TokenSource::Given(token.clone()));
        change(&admin, AuthChange::Require(true)).await.expect("it has a key that may");
        self.look_by_secret();
        (admin, token)
    }

    /// Looks at nodes with the cluster's secret from now on.
    pub fn look_by_secret(&mut self) {
        self.look_by(self.client_within(self.secret(), Duration::from_secs(2)));
    }

    /// A file with a token in it.
    pub fn token_file(&self, name: &str, token: &Token) -> PathBuf {
        let path = self.dir().join(format!("{name}.token"));
        std::fs::write(&path, token.reveal()).expect("it is ours");
        path
    }
}
