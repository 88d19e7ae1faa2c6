//! The error body of the contract (http.md section 2), and which failure becomes which status.

use std::borrow::Cow;
use std::num::NonZeroU32;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::server::RequestId;
use crate::runtime::error::{CallError, Cause, shortened};

/// What the UI tells errors apart by. `kubectl bind` reads none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// No usable credential: the UI sends its user to the login.
    AuthenticationFailed,
    /// The user may not do this.
    AuthorizationFailed,
    /// There is no such thing, or the user shall not know of it.
    ResourceNotFound,
    /// The consumer's cluster does not answer as it should.
    ClusterConnectionFailed,
    /// Our side.
    InternalError,
    /// The request itself; also for every 4xx that the contract has no code for.
    BadRequest,
}

/// An answer that says what went wrong. All text in it is shown to the user: no credential and no
/// detail of our own insides belongs here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    message: Cow<'static, str>,
    details: String,
    retry_after: Option<NonZeroU32>,
    allow: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    message: &'a str,
    code: Code,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

/// One second: as long as it takes until a place is free again, mostly.
const SOON: NonZeroU32 = NonZeroU32::MIN;

impl ApiError {
    /// Any status with any code; the named constructors say what is usual.
    pub fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let (message, details) = (message.into(), String::new());
        Self { status, code, message, details, retry_after: None, allow: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, message)
    }

    /// 401.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::AuthenticationFailed, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::AuthorizationFailed, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::ResourceNotFound, message)
    }

    /// 404 for a path that no route has.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::not_found("There is no such path; check the address")
    }

    /// 405. `allow` is the header of that name, such as `GET,POST`.
    #[must_use]
    pub fn method_not_allowed(allow: Option<&'static str>) -> Self {
        let message = "This path does not take this method; the header Allow names those it takes";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow, ..Self::new(status, Code::BadRequest, message) }
    }

    /// 408: the client was too slow.
    #[must_use]
    pub fn slow_request() -> Self {
        let message = "The request did not arrive in time; send it again";
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::BadRequest, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, Code::BadRequest, message)
    }

    /// 413, with the message of v0.8.1.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, Code::BadRequest, "Request body too large")
            .with_details(format!("at most {limit} bytes are read here"))
    }

    /// 421: a Host that is not ours.
    #[must_use]
    pub fn misdirected() -> Self {
        let message = "This server does not answer for the host in this request; use the address \
                       that your provider gave you";
        Self::new(StatusCode::MISDIRECTED_REQUEST, Code::BadRequest, message)
    }

    /// 429: a bucket of [`super::limits`] is empty.
    #[must_use]
    pub fn too_many_requests(after: NonZeroU32) -> Self {
        let message = "Too many requests; wait for the seconds that the header Retry-After names";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::BadRequest, message).retry_after(after)
    }

    /// 431: the request line and headers are larger than the server reads.
    #[must_use]
    pub fn head_too_large() -> Self {
        let message =
            "The headers of this request are too large; remove cookies of this site and try again";
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::BadRequest, message)
    }

    /// 500. The reason goes to the log, under the id that the client is told.
    pub fn internal(
        message: impl Into<Cow<'static, str>>,
        id: &RequestId,
        reason: &dyn std::error::Error,
    ) -> Self {
        tracing::error!(request = %id, error = %shortened(reason.to_string()), "a request failed");
        Self::failed(message, id)
    }

    /// 500 whose reason is in the log already.
    pub fn failed(message: impl Into<Cow<'static, str>>, id: &RequestId) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError, message)
            .with_details(format!("the log of the backend has the reason under request id {id}"))
    }

    /// 503: something that we need is missing for now.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::InternalError, message).retry_after(SOON)
    }

    /// 503: every place is taken.
    #[must_use]
    pub fn busy() -> Self {
        Self::unavailable("The server has too much to do; try again in a second")
    }

    /// 504: we or a server that we asked took too long.
    pub fn gateway_timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, Code::InternalError, message)
    }

    /// The table of http.md 2 for a refused call of ours. What the user can act on is told; the rest
    /// goes to the log under the request id. 413 and 422 count as 400, since the runtime does not tell
    /// them apart and they mean the same to the user.
    pub fn from_call(
        message: impl Into<Cow<'static, str>>,
        id: &RequestId,
        error: &CallError,
    ) -> Self {
        let told = match &error.cause {
            Cause::NotFound | Cause::Unserved => Self::not_found(message),
            Cause::Forbidden(_) => Self::forbidden(message),
            Cause::Invalid(_) => Self::bad_request(message),
            Cause::Timeout(_) | Cause::Exists | Cause::Conflict | Cause::Other(_) => {
                return Self::internal(message, id, error);
            }
        };
        told.with_details(shortened(error.to_string()))
    }

    /// The same table for a call that the runtime did not make.
    pub fn from_kube(
        message: impl Into<Cow<'static, str>>,
        id: &RequestId,
        error: &kube::Error,
    ) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::internal(message, id, error);
        };
        let told = match status.code {
            400 => Self::bad_request(message),
            401 => Self::unauthenticated(message),
            403 => Self::forbidden(message),
            404 => Self::not_found(message),
            _ => return Self::internal(message, id, error),
        };
        told.with_details(shortened(status.message.clone()))
    }

    /// What the user can do about it, or more about the reason.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Header `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: NonZeroU32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What went wrong and why, in one text.
    #[must_use]
    pub fn in_words(&self) -> String {
        if self.details.is_empty() {
            return self.message.clone().into_owned();
        }
        format!("{}: {}", self.message, self.details)
    }

    /// The body: one line of JSON, keys in the order of v0.8.1.
    #[must_use]
    pub fn body(&self) -> String {
        let wire = Wire {
            kind: "Error",
            api_version: "kube-bind.io/v1alpha2",
            message: &self.message,
            code: self.code,
            details: &self.details,
        };
        // Strings and an enum: nothing in it can fail to be written.
        let mut body = serde_json::to_string(&wire).unwrap_or_default();
        body.push('\n');
        body
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::cluster::{ClusterId, ObjKey};
    use crate::runtime::error::Action;

    fn call(cause: Cause) -> CallError {
        let key = ObjKey::new(&ClusterId::local(), "ns", "west");
        CallError { action: Action::Get, kind: "Secret".to_owned(), key, cause }
    }

    #[tokio::test]
    async fn an_error_is_one_line_of_json_as_in_the_contract() {
        let error = ApiError::too_many_requests(NonZeroU32::new(7).unwrap());
        let response = error.with_details("say \"please\"").into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let headers: Vec<_> =
            response.headers().iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("content-type", "application/json"), ("retry-after", "7")]);
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let expected = "{\"kind\":\"Error\",\"apiVersion\":\"kube-bind.io/v1alpha2\",\
            \"message\":\"Too many requests; wait for the seconds that the header Retry-After names\",\
            \"code\":\"BAD_REQUEST\",\"details\":\"say \\\"please\\\"\"}\n";
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
        assert_eq!(
            ApiError::forbidden("no").body(),
            "{\"kind\":\"Error\",\"apiVersion\":\"kube-bind.io/v1alpha2\",\"message\":\"no\",\
             \"code\":\"AUTHORIZATION_FAILED\"}\n"
        );
    }

    #[test]
    fn a_refused_call_becomes_the_status_of_the_contract_and_our_own_trouble_only_an_id() {
        let id = RequestId::for_tests("42");
        let failed = ApiError::failed("Failed", &id);
        let key = call(Cause::NotFound).key;
        for (cause, expected) in [
            (
                Cause::NotFound,
                ApiError::not_found("Failed").with_details(format!("read Secret {key}: not found")),
            ),
            (
                Cause::Forbidden("why".to_owned()),
                ApiError::forbidden("Failed")
                    .with_details(format!("read Secret {key}: not allowed: why")),
            ),
            (
                Cause::Invalid("why".to_owned()),
                ApiError::bad_request("Failed")
                    .with_details(format!("read Secret {key}: refused as invalid: why")),
            ),
            (Cause::Exists, failed.clone()),
            (Cause::Conflict, failed.clone()),
            (Cause::Timeout(Duration::from_secs(30)), failed.clone()),
        ] {
            assert_eq!(ApiError::from_call("Failed", &id, &call(cause)), expected);
        }
        assert_eq!(failed.details, "the log of the backend has the reason under request id 42");
    }

    #[test]
    fn an_error_of_kube_becomes_the_status_of_the_contract() {
        let id = RequestId::for_tests("42");
        let error = |code| {
            let status = kube::core::Status::failure("why", "").with_code(code);
            ApiError::from_kube("Failed", &id, &kube::Error::Api(status.boxed()))
        };
        assert_eq!(error(400), ApiError::bad_request("Failed").with_details("why"));
        assert_eq!(error(401), ApiError::unauthenticated("Failed").with_details("why"));
        assert_eq!(error(403), ApiError::forbidden("Failed").with_details("why"));
        assert_eq!(error(404), ApiError::not_found("Failed").with_details("why"));
        for code in [409, 422, 429, 500, 503] {
            assert_eq!(error(code), ApiError::failed("Failed", &id), "{code}");
        }
    }
}
