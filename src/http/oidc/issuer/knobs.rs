//! Everything that an issuer can do wrong, on request: for tests of the login. Only compiled into
//! tests and with the feature `issuer-knobs`.
//!
//! - `POST /oidc/knobs` with [`Knobs`] as JSON: for all logins that begin from now on (with
//!   `once`: the next one), and for the published keys. `{}` sets all back, apart from the key.
//! - `/oidc/authorize?…&knobs=<the same JSON>`: for this login alone, instead of those.
//! - `/oidc/authorize?…&user=alice[&groups=a,b]`: this login's user.
//! - `GET /oidc/knobs`: how often the keys were read, `{"jwksReads": 1}`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::grants::Grant;
use super::params::{Params, Refused};
use super::signing::{SigningKey, encoded};
use super::{Inner, User};

/// What is to go wrong. Nothing by default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Knobs {
    /// Who logs in.
    pub(super) user: Option<User>,
    /// Ends the login at the authorization endpoint.
    pub(super) authorize_error: Option<AuthorizeError>,
    /// What the `id_token` becomes.
    id_token: Forgery,
    /// A new key takes the place of the old one just before the `id_token` is signed.
    rotate: bool,
    /// What the answer of the token endpoint becomes.
    pub(super) token: Fault,
    /// What the published keys become.
    jwks: Fault,
    /// For the next login only; `jwks` stays.
    once: bool,
}

/// What the browser brings back instead of a code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizeError {
    error: String,
    #[serde(default)]
    description: String,
}

impl From<AuthorizeError> for Refused {
    fn from(AuthorizeError { error, description }: AuthorizeError) -> Self {
        Self { error: error.into(), description: description.into(), ..Self::request("") }
    }
}

/// Another `id_token` than the right one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Forgery {
    /// Put over the claims; null takes one away.
    claims: Map<String, Value>,
    /// Put over the header; null takes a key away.
    header: Map<String, Value>,
    signature: Signature,
    /// Put after the token, such as `.x.y` for five parts.
    suffix: String,
    /// In the place of the whole token.
    raw: Option<String>,
}

/// How the `id_token` is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Signature {
    /// With the published key.
    #[default]
    Key,
    /// `alg: none`, and no signature.
    None,
    /// `alg: HS256`, the published key as shared secret.
    Shared,
    /// With another key, under the name of the published one.
    OtherKey,
    /// With another key, which the header brings along.
    EmbeddedKey,
}

/// Another answer than the right one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Fault {
    status: Option<u16>,
    content_type: Option<String>,
    /// Keys of the answer to leave out.
    without: Vec<String>,
    /// Bytes to add.
    padding: usize,
    delay_ms: u64,
}

/// What is set, and what was seen.
#[derive(Default)]
pub(super) struct State {
    knobs: Mutex<Knobs>,
    key: Mutex<Option<Arc<SigningKey>>>,
    jwks_reads: AtomicU64,
}

/// `POST /oidc/knobs`.
pub(super) async fn set(Shared(inner): Shared<Arc<Inner>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(knobs) => {
            *lock(&inner.knobs.knobs) = knobs;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(err) => (StatusCode::BAD_REQUEST, err.to_string()).into_response(),
    }
}

/// `GET /oidc/knobs`.
pub(super) async fn seen(Shared(inner): Shared<Arc<Inner>>) -> Json<Value> {
    Json(json!({"jwksReads": inner.knobs.jwks_reads.load(Ordering::Relaxed)}))
}

impl State {
    /// The key that took the place of the first one.
    pub(super) fn key(&self) -> Option<Arc<SigningKey>> {
        lock(&self.key).clone()
    }

    /// The published keys.
    pub(super) async fn keys(&self, keys: Value) -> Response {
        self.jwks_reads.fetch_add(1, Ordering::Relaxed);
        let fault = lock(&self.knobs).jwks.clone();
        fault.answer(keys).await
    }

    /// What goes wrong in a login that begins now.
    pub(super) fn of_login(&self, params: &Params) -> Result<Knobs, Refused> {
        let mut knobs = match params.get("knobs") {
            Some(text) => serde_json::from_str(text).map_err(|_| {
                Refused::request("the parameter knobs is not what /oidc/knobs takes")
            })?,
            None => self.next(),
        };
        if let Some(sub) = params.get("user") {
            let groups = params.get("groups").unwrap_or_default().split(',');
            let groups = groups.filter(|group| !group.is_empty()).map(str::to_owned).collect();
            knobs.user = Some(User { sub: sub.to_owned(), groups });
        }
        Ok(knobs)
    }

    fn next(&self) -> Knobs {
        let mut set = lock(&self.knobs);
        let knobs = set.clone();
        if set.once {
            *set = Knobs { jwks: knobs.jwks.clone(), ..Knobs::default() };
        }
        knobs
    }
}

impl Fault {
    /// The answer as it was asked for.
    pub(super) async fn answer(&self, mut body: Value) -> Response {
        tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        if let Some(fields) = body.as_object_mut() {
            fields.retain(|name, _| !self.without.contains(name));
            if self.padding > 0 {
                fields.insert("padding".to_owned(), "x".repeat(self.padding).into());
            }
        }
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        let kind = self.content_type.as_deref().unwrap_or("application/json");
        let headers = [(CONTENT_TYPE, kind)];
        (status.unwrap_or(StatusCode::OK), headers, body.to_string()).into_response()
    }
}

impl Inner {
    /// The answer for a code, with the `id_token` that was asked for.
    pub(super) fn forged(&self, grant: &Grant) -> Option<Value> {
        if grant.knobs.rotate {
            *lock(&self.knobs.key) = Some(Arc::new(SigningKey::generate()?));
        }
        let mut tokens = self.tokens(grant)?;
        let key = self.key();
        let claims = key.verified(tokens["id_token"].as_str()?, "JWT")?;
        tokens["id_token"] = grant.knobs.id_token.forge(&key, claims)?.into();
        Some(tokens)
    }
}

impl Forgery {
    fn forge(&self, key: &SigningKey, mut claims: Value) -> Option<String> {
        if let Some(raw) = &self.raw {
            return Some(raw.clone());
        }
        let other = SigningKey::generate()?;
        let mut header = key.header("JWT");
        let (private, algorithm) = match self.signature {
            Signature::Key => (key.private.clone(), Algorithm::ES256),
            Signature::Shared => {
                let public = DecodingKey::from_jwk(key.public()).ok()?;
                header["alg"] = "HS256".into();
                (EncodingKey::from_secret(public.try_get_as_bytes().ok()?), Algorithm::HS256)
            }
            Signature::None => {
                header["alg"] = "none".into();
                (key.private.clone(), Algorithm::ES256)
            }
            Signature::EmbeddedKey => {
                header["jwk"] = serde_json::to_value(other.public()).ok()?;
                (other.private.clone(), Algorithm::ES256)
            }
            Signature::OtherKey => (other.private.clone(), Algorithm::ES256),
        };
        merge(&mut header, &self.header);
        merge(&mut claims, &self.claims);
        let signed = encoded(&header, &claims);
        let signature = match self.signature {
            Signature::None => String::new(),
            _ => jsonwebtoken::crypto::sign(signed.as_bytes(), &private, algorithm).ok()?,
        };
        Some(format!("{signed}.{signature}{}", self.suffix))
    }
}

fn merge(into: &mut Value, over: &Map<String, Value>) {
    if let Some(fields) = into.as_object_mut() {
        for (name, value) in over {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
