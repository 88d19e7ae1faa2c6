//! The id of a request, by which the log is searched.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names one request in the answer (`x-request-id`), in the log and in the audit. Always ours: one that
/// the client sends is ignored, since it could be the id of another request, or anything else. Handlers
/// find it as an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The text, of letters, digits and '-'.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fixed id.
    #[cfg(test)]
    pub(crate) fn for_tests(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes ids: random for the process, counted within it. They are no secret.
pub(super) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        Self { process: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    pub(super) fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:016x}-{count}", self.process).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_share_an_id() {
        let (here, there) = (RequestIds::new(), RequestIds::new());
        let ids = [here.next(), here.next(), there.next(), there.next()];
        let different: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(different.len(), 4);
        assert!(ids[0].as_str().ends_with("-1") && ids[0].as_str().len() == 18);
    }
}
