//! Logins of a dev cluster: one principal that may do everything, its token in the directory of the cluster.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use queue_protocol::client::{Client, ClientError, TokenSource};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, Token, principal_name};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::requests::ask;

use super::cluster::Cluster;
use super::place::Place;
use crate::commands::failure::Failure;
use crate::commands::{machine, probe};
use crate::node::secret::SECRET_FILE;
use crate::outside::ExitStatus;

/// In the directory of the cluster.
const TOKEN_FILE: &str = "token";
/// Who is logged in.
const NAME: &str = "dev";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The file of the token, if there are logins.
pub(super) fn token_file(place: &Place) -> Option<PathBuf> {
    place.auth.then(|| file(&place.dir))
}

/// Whether a cluster in this directory has logins.
pub(super) fn is_in(dir: &Path) -> bool {
    file(dir).exists()
}

fn file(dir: &Path) -> PathBuf {
    dir.join(TOKEN_FILE)
}

/// As whom this program asks its nodes: whoever has the secret.
pub(super) fn own(place: &Place) -> Option<TokenSource> {
    place.auth.then(|| TokenSource::Secret(place.data_dir(1).join(SECRET_FILE)))
}

/// Makes what is missing, and requires logins.
pub(super) async fn require(cluster: &Cluster) -> Result<(), Failure> {
    let place = cluster.place();
    let client = |login| probe::client(place.addresses(), TIMEOUT, place.tls, login);
    let root = client(own(place));
    let path = file(&place.dir);
    if !path.exists() {
        let name = principal_name(NAME).expect("it is a name");
        let all = "admin".parse().expect("it is a grant");
        let grants = Bounded::new(vec![all]).expect("one");
        let made = AuthChange::AddPrincipal { name: name.clone(), grants, note: Text::default() };
        match change(&root, made).await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::PrincipalExists => {}
            made => made.map_err(failed)?,
        }
        let token = Token::new(machine::random_bytes(), machine::random_bytes());
        let (key, verifier) = (token.id, token.verifier());
        let note = Text::default();
        let made = AuthChange::AddKey { name, key, verifier, ttl_ms: None, note, others_end_ms: None };
        change(&root, made).await.map_err(failed)?;
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = written.and_then(|mut file| writeln!(file, "{}", token.reveal()));
        written.map_err(|error| Failure::io(path.display(), &error))?;
    }
    let dev = client(Some(TokenSource::File(path)));
    change(&dev, AuthChange::Require(true)).await.map_err(failed)
}

async fn change(client: &Client, change: AuthChange) -> Result<(), ClientError> {
    let change = ChangeAuth { change, force: false, because: Text::cut("queued dev --auth") };
    client.ask(ask::ChangeAuth(Box::new(change))).await.map(drop)
}

fn failed(error: ClientError) -> Failure {
    Failure::new(ExitStatus::Unavailable, "auth", format!("logins: {error}"))
}
