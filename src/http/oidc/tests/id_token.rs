//! Forged and foreign tokens.

use std::time::Duration;

use super::*;
use crate::http::oidc::token::Unverified;
use crate::http::oidc::{Class, Refusal};

#[tokio::test]
async fn a_right_token_gives_the_user_and_the_groups() {
    let stage = Stage::new().await;
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));
}

/// Each case on a stage of its own: an unknown key uses up a minute.
async fn refused(cases: Vec<(&str, Value, Refusal)>) {
    for (what, knobs, refusal) in cases {
        let result = Stage::new().await.login(&knobs).await;
        assert_eq!(result, Err(Error::IdToken(refusal)), "{what}");
        assert_eq!(result.unwrap_err().class(), Class::Unauthorized, "{what}");
    }
}

fn header(header: &Value) -> Value {
    json!({"idToken": {"header": header}})
}

fn signature(how: &str) -> Value {
    json!({"idToken": {"signature": how}})
}

fn raw(token: &str) -> Value {
    json!({"idToken": {"raw": token}})
}

#[tokio::test]
async fn bad_input_9_a_token_with_a_bad_header_or_signature_is_refused() {
    refused(vec![
        ("alg none", signature("none"), Refusal::Algorithm),
        ("alg None", header(&json!({"alg": "None"})), Refusal::Algorithm),
        ("alg missing", header(&json!({"alg": null})), Refusal::Malformed),
        ("HS256 with the public key", signature("shared"), Refusal::Algorithm),
        ("another key of the same name", signature("otherKey"), Refusal::Signature),
        ("a key that the token brings along", signature("embeddedKey"), Refusal::Signature),
        ("ES384 with a key for ES256", header(&json!({"alg": "ES384"})), Refusal::Algorithm),
        ("RS256 with a key for ES256", header(&json!({"alg": "RS256"})), Refusal::Algorithm),
        ("unknown kid", header(&json!({"kid": "another"})), Refusal::UnknownKey),
        ("empty kid", header(&json!({"kid": ""})), Refusal::KeyId),
        ("kid of another type", header(&json!({"kid": 1})), Refusal::Malformed),
        ("crit", header(&json!({"crit": ["exp"]})), Refusal::Critical),
        ("crit, empty", header(&json!({"crit": []})), Refusal::Critical),
        (
            "crit that turns off base64",
            header(&json!({"crit": ["b64"], "b64": false})),
            Refusal::Critical,
        ),
        ("an access token", header(&json!({"typ": "at+jwt"})), Refusal::Type),
        ("a logout token", header(&json!({"typ": "Logout+JWT"})), Refusal::Type),
        ("five parts", json!({"idToken": {"suffix": ".e30.e30"}}), Refusal::Parts),
        ("JWE", raw("eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d"), Refusal::Parts),
        ("four parts", json!({"idToken": {"suffix": "."}}), Refusal::Parts),
        ("two parts", raw("e30.e30"), Refusal::Parts),
        ("one part", raw("e30"), Refusal::Parts),
        ("only dots", raw(".."), Refusal::Malformed),
        ("a header that is no object", raw("W10.e30."), Refusal::Malformed),
        ("padding", raw("e30=.e30."), Refusal::Malformed),
        ("a signature that is not base64", json!({"idToken": {"suffix": "!"}}), Refusal::Signature),
        (
            "a signature that is too long",
            json!({"idToken": {"suffix": "AAAA"}}),
            Refusal::Signature,
        ),
    ])
    .await;
}

#[test]
fn bad_input_9_a_token_is_looked_at_up_to_a_size() {
    let read = |length| Unverified::read(&"x".repeat(length), &[]).err();
    assert_eq!(read(256 * 1024), Some(Refusal::Parts));
    assert_eq!(read(256 * 1024 + 1), Some(Refusal::TooLarge));
}

#[tokio::test]
async fn bad_input_9_a_key_that_is_not_named_is_taken_only_if_there_is_one() {
    let unnamed = header(&json!({"kid": null}));
    let stage = Stage::new().await;
    assert_eq!(stage.login(&unnamed).await, Ok(stage.user()));
    let mut forged = unnamed;
    forged["idToken"]["signature"] = "otherKey".into();
    refused(vec![("another key, not named", forged, Refusal::UnknownKey)]).await;
}

