//! The tokens of `kubectl bind`: signed, and nothing without their session.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, Refusal};
use super::handle::HandleHash;
use super::keys::KeyRing;
use super::types::Session;

/// The largest token that is looked at, in bytes: ours have less than two KiB.
pub(super) const MAX_BYTES: usize = 4096;

/// The kind (RFC 9068): nobody takes it for an `id_token`, and none of those passes here.
const TYPE: &str = "at+jwt";

/// A token for `kubectl bind`.
#[derive(Debug, Clone)]
pub struct CliToken {
    /// The credential.
    pub token: SecretString,
    /// For how long, in seconds: as long as its session.
    pub expires_in: u64,
}

/// What a token says. The session says the rest: a token that has been signed does not change.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// This backend, as clients know it.
    iss: String,
    /// The same.
    aud: String,
    /// Whose session it is.
    sub: String,
    /// The hash under which the session is kept. Logout ends the session and so the token.
    sid: String,
    /// When it was made, in seconds since 1970.
    iat: i64,
    /// When it ends, in seconds since 1970.
    exp: i64,
}

/// The header of a token of ours. A field more is a token of somebody else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    alg: String,
    typ: String,
    kid: String,
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) session: HandleHash,
    pub(super) subject: String,
}

/// Makes tokens, and believes those that it made.
pub(super) struct Tokens {
    keys: KeyRing,
    /// Who makes them and whom they are for: this backend, as clients know it.
    backend: String,
}

impl Tokens {
    pub(super) fn new(keys: KeyRing, backend: String) -> Self {
        Self { keys, backend }
    }

    pub(super) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// A token for a session, for as long as the session lasts.
    pub(super) fn sign(
        &self,
        session: &Session,
        hash: HandleHash,
        now: Timestamp,
    ) -> Result<CliToken, Error> {
        let key = self.keys.signing().ok_or(Error::Sign)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.id.clone());
        let claims = Claims {
            iss: self.backend.clone(),
            aud: self.backend.clone(),
            sub: session.user.subject.clone(),
            sid: hash.to_string(),
            iat: now.as_second(),
            exp: session.expires.as_second(),
        };
        let token =
            jsonwebtoken::encode(&header, &claims, &key.private).map_err(|_| Error::Sign)?;
        // One that would never be believed is not given away.
        if token.len() > MAX_BYTES {
            return Err(Error::Sign);
        }
        let expires_in = u64::try_from(claims.exp - claims.iat).unwrap_or_default();
        Ok(CliToken { token: token.into(), expires_in })
    }

    /// What a token says, if we made it and it is still good. The times are checked here and not by
    /// the JWT library, which reads the clock of the system.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, Refusal> {
        if token.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Parts)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Parts)?;
        if claims.contains('.') {
            return Err(Refusal::Parts);
        }
        let header: Ours = decode(header).ok_or(Refusal::Header)?;
        if header.alg != "ES256" {
            return Err(Refusal::Algorithm);
        }
        if header.typ != TYPE {
            return Err(Refusal::Type);
        }
        let key = self.keys.named(&header.kid).ok_or(Refusal::UnknownKey)?;
        let good = jsonwebtoken::crypto::verify(
            signature,
            signed.as_bytes(),
            &key.public,
            Algorithm::ES256,
        );
        if !good.unwrap_or(false) {
            return Err(Refusal::Signature);
        }
        self.check(decode(claims).ok_or(Refusal::Claims)?, now)
    }

    fn check(&self, claims: Claims, now: Timestamp) -> Result<Verified, Refusal> {
        if claims.iss.is_empty() || claims.sub.is_empty() {
            return Err(Refusal::Claims);
        }
        if claims.iss != self.backend {
            return Err(Refusal::Issuer);
        }
        if claims.aud != self.backend {
            return Err(Refusal::Audience);
        }
        // Our own clock made it: no leeway.
        if now.as_second() >= claims.exp {
            return Err(Refusal::Expired);
        }
        let session = HandleHash::parse(&claims.sid).ok_or(Refusal::Claims)?;
        Ok(Verified { session, subject: claims.sub })
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
