//! Bad input 19: tokens that we did not make, or not for this.

use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::*;

const PKCS8: &str = include_str!("p256-pkcs8.pem");
const SEC1: &str = include_str!("p256-sec1.pem");

/// A forger who has our key, for whatever the signature alone does not decide.
struct Forge {
    stage: Stage,
    key: EncodingKey,
    id: String,
    header: Value,
    claims: Value,
}

impl Forge {
    /// With a header and claims that are good.
    async fn new() -> Self {
        let ring = KeyRing::from_pem(PKCS8.as_bytes()).unwrap();
        let id = ring.ids().next().unwrap().to_owned();
        let key = EncodingKey::from_ec_der(ring.signing().unwrap().private.as_bytes());
        let stage = Stage::at(BACKEND, ring);
        let good = stage.token("").await;
        let part = |at: usize| {
            let part = good.split('.').nth(at).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let (header, claims) = (part(0), part(1));
        Self { stage, key, id, header, claims }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), &claims.to_string())
    }

    fn raw(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }

    /// Signed well, over a header with this changed; null takes a field away.
    fn header(&self, change: &Value) -> String {
        self.token(&changed(&self.header, change), &self.claims)
    }

    fn claims(&self, change: &Value) -> String {
        self.token(&self.header, &changed(&self.claims, change))
    }

    async fn refused(&self, what: &str, token: &str, expected: Refusal) {
        let found = self.stage.credential(&bearer(token)).await;
        assert_eq!(found, Err(Error::Token(expected)), "{what}: {token}");
    }
}

fn changed(value: &Value, change: &Value) -> Value {
    let mut value = value.as_object().unwrap().clone();
    for (name, to) in change.as_object().unwrap() {
        if to.is_null() {
            value.remove(name);
        } else {
            value.insert(name.clone(), to.clone());
        }
    }
    value.into()
}

