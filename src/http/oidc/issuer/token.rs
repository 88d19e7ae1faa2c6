//! `/oidc/token`: a code for an `id_token`. `/oidc/userinfo`: the same claims for the access token.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::super::challenge;
use super::grants::Grant;
use super::params::{Params, Refused};
use super::{Inner, User};

/// How long `id_token` and access token are good for, in seconds; as v0.8.1.
const LIFETIME: i64 = 600;

/// The `typ` of an access token (RFC 9068, 2.1).
const ACCESS_TOKEN: &str = "at+jwt";

/// The claims about a user.
pub(super) const CLAIMS: [&str; 5] =
    ["sub", "email", "email_verified", "preferred_username", "groups"];

pub(super) async fn token(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let grant = inner.redeem(&headers, &body)?;
    let unsigned = Refused {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        ..Refused::new("server_error", "the tokens cannot be signed")
    };
    #[cfg(any(test, feature = "issuer-knobs"))]
    let tokens = inner.forged(&grant).ok_or(unsigned)?;
    #[cfg(not(any(test, feature = "issuer-knobs")))]
    let tokens = inner.tokens(&grant).ok_or(unsigned)?;
    #[cfg(any(test, feature = "issuer-knobs"))]
    let tokens = grant.knobs.token.answer(tokens).await;
    #[cfg(not(any(test, feature = "issuer-knobs")))]
    let tokens = Json(tokens);
    Ok(([(CACHE_CONTROL, "no-store")], tokens).into_response())
}

pub(super) async fn userinfo(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let claims = token.and_then(|token| inner.key().verified(token, ACCESS_TOKEN));
    let now = (inner.clock)().as_second();
    let claims = claims.filter(|claims| claims["exp"].as_i64().is_some_and(|exp| now < exp));
    let Some(claims) = claims else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let claims: serde_json::Map<String, Value> =
        CLAIMS.iter().map(|name| ((*name).to_owned(), claims[name].clone())).collect();
    ([(CACHE_CONTROL, "no-store")], Json(claims)).into_response()
}

impl Inner {
    /// Takes the code that a form of our client names (RFC 6749, 4.1.3).
    fn redeem(&self, headers: &HeaderMap, body: &[u8]) -> Result<Grant, Refused> {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|value| value.split(';').next()).unwrap_or_default();
        if kind.trim() != "application/x-www-form-urlencoded" {
            return Err(Refused::request("a form is needed: application/x-www-form-urlencoded"));
        }
        let params = Params::read(body)?;
        self.authenticate(headers, &params)?;
        if !params.is("grant_type", "authorization_code") {
            return Err(Refused::new(
                "unsupported_grant_type",
                "grant_type must be authorization_code",
            ));
        }
        let refused = Refused::new(
            "invalid_grant",
            "the code is unknown, used, older than 60 s, or its verifier is wrong; log in again",
        );
        let code = params.get("code").ok_or(Refused::request("code is missing"))?;
        let grant = self.grants().take(code, (self.clock)()).ok_or_else(|| refused.clone())?;
        let verifier = params.get("code_verifier").unwrap_or_default();
        let proved = equal(&challenge(verifier), &grant.challenge);
        let same = params.is("redirect_uri", self.callback.as_str());
        if proved && same { Ok(grant) } else { Err(refused) }
    }

    /// By HTTP Basic or in the form, and not by both (RFC 6749, 2.3).
    fn authenticate(&self, headers: &HeaderMap, params: &Params) -> Result<(), Refused> {
        let in_form = params.get("client_id").zip(params.get("client_secret"));
        let in_form = in_form.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
        let given = if headers.contains_key(AUTHORIZATION) {
            basic(headers).filter(|_| in_form.is_none())
        } else {
            in_form
        };
        let right = |(id, secret): &(String, String)| {
            equal(id, &self.client_id) & equal(secret, self.client_secret.expose_secret())
        };
        match given.filter(right) {
            Some(_) => Ok(()),
            None => Err(Refused {
                status: StatusCode::UNAUTHORIZED,
                ..Refused::new("invalid_client", "client ID or secret are wrong, or given twice")
            }),
        }
    }

    /// The answer for a code; none if signing fails.
    pub(super) fn tokens(&self, grant: &Grant) -> Option<Value> {
        let key = self.key();
        let mut claims = self.claims(&grant.user);
        let access_token = key.sign(&key.header(ACCESS_TOKEN), &claims)?;
        claims["aud"] = self.client_id.as_str().into();
        if let Some(nonce) = &grant.nonce {
            claims["nonce"] = nonce.as_str().into();
        }
        Some(json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "id_token": key.sign(&key.header("JWT"), &claims)?,
        }))
    }

    /// What both tokens say.
    fn claims(&self, user: &User) -> Value {
        let now = (self.clock)().as_second();
        json!({
            "iss": self.issuer,
            "aud": self.at("userinfo"),
            "iat": now,
            "exp": now + LIFETIME,
            "sub": user.sub,
            "email": "embedded@kube-bind.io",
            "email_verified": true,
            "preferred_username": "kube-bind",
            "groups": user.groups,
        })
    }
}

/// ID and secret of HTTP Basic, each form-encoded (RFC 6749, 2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let pair = String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    // As the value of a parameter without a name, a half is decoded like any other.
    let half = |text: &str| {
        let encoded = format!("={text}");
        let mut pairs = url::form_urlencoded::parse(encoded.as_bytes());
        pairs.next().map(|(_, value)| value.into_owned())
    };
    Some((half(id)?, half(secret)?))
}

fn equal(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}
