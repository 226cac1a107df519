//! As whom a request of HTTP is asked for: its bearer token, with which the gateway logs in at the port of the protocol. So
//! rights, owners and revocations are looked at there, by the leader, as of any client.
//!
//! A token travels as it is here, so it is taken over TLS or from this machine only. It is checked once more at this node, so
//! that whoever has none costs no login.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::auth::Token;
use queue_protocol::wire::rights::{Need, Verb};

use super::answers::Failed;
use super::connections::{From, Occupant};
use super::serve::App;
use crate::queue::KeyNumber;
use crate::server::{access, login};

tokio::task_local! {
    /// Of the request that is being answered.
    static TOKEN: Option<Arc<Token>>;
}

/// Paths that tell nothing of queues, for those who see to it that nodes run.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/leader"];

/// That of the request that is being answered.
pub(super) fn token() -> Option<Arc<Token>> {
    TOKEN.try_with(Clone::clone).ok().flatten()
}

/// Answers on behalf of this request, now and in what it spawns with [`carry`].
pub(super) async fn on_behalf<T>(token: Option<Arc<Token>>, answering: impl Future<Output = T>) -> T {
    TOKEN.scope(token, answering).await
}

/// A task that goes on on behalf of the request that is being answered.
pub(super) fn carry<T>(task: impl Future<Output = T>) -> impl Future<Output = T> {
    TOKEN.scope(token(), task)
}

/// A stream that does.
pub(super) fn carried<S>(stream: S) -> Carried<S> {
    Carried { stream: Box::pin(stream), token: token() }
}

/// See [`carried`].
pub(super) struct Carried<S> {
    stream: Pin<Box<S>>,
    token: Option<Arc<Token>>,
}

impl<S: Stream> Stream for Carried<S> {
    type Item = S::Item;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let token = self.token.clone();
        TOKEN.sync_scope(token, || self.stream.as_mut().poll_next(context))
    }
}

/// Who asks, if the request says so and that is so. What this node tells of itself needs a right of its own.
///
/// # Errors
/// 401 without a token that is let in, 403 without that right.
pub(super) async fn of(app: &App, route: &str, said: Said) -> Result<Option<Arc<Token>>, Failed> {
    let consensus = &app.site.consensus;
    let is_required = consensus.rights().required;
    let Said { token: said, from } = said;
    if OPEN.contains(&route) || (said.is_none() && !is_required) {
        return Ok(None);
    }
    let Some(token) = said else {
        let what = "only clients that log in are served: Authorization: Bearer qk1_…";
        return Err(Error::refused(ErrorCode::AuthRequired, what).into());
    };
    let Some(from) = from.filter(|from| from.is_private) else {
        let what = "a token is taken over TLS, or from this machine";
        return Err(Error::refused(ErrorCode::AuthFailed, what).into());
    };
    let key = login::known(&app.site.server, from.ip, &token).await?;
    permit_here(app, route, key, is_required)?;
    Ok(Some(Arc::new(token)))
}

/// What this node answers by itself.
fn permit_here(app: &App, route: &str, key: KeyNumber, is_required: bool) -> Result<(), Failed> {
    let consensus = &app.site.consensus;
    let permitted = match route {
        "/metrics" if is_required => consensus.read(|state, _| state.permit_all(key, Verb::Look)),
        "/v1/log" if is_required => {
            consensus.read(|state, _| state.permit(Some(key), &[Need::Whole(Verb::Cluster)]).map(drop))
        }
        _ => Ok(()),
    };
    permitted.map_err(|denied| access::refused(&denied).into())
}

/// What a request says of who asks.
pub(super) struct Said {
    token: Option<Token>,
    from: Option<From>,
}

impl Said {
    /// By its head.
    ///
    /// # Errors
    /// 401 if it names something else than a token.
    pub(super) fn of(request: &Request) -> Result<Self, Failed> {
        let from = request.extensions().get::<Occupant>().map(|occupant| occupant.from);
        Ok(Self { token: said(request.headers())?, from })
    }
}

fn said(headers: &HeaderMap) -> Result<Option<Token>, Failed> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.and_then(|(_, token)| token.trim().parse().ok());
    let bad =
        || Failed::of(StatusCode::UNAUTHORIZED, ErrorCode::AuthFailed, "Authorization is no Bearer qk1_…");
    token.map(Some).ok_or_else(bad)
}
