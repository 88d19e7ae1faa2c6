//! An `id_token` before and at the check of its signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::Refusal;
use super::keys::Keys;

/// The largest token that is looked at, in bytes: one with a thousand groups has some 50 KiB.
const MAX_BYTES: usize = 256 * 1024;

/// A token whose header is one that is accepted; nothing of it is believed yet.
pub(super) struct Unverified<'a> {
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default)]
    crit: Present,
}

/// Whether a key is there, with whatever value.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl<'a> Unverified<'a> {
    /// Reads the header. Of its keys only these four count: a key or an address of one that a token
    /// brings along (`jwk`, `jku`, `x5c`, `x5u`) proves nothing.
    pub(super) fn read(token: &'a str, allowed: &[Algorithm]) -> Result<Self, Refusal> {
        if token.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Parts)?;
        if payload.contains('.') {
            return Err(Refusal::Parts);
        }
        let header: Header = decode(header)?;
        if header.crit.0 {
            return Err(Refusal::Critical);
        }
        // Explicit types end so (RFC 8725, 3.11): at+jwt, logout+jwt. None of them is an id_token.
        if header.typ.is_some_and(|typ| typ.to_ascii_lowercase().ends_with("+jwt")) {
            return Err(Refusal::Type);
        }
        let algorithm = header.alg.parse().map_err(|_| Refusal::Algorithm)?;
        if !allowed.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        if header.kid.as_deref() == Some("") {
            return Err(Refusal::KeyId);
        }
        Ok(Self { signed, payload, signature, algorithm, key_id: header.kid })
    }

    /// The key that it names.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Its claims, if one of these keys signed them.
    pub(super) fn claims(&self, keys: &Keys) -> Result<Map<String, Value>, Refusal> {
        keys.verify(self.key_id(), self.algorithm, self.signed, self.signature)?;
        decode(self.payload)
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}
