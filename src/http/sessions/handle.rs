//! 256 random bits that a browser holds, and the hash of them that we keep.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::error::Error;

/// The length of a handle and of a hash, in bytes.
const BYTES: usize = 32;

/// The length of both as text.
const TEXT: usize = 43;

/// A credential that says nothing by itself: whoever shows it is who it was given to. Never printed
/// and never stored; gone from memory when dropped.
#[derive(Clone)]
pub struct Handle(Zeroizing<[u8; BYTES]>);

impl Handle {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| Error::Random)?;
        Ok(Self(bytes))
    }

    /// One that a client shows: 43 characters of base64url, and only in the form that [`expose`](Self::expose) gives.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        decode(text).map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// As it is given to the client.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// Under which it is kept.
    #[must_use]
    pub fn hash(&self) -> HandleHash {
        HandleHash::of(self.0.as_slice())
    }

    /// Under which something is kept that only both together may find.
    #[must_use]
    pub fn hash_with(&self, other: &Self) -> HandleHash {
        let mut both = Zeroizing::new([0; 2 * BYTES]);
        both[..BYTES].copy_from_slice(self.0.as_slice());
        both[BYTES..].copy_from_slice(other.0.as_slice());
        HandleHash::of(both.as_slice())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle([REDACTED])")
    }
}

/// The SHA-256 of a handle. Nobody gets from it to the handle, so it is no secret: a store and a
/// signed token may show it. Plain, without salt: there is nothing to guess in 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleHash([u8; BYTES]);

impl HandleHash {
    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; BYTES];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    /// One that a store or a token shows: 43 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        decode(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for HandleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for HandleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandleHash({self})")
    }
}

fn decode(text: &[u8]) -> Option<[u8; BYTES]> {
    if text.len() != TEXT {
        return None;
    }
    // The decoder refuses bits that are left over: there is one text for each value.
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
