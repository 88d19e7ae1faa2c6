//! The issuer for development (`--oidc-type=embedded`; contract http.md 8): everybody who asks is
//! logged in as the same user, without a page and without a password.
//!
//! Discovery, keys, authorize, token and userinfo, for one client: the backend itself. What a real
//! issuer would check is checked, so that a login which works here is one. Keys, codes and the
//! client's secret live as long as the process.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use url::Url;

use super::{Clock, Config, random};

mod authorize;
mod grants;
#[cfg(any(test, feature = "issuer-knobs"))]
mod knobs;
mod params;
mod signing;
mod token;

use grants::Grants;
use signing::SigningKey;

/// The largest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// The embedded issuer cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// No host to be the issuer of.
    #[error("--oidc-issuer-url has no host; write http://127.0.0.1:8080/oidc, say")]
    Host,
    /// The system gives no random bits.
    #[error(
        "no key can be made for the embedded issuer: the system gives no random numbers; start again"
    )]
    Random,
}

/// A user of the issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The claim `sub`.
    pub sub: String,
    /// The claim `groups`.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl Default for User {
    /// The one of v0.8.1.
    fn default() -> Self {
        Self {
            sub: "kube-bind-embedded-user".to_owned(),
            groups: vec!["engineering".to_owned(), "devops".to_owned()],
        }
    }
}

/// The issuer for development. Clones are the same issuer.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    /// What it calls itself: `<scheme>://<host>/oidc`, whatever else the flag says, as in v0.8.1.
    issuer: String,
    client_id: String,
    client_secret: SecretString,
    /// The only address that codes are sent to.
    callback: Url,
    key: Arc<SigningKey>,
    grants: Mutex<Grants>,
    clock: Clock,
    #[cfg(any(test, feature = "issuer-knobs"))]
    knobs: knobs::State,
}

impl Issuer {
    /// With new keys and a new client. `url` is `--oidc-issuer-url`, `callback` is
    /// `--oidc-callback-url`.
    pub fn new(url: &Url, callback: &Url, clock: Clock) -> Result<Self, Error> {
        #[cfg(feature = "issuer-knobs")]
        tracing::warn!("this build has the feature issuer-knobs: anybody can log in as anybody");
        let host = url.host().ok_or(Error::Host)?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let fresh = || random().map_err(|_| Error::Random);
        Ok(Self(Arc::new(Inner {
            issuer: format!("{}://{host}{port}/oidc", url.scheme()),
            client_id: format!("kube-bind-{}", fresh()?),
            client_secret: SecretString::from(fresh()?),
            callback: callback.clone(),
            key: Arc::new(SigningKey::generate().ok_or(Error::Random)?),
            grants: Mutex::default(),
            clock,
            #[cfg(any(test, feature = "issuer-knobs"))]
            knobs: knobs::State::default(),
        })))
    }

    /// The routes, all below `/oidc/`.
    pub fn router(&self) -> Router {
        let routes = Router::new()
            .route("/oidc/.well-known/openid-configuration", get(configuration))
            .route("/oidc/.well-known/jwks.json", get(keys))
            .route("/oidc/authorize", get(authorize::authorize))
            .route("/oidc/token", post(token::token))
            .route("/oidc/userinfo", get(token::userinfo).post(token::userinfo));
        #[cfg(any(test, feature = "issuer-knobs"))]
        let routes = routes.route("/oidc/knobs", post(knobs::set).get(knobs::seen));
        routes.layer(DefaultBodyLimit::max(MAX_FORM)).with_state(Arc::clone(&self.0))
    }

    /// The backend as its client.
    #[must_use]
    pub fn client(&self) -> Config {
        let Inner { issuer, client_id, callback, client_secret, .. } = &*self.0;
        Config {
            client_secret: Some(client_secret.clone()),
            ..Config::new(issuer.clone(), client_id.clone(), callback.clone())
        }
    }
}

impl Inner {
    fn key(&self) -> Arc<SigningKey> {
        #[cfg(any(test, feature = "issuer-knobs"))]
        if let Some(key) = self.knobs.key() {
            return key;
        }
        Arc::clone(&self.key)
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, path: impl Display) -> String {
        format!("{}/{path}", self.issuer)
    }
}

async fn configuration(State(inner): State<Arc<Inner>>) -> Json<Value> {
    Json(json!({
        "issuer": inner.issuer,
        "authorization_endpoint": inner.at("authorize"),
        "token_endpoint": inner.at("token"),
        "userinfo_endpoint": inner.at("userinfo"),
        "jwks_uri": inner.at(".well-known/jwks.json"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": token::CLAIMS,
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn keys(State(inner): State<Arc<Inner>>) -> Response {
    let keys = json!({"keys": [inner.key().public()]});
    #[cfg(any(test, feature = "issuer-knobs"))]
    let keys = inner.knobs.keys(keys).await;
    #[cfg(not(any(test, feature = "issuer-knobs")))]
    let keys = Json(keys);
    keys.into_response()
}
