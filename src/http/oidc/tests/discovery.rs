//! What an issuer says of itself, and whether it can be asked.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Json;
use axum::response::IntoResponse as _;
use axum::routing::{get as route, post};
use jsonwebtoken::Algorithm;

use super::clients::{described, description};
use super::*;
use crate::http::oidc::discovery::{Document, Problem, Reach, Wire, address};
use crate::http::oidc::{Class, ConfigError, DEFAULT_SCOPES};

const HTTPS: &str = "https://login.example.com/realms/a";

fn wire(over: &Value) -> Wire {
    let mut document = json!({
        "issuer": HTTPS,
        "authorization_endpoint": format!("{HTTPS}/authorize"),
        "token_endpoint": "https://tokens.example.com/token",
        "jwks_uri": format!("{HTTPS}/keys"),
        "id_token_signing_alg_values_supported": ["none", "HS256", "EdDSA", "RS256", "XS1"],
    });
    for (name, value) in over.as_object().unwrap() {
        document[name] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn document(over: &Value) -> Result<Document, Problem> {
    Document::new(wire(over), HTTPS, Reach::Https, &DEFAULT_SCOPES.map(str::to_owned))
}

#[test]
fn of_the_description_only_what_is_safe_is_taken() {
    let expected = Document {
        authorization: format!("{HTTPS}/authorize").parse().unwrap(),
        token: "https://tokens.example.com/token".parse().unwrap(),
        jwks: format!("{HTTPS}/keys").parse().unwrap(),
        algorithms: vec![Algorithm::RS256, Algorithm::EdDSA],
        scope: "openid profile email offline_access groups".to_owned(),
        secret_in_form: false,
        issuer_parameter: false,
    };
    assert_eq!(document(&json!({})), Ok(expected));
}

#[test]
fn a_description_of_another_issuer_or_with_unsafe_endpoints_is_refused() {
    let slash = format!("{HTTPS}/");
    for (over, problem) in [
        (json!({"issuer": slash}), Problem::Issuer(slash.clone())),
        (json!({"issuer": ""}), Problem::Issuer(String::new())),
        (
            json!({"token_endpoint": "http://login.example.com/t"}),
            Problem::Endpoint("token_endpoint"),
        ),
        (json!({"token_endpoint": "http://127.0.0.1/t"}), Problem::Endpoint("token_endpoint")),
        (json!({"token_endpoint": "/token"}), Problem::Endpoint("token_endpoint")),
        (json!({"jwks_uri": "file:///etc/passwd"}), Problem::Endpoint("jwks_uri")),
        (json!({"jwks_uri": "https://user:pw@login.example.com/k"}), Problem::Endpoint("jwks_uri")),
        (json!({"jwks_uri": "https://login.example.com/k#x"}), Problem::Endpoint("jwks_uri")),
        (
            json!({"authorization_endpoint": "javascript:alert(1)"}),
            Problem::Endpoint("authorization_endpoint"),
        ),
        (json!({"id_token_signing_alg_values_supported": ["none", "HS512"]}), Problem::Algorithms),
        (json!({"id_token_signing_alg_values_supported": []}), Problem::Algorithms),
    ] {
        assert_eq!(document(&over), Err(problem), "{over}");
    }
}

#[test]
fn an_issuer_that_declares_no_algorithms_has_the_one_that_all_have() {
    let algorithms = document(&json!({"id_token_signing_alg_values_supported": null}));
    assert_eq!(algorithms.map(|document| document.algorithms), Ok(vec![Algorithm::RS256]));
}

#[test]
fn only_offered_scopes_are_asked_for_and_openid_always() {
    for (offered, scope) in [
        (json!(["openid", "email", "profile", "address"]), "openid profile email"),
        (json!(["groups"]), "openid groups"),
        (json!([]), "openid"),
        (json!(null), "openid profile email offline_access groups"),
    ] {
        let document = document(&json!({"scopes_supported": offered}));
        assert_eq!(document.map(|document| document.scope), Ok(scope.to_owned()), "{offered}");
    }
}

#[test]
fn an_issuer_is_on_https_or_on_this_machine() {
    for (issuer, in_process, expected) in [
        (HTTPS, false, Ok(Reach::Https)),
        ("http://127.0.0.1:5556/dex", false, Ok(Reach::Loopback)),
        ("http://[::1]:5556/dex", false, Ok(Reach::Loopback)),
        ("http://localhost:5556", false, Ok(Reach::Loopback)),
        ("http://10.0.0.1:8080/oidc", true, Ok(Reach::InProcess)),
        ("http://10.0.0.1:8080/oidc", false, Err(())),
        ("http://127.0.0.1.evil/oidc", false, Err(())),
        ("http://localhost.evil/oidc", false, Err(())),
        ("http://localhost@evil/oidc", false, Err(())),
        ("https://user@login.example.com", false, Err(())),
        ("https://login.example.com/?a=b", false, Err(())),
        ("https://login.example.com/#a", false, Err(())),
        ("ldap://login.example.com", true, Err(())),
        ("login.example.com", false, Err(())),
        ("", false, Err(())),
    ] {
        assert_eq!(Reach::of(issuer, in_process).map_err(|_| ()), expected, "{issuer}");
    }
}

#[test]
fn a_loopback_issuer_may_have_plain_endpoints_on_this_machine_only() {
    let issuer = "http://127.0.0.1:5556/dex";
    let with = |token: &str| {
        let over = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": token,
            "jwks_uri": format!("{issuer}/keys"),
        });
        let document = Document::new(wire(&over), issuer, Reach::Loopback, &[]);
        document.map(|document| document.token.to_string())
    };
    let refused = Err(Problem::Endpoint("token_endpoint"));
    assert_eq!(with("http://localhost:1/token"), Ok("http://localhost:1/token".to_owned()));
    assert_eq!(with("https://example.com/token"), Ok("https://example.com/token".to_owned()));
    assert_eq!(with("http://10.0.0.1/token"), refused);
}

