//! A request as the routes see it, without its body.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::server::RequestId;

/// Who asks, and with what.
pub(super) struct Call {
    pub(super) id: RequestId,
    pub(super) peer: SocketAddr,
    pub(super) headers: HeaderMap,
    pub(super) query: Option<String>,
}

impl Call {
    /// The parameters of the contract.
    pub(super) fn params(&self) -> Result<Params, ApiError> {
        Params::parse(self.query.as_deref())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    /// The server puts both extensions into every request.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |info| info.0);
        Ok(Self {
            id: parts.extensions.get::<RequestId>().cloned().unwrap_or_default(),
            peer,
            headers: std::mem::take(&mut parts.headers),
            query: parts.uri.query().map(str::to_owned),
        })
    }
}

/// A text.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

/// 302, never kept: it carries what is good for one use.
pub(super) fn redirect(to: &str) -> Response {
    let Ok(mut location) = HeaderValue::from_str(to) else {
        return text(StatusCode::BAD_REQUEST, "the redirect has characters that no URL has");
    };
    location.set_sensitive(true);
    (StatusCode::FOUND, [(LOCATION, location)]).into_response()
}
