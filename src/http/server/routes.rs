//! What single paths need that others do not.

use std::time::Duration;

/// Largest body, and the longest time, of a path that has no rule.
const BODY: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);

/// What holds for one path. The default is the strict one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRule {
    pub(super) path: &'static str,
    pub(super) body: usize,
    pub(super) timeout: Duration,
    pub(super) never_cached: bool,
    pub(super) allow_without_head: Option<&'static str>,
    pub(super) programs: bool,
    pub(super) health: bool,
}

/// For every path without a rule.
pub(super) const DEFAULT: RouteRule = RouteRule::new("");

impl RouteRule {
    /// The rule of a path, letter by letter: other spellings of it are answered 404.
    #[must_use]
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            body: BODY,
            timeout: TIMEOUT,
            never_cached: false,
            allow_without_head: None,
            programs: false,
            health: false,
        }
    }

    /// Largest body in bytes, instead of 64 KiB.
    #[must_use]
    pub const fn body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }

    /// Longest time from the head of the request to the answer, instead of 30 s, with the wait for its
    /// turn. The handler is dropped
    /// then, as it is when the client hangs up: what must be finished belongs into a task.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The no-cache headers of http.md section 1.
    #[must_use]
    pub const fn never_cached(mut self) -> Self {
        self.never_cached = true;
        self
    }

    /// HEAD is refused, with this header `Allow`: a GET that changes something must not be done by
    /// who only looks. Elsewhere HEAD is a GET without the body.
    #[must_use]
    pub const fn no_head(mut self, allow: &'static str) -> Self {
        self.allow_without_head = Some(allow);
        self
    }

    /// Called by programs, which send neither Origin nor JSON, and takes no cookie: not protected from
    /// cross-site requests.
    #[must_use]
    pub const fn for_programs(mut self) -> Self {
        self.programs = true;
        self
    }

    /// A probe of the platform: any Host, and answered also when the server has too much to do.
    #[must_use]
    pub const fn health(mut self) -> Self {
        self.health = true;
        self
    }
}

/// The paths of the contract (http.md section 1) that need something else than the default, and the
/// probes.
pub const CONTRACT: &[RouteRule] = &[
    RouteRule::new("/healthz").health(),
    RouteRule::new("/livez").health(),
    RouteRule::new("/readyz").health(),
    RouteRule::new("/api/healthz").health().never_cached(),
    RouteRule::new("/api/authorize").no_head("GET,POST"),
    RouteRule::new("/api/callback").no_head("GET"),
    RouteRule::new("/api/ping").never_cached(),
    RouteRule::new("/api/templates").never_cached(),
    RouteRule::new("/api/collections").never_cached(),
    RouteRule::new("/api/consumer-status").never_cached(),
    RouteRule::new("/api/bind").never_cached().body(256 << 10).timeout(Duration::from_mins(1)),
    // Its own limit of 30 s for the consumer's cluster is the one that shall be told.
    RouteRule::new("/api/apply-binding")
        .never_cached()
        .body(1 << 20)
        .timeout(Duration::from_mins(1)),
    RouteRule::new("/oidc/authorize").no_head("GET,POST"),
    RouteRule::new("/oidc/token").for_programs(),
    RouteRule::new("/oidc/userinfo").for_programs(),
];