#[tokio::test]
async fn bad_input_10_a_token_for_others_or_of_others_is_refused() {
    let me = embedded(&Hands::new()).client().client_id;
    refused(vec![
        ("iss other", claims(&json!({"iss": "http://127.0.0.1:8081/oidc"})), Refusal::Issuer),
        ("iss with slash", claims(&json!({"iss": format!("{ISSUER}/")})), Refusal::Issuer),
        ("iss in capitals", claims(&json!({"iss": ISSUER.to_uppercase()})), Refusal::Issuer),
        ("iss array", claims(&json!({"iss": [ISSUER]})), Refusal::Issuer),
        ("iss missing", claims(&json!({"iss": null})), Refusal::Issuer),
        ("aud other", claims(&json!({"aud": me})), Refusal::Audience),
        ("aud empty", claims(&json!({"aud": ""})), Refusal::Audience),
        ("aud empty array", claims(&json!({"aud": []})), Refusal::Audience),
        ("aud object", claims(&json!({"aud": {"0": "x"}})), Refusal::Audience),
        ("aud missing", claims(&json!({"aud": null})), Refusal::Audience),
        ("azp wrong", claims(&json!({"azp": me})), Refusal::AuthorizedParty),
        ("azp number", claims(&json!({"azp": 1})), Refusal::AuthorizedParty),
        ("nonce missing", claims(&json!({"nonce": null})), Refusal::Nonce),
        ("nonce wrong", claims(&json!({"nonce": "x".repeat(43)})), Refusal::Nonce),
        ("nonce empty", claims(&json!({"nonce": ""})), Refusal::Nonce),
        ("nonce array", claims(&json!({"nonce": ["x"]})), Refusal::Nonce),
        ("sub missing", claims(&json!({"sub": null})), Refusal::Subject),
        ("sub number", claims(&json!({"sub": 1})), Refusal::Subject),
        ("sub empty", claims(&json!({"sub": ""})), Refusal::Subject),
        ("sub system:admin", claims(&json!({"sub": "system:admin"})), Refusal::Subject),
        ("sub 1 KiB", claims(&json!({"sub": "a".repeat(1024)})), Refusal::Subject),
        ("sub 256 bytes", claims(&json!({"sub": "a".repeat(256)})), Refusal::Subject),
        ("sub NUL", claims(&json!({"sub": "alice\0"})), Refusal::Subject),
        ("sub with a line break", claims(&json!({"sub": "alice\nx"})), Refusal::Subject),
        ("groups number", claims(&json!({"groups": 1})), Refusal::Groups),
        ("groups with a number", claims(&json!({"groups": ["a", 1]})), Refusal::Groups),
        ("1001 groups", claims(&json!({"groups": many(1001)})), Refusal::Groups),
    ])
    .await;
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("group-{number:04}")).collect()
}

#[tokio::test]
async fn bad_input_10_an_audience_with_a_foreign_member_is_refused() {
    let stage = Stage::new().await;
    let me = stage.issuer.client().client_id;
    let foreign = claims(&json!({"aud": [me, "another"], "azp": me}));
    assert_eq!(stage.login(&foreign).await, Err(Error::IdToken(Refusal::Audience)));
    let ours = claims(&json!({"aud": [me], "azp": me}));
    assert_eq!(stage.login(&ours).await, Ok(stage.user()));
}