#[test]
fn the_description_is_below_the_issuer_with_or_without_a_slash_at_its_end() {
    let expected = "https://a.example/b/.well-known/openid-configuration";
    for issuer in ["https://a.example/b", "https://a.example/b/"] {
        assert_eq!(address(issuer).map(|uri| uri.to_string()), Ok(expected.to_owned()));
    }
}

#[test]
fn a_wrong_configuration_is_told_at_the_start() {
    let config = |issuer: &str, ca: Option<&str>| Config {
        ca: ca.map(|pem| pem.as_bytes().to_vec()),
        ..Config::new(issuer.to_owned(), "client".to_owned(), CALLBACK.parse().unwrap())
    };
    let new = |config| RelyingParty::new(config, Hands::new().clock()).err();
    assert!(matches!(new(config("http://example.com", None)), Some(ConfigError::Issuer { .. })));
    let empty = Some(ConfigError::Ca("it has no certificate".to_owned()));
    assert_eq!(new(config(HTTPS, Some(""))), empty);
    assert_eq!(new(config(HTTPS, Some("no PEM"))), empty);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(new(config(HTTPS, Some(broken))), Some(ConfigError::Ca(_))));
    assert_eq!(new(config(HTTPS, Some(include_str!("ca.pem")))), None);
}

#[tokio::test(start_paused = true)]
async fn row_21_an_issuer_that_is_away_at_the_start_is_asked_until_it_is_there() {
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let issuer = described(description(), post(|| async {})).route(
        "/away/.well-known/openid-configuration",
        route(|| async move {
            if asks.fetch_add(1, Ordering::SeqCst) < 20 {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            let away = |path: &str| format!("http://127.0.0.1:8080/away/{path}");
            let mut description = description();
            for (name, value) in [
                ("issuer", "http://127.0.0.1:8080/away".to_owned()),
                ("authorization_endpoint", away("authorize")),
                ("token_endpoint", away("token")),
                ("jwks_uri", away("keys")),
            ] {
                description[name] = value.into();
            }
            Json(description).into_response()
        }),
    );
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}]});
    let issuer = issuer.route("/away/keys", route(|| async { Json(keys) }));
    let url = "http://127.0.0.1:8080/away".to_owned();
    let config = Config::new(url, "client".to_owned(), CALLBACK.parse().unwrap());
    let party = RelyingParty::in_process(config, issuer, Hands::new().clock()).unwrap();

    let early = party.start_login().err().unwrap();
    assert_eq!(early, Error::NotReady(party.ready().unwrap_err()));
    assert!(matches!(early.class(), Class::Unavailable { .. }));
    assert_eq!(
        early.to_string(),
        "logins are not possible yet: it was not asked yet; the issuer http://127.0.0.1:8080/away \
         is asked again until it answers, so try again later"
    );
    make_ready(&party).await;
    assert_eq!(asked.load(Ordering::SeqCst), 21);
    assert!(party.start_login().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_reason_why_logins_are_not_possible_is_the_last_one() {
    let mut other = description();
    other["issuer"] = json!(format!("{ISSUER}/"));
    for (issuer, said) in [
        (described(other, post(|| async {})), "to the last slash"),
        (Router::new(), "answered 404 Not Found"),
    ] {
        let config = Config::new(ISSUER.to_owned(), "client".to_owned(), CALLBACK.parse().unwrap());
        let party = RelyingParty::in_process(config, issuer, Hands::new().clock()).unwrap();
        let run = party.run(CancellationToken::new());
        let tried = tokio::time::timeout(Duration::from_secs(1), run).await;
        assert!(tried.is_err());
        let problem = party.ready().unwrap_err().problem;
        assert!(problem.contains(said), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_stays_known_while_the_issuer_is_away_and_is_read_again_each_hour() {
    let stage = Stage::new().await;
    stage.set(&json!({"jwks": {"status": 500}})).await;
    let hours =
        tokio::time::timeout(Duration::from_mins(70), stage.party.run(CancellationToken::new()));
    assert!(hours.await.is_err());
    assert!(stage.reads().await > 5, "it is asked again and again");
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));

    stage.set(&json!({})).await;
    let stop = CancellationToken::new();
    let stopped = tokio::time::timeout(Duration::from_secs(5), async {
        tokio::join!(stage.party.run(stop.clone()), async { stop.cancel() })
    });
    assert!(stopped.await.is_ok(), "it ends when it is asked to");
}
