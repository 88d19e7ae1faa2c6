//! Whatever a token says, reading it ends with a verdict.

use jsonwebtoken::Algorithm;
use proptest::prelude::*;

use super::*;
use crate::http::oidc::base64url;
use crate::http::oidc::claims::Expected;
use crate::http::oidc::keys::{Keys, Wire};
use crate::http::oidc::token::Unverified;

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::ES256, Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA];

/// One key for each algorithm; nobody has their private parts.
fn keys() -> Keys {
    let number = |length: usize| base64url(&vec![7; length]);
    let wire = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "a", "x": number(32), "y": number(32)},
        {"kty": "EC", "crv": "P-384", "kid": "b", "x": number(48), "y": number(1)},
        {"kty": "RSA", "kid": "c", "n": number(256), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": number(32)},
    ]});
    Keys::new(serde_json::from_value::<Wire>(wire).unwrap()).unwrap()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!(ISSUER)),
        Just(json!("client")),
        Just(json!("nonce")),
        Just(json!(START)),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..6)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

fn object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(names), any_json(), 0..names.len()).prop_map(
        |map| {
            map.into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()
        },
    )
}

fn believed(token: &str) -> bool {
    match Unverified::read(token, &ALGORITHMS) {
        Ok(token) => token.claims(&keys()).is_ok(),
        Err(_) => false,
    }
}

/// Few by default; `PROPTEST_CASES` (scripts/properties) raises it.
fn cases() -> ProptestConfig {
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    if set { ProptestConfig::default() } else { ProptestConfig::with_cases(2000) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_text_is_refused_as_a_token(token in any::<String>(), dotted in "[A-Za-z0-9_.=-]{0,200}") {
        prop_assert!(!believed(&token));
        prop_assert!(!believed(&dotted));
    }

    #[test]
    fn any_header_and_signature_are_refused(
        header in object(&["alg", "kid", "typ", "crit", "jwk", "enc", "zip"]),
        alg in prop::sample::select(&["ES256", "ES384", "RS256", "EdDSA", "none", "HS256"][..]),
        kid in prop::sample::select(&["a", "b", "c", "d", "e", ""][..]),
        claims in any_json(),
        signature in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        let (claims, signature) = (part(&claims), base64url(&signature));
        let loose = format!("{}.{claims}.{signature}", part(&header));
        prop_assert!(!believed(&loose));
        let mut right = header;
        right["alg"] = alg.into();
        right["kid"] = kid.into();
        let known = format!("{}.{claims}.{signature}", part(&right));
        prop_assert!(!believed(&known));
    }

    #[test]
    fn any_claims_get_a_verdict_and_whoever_passes_has_a_name(
        over in object(&["iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "sub", "groups"]),
    ) {
        let mut claims = json!({
            "iss": ISSUER, "aud": "client", "exp": START + 60, "iat": START, "nonce": "nonce",
            "sub": "alice", "groups": ["a"],
        });
        for (name, value) in over.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let expected = Expected {
            issuer: ISSUER,
            client_id: "client",
            nonce: "nonce",
            username_claim: "sub",
            groups_claim: "groups",
            now: Timestamp::from_second(START).unwrap(),
        };
        if let Ok(identity) = expected.identity(claims.as_object().unwrap()) {
            prop_assert!(!identity.subject.is_empty() && !identity.subject.starts_with("system:"));
            prop_assert!(identity.groups.iter().all(|group| !group.starts_with("system:")));
            prop_assert!(identity.expires.as_second() > START - 30);
            prop_assert_eq!(identity.issuer, ISSUER);
        }
    }
}
