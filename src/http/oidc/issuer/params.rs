//! Parameters of OAuth, and its errors.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde_json::json;

/// An error of OAuth (RFC 6749, 4.1.2.1 and 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: Cow<'static, str>,
    pub(super) description: Cow<'static, str>,
}

impl Refused {
    pub(super) const fn new(error: &'static str, description: &'static str) -> Self {
        let (error, description) = (Cow::Borrowed(error), Cow::Borrowed(description));
        Self { status: StatusCode::BAD_REQUEST, error, description }
    }

    pub(super) const fn request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        (self.status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// The parameters of a query or a form.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads them. None may be given twice (RFC 6749, 3.1): two readers could take different ones.
    pub(super) fn read(encoded: &[u8]) -> Result<Self, Refused> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(encoded).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(Refused::request("a parameter is given twice; give each one once"));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter; none if it is missing or empty, which mean the same (RFC 6749, 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter has this value.
    pub(super) fn is(&self, name: &str, wanted: &str) -> bool {
        self.get(name) == Some(wanted)
    }
}
