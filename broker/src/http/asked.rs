//! What a request says in its path and its query, read so that what makes no sense is answered with a document.

use axum::extract::{FromRequestParts, Path as AnyPath, Query as AnyQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::answers::Failed;

/// The variable part of a path.
pub(super) struct Path(pub(super) String);

/// The query.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let read = AnyPath::from_request_parts(parts, state).await;
        read.map(|AnyPath(part)| Self(part)).map_err(|why| Failed::bad(format!("the path: {why}")))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let read = AnyQuery::from_request_parts(parts, state).await;
        read.map(|AnyQuery(query)| Self(query)).map_err(|why| Failed::bad(format!("the query: {why}")))
    }
}
