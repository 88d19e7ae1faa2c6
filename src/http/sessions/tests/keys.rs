//! The file of keys for tokens.

use super::*;

/// P-256, PKCS#8.
const PKCS8: &str = include_str!("p256-pkcs8.pem");
/// P-256, SEC 1, after the parameters of the curve, as older versions of openssl write it.
const SEC1: &str = include_str!("p256-sec1.pem");
const P384: &str = include_str!("p384.pem");
const RSA: &str = include_str!("rsa.pem");

fn ring(pem: &str) -> KeyRing {
    KeyRing::from_pem(pem.as_bytes()).unwrap()
}

fn ids(ring: &KeyRing) -> Vec<String> {
    ring.ids().map(str::to_owned).collect()
}

#[test]
fn keys_have_the_same_name_wherever_and_however_they_are_read() {
    assert_eq!(ids(&ring(PKCS8)), ["uOlKCbEaS3HIw8pLgYCJsBgoDL0HfkhDedo4WHMVNVI"]);
    assert_eq!(ids(&ring(SEC1)), ["vM244vZ6a51zvumcQlJ8oz8sZtqJduW7PhRnREUzSXk"]);
    assert_eq!(
        ids(&ring(&format!("{SEC1}{PKCS8}"))),
        [
            "vM244vZ6a51zvumcQlJ8oz8sZtqJduW7PhRnREUzSXk",
            "uOlKCbEaS3HIw8pLgYCJsBgoDL0HfkhDedo4WHMVNVI"
        ]
    );
    assert!(ring(PKCS8).survives_restart());
}

#[test]
fn a_generated_key_does_not_survive_a_restart() {
    let (one, other) = (KeyRing::generate().unwrap(), KeyRing::generate().unwrap());
    assert!(!one.survives_restart());
    assert_ne!(ids(&one), ids(&other));
}

#[test]
fn a_file_that_is_not_one_of_keys_for_p256_is_refused() {
    let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for (pem, expected) in [
        (String::new(), KeyError::Empty),
        ("hello".to_owned(), KeyError::Empty),
        (public.to_owned(), KeyError::Empty),
        (PKCS8.replace("-----END PRIVATE KEY-----", ""), KeyError::Pem),
        (PKCS8.replace('M', "!"), KeyError::Pem),
        (PKCS8.replace("MIG", "MIH"), KeyError::Unsuitable(1)),
        (P384.to_owned(), KeyError::Unsuitable(1)),
        (format!("{PKCS8}{RSA}"), KeyError::Unsuitable(2)),
    ] {
        let read = KeyRing::from_pem(pem.as_bytes()).map(|ring| ids(&ring));
        assert_eq!(read, Err(expected), "{pem}");
    }
}

#[tokio::test]
async fn a_token_of_the_previous_key_is_good_while_the_key_is_in_the_file() {
    let old = Stage::at(BACKEND, ring(PKCS8));
    let granted = old.granted("").await;
    let token = old.sessions.token(&granted).unwrap().token;
    let verified = |pem: &str| {
        let tokens = token::Tokens::new(ring(pem), BACKEND.to_owned());
        tokens.verify(token.expose_secret(), at(START)).map(|verified| verified.subject)
    };
    assert_eq!(verified(PKCS8).as_deref(), Ok("ann"));
    assert_eq!(verified(&format!("{SEC1}{PKCS8}")).as_deref(), Ok("ann"));
    assert_eq!(verified(SEC1), Err(Refusal::UnknownKey));
}

#[tokio::test]
async fn the_first_key_signs() {
    let stage = Stage::at(BACKEND, ring(&format!("{SEC1}{PKCS8}")));
    let token = stage.token("").await;
    let header = token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(
        header,
        json!({"alg": "ES256", "typ": "at+jwt", "kid": "vM244vZ6a51zvumcQlJ8oz8sZtqJduW7PhRnREUzSXk"})
    );
    assert_eq!(stage.credential(&bearer(&token)).await, Ok(Credential::Token));
}
