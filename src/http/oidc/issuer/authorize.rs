//! `/oidc/authorize`: sends the browser back at once, with a code.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, LOCATION};

use super::super::random;
use super::Inner;
use super::grants::Grant;
use super::params::{Params, Refused};

/// The longest value that is kept or sent back, in bytes.
const MAX_VALUE: usize = 1024;

pub(super) async fn authorize(
    State(inner): State<Arc<Inner>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let params = Params::read(query.unwrap_or_default().as_bytes())?;
    // Before these two are right there is nobody to send the browser to (RFC 6749, 4.1.2.1).
    if !params.is("client_id", &inner.client_id) {
        return Err(Refused::request("client_id is not the one of this backend"));
    }
    if !params.is("redirect_uri", inner.callback.as_str()) {
        return Err(Refused::request("redirect_uri must be exactly --oidc-callback-url"));
    }
    let state = params.get("state").filter(|state| state.len() <= MAX_VALUE);
    let state = state.ok_or(Refused::request("state is missing or too long"))?;
    let mut back = inner.callback.clone();
    {
        let mut query = back.query_pairs_mut();
        match inner.grant(&params) {
            Ok(code) => query.append_pair("code", &code),
            Err(Refused { error, description, .. }) => {
                query.append_pair("error", &error).append_pair("error_description", &description)
            }
        };
        query.append_pair("state", state).append_pair("iss", &inner.issuer);
    }
    let headers = [(LOCATION, back.as_str()), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::FOUND, headers).into_response())
}

impl Inner {
    /// A code for what was asked.
    fn grant(&self, params: &Params) -> Result<String, Refused> {
        if !params.is("response_type", "code") {
            return Err(Refused::new("unsupported_response_type", "response_type must be code"));
        }
        let scope = params.get("scope").unwrap_or_default();
        if !scope.split(' ').any(|scope| scope == "openid") {
            return Err(Refused::new("invalid_scope", "scope must contain openid"));
        }
        // A SHA-256 in base64url has 43 characters (RFC 7636, 4.2).
        let challenge = params.get("code_challenge").filter(|text| text.len() == 43);
        let challenge = challenge.filter(|_| params.is("code_challenge_method", "S256"));
        let challenge = challenge
            .ok_or(Refused::request("PKCE with code_challenge_method=S256 is needed"))?
            .to_owned();
        let nonce = params.get("nonce");
        if nonce.is_some_and(|nonce| nonce.len() > MAX_VALUE) {
            return Err(Refused::request("nonce is too long"));
        }
        #[cfg(any(test, feature = "issuer-knobs"))]
        let (user, knobs) = {
            let knobs = self.knobs.of_login(params)?;
            if let Some(error) = knobs.authorize_error {
                return Err(error.into());
            }
            (knobs.user.clone().unwrap_or_default(), knobs)
        };
        #[cfg(not(any(test, feature = "issuer-knobs")))]
        let user = super::User::default();
        let busy = Refused::new("temporarily_unavailable", "too many logins; try again later");
        let code = random().map_err(|_| busy.clone())?;
        let grant = Grant {
            challenge,
            nonce: nonce.map(str::to_owned),
            user,
            #[cfg(any(test, feature = "issuer-knobs"))]
            knobs,
        };
        if self.grants().put(code.clone(), grant, (self.clock)()) { Ok(code) } else { Err(busy) }
    }
}
