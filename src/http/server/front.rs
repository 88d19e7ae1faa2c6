//! One request from its head to its answer: the checks, the limits, the handler, the headers.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::connections::Connection;
use super::head::Refusal;
use super::request_id::{RequestId, RequestIds};
use super::routes::{DEFAULT, RouteRule};
use super::{checks, headers};
use crate::http::error::ApiError;
use crate::http::external_url::ExternalUrl;

/// A body up to this size is read from everyone; larger ones, from few at a time.
const SMALL: usize = 64 << 10;

/// Bodies larger than [`SMALL`] that are read at the same time.
const LARGE: usize = 16;

/// For the rest of a larger body, so that its place is soon free for another. 1 MiB needs 420 kbit/s.
const LARGE_TIME: Duration = Duration::from_secs(20);

/// What answers the requests of all connections.
pub(super) struct Front {
    pub(super) router: Router,
    pub(super) external: ExternalUrl,
    pub(super) local: SocketAddr,
    pub(super) routes: Vec<RouteRule>,
    pub(super) in_flight: Semaphore,
    pub(super) large: Semaphore,
    pub(super) ids: RequestIds,
    /// Instead of the time in the rule.
    pub(super) timeout: Option<Duration>,
}

impl Front {
    pub(super) fn new(router: Router, local: SocketAddr, config: &super::ServerConfig) -> Self {
        Self {
            router,
            external: config.external_url.clone(),
            local,
            routes: config.routes.clone(),
            in_flight: Semaphore::new(config.limits.in_flight),
            large: Semaphore::new(LARGE),
            ids: RequestIds::new(),
            timeout: config.limits.request,
        }
    }

    /// The answer to a request, whatever happens.
    pub(super) async fn answer(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
        refusal: Option<Refusal>,
    ) -> Response {
        let id = self.ids.next();
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let rule = self.routes.iter().find(|rule| rule.path == path).copied().unwrap_or(DEFAULT);
        let span = tracing::info_span!("http", request = %id);
        let mut response = match refusal {
            Some(refusal) => last(ApiError::from(refusal).into_response()),
            None => self.admit(request, connection, &rule, &id).instrument(span.clone()).await,
        };
        if refusal.is_some() {
            tracing::debug!(parent: &span, ?refusal, "refused");
        } else {
            // Never the query: codes and tokens travel there.
            let status = response.status().as_u16();
            tracing::debug!(parent: &span, %method, path, status, "answered");
        }
        headers::set(response.headers_mut(), &path, &rule, self.external.is_https());
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
        }
        response
    }

    /// Everything that is looked at before the handler, cheapest first.
    async fn admit(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
        rule: &RouteRule,
        id: &RequestId,
    ) -> Response {
        let deadline = Instant::now() + self.timeout.unwrap_or(rule.timeout);
        let (parts, body) = request.into_parts();
        // The gate knows no end of a chunked body but the end of the connection.
        let is_last = parts.headers.contains_key(TRANSFER_ENCODING);
        let announced = checks::has_body(&parts.headers);
        if let Err(refused) = self.check(&parts, rule) {
            let response = refused.into_response();
            return if announced { last(response) } else { response };
        }
        let body = match self.read(&parts, body, rule, deadline).await {
            Ok(body) => body,
            Err(refused) => return last(refused.into_response()),
        };
        let response = self.handle(parts, body, connection, rule, id, deadline).await;
        if is_last { last(response) } else { response }
    }

    fn check(&self, parts: &Parts, rule: &RouteRule) -> Result<(), ApiError> {
        if !rule.health {
            checks::host(&parts.headers, &self.external, self.local)?;
        }
        checks::path(parts.uri.path())?;
        if parts.method == Method::HEAD && rule.allow_without_head.is_some() {
            return Err(ApiError::method_not_allowed(rule.allow_without_head));
        }
        checks::same_site(parts, rule, &self.external)
    }

    /// The whole body. A client that sends it slowly holds nothing but its connection: not a place among
    /// the requests in flight, and no more memory than its own limit.
    async fn read(
        &self,
        parts: &Parts,
        mut body: Body,
        rule: &RouteRule,
        deadline: Instant,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), ApiError> {
        if !checks::has_body(&parts.headers) {
            return Ok((Bytes::new(), None));
        }
        let limit = rule.body;
        let announced = checks::length(&parts.headers).unwrap_or(0);
        if announced > limit as u64 {
            return Err(ApiError::too_large(limit));
        }
        let (mut read, mut permit, mut until) = (Vec::new(), None, deadline);
        loop {
            let frame = timeout_at(until, body.frame()).await;
            let Some(frame) = frame.map_err(|_| ApiError::slow_request())? else {
                return Ok((read.into(), permit));
            };
            let Ok(frame) = frame else {
                return Err(ApiError::bad_request(
                    "The body of the request is broken; send it again",
                ));
            };
            let Some(data) = frame.data_ref() else { continue };
            if read.len() + data.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            if read.len() + data.len() > SMALL && permit.is_none() {
                let place = timeout_at(deadline, self.large.acquire()).await;
                permit = Some(place.ok().and_then(Result::ok).ok_or_else(ApiError::busy)?);
                until = deadline.min(Instant::now() + LARGE_TIME);
            }
            read.extend_from_slice(data);
        }
    }

    async fn handle(
        &self,
        parts: Parts,
        (body, _large): (Bytes, Option<SemaphorePermit<'_>>),
        connection: &Arc<Connection>,
        rule: &RouteRule,
        id: &RequestId,
        deadline: Instant,
    ) -> Response {
        let turn = connection.wait();
        let place = async { if rule.health { None } else { self.in_flight.acquire().await.ok() } };
        // First come, first served: many good requests at once wait for each other (bad input 41).
        let Ok(_place) = timeout_at(deadline, place).await else {
            return ApiError::busy().into_response();
        };
        if !turn.begin() {
            return last(ApiError::busy().into_response());
        }
        let mut request = Request::from_parts(parts, Body::from(body));
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(ConnectInfo(connection.peer()));
        let path = request.uri().path().to_owned();
        let handled = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        match timeout_at(deadline, handled).await {
            Ok(Ok(Ok(response))) => spoken(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => {
                // What it says may hold credentials; where it happened is logged by the hook.
                tracing::error!(request = %id, path, "a handler panicked; this is a bug");
                ApiError::failed("The server failed to answer", id).into_response()
            }
            Err(_) => {
                tracing::warn!(request = %id, path, "a request took too long and was given up");
                let message = "The server did not finish in time; try again";
                ApiError::gateway_timeout(message)
                    .with_details(format!("request id {id}"))
                    .into_response()
            }
        }
    }
}

/// The connection ends with this answer: what comes next on it may be the rest of a body.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Gives the bare 404 and 405 of the router a body.
fn spoken(response: Response) -> Response {
    let error = match response.status() {
        StatusCode::NOT_FOUND => ApiError::no_such_path(),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::method_not_allowed(None),
        _ => return response,
    };
    if response.headers().contains_key(CONTENT_TYPE) {
        return response;
    }
    let mut spoken = error.into_response();
    if let Some(allow) = response.headers().get(ALLOW) {
        spoken.headers_mut().insert(ALLOW, allow.clone());
    }
    spoken
}
