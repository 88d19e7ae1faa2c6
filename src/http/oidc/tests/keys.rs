//! The issuer's keys: replaced, missing, broken, asked for too often.

use std::time::Duration;

use super::*;
use crate::http::oidc::keys::{Keys, Wire};
use crate::http::oidc::{Class, Refusal};

fn unavailable(result: &Result<Identity, Error>) -> Option<Duration> {
    match result.as_ref().map_err(Error::class) {
        Err(Class::Unavailable { retry_after }) => Some(retry_after),
        _ => None,
    }
}

fn kid(kid: &str) -> Value {
    json!({"idToken": {"header": {"kid": kid}}})
}

#[tokio::test]
async fn bad_input_11_keys_replaced_during_a_login_are_read_once_more() {
    let stage = Stage::new().await;
    assert_eq!(stage.reads().await, 1);
    assert_eq!(stage.login(&json!({"rotate": true})).await, Ok(stage.user()));
    assert_eq!(stage.reads().await, 2);
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));
    assert_eq!(stage.reads().await, 2);
}

#[tokio::test]
async fn bad_input_11_a_key_without_a_name_may_be_replaced_too() {
    let stage = Stage::new().await;
    let knobs = json!({"rotate": true, "idToken": {"header": {"kid": null}}});
    assert_eq!(stage.login(&knobs).await, Ok(stage.user()));
}

#[tokio::test(start_paused = true)]
async fn bad_input_11_logins_at_the_same_time_share_one_read() {
    let stage = Stage::new().await;
    // Replaces the key and goes no further.
    let knobs = json!({"rotate": true, "token": {"without": ["id_token"]}});
    assert!(stage.login(&knobs).await.is_err());
    stage.set(&json!({"jwks": {"delayMs": 1000}})).await;
    let logins = (0..10).map(|_| async { stage.login(&json!({})).await });
    let results = futures::future::join_all(logins).await;
    assert!(results.iter().all(|result| *result == Ok(stage.user())), "{results:?}");
    assert_eq!(stage.reads().await, 2);
}

#[tokio::test(start_paused = true)]
async fn bad_input_11_keys_that_cannot_be_read_end_the_login_for_now() {
    let cases = [
        ("500", json!({"status": 500}), "answered 500"),
        ("slow", json!({"delayMs": 11_000}), "did not answer within 10 s"),
        ("huge", json!({"padding": 2 << 20}), "larger than"),
        ("no JSON", json!({"contentType": "text/html"}), "is not application/json"),
        ("another shape", json!({"without": ["keys"]}), "not JSON of the expected shape"),
        ("a redirect", json!({"status": 302}), "answered 302"),
    ];
    for (what, fault, said) in cases {
        let stage = Stage::new().await;
        stage.set(&json!({"jwks": fault})).await;
        let result = stage.login(&json!({"rotate": true})).await;
        assert_eq!(unavailable(&result), Some(Duration::from_mins(1)), "{what}");
        let text = result.unwrap_err().to_string();
        assert!(text.contains(said), "{what}: {text}");
        // Nobody is asked again for a minute; then all is well.
        stage.set(&json!({})).await;
        stage.hands.forward(20);
        let result = stage.login(&json!({})).await;
        assert_eq!(unavailable(&result), Some(Duration::from_secs(40)), "{what}");
        assert_eq!(stage.reads().await, 2, "{what}");
        stage.hands.forward(40);
        assert_eq!(stage.login(&json!({})).await, Ok(stage.user()), "{what}");
    }
}

#[tokio::test]
async fn bad_input_11_unknown_keys_are_asked_for_once_a_minute_at_most() {
    let stage = Stage::new().await;
    let unknown = Err(Error::IdToken(Refusal::UnknownKey));
    assert_eq!(stage.login(&kid("a")).await, unknown);
    for _ in 0..20 {
        assert_eq!(stage.login(&kid("a")).await, unknown);
    }
    // Whether there is such a key by now cannot be said before the minute is over.
    stage.hands.forward(59);
    assert_eq!(unavailable(&stage.login(&kid("b")).await), Some(Duration::from_secs(1)));
    assert_eq!(stage.reads().await, 2);
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));
    stage.hands.forward(1);
    assert_eq!(stage.login(&kid("b")).await, unknown);
    assert_eq!(stage.reads().await, 3);
    // A clock that was set back must not hold the keys for as long.
    stage.hands.forward(-86_400);
    assert_eq!(stage.login(&kid("c")).await, unknown);
    assert_eq!(stage.reads().await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_given_up_does_not_use_up_the_minute() {
    let stage = Stage::new().await;
    stage.set(&json!({"jwks": {"delayMs": 5000}})).await;
    let arrived = stage.arrive(&json!({"rotate": true})).await;
    let given_up = tokio::time::timeout(Duration::from_secs(1), stage.finish(&arrived)).await;
    assert!(given_up.is_err());
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));
}

/// A published key of the embedded issuer.
async fn published() -> Value {
    let issuer = embedded(&Hands::new());
    let url = format!("{ISSUER}/.well-known/jwks.json").parse().unwrap();
    body(get(&issuer.router(), &url).await).await["keys"][0].clone()
}

fn read(keys: &Value) -> Option<Keys> {
    let wire: Wire = serde_json::from_value(json!({"keys": keys})).unwrap();
    Keys::new(wire)
}

#[tokio::test]
async fn only_public_keys_for_signatures_count() {
    let good = published().await;
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    assert!(read(&json!([good])).is_some());
    assert!(read(&json!([with("key_ops", json!(["verify"]))])).is_some());
    for (what, key) in [
        ("for encryption", with("use", json!("enc"))),
        ("to sign, not to verify", with("key_ops", json!(["encrypt"]))),
        ("for another algorithm", with("alg", json!("RS256"))),
        ("of another curve", with("crv", json!("P-521"))),
        ("of an unknown curve", with("crv", json!("secp256k1"))),
        ("that is shared", json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})),
        ("of an unknown type", json!({"kty": "AKP", "pub": "AAAA"})),
        ("that is none", json!(1)),
    ] {
        assert!(read(&json!([key])).is_none(), "a key {what}");
        assert!(read(&json!([key, good])).is_some(), "a key {what} beside a good one");
    }
}

#[tokio::test]
async fn of_several_keys_one_must_be_named() {
    use jsonwebtoken::Algorithm;
    let mut other = published().await;
    other["kid"] = json!("other");
    let keys = read(&json!([published().await, other])).unwrap();
    let verify = |id| keys.verify(id, Algorithm::ES256, "e30.e30", "AAAA");
    assert_eq!(verify(None), Err(Refusal::KeyId));
    assert_eq!(verify(Some("other")), Err(Refusal::Signature));
    assert_eq!(verify(Some("third")), Err(Refusal::UnknownKey));
    assert_eq!(
        keys.verify(Some("other"), Algorithm::EdDSA, "e30.e30", "AAAA"),
        Err(Refusal::Signature)
    );
}

#[tokio::test]
async fn a_published_key_with_an_empty_name_is_not_the_one_of_tokens_without() {
    let mut unnamed = published().await;
    unnamed["kid"] = json!("");
    assert!(!read(&json!([unnamed])).unwrap().has(""));
}