#[tokio::test]
async fn bad_input_10_a_token_outside_its_time_is_refused() {
    let hour = 3600;
    refused(vec![
        ("exp past", claims(&json!({"exp": START - hour})), Refusal::Expired),
        ("exp 30 s ago", claims(&json!({"exp": START - 30})), Refusal::Expired),
        ("exp negative", claims(&json!({"exp": -1})), Refusal::Expired),
        ("exp string", claims(&json!({"exp": (START + hour).to_string()})), Refusal::Expiry),
        ("exp absent", claims(&json!({"exp": null})), Refusal::Expiry),
        ("exp 1e300", claims(&json!({"exp": 1e300})), Refusal::Expiry),
        ("exp -1e300", claims(&json!({"exp": -1e300})), Refusal::Expiry),
        ("exp u64::MAX", claims(&json!({"exp": u64::MAX})), Refusal::Expiry),
        ("exp true", claims(&json!({"exp": true})), Refusal::Expiry),
        ("nbf in an hour", claims(&json!({"nbf": START + hour})), Refusal::NotBefore),
        ("nbf in 31 s", claims(&json!({"nbf": START + 31})), Refusal::NotBefore),
        ("nbf string", claims(&json!({"nbf": START.to_string()})), Refusal::NotBefore),
        ("nbf 1e300", claims(&json!({"nbf": 1e300})), Refusal::NotBefore),
        ("iat +1 h", claims(&json!({"iat": START + hour})), Refusal::IssuedAt),
        ("iat in 31 s", claims(&json!({"iat": START + 31})), Refusal::IssuedAt),
        ("iat string", claims(&json!({"iat": START.to_string()})), Refusal::IssuedAt),
        ("iat absent", claims(&json!({"iat": null})), Refusal::IssuedAt),
    ])
    .await;
}

#[tokio::test]
async fn clocks_may_differ_by_half_a_minute_and_times_may_have_fractions() {
    for times in [
        json!({"exp": START - 29}),
        json!({"iat": START + 30, "nbf": START + 30}),
        json!({"exp": 1_800_000_600.75, "iat": 1_799_999_999.5}),
    ] {
        let stage = Stage::new().await;
        let identity = stage.login(&claims(&times)).await;
        assert_eq!(identity.map(|identity| identity.subject), Ok(stage.user().subject), "{times}");
    }
}

#[tokio::test]
async fn bad_input_45_groups_of_the_api_server_are_dropped_and_so_is_what_no_rule_could_name() {
    let stage = Stage::new().await;
    for (given, expected) in [
        (json!(["b", "system:masters", "a", "b", "", "system:"]), vec!["a", "b"]),
        (json!(["a\n", "a\0", "x".repeat(513)]), vec![]),
        (json!("a"), vec!["a"]),
        (json!("system:masters"), vec![]),
        (json!([]), vec![]),
        (json!(null), vec![]),
    ] {
        let groups = expected.into_iter().map(str::to_owned).collect();
        let expected = Identity { groups, ..stage.user() };
        assert_eq!(stage.login(&claims(&json!({"groups": given}))).await, Ok(expected), "{given}");
    }
    let thousand = stage.login(&claims(&json!({"groups": many(1000)}))).await.unwrap();
    assert_eq!(thousand.groups, many(1000));
}

#[tokio::test]
async fn other_claims_can_hold_name_and_groups_but_no_address_that_was_not_checked() {
    let stage = Stage::with(|config| {
        config.username_claim = "email".to_owned();
        config.groups_claim = "roles".to_owned();
    })
    .await;
    let expected = Identity {
        username: "embedded@kube-bind.io".to_owned(),
        groups: vec!["admins".to_owned()],
        ..stage.user()
    };
    let roles = json!({"roles": ["admins"]});
    assert_eq!(stage.login(&claims(&roles)).await, Ok(expected));
    for bad in [
        json!({"email_verified": false}),
        json!({"email_verified": "false"}),
        json!({"email": "system:admin"}),
        json!({"email": null}),
    ] {
        let result = stage.login(&claims(&bad)).await;
        assert_eq!(result, Err(Error::IdToken(Refusal::Username)), "{bad}");
    }
}

#[tokio::test]
async fn a_user_that_the_test_names_logs_in() {
    let stage = Stage::new().await;
    let alice = json!({"user": {"sub": "alice", "groups": ["admins"]}});
    let expected = Identity {
        subject: "alice".to_owned(),
        username: "alice".to_owned(),
        groups: vec!["admins".to_owned()],
        ..stage.user()
    };
    assert_eq!(stage.login(&alice).await, Ok(expected));
}

#[test]
fn each_class_of_error_has_its_status() {
    let retry_after = Duration::from_secs(1);
    let statuses = [
        Class::BadRequest,
        Class::Unauthorized,
        Class::BadGateway,
        Class::Unavailable { retry_after },
    ]
    .map(|class| class.status().as_u16());
    assert_eq!(statuses, [400, 401, 502, 503]);
}
