//! Sessions as browsers and `kubectl bind` meet them. Numbers in names are those of the list of bad
//! inputs that logins and sessions must survive.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::*;

mod cookies;
mod credentials;
mod keys;
mod logins;
mod logout;
mod memory;
mod properties;
mod tokens;

/// When the tests begin.
const START: i64 = 1_800_000_000;

const BACKEND: &str = "https://backend.example.com/";

/// How long sessions last.
const LIFETIME: i64 = 3600;

/// A clock that the test sets.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || hands.now())
    }

    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }

    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Sessions in memory.
struct Stage {
    hands: Hands,
    sessions: Sessions,
}

impl Stage {
    fn new() -> Self {
        Self::at(BACKEND, KeyRing::generate().unwrap())
    }

    fn at(external_url: &str, keys: KeyRing) -> Self {
        let hands = Hands::new();
        let external_url = external_url.parse().unwrap();
        let config = Config { external_url, lifetime: Duration::from_hours(1) };
        let store = Store::Memory(Memory::new(hands.clock()));
        let sessions = Sessions::new(&config, store, keys, hands.clock());
        Self { hands, sessions }
    }

    async fn granted(&self, cluster: &str) -> Granted {
        self.sessions.create_session(user(cluster)).await.unwrap()
    }

    /// A new session's cookie, as the browser sends it.
    async fn cookie(&self, cluster: &str) -> String {
        let granted = self.granted(cluster).await;
        sent(&self.sessions.cookie(&granted).unwrap())
    }

    /// A new session's token.
    async fn token(&self, cluster: &str) -> String {
        let granted = self.granted(cluster).await;
        self.sessions.token(&granted).unwrap().token.expose_secret().to_owned()
    }

    /// Whether a request has a session of its own cluster, and by what.
    async fn credential(&self, headers: &HeaderMap) -> Result<Credential, Error> {
        let found = self.sessions.authenticate(headers, Scope::Cluster("")).await;
        if let Err(err) = &found {
            // Bad input 71: what is secret is in no text.
            let said = format!("{err} {err:?}");
            for value in headers.values() {
                let value = String::from_utf8_lossy(value.as_bytes());
                for part in value.split([' ', '=', ';']).filter(|part| part.len() > 12) {
                    assert!(part.starts_with("__Host-") || !said.contains(part), "{said}");
                }
            }
        }
        found.map(|found| found.credential)
    }
}

fn user(cluster: &str) -> User {
    User {
        issuer: "https://id.example.com".to_owned(),
        subject: "ann".to_owned(),
        username: "ann@example.com".to_owned(),
        groups: vec!["dev".to_owned(), "ops".to_owned()],
        cluster: cluster.to_owned(),
        admitted: true,
        correlation: "s1".to_owned(),
    }
}

fn session(cluster: &str) -> Session {
    Session { user: user(cluster), created: at(START), expires: at(START + LIFETIME) }
}

/// `name=value` of a `Set-Cookie`.
fn sent(set_cookie: &HeaderValue) -> String {
    set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn with_cookies(cookies: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
    }
    headers
}

fn with_authorization(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    headers
}

fn bearer(token: &str) -> HeaderMap {
    with_authorization(&format!("Bearer {token}"))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
