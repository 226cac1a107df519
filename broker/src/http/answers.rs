//! What is answered: documents, and failures with the protocol's codes and the status that fits each.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use queue_protocol::client::ClientError;
use queue_protocol::error::{Applied, Error, ErrorCode, Retry};
use serde::Serialize;
use serde_json::json;

/// Seconds after which it is worth asking again.
const RETRY_AFTER: u32 = 1;

/// A request that was not done, or nobody knows.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    code: ErrorCode,
    applied: Applied,
    retry_after: Option<u32>,
    message: String,
    similar: Option<String>,
}

impl Failed {
    /// Refused here; nothing was changed.
    pub(super) fn of(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        Self { status, code, applied: Applied::No, retry_after, message: message.into(), similar: None }
    }

    /// A message that was not stored.
    pub(super) fn refused(code: ErrorCode) -> Self {
        Error::refused(code, format!("{}: it was not stored", code.as_str())).into()
    }

    /// 400
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message)
    }

    /// The code.
    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    /// As a document.
    pub(super) fn document(&self) -> serde_json::Value {
        let applied = match self.applied {
            Applied::No => "no",
            Applied::Unknown => "unknown",
        };
        let mut error = json!({ "code": self.code.as_str(), "applied": applied, "message": self.message });
        if let Some(similar) = &self.similar {
            error["similar"] = json!(similar);
        }
        json!({ "error": error })
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let status = match error.applied {
            Applied::Unknown => StatusCode::GATEWAY_TIMEOUT,
            Applied::No => status_of(error.code),
        };
        let retry_after = match error.retry {
            Retry::Never => None,
            Retry::AfterMs(ms) => Some(ms.div_ceil(1_000).max(1)),
            Retry::Again | Retry::AtLeader(_) => Some(RETRY_AFTER),
        };
        Self {
            status,
            code: error.code,
            applied: error.applied,
            retry_after,
            message: error.message.to_string(),
            similar: error.similar.map(|queue| queue.to_string()),
        }
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) => error.into(),
            ClientError::Unavailable { what, .. } => {
                let what = format!("{what}. Nothing was changed");
                Self::of(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::NoLeader, what)
            }
            ClientError::Unknown { what } => Error::unknown(
                ErrorCode::NotConfirmed,
                format!("{what}. It may have been done: with a session the same request again tells"),
            )
            .into(),
            ClientError::Incompatible(error) if is_of_login(error.code) => error.into(),
            ClientError::Incompatible(error) => Self { status: StatusCode::BAD_GATEWAY, ..Self::from(error) },
            ClientError::Untrusted { what } => Self {
                status: StatusCode::BAD_GATEWAY,
                ..Self::from(Error::refused(ErrorCode::NotPermitted, what))
            },
        }
    }
}

/// Whether it says that a token lets nobody in.
fn is_of_login(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::AuthRequired | ErrorCode::AuthFailed | ErrorCode::KeyEnded)
}

/// The status of a refusal.
fn status_of(code: ErrorCode) -> StatusCode {
    use ErrorCode as E;
    match code {
        E::BadFrame
        | E::BadRequest
        | E::VersionMismatch
        | E::Unsupported
        | E::SessionNotBound
        | E::NumberReused => StatusCode::BAD_REQUEST,
        E::AuthRequired | E::AuthFailed | E::KeyEnded => StatusCode::UNAUTHORIZED,
        E::NotPermitted | E::Denied => StatusCode::FORBIDDEN,
        E::TlsRequired => StatusCode::UPGRADE_REQUIRED,
        E::WrongCluster => StatusCode::MISDIRECTED_REQUEST,
        E::MessageTooBig => StatusCode::PAYLOAD_TOO_LARGE,
        E::QueueNotFound
        | E::MessageNotFound
        | E::NodeNotFound
        | E::ScheduleNotFound
        | E::PrincipalNotFound
        | E::KeyNotFound => StatusCode::NOT_FOUND,
        E::QueueExists
        | E::QueueNotEmpty
        | E::QueueChanged
        | E::UniqueHeld
        | E::AlreadyReady
        | E::MessageLeased
        | E::ReceiptStale
        | E::ConditionFailed
        | E::ScheduleExists
        | E::PrincipalExists
        | E::LastAdmin
        | E::DeadToCycle
        | E::NodeExists
        | E::NodeRemoved
        | E::QuorumAtRisk
        | E::ChangeInProgress
        | E::TooOld
        | E::SessionExpired
        | E::StoreRefused
        | E::LevelUnknown
        | E::LevelNotSpoken
        // An address that the request names: nobody waits there.
        | E::AddressUnreachable => StatusCode::CONFLICT,
        E::QueueFull
        | E::QueuePaused
        | E::DedupFull
        | E::SessionFull
        | E::SessionLimit
        | E::QueueLimit
        | E::GroupLimit
        | E::ScheduleLimit
        | E::AuthLimit => StatusCode::TOO_MANY_REQUESTS,
        E::TlsOff | E::Other(_) => StatusCode::BAD_GATEWAY,
        E::ContentCorrupt => StatusCode::INTERNAL_SERVER_ERROR,
        E::NotConfirmed | E::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        E::NotLeader
        | E::NoLeader
        | E::DiskReserve
        | E::Overloaded
        | E::ShuttingDown
        | E::StatesDiffer
        | E::AuthChanged => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.document());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A document and the end of its line.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(document).expect("a document of ours is one");
    text.push(b'\n');
    with_type(status, "application/json", text.into())
}

/// A body of this type.
pub(super) fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
