//! What every answer carries (security.md row 8, contract http.md section 1).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, EXPIRES, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};

use super::routes::RouteRule;

/// The page loads its own files and nothing else, and nobody shows it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const ALWAYS: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// One year; other hosts of the domain are not ours to speak for.
const HSTS: &str = "max-age=31536000";

/// Sets them, over whatever a handler said. Only the caching of static files is left to their handler.
pub(super) fn set(headers: &mut HeaderMap, path: &str, rule: &RouteRule, https: bool) {
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    if rule.never_cached {
        let value = "no-cache, no-store, must-revalidate, max-age=0";
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
        headers.insert(EXPIRES, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
        headers.insert(HeaderName::from_static("x-accel-expires"), HeaderValue::from_static("0"));
    } else if !(path.starts_with("/assets/") && headers.contains_key(CACHE_CONTROL)) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::DEFAULT;
    use super::*;

    fn after(
        given: &[(&'static str, &'static str)],
        path: &str,
        rule: &RouteRule,
        https: bool,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        set(&mut headers, path, rule, https);
        headers
    }

    fn expected(more: &[(&'static str, &'static str)]) -> HeaderMap {
        ALWAYS
            .iter()
            .chain(more)
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_static_files_decide_on_their_caching() {
        let public = ("cache-control", "public, max-age=31536000, immutable");
        let none = ("cache-control", "no-store");
        assert_eq!(after(&[public], "/assets/a.js", &DEFAULT, false), expected(&[public]));
        assert_eq!(after(&[], "/assets/a.js", &DEFAULT, false), expected(&[none]));
        assert_eq!(after(&[public], "/api/exports", &DEFAULT, false), expected(&[none]));
        assert_eq!(after(&[public], "/", &DEFAULT, false), expected(&[none]));
        let hsts = ("strict-transport-security", HSTS);
        assert_eq!(after(&[], "/", &DEFAULT, true), expected(&[none, hsts]));
        let rule = RouteRule::new("/api/ping").never_cached();
        assert_eq!(
            after(&[public], "/api/ping", &rule, false),
            expected(&[
                ("cache-control", "no-cache, no-store, must-revalidate, max-age=0"),
                ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("x-accel-expires", "0"),
            ])
        );
    }

    #[test]
    fn a_handler_cannot_weaken_the_policy() {
        let weak = ("content-security-policy", "default-src *");
        assert_eq!(
            after(&[weak], "/", &DEFAULT, false),
            expected(&[("cache-control", "no-store")])
        );
    }
}
