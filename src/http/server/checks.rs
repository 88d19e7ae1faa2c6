//! What a request must be before anything is done for it: our Host, a path in its one spelling, and no
//! other site's doing.

use std::net::SocketAddr;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, ORIGIN, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::routes::RouteRule;
use crate::http::error::ApiError;
use crate::http::external_url::{ExternalUrl, is_loopback};

/// Whether the Host header names us: the external URL, or the address that we listen on if that is
/// loopback. `X-Forwarded-*` are not read: anybody can send them (security.md row 9).
pub(super) fn host(
    headers: &HeaderMap,
    external: &ExternalUrl,
    local: SocketAddr,
) -> Result<(), ApiError> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_local = || is_loopback(local.ip()) && host == local.to_string();
    if external.is_host(host) || is_local() { Ok(()) } else { Err(ApiError::misdirected()) }
}

/// Refuses other spellings of a path: two parts of a system that read them differently would disagree
/// on who may ask for it (security.md bad input 70). No path of ours needs an escaped character.
pub(super) fn path(path: &str) -> Result<(), ApiError> {
    let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    let odd = path.contains("//") || path.contains(['%', '\\', ';']);
    let slash = path.len() > 1 && path.ends_with('/');
    if dots || odd || slash { Err(ApiError::no_such_path()) } else { Ok(()) }
}

/// Refuses what another site made a browser send (security.md row 7): a request that may change something
/// and could be authorised by a cookie has to come from our own pages, and with a body that no form can
/// send. A request without a body, such as the logout, needs no content type.
///
/// A request with `Authorization` passes: browsers do not add one by themselves, and where there is one
/// the cookie is never looked at. So does one without any header that browsers add: nobody's rights come
/// with it, and who asks for something that needs them is to hear that they are missing.
pub(super) fn same_site(
    parts: &Parts,
    rule: &RouteRule,
    external: &ExternalUrl,
) -> Result<(), ApiError> {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(&parts.method);
    if safe || rule.programs || parts.headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    let browsers = ["sec-fetch-site", ORIGIN.as_str(), COOKIE.as_str()];
    if !browsers.iter().any(|name| parts.headers.contains_key(*name)) {
        return Ok(());
    }
    // As Go's CrossOriginProtection: what the browser says about the sites counts more than Origin,
    // which a proxy with another idea of scheme and port makes look foreign.
    let own = match only(&parts.headers, "sec-fetch-site") {
        Ok(Some(site)) => site == "same-origin",
        Ok(None) => only(&parts.headers, ORIGIN.as_str()) == Ok(Some(external.origin())),
        Err(()) => false,
    };
    if !own {
        let message = "This request does not come from a page of this server; reload the page, or \
                       use kubectl bind";
        return Err(ApiError::forbidden(message));
    }
    if has_body(&parts.headers) && !is_json(&parts.headers) {
        return Err(ApiError::forbidden("Only application/json is read here; set Content-Type"));
    }
    Ok(())
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(text)) = only(headers, CONTENT_TYPE.as_str()) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The announced length of the body.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body is announced.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || length(headers).is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::routes::DEFAULT;
    use super::*;

    fn external() -> ExternalUrl {
        ExternalUrl::parse("https://bind.example.com", false).unwrap()
    }

    fn parts(method: Method, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/api/bind");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_our_own_host_is_answered() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        let public = SocketAddr::from(([192, 0, 2, 1], 8080));
        for (value, local, ours) in [
            ("bind.example.com", public, true),
            ("bind.example.com:443", public, true),
            ("127.0.0.1:8080", loopback, true),
            ("192.0.2.1:8080", public, false),
            ("127.0.0.1", loopback, false),
            ("localhost:8080", loopback, false),
            ("evil", loopback, false),
            ("", loopback, false),
        ] {
            let headers =
                parts(Method::GET, &[("host", value), ("x-forwarded-host", "bind.example.com")])
                    .headers;
            let answer = host(&headers, &external(), local);
            assert_eq!(answer.is_ok(), ours, "{value}");
        }
        let none = parts(Method::GET, &[]).headers;
        assert_eq!(host(&none, &external(), loopback), Err(ApiError::misdirected()));
    }

    #[test]
    fn a_path_has_one_spelling() {
        for good in ["/", "/api/bind", "/oidc/.well-known/jwks.json", "/assets/index-a_b.js"] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
        for bad in [
            "//api/bind",
            "/api//bind",
            "/api/%62ind",
            "/api/bind/",
            "/api/bind%2f",
            "/api/./bind",
            "/x/../api/bind",
            "/api/bind;a=b",
            "/api\\bind",
        ] {
            assert_eq!(path(bad), Err(ApiError::no_such_path()), "{bad}");
        }
    }

    #[test]
    fn a_request_of_another_site_is_refused() {
        let json = ("content-type", "application/json; charset=utf-8");
        let body = ("content-length", "2");
        let own = ("sec-fetch-site", "same-origin");
        let origin = ("origin", "https://bind.example.com");
        let token = ("authorization", "Bearer x");
        let cookie = ("cookie", "__Host-kube-bind=x");
        for (headers, passes) in [
            (vec![own, json, body], true),
            (vec![origin, json, body], true),
            (vec![own], true),
            (vec![own, ("content-length", "0")], true),
            (vec![token], true),
            (vec![token, ("origin", "https://evil"), body], true),
            (vec![own, ("origin", "https://internal"), json, body], true),
            (vec![], true),
            (vec![json, body], true),
            (vec![cookie], false),
            (vec![cookie, json, body], false),
            (vec![cookie, own, json, body], true),
            (vec![cookie, origin, json, body], true),
            (vec![cookie, token, json, body], true),
            (vec![own, body], false),
            (vec![own, ("transfer-encoding", "chunked")], false),
            (vec![own, ("content-type", "text/plain"), body], false),
            (vec![own, ("content-type", "application/x-www-form-urlencoded"), body], false),
            (vec![own, ("content-type", "multipart/form-data"), body], false),
            (vec![own, ("content-type", "application/jsonp"), body], false),
            (vec![own, json, ("content-type", "text/plain"), body], false),
            (vec![("sec-fetch-site", "cross-site"), json, body], false),
            (vec![("sec-fetch-site", "same-site"), json, body], false),
            (vec![("sec-fetch-site", "none"), json, body], false),
            (vec![("sec-fetch-site", "same-site"), origin, json, body], false),
            (vec![own, ("sec-fetch-site", "cross-site"), json, body], false),
            (vec![("origin", "null"), json, body], false),
            (vec![("origin", "https://evil"), json, body], false),
            (vec![("origin", "https://evil.bind.example.com"), json, body], false),
            (vec![("origin", "http://bind.example.com"), json, body], false),
            (vec![origin, ("origin", "https://evil"), json, body], false),
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let answer = same_site(&parts(method, &headers), &DEFAULT, &external());
                assert_eq!(answer.is_ok(), passes, "{headers:?}");
                let status = answer.map_or_else(|err| err.status().as_u16(), |()| 200);
                assert!(passes || status == 403, "{headers:?}");
            }
            let get = parts(Method::GET, &headers);
            assert_eq!(same_site(&get, &DEFAULT, &external()), Ok(()));
        }
        let program = RouteRule::new("/oidc/token").for_programs();
        let form = parts(Method::POST, &[cookie, body]);
        assert_eq!(same_site(&form, &program, &external()), Ok(()));
    }
}