#[tokio::test]
async fn a_token_says_this_and_no_more_and_lasts_as_long_as_its_session() {
    let stage = Stage::at(BACKEND, KeyRing::from_pem(PKCS8.as_bytes()).unwrap());
    let granted = stage.granted("2qk1x").await;
    stage.hands.forward(10);
    let token = stage.sessions.token(&granted).unwrap();
    assert_eq!(token.expires_in, 3590);
    let claims = token.token.expose_secret().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let cookie = sent(&stage.sessions.cookie(&granted).unwrap());
    let handle = Handle::parse(cookie.split_once('=').unwrap().1.as_bytes()).unwrap();
    let expected = json!({
        "iss": BACKEND,
        "aud": BACKEND,
        "sub": "ann",
        "sid": handle.hash().to_string(),
        "iat": START + 10,
        "exp": START + LIFETIME,
    });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn what_the_forge_leaves_alone_is_good() {
    let forge = Forge::new().await;
    let token = forge.header(&json!({}));
    assert_eq!(forge.stage.credential(&bearer(&token)).await, Ok(Credential::Token));
}

#[tokio::test]
async fn a_header_that_is_not_one_of_ours_is_refused() {
    let forge = Forge::new().await;
    for (what, change, expected) in [
        ("none", json!({"alg": "none"}), Refusal::Algorithm),
        ("None", json!({"alg": "None"}), Refusal::Algorithm),
        ("RS256", json!({"alg": "RS256"}), Refusal::Algorithm),
        ("ES384", json!({"alg": "ES384"}), Refusal::Algorithm),
        ("lower case", json!({"alg": "es256"}), Refusal::Algorithm),
        ("no alg", json!({"alg": null}), Refusal::Header),
        ("alg list", json!({"alg": ["ES256"]}), Refusal::Header),
        ("id_token", json!({"typ": "JWT"}), Refusal::Type),
        ("typ in capitals", json!({"typ": "AT+JWT"}), Refusal::Type),
        ("no typ", json!({"typ": null}), Refusal::Header),
        ("unknown kid", json!({"kid": "another"}), Refusal::UnknownKey),
        ("empty kid", json!({"kid": ""}), Refusal::UnknownKey),
        ("a path as kid", json!({"kid": "../../dev/null"}), Refusal::UnknownKey),
        ("no kid", json!({"kid": null}), Refusal::Header),
        ("jku", json!({"jku": "https://evil.example.com/keys"}), Refusal::Header),
        ("x5u", json!({"x5u": "https://evil.example.com/chain"}), Refusal::Header),
        ("x5c", json!({"x5c": ["AAAA"]}), Refusal::Header),
        ("jwk", json!({"jwk": {"kty": "EC"}}), Refusal::Header),
        ("crit", json!({"crit": ["exp"]}), Refusal::Header),
        ("b64", json!({"b64": false}), Refusal::Header),
        ("zip", json!({"zip": "DEF"}), Refusal::Header),
        ("cty", json!({"cty": "JWT"}), Refusal::Header),
    ] {
        forge.refused(what, &forge.header(&change), expected).await;
    }
    let twice = forge.header.to_string().replacen('{', "{\"alg\":\"none\",", 1);
    let token = forge.raw(&twice, &forge.claims.to_string());
    forge.refused("alg twice", &token, Refusal::Header).await;
}

#[tokio::test]
async fn a_signature_that_is_not_made_with_our_key_is_refused() {
    let forge = Forge::new().await;
    let good = forge.header(&json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let another = EncodingKey::from_ec_der(
        KeyRing::generate().unwrap().signing().unwrap().private.as_bytes(),
    );
    let another =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &another, Algorithm::ES256).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut swapped = bytes.clone();
    swapped.rotate_left(32);
    for (what, signature) in [
        ("another key under our name", another),
        ("empty", String::new()),
        ("zeros", base64url([0; 64])),
        ("short", base64url(&bytes[..63])),
        ("long", base64url([&bytes[..], &[0]].concat())),
        ("swapped", base64url(swapped)),
    ] {
        forge.refused(what, &format!("{signed}.{signature}"), Refusal::Signature).await;
    }
    let parts: Vec<&str> = good.split('.').collect();
    let other = base64url(changed(&forge.claims, &json!({"sub": "bob"})).to_string());
    let token = format!("{}.{other}.{}", parts[0], parts[2]);
    forge.refused("other claims", &token, Refusal::Signature).await;
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let forge = Forge::new().await;
    let ring = KeyRing::from_pem(PKCS8.as_bytes()).unwrap();
    let public = ring.named(&forge.id).unwrap().public.try_get_as_bytes().unwrap().to_vec();
    let header = changed(&forge.header, &json!({"alg": "HS256"}));
    let signed =
        format!("{}.{}", base64url(header.to_string()), base64url(forge.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed.as_bytes());
    forge.refused("HS256", &format!("{signed}.{}", base64url(tag)), Refusal::Algorithm).await;
    let es256 =
        format!("{}.{}", base64url(forge.header.to_string()), base64url(forge.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), es256.as_bytes());
    forge.refused("as ES256", &format!("{es256}.{}", base64url(tag)), Refusal::Signature).await;
}

#[tokio::test]
async fn bad_input_19_claims_that_are_not_for_us_are_refused() {
    let forge = Forge::new().await;
    let other = "https://backend.example.com";
    for (what, change, expected) in [
        ("iss other", json!({"iss": other}), Refusal::Issuer),
        ("iss of the user", json!({"iss": "https://id.example.com"}), Refusal::Issuer),
        ("iss empty", json!({"iss": ""}), Refusal::Claims),
        ("iss missing", json!({"iss": null}), Refusal::Claims),
        ("iss list", json!({"iss": [BACKEND]}), Refusal::Claims),
        ("aud other", json!({"aud": other}), Refusal::Audience),
        ("aud empty", json!({"aud": ""}), Refusal::Audience),
        ("aud list", json!({"aud": [BACKEND]}), Refusal::Claims),
        ("aud missing", json!({"aud": null}), Refusal::Claims),
        ("sub empty", json!({"sub": ""}), Refusal::Claims),
        ("sub missing", json!({"sub": null}), Refusal::Claims),
        ("sid empty", json!({"sid": ""}), Refusal::Claims),
        ("sid of the client", json!({"sid": "ABC"}), Refusal::Claims),
        ("sid missing", json!({"sid": null}), Refusal::Claims),
        ("exp past", json!({"exp": START - 1}), Refusal::Expired),
        ("exp now", json!({"exp": START}), Refusal::Expired),
        ("exp negative", json!({"exp": -1}), Refusal::Expired),
        ("exp text", json!({"exp": (START + 60).to_string()}), Refusal::Claims),
        ("exp 1e300", json!({"exp": 1e300}), Refusal::Claims),
        ("exp missing", json!({"exp": null}), Refusal::Claims),
        ("iat missing", json!({"iat": null}), Refusal::Claims),
    ] {
        forge.refused(what, &forge.claims(&change), expected).await;
    }
}

#[tokio::test]
async fn bad_input_20_a_good_token_without_its_session_is_no_session() {
    let forge = Forge::new().await;
    let unknown = Handle::generate().unwrap().hash().to_string();
    let bob = forge.stage.token("").await;
    assert_eq!(forge.stage.credential(&bearer(&bob)).await, Ok(Credential::Token));
    for token in [forge.claims(&json!({"sid": unknown})), forge.claims(&json!({"sub": "bob"}))] {
        assert_eq!(forge.stage.credential(&bearer(&token)).await, Err(Error::SessionUnknown));
    }
    // It says that it lasts longer than its session.
    let long = forge.claims(&json!({"exp": START + 10 * LIFETIME}));
    forge.stage.hands.forward(LIFETIME);
    assert_eq!(forge.stage.credential(&bearer(&long)).await, Err(Error::SessionUnknown));
}

#[tokio::test]
async fn bad_input_19_a_token_of_another_instance_is_refused() {
    let token = Stage::at(BACKEND, KeyRing::from_pem(SEC1.as_bytes()).unwrap()).token("").await;
    Forge::new().await.refused("another key", &token, Refusal::UnknownKey).await;
    let ours = KeyRing::from_pem(PKCS8.as_bytes()).unwrap();
    let token = Stage::at("https://other.example.com/", ours).token("").await;
    Forge::new().await.refused("our key, another backend", &token, Refusal::Issuer).await;
}

#[tokio::test]
async fn what_has_not_three_parts_of_base64url_is_refused() {
    let forge = Forge::new().await;
    let good = forge.header(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    for (what, token, expected) in [
        ("one part", parts[0].to_owned(), Refusal::Parts),
        ("two parts", parts[..2].join("."), Refusal::Parts),
        ("four parts", format!("{good}."), Refusal::Parts),
        ("five parts", format!("{good}.e30.e30"), Refusal::Parts),
        ("only dots", "..".to_owned(), Refusal::Header),
        ("no header", format!(".{}.{}", parts[1], parts[2]), Refusal::Header),
        ("a list as header", format!("W10.{}.{}", parts[1], parts[2]), Refusal::Header),
        ("4 KiB", "x".repeat(4096), Refusal::Parts),
        ("more", "x".repeat(4097), Refusal::TooLarge),
    ] {
        forge.refused(what, &token, expected).await;
    }
    forge
        .refused("a list of claims", &forge.raw(&forge.header.to_string(), "[]"), Refusal::Claims)
        .await;
}
