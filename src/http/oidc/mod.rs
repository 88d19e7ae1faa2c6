//! Login with `OpenID` Connect: the relying party, and an issuer for development.
//!
//! | module | what it holds |
//! |---|---|
//! | `relying_party` | the login: where the browser is sent, what becomes of the code it comes back with |
//! | `exchange` | the code for an `id_token` |
//! | `discovery` | the issuer's own description, and what of it is believed |
//! | `keys` | the issuer's published keys |
//! | `token` | an `id_token` before and at the check of its signature |
//! | `claims` | what a verified `id_token` must say |
//! | `transport` | bounded calls to the issuer, over the network or in this process |
//! | [`issuer`] | the issuer for development: `--oidc-type=embedded` |
//!
//! Nothing here keeps a login or a session: `state`, nonce and verifier are handed to the caller.

use std::sync::Arc;

use jiff::Timestamp;

mod claims;
mod discovery;
mod error;
mod exchange;
pub mod issuer;
mod keys;
mod relying_party;
#[cfg(test)]
mod tests;
mod token;
mod transport;

pub use claims::Identity;
pub use error::{Class, ConfigError, Error, NotReady, Refusal};
pub use relying_party::{Config, DEFAULT_SCOPES, RelyingParty, Started};

/// Says what time it is. A parameter everywhere, so that no test has to wait.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// 256 random bits as 43 characters that are safe in a URL.
fn random() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(base64url(&bytes))
}

/// base64url without padding, the only form that JOSE and PKCE know.
fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The PKCE code challenge of a verifier, method `S256` (RFC 7636, 4.2).
fn challenge(verifier: &str) -> String {
    base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()).as_ref())
}
