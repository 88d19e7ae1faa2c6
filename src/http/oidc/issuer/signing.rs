//! The issuer's key, and tokens signed with it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Value, json};

use super::super::base64url;

/// A key for ES256.
pub(super) struct SigningKey {
    pub(super) private: EncodingKey,
    jwk: Jwk,
    id: String,
}

impl SigningKey {
    /// A new one; none if the system gives no random bits.
    pub(super) fn generate() -> Option<Self> {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).ok()?;
        let private = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&private, Algorithm::ES256).ok()?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Some(Self { private, jwk, id })
    }

    /// As it is published.
    pub(super) fn public(&self) -> &Jwk {
        &self.jwk
    }

    /// The header of a token that this key signs.
    pub(super) fn header(&self, kind: &str) -> Value {
        json!({"alg": "ES256", "kid": self.id, "typ": kind})
    }

    /// A signed token; none if the key cannot sign, which a generated one can.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> Option<String> {
        let signed = encoded(header, claims);
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.private, Algorithm::ES256).ok()?;
        Some(format!("{signed}.{signature}"))
    }

    /// The claims of a token of the given kind that this key signed.
    pub(super) fn verified(&self, token: &str, kind: &str) -> Option<Value> {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let key = DecodingKey::from_jwk(&self.jwk).ok()?;
        let good =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, Algorithm::ES256);
        let json =
            |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        (good.ok()? && json(header)? == self.header(kind)).then(|| json(claims)).flatten()
    }
}

/// What a signature is over.
pub(super) fn encoded(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}
