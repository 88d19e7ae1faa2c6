//! The issuer's published keys.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::error::Refusal;

/// The document as it comes. A key of a kind that is not known must not hide the others, so each is
/// read on its own.
#[derive(Deserialize)]
pub(super) struct Wire {
    keys: Vec<Value>,
}

/// Keys for signatures: at least one.
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// Every algorithm that the key is for.
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
}

impl Keys {
    /// The public keys for signatures among those that were published; none if there is none.
    pub(super) fn new(wire: Wire) -> Option<Self> {
        let read = |value| serde_json::from_value(value).ok().and_then(|jwk| Key::new(&jwk));
        let keys: Vec<Key> = wire.keys.into_iter().filter_map(read).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether a key of this name is there.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether one of them made the signature. A token may leave out the name of its key only where
    /// there is one key alone (Core 1.0, 10.1).
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), Refusal> {
        let made = |key: &Key| {
            key.algorithms.contains(&algorithm)
                && jsonwebtoken::crypto::verify(
                    signature,
                    signed.as_bytes(),
                    &key.public,
                    algorithm,
                )
                .unwrap_or(false)
        };
        match id {
            Some(id) if !self.has(id) => Err(Refusal::UnknownKey),
            Some(id) => {
                let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id));
                if named.any(made) { Ok(()) } else { Err(Refusal::Signature) }
            }
            None => match self.0.as_slice() {
                [only] if made(only) => Ok(()),
                // The key may have been replaced since it was read.
                [_] | [] => Err(Refusal::UnknownKey),
                _ => Err(Refusal::KeyId),
            },
        }
    }
}

impl Key {
    /// None if the key is not one that an `id_token` may be signed with.
    fn new(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs =
            common.public_key_use.as_ref().is_none_or(|r#use| *r#use == PublicKeyUse::Signature)
                && common
                    .key_operations
                    .as_ref()
                    .is_none_or(|list| list.contains(&KeyOperations::Verify));
        if !signs {
            return None;
        }
        // A shared key among the published ones would be known to everybody: no arm for it.
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        let meant = |algorithm: &Algorithm| {
            common.key_algorithm.is_none_or(|only| only == (*algorithm).into())
        };
        let algorithms: Vec<Algorithm> = possible.iter().copied().filter(meant).collect();
        let public = DecodingKey::from_jwk(jwk).ok()?;
        // An empty name would be the one of every token whose `kid` is empty.
        let id = common.key_id.clone().filter(|id| !id.is_empty());
        (!algorithms.is_empty()).then_some(Self { id, algorithms, public })
    }
}
