//! The authorization code for an `id_token`, at the token endpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::discovery::Document;
use super::error::Error;
use super::relying_party::Config;
use super::transport::{Failure, Transport};

/// The longest authorization code, in bytes.
const MAX_CODE: usize = 4096;

/// The code for an `id_token` (RFC 6749, 4.1.3; RFC 7636, 4.5).
pub(super) async fn exchange(
    transport: &Transport,
    config: &Config,
    document: &Document,
    code: &SecretString,
    verifier: &SecretString,
) -> Result<SecretString, Error> {
    let code = code.expose_secret();
    if code.is_empty() || code.len() > MAX_CODE {
        return Err(Error::Code);
    }
    let id = config.client_id.as_str();
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", config.callback_url.as_str()),
        ("code_verifier", verifier.expose_secret()),
    ];
    let mut request = Request::builder()
        .method(Method::POST)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    match config.client_secret.as_ref().map(SecretString::expose_secret) {
        Some(secret) if document.secret_in_form => {
            pairs.extend([("client_id", id), ("client_secret", secret)]);
        }
        Some(secret) => request = request.header(AUTHORIZATION, basic(id, secret)),
        None => pairs.push(("client_id", id)),
    }
    let form = Serializer::new(String::new()).extend_pairs(pairs).finish();
    let answer = transport.call(&document.token, request, form.into()).await;
    let answer = answer.map_err(|err| match err {
        Failure::TooLarge(_) => Error::TokenAnswer { problem: err.to_string() },
        _ => Error::Exchange { problem: err.to_string() },
    })?;
    if answer.status.is_client_error() {
        return Err(refused(answer.status, answer.decode().ok()));
    }
    let tokens: Tokens = answer.success().map_err(|err| match err {
        Failure::Status { status, .. } if status.is_server_error() => {
            Error::Exchange { problem: err.to_string() }
        }
        _ => Error::TokenAnswer { problem: err.to_string() },
    })?;
    let id_token = tokens.id_token.filter(|token| !token.is_empty());
    id_token
        .map(SecretString::from)
        .ok_or_else(|| Error::TokenAnswer { problem: "it has no id_token".to_owned() })
}

/// What is used of the token endpoint's answer.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

/// The error of a token endpoint (RFC 6749, 5.2).
#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

/// The code may be at fault, or we are.
fn refused(status: http::StatusCode, error: Option<OAuthError>) -> Error {
    let code = |error: OAuthError| Some(error.error).filter(|code| is_error_code(code));
    match error.and_then(code).as_deref() {
        Some("invalid_grant") => Error::CodeRefused,
        Some(error) => Error::ClientRefused { status, error: error.to_owned() },
        None => Error::ClientRefused { status, error: "no OAuth error code".to_owned() },
    }
}

/// The registered ones are words with underscores: nothing else of the answer goes into a text.
fn is_error_code(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// HTTP Basic of OAuth: both halves are form-encoded first (RFC 6749, 2.3.1).
fn basic(id: &str, secret: &str) -> http::HeaderValue {
    let half = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", half(id), half(secret)));
    // base64 is always a header's value; an empty one would only be refused by the issuer.
    let mut value = http::HeaderValue::try_from(format!("Basic {pair}"))
        .unwrap_or(http::HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
