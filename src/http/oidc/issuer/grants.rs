//! Codes that were given out and not yet exchanged.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::User;

/// How long a code is good for.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);

/// The most codes at a time: nobody has to log in for one.
const MAX: usize = 1000;

/// What a code stands for.
pub(super) struct Grant {
    /// Of PKCE, method S256.
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) user: User,
    #[cfg(any(test, feature = "issuer-knobs"))]
    pub(super) knobs: super::knobs::Knobs,
}

/// Codes by their text.
#[derive(Default)]
pub(super) struct Grants(HashMap<String, (Timestamp, Grant)>);

impl Grants {
    /// Keeps a code; false if there are too many.
    pub(super) fn put(&mut self, code: String, grant: Grant, now: Timestamp) -> bool {
        self.0.retain(|_, (made, _)| fresh(*made, now));
        let room = self.0.len() < MAX;
        if room {
            self.0.insert(code, (now, grant));
        }
        room
    }

    /// Takes a code out: whatever comes of it, it is used.
    pub(super) fn take(&mut self, code: &str, now: Timestamp) -> Option<Grant> {
        let (made, grant) = self.0.remove(code)?;
        fresh(made, now).then_some(grant)
    }
}

fn fresh(made: Timestamp, now: Timestamp) -> bool {
    now.duration_since(made) < LIFETIME
}
