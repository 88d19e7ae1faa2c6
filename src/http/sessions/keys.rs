//! The keys that tokens of `kubectl bind` are signed with.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

/// A file of keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not PEM.
    #[error("it is not a PEM file")]
    Pem,
    /// PEM without a private key.
    #[error(
        "it has no private key; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    Empty,
    /// A key of another kind.
    #[error(
        "its key number {0} is not for P-256; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    Unsuitable(usize),
    /// The system has no random bits.
    #[error("no key can be generated: the system has no random numbers; try again")]
    Generate,
}

/// The keys of this backend. The first one signs, all of them verify: to replace a key, put the new
/// one first and keep the old one for as long as a session lasts.
pub struct KeyRing {
    keys: Vec<Key>,
    generated: bool,
}

pub(super) struct Key {
    /// The RFC 7638 thumbprint: the same at every replica that has the key.
    pub(super) id: String,
    pub(super) private: EncodingKey,
    pub(super) public: DecodingKey,
}

impl KeyRing {
    /// The keys of a PEM file, PKCS#8 or SEC 1.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (at, der) in PrivateKeyDer::pem_slice_iter(pem).enumerate() {
            let der = der.map_err(|_| KeyError::Pem)?;
            keys.push(Key::new(der.secret_der()).ok_or(KeyError::Unsuitable(at + 1))?);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self { keys, generated: false })
    }

    /// One new key, known to this process alone.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        let key = Key::of(&pair).ok_or(KeyError::Generate)?;
        Ok(Self { keys: vec![key], generated: true })
    }

    /// Whether tokens are still good after a restart and at other replicas. If not, the operator
    /// should be told.
    #[must_use]
    pub fn survives_restart(&self) -> bool {
        !self.generated
    }

    /// The names of the keys, the one that signs first. They are no secret.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// The key of this name.
    pub(super) fn named(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing")
            .field("ids", &self.ids().collect::<Vec<_>>())
            .field("generated", &self.generated)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// None if it is not a private key for P-256.
    fn new(der: &[u8]) -> Option<Self> {
        let pair =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        Self::of(&pair)
    }

    fn of(pair: &EcdsaKeyPair) -> Option<Self> {
        let pkcs8 = pair.to_pkcs8v1().ok()?;
        let private = EncodingKey::from_ec_der(pkcs8.as_ref());
        let jwk = Jwk::from_encoding_key(&private, Algorithm::ES256).ok()?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        let public = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id, private, public })
    }
}
