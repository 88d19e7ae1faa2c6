//! What a verified `id_token` must say, and who it then is.
//!
//! The times are checked here and not by the JWT library, which reads the clock of the system,
//! takes a missing `iat` and subtracts from unsigned numbers.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::error::Refusal;

/// How far the issuer's clock may be from ours.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The longest subject, in bytes (Core 1.0, 2).
const MAX_SUBJECT: usize = 255;

/// The longest name of a group, in bytes: a distinguished name of a directory fits.
const MAX_GROUP: usize = 512;

/// The most groups of one user.
const MAX_GROUPS: usize = 1000;

/// Users and groups of the API server itself begin so: nobody outside may give them.
const RESERVED: &str = "system:";

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer, exactly as it writes itself.
    pub issuer: String,
    /// The user, as the issuer knows it: never given to another person.
    pub subject: String,
    /// The name for authorisation; the subject unless another claim is configured.
    pub username: String,
    /// The groups for authorisation, in order, each once. None of them begins with `system:`.
    pub groups: Vec<String>,
    /// When the `id_token` expires. A session may last longer: it is ours.
    pub expires: Timestamp,
}

/// What the token is compared with.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) username_claim: &'a str,
    pub(super) groups_claim: &'a str,
    pub(super) now: Timestamp,
}

impl Expected<'_> {
    /// All checks of `OpenID` Connect Core 3.1.3.7 that come after the signature.
    pub(super) fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, Refusal> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(self.issuer) {
            return Err(Refusal::Issuer);
        }
        self.audience(claims)?;
        let expires = self.times(claims)?;
        let nonce = text("nonce").unwrap_or_default().as_bytes();
        if nonce.is_empty() || !bool::from(nonce.ct_eq(self.nonce.as_bytes())) {
            return Err(Refusal::Nonce);
        }
        let subject = text("sub").filter(|sub| is_user(sub)).ok_or(Refusal::Subject)?;
        let username = text(self.username_claim).filter(|name| is_user(name));
        let username = username.ok_or(Refusal::Username)?;
        // An address that the issuer has not checked can be anybody's, as kube-apiserver has it.
        let verified = claims.get("email_verified").is_none_or(|verified| *verified == true);
        if self.username_claim == "email" && !verified {
            return Err(Refusal::Username);
        }
        Ok(Identity {
            issuer: self.issuer.to_owned(),
            subject: subject.to_owned(),
            username: username.to_owned(),
            groups: groups(claims.get(self.groups_claim))?,
            expires,
        })
    }

    /// Us and nobody else: whoever else may use the token could use it here.
    fn audience(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        let us = |value: &Value| value.as_str() == Some(self.client_id);
        let ours = match claims.get("aud") {
            Some(Value::Array(list)) => !list.is_empty() && list.iter().all(us),
            Some(one) => us(one),
            None => false,
        };
        if !ours {
            return Err(Refusal::Audience);
        }
        if claims.get("azp").is_some_and(|party| !us(party)) {
            return Err(Refusal::AuthorizedParty);
        }
        Ok(())
    }

    fn times(&self, claims: &Map<String, Value>) -> Result<Timestamp, Refusal> {
        let past = |time: Timestamp| time.duration_since(self.now) <= LEEWAY;
        let expires = claims.get("exp").and_then(time).ok_or(Refusal::Expiry)?;
        if self.now.duration_since(expires) >= LEEWAY {
            return Err(Refusal::Expired);
        }
        if !claims.get("iat").and_then(time).is_some_and(past) {
            return Err(Refusal::IssuedAt);
        }
        if claims.get("nbf").is_some_and(|value| !time(value).is_some_and(past)) {
            return Err(Refusal::NotBefore);
        }
        Ok(expires)
    }
}

/// A `NumericDate` (RFC 7519, 2): a number, never a string; some issuers write fractions. None for
/// what is no time that a calendar has.
#[expect(clippy::cast_possible_truncation, reason = "out of range is caught by the calendar")]
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    Timestamp::from_second(seconds?).ok()
}

fn is_user(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_SUBJECT
        && !name.chars().any(char::is_control)
        && !name.starts_with(RESERVED)
}

/// A list of names or a single one. Names that could mean a group of the API server, or that no
/// rule could name, are left out: a group only ever adds rights.
fn groups(claim: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let names: Vec<&str> = match claim {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => {
            list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(Refusal::Groups)?
        }
        Some(_) => return Err(Refusal::Groups),
    };
    let usable = |name: &&str| {
        !name.is_empty()
            && name.len() <= MAX_GROUP
            && !name.chars().any(char::is_control)
            && !name.starts_with(RESERVED)
    };
    let groups: BTreeSet<&str> = names.into_iter().filter(usable).collect();
    if groups.len() > MAX_GROUPS {
        return Err(Refusal::Groups);
    }
    Ok(groups.into_iter().map(str::to_owned).collect())
}
