//! The relying party against the embedded issuer, and against worse ones. Numbers in names are those
//! of the list of bad inputs that the login must survive.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use http::header::LOCATION;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use url::Url;

use super::issuer::Issuer;
use super::{Clock, Config, Error, Identity, RelyingParty, Started};

mod clients;
mod discovery;
mod embedded;
mod id_token;
mod keys;
mod network;
mod properties;
mod token_endpoint;

/// When the tests begin.
const START: i64 = 1_800_000_000;

const ISSUER: &str = "http://127.0.0.1:8080/oidc";
const CALLBACK: &str = "http://127.0.0.1:8080/api/callback";

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
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// A relying party that is ready, and its issuer.
struct Stage {
    hands: Hands,
    issuer: Issuer,
    router: Router,
    party: RelyingParty,
}

/// What a browser brings to the callback.
struct Arrived {
    started: Started,
    query: Vec<(String, String)>,
}

impl Arrived {
    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    fn code(&self) -> SecretString {
        SecretString::from(self.get("code").unwrap().to_owned())
    }
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let hands = Hands::new();
        let issuer = embedded(&hands);
        let mut config = issuer.client();
        change(&mut config);
        let router = issuer.router();
        let party = RelyingParty::in_process(config, router.clone(), hands.clock()).unwrap();
        make_ready(&party).await;
        Self { hands, issuer, router, party }
    }

    /// As far as the callback.
    async fn arrive(&self, knobs: &Value) -> Arrived {
        let started = self.party.start_login().unwrap();
        let mut url = started.authorize_url.clone();
        url.query_pairs_mut().append_pair("knobs", &knobs.to_string());
        let answer = get(&self.router, &url).await;
        assert_eq!(answer.status(), StatusCode::FOUND);
        let back = Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
        assert!(back.as_str().starts_with(CALLBACK));
        let query: Vec<(String, String)> = back.query_pairs().into_owned().collect();
        let arrived = Arrived { started, query };
        assert_eq!(arrived.get("state"), Some(arrived.started.state.expose_secret()));
        self.party.check_issuer_parameter(arrived.get("iss")).unwrap();
        arrived
    }

    /// A whole login, of which these things go wrong.
    async fn login(&self, knobs: &Value) -> Result<Identity, Error> {
        let arrived = self.arrive(knobs).await;
        self.finish(&arrived).await
    }

    async fn finish(&self, arrived: &Arrived) -> Result<Identity, Error> {
        let Started { nonce, verifier, state, .. } = &arrived.started;
        let code = arrived.code();
        let result = self.party.finish_login(&code, verifier, nonce).await;
        if let Err(err) = &result {
            // Bad input 71: what is secret is in no text.
            let said = format!("{err} {err:?}");
            for secret in [&code, verifier, state] {
                assert!(!said.contains(secret.expose_secret()), "{said}");
            }
            assert!(!said.contains(nonce.as_str()) && !said.contains("eyJ"), "{said}");
        }
        result
    }

    /// Who logs in where nothing goes wrong.
    fn user(&self) -> Identity {
        Identity {
            issuer: ISSUER.to_owned(),
            subject: "kube-bind-embedded-user".to_owned(),
            username: "kube-bind-embedded-user".to_owned(),
            groups: vec!["devops".to_owned(), "engineering".to_owned()],
            expires: Timestamp::from_second(self.hands.now().as_second() + 600).unwrap(),
        }
    }

    /// Sets what goes wrong with the published keys.
    async fn set(&self, knobs: &Value) {
        let request = Request::post("/oidc/knobs").body(Body::from(knobs.to_string())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    /// How often the keys were read.
    async fn reads(&self) -> u64 {
        let url = Url::parse(ISSUER).unwrap().join("/oidc/knobs").unwrap();
        body(get(&self.router, &url).await).await["jwksReads"].as_u64().unwrap()
    }
}

fn embedded(hands: &Hands) -> Issuer {
    Issuer::new(&ISSUER.parse().unwrap(), &CALLBACK.parse().unwrap(), hands.clock()).unwrap()
}

async fn make_ready(party: &RelyingParty) {
    tokio::select! {
        () = party.run(CancellationToken::new()) => panic!("the background work ended"),
        () = party.until_ready() => {}
    }
    assert_eq!(party.ready(), Ok(()));
}

async fn get(router: &Router, url: &Url) -> Response<Body> {
    let uri = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    router.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap()
}

async fn body(answer: Response<Body>) -> Value {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// Makes the claims of the `id_token` these.
fn claims(claims: &Value) -> Value {
    json!({"idToken": {"claims": claims}})
}
