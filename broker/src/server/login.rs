//! Logins: a client shows that it has a key, over this connection; see [`queue_protocol::wire::auth`].
//!
//! A key that is not known here, or has ended, may be so only because this node is behind: it is refused when everything is
//! applied that was committed when the client came.

#[cfg(feature = "http")]
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use queue_protocol::client::{Channel, PLAIN_CHANNEL};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::values::milliseconds;
use queue_protocol::wire::auth::{KeyId, LoginTranscript, Proven, Token, Verifier};
use queue_protocol::wire::response::Age;
use tokio::time::Instant;

use super::access::{is_fresh, not_fresh, refused};
#[cfg(feature = "http")]
use super::server::Server;
#[cfg(feature = "http")]
use super::source::Source;
use crate::queue::{Denied, KeyNumber, ROOT_KEY, Standing};
use crate::raft::Consensus;

/// How long a node that is behind may take until it knows.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whom a login lets in, and what the client is shown.
type LetIn = Result<(KeyNumber, [u8; 32]), Error>;

/// Whether a login may be tried over a connection at all: in the clear only from this machine.
pub(super) fn may_try(from: SocketAddr, channel: &Channel) -> Result<(), Error> {
    if *channel != PLAIN_CHANNEL || from.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Error::refused(ErrorCode::AuthFailed, "a login is taken over TLS or loopback only"))
}

/// Checks what a client showed.
pub(super) async fn check(
    consensus: &Consensus,
    key: KeyId,
    login: &LoginTranscript,
    proven: &Proven,
) -> LetIn {
    if proven.channel != login.channel() {
        return Err(other_channel(&proven.channel, &login.channel()));
    }
    if key == KeyId::SECRET {
        let secrets = consensus.me().credentials.ring.accepts();
        let shown =
            secrets.iter().find_map(|secret| Token::of_secret(secret).verifier().check(login, &proven.proof));
        return shown.map(|shown| (ROOT_KEY, shown)).ok_or_else(failed);
    }
    let began = Instant::now();
    if !is_fresh(consensus) {
        return Err(not_fresh(consensus));
    }
    let first = look(consensus, key, login, proven);
    if first.is_ok() {
        return first;
    }
    catch_up(consensus, began).await?;
    look(consensus, key, login, proven)
}

/// The key of a token that was sent as it is, over HTTP from `from`. One that counts is never held up by others that do not,
/// for they may come through the same proxy; one that does not is looked at no further where many were wrong.
///
/// # Errors
/// It lets nobody in; `overloaded`: it is not known, and whether it is elsewhere is not asked now.
#[cfg(feature = "http")]
pub(crate) async fn known(server: &Server, from: IpAddr, token: &Token) -> Result<KeyNumber, Error> {
    let (consensus, source, began) = (&server.consensus, Source::of_ip(from), Instant::now());
    if !is_fresh(consensus) {
        return Err(not_fresh(consensus));
    }
    let look = || {
        let found = consensus.read(|state, _| {
            state.key(token.id).map(|(number, verifier)| (number, verifier, state.standing(number)))
        });
        let (number, _, standing) =
            found.filter(|(_, verifier, _)| verifier.holds(token)).ok_or_else(failed)?;
        match standing {
            Standing::Live(_) => Ok(number),
            Standing::Ended | Standing::Unknown => Err(refused(&Denied::Ended)),
        }
    };
    if let Ok(number) = look() {
        return Ok(number);
    }
    server.http_guesses.check(source)?;
    catch_up(consensus, began).await?;
    let known = look();
    if known.is_err() {
        server.http_guesses.failed(source);
    }
    known
}

fn look(consensus: &Consensus, key: KeyId, login: &LoginTranscript, proven: &Proven) -> LetIn {
    let found = consensus
        .read(|state, _| state.key(key).map(|(number, verifier)| (number, verifier, state.standing(number))));
    // As much work for a key that there is not.
    let nobody = (0, Verifier { stored: [0; 32], server: [1; 32] }, Standing::Unknown);
    let (number, verifier, standing) = found.unwrap_or(nobody);
    let shown = verifier.check(login, &proven.proof).ok_or_else(failed)?;
    match standing {
        Standing::Live(_) => Ok((number, shown)),
        Standing::Ended => Err(refused(&Denied::Ended)),
        Standing::Unknown => Err(failed()),
    }
}

/// Until everything is applied here that was committed at `began`.
async fn catch_up(consensus: &Consensus, began: Instant) -> Result<(), Error> {
    if consensus.ready().is_some() {
        return consensus.read_index().await.map(drop);
    }
    while began.elapsed() < CATCH_UP {
        match consensus.age() {
            Age::Now => return Ok(()),
            Age::AtMostMs(ms) if ms < milliseconds(began.elapsed()) => return Ok(()),
            Age::AtMostMs(_) | Age::Unknown => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Err(not_fresh(consensus))
}

/// The same for whatever is wrong, so that nobody learns which keys there are.
fn failed() -> Error {
    Error::refused(ErrorCode::AuthFailed, "the key was not proved")
}

fn other_channel(theirs: &Channel, ours: &Channel) -> Error {
    let what = match (*theirs == PLAIN_CHANNEL, *ours == PLAIN_CHANNEL) {
        (false, true) => "the client speaks TLS and this node was reached in the clear",
        (true, false) => "this node speaks TLS and the client was reached in the clear",
        _ => "the certificate that the client saw is not the one that this node sent",
    };
    let what = format!("{what}: a proxy between them ends TLS. Logins pass only through proxies that do not");
    Error::refused(ErrorCode::AuthFailed, what)
}
