//! Row 19: tokens that this backend did not make, signed with its own key where that is what it takes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::scene::{at, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![("http::bad::19_a_token_that_this_backend_did_not_make_is_refused", || forged().boxed())]
}

/// A key for tokens.
#[derive(Clone)]
pub(super) struct SessionKey(Arc<EcdsaKeyPair>);

impl SessionKey {
    pub(super) fn generate() -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Self(Arc::new(key.context("making a key")?)))
    }

    /// For `--session-key-file`.
    pub(super) fn pem(&self) -> Result<String> {
        let der = self.0.to_pkcs8v1().context("encoding a key")?;
        let body = STANDARD.encode(der.as_ref());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
    }

    /// A signed token.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = unsigned(header, claims);
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.context("signing")?.as_ref());
        Ok(format!("{signed}.{signature}"))
    }

    /// As if the public key were a shared secret.
    fn shared(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.public_key().as_ref());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// Header and claims of a token.
pub(super) fn parts(token: &str) -> Result<(Value, Value)> {
    let part = |at: usize| -> Result<Value> {
        let part = token.split('.').nth(at).context("a part is missing")?;
        Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
    };
    Ok((part(0)?, part(1)?))
}

/// A copy with another value of a key; null takes it away.
pub(super) fn with(object: &Value, key: &str, value: Value) -> Value {
    let mut other = object.clone();
    if let Some(fields) = other.as_object_mut() {
        if value.is_null() {
            fields.remove(key);
        } else {
            fields.insert(key.to_owned(), value);
        }
    }
    other
}

async fn forged() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(19, &scene.open, "ann19").await?;
    let victim = scene.cli(19, &scene.open, "bob19").await?;
    let token = cli.token().context("no token")?;
    let (header, claims) = parts(token)?;
    let (_, others) = parts(victim.token().context("no token")?)?;
    let path = at("templates", &scene.open);
    let status = async |token: &str| Ok(cli.with_token(token)?.get(&path).await?.status);
    let signed = |header: Value, claims: Value| scene.key.sign(&header, &claims);
    // What this row does is enough for a good token, so what is refused is refused for the difference.
    let same: Result<u16> = status(&signed(header.clone(), claims.clone())?).await;
    ensure!(same? == 200, "a token that is made like the backend's is refused");

    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let stranger = SessionKey::generate()?;
    let in_header = |key: &str, value: Value| signed(with(&header, key, value), claims.clone());
    let in_claims = |key: &str, value: Value| signed(header.clone(), with(&claims, key, value));
    let none = unsigned(&with(&header, "alg", json!("none")), &claims);
    let (_, signature) = token.rsplit_once('.').context("no signature")?;
    let swapped = with(&claims, "sub", json!("bob19"));
    let forgeries = [
        ("another key", stranger.sign(&header, &claims)?),
        ("no signature", format!("{none}.")),
        ("alg none with a signature", format!("{none}.{signature}")),
        ("two parts", none),
        (
            "HS256 with the public key",
            scene.key.shared(&with(&header, "alg", json!("HS256")), &claims),
        ),
        ("RS256", in_header("alg", json!("RS256"))?),
        ("typ JWT", in_header("typ", json!("JWT"))?),
        ("no typ", in_header("typ", Value::Null)?),
        ("unknown kid", in_header("kid", json!("other"))?),
        ("no kid", in_header("kid", Value::Null)?),
        ("a key of its own", in_header("jwk", json!({"kty": "EC"}))?),
        ("crit", in_header("crit", json!(["exp"]))?),
        ("claims of somebody else", format!("{}.{signature}", unsigned(&header, &swapped))),
        ("aud", in_claims("aud", json!("https://other.example/"))?),
        ("no aud", in_claims("aud", Value::Null)?),
        ("iss", in_claims("iss", json!("https://other.example/"))?),
        ("expired for a second", in_claims("exp", json!(now - 1))?),
        ("exp as text", in_claims("exp", json!((now + 60).to_string()))?),
        ("no exp", in_claims("exp", Value::Null)?),
        ("another user", in_claims("sub", json!("bob19"))?),
        ("another user's session", in_claims("sid", others["sid"].clone())?),
        ("no user", in_claims("sub", json!(""))?),
        ("five parts", format!("{token}.x.y")),
        ("a bit of the signature", format!("{}{}", &token[..token.len() - 2], "AA")),
    ];
    for (what, forgery) in forgeries {
        let status: Result<u16> = status(&forgery).await;
        let status = status?;
        ensure!(status == 401, "{what}: {status}");
    }
    ensure!(cli.get(&path).await?.status == 200, "the session suffered");
    Ok(())
}
