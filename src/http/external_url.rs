//! The address that clients know us by (`--external-url`), and where a login may lead back to.
//!
//! Every absolute URL that we hand out is made from it, never from a Host header (security.md rows 1, 9).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

/// Longest redirect target. A page of ours has a path and a few parameters.
const LONGEST: usize = 2048;

/// Why a URL is not one to be reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExternalUrlError {
    /// Not an absolute http(s) URL with a host.
    #[error("it is not a URL such as https://bind.example.com")]
    NotAUrl,
    /// Plain http to somewhere else than this machine.
    #[error(
        "it is not https; plain http is for loopback addresses, since cookies and tokens pass here"
    )]
    NotHttps,
    /// `user:password@`.
    #[error("it carries credentials; leave them out")]
    Credentials,
    /// More than an origin.
    #[error("it has a path, a query or a fragment; write scheme, host and port only")]
    NotAnOrigin,
}

/// Scheme, host and port under which browsers and `kubectl bind` reach us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalUrl {
    url: Url,
    origin: String,
    authority: String,
}

impl ExternalUrl {
    /// Parses an origin. A path prefix is not supported: `kubectl bind` v0.8.1 drops it
    /// (contract http.md 4.3). `allow_http` permits plain http to any host.
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, ExternalUrlError> {
        if !is_plain(text) {
            return Err(ExternalUrlError::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| ExternalUrlError::NotAUrl)?;
        let loopback = match url.host() {
            None => return Err(ExternalUrlError::NotAUrl),
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback || allow_http => {}
            "http" => return Err(ExternalUrlError::NotHttps),
            _ => return Err(ExternalUrlError::NotAUrl),
        }
        if url.port() == Some(0) {
            return Err(ExternalUrlError::NotAUrl);
        }
        // An empty user before an @ is lost in parsing.
        if text.contains('@') {
            return Err(ExternalUrlError::Credentials);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ExternalUrlError::NotAnOrigin);
        }
        let authority = url.authority().to_owned();
        Ok(Self { origin: format!("{}://{authority}", url.scheme()), authority, url })
    }

    /// The URL of a path of ours. `path` starts with a slash and may carry a query; whatever it is,
    /// the origin stays.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut url = self.url.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }

    /// As browsers send it in `Origin`: lower case, without the scheme's own port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// As clients send it in `Host`: without the scheme's own port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether cookies may be `Secure` and browsers be told to insist on TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether a Host header names us. Case does not matter, nor does naming the scheme's own port.
    #[must_use]
    pub fn is_host(&self, host: &str) -> bool {
        if host.eq_ignore_ascii_case(&self.authority) {
            return true;
        }
        let port = if self.is_https() { ":443" } else { ":80" };
        self.url.port().is_none()
            && host
                .strip_suffix(port)
                .is_some_and(|host| host.eq_ignore_ascii_case(&self.authority))
    }
}

/// Who asked for the login: query parameter `client_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientType {
    /// `kubectl bind`, which listens on a loopback port.
    Cli,
    /// The page that we serve.
    Ui,
}

impl ClientType {
    /// `cli`, or `ui`, which is also what an empty value means.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "cli" => Some(Self::Cli),
            "" | "ui" => Some(Self::Ui),
            _ => None,
        }
    }
}

/// A `redirect_url` that nobody may be sent to. The refused text is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedirectError {
    /// Not the callback of a `kubectl bind` on this machine.
    #[error(
        "redirect_url must be http://127.0.0.1:<port>/callback or http://[::1]:<port>/callback; \
         log in with kubectl bind login"
    )]
    Cli,
    /// Not a page of ours.
    #[error("redirect_url must be a page of this server; open its start page and log in there")]
    Page,
}

/// Where a finished login leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTarget {
    /// The port that `kubectl bind` listens on; tokens may be sent there.
    Cli(Url),
    /// A page of our own origin.
    Page(Url),
}

impl RedirectTarget {
    /// Checks the text as it came, before any URL parser smooths it (RFC 8252 §7.3, RFC 9700 §4.1,
    /// security.md row 1).
    pub fn parse(
        text: &str,
        client: ClientType,
        external: &ExternalUrl,
    ) -> Result<Self, RedirectError> {
        match client {
            ClientType::Cli => loopback_callback(text).map(Self::Cli).ok_or(RedirectError::Cli),
            ClientType::Ui => own_page(text, external).map(Self::Page).ok_or(RedirectError::Page),
        }
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        match self {
            Self::Cli(url) | Self::Page(url) => url,
        }
    }
}

/// `http://127.0.0.1:<port>/callback` or `http://[::1]:<port>/callback`, letter by letter. A name such
/// as localhost may be resolved to somewhere else.
pub(super) fn loopback_callback(text: &str) -> Option<Url> {
    let rest =
        ["http://127.0.0.1:", "http://[::1]:"].iter().find_map(|start| text.strip_prefix(start))?;
    let port = rest.strip_suffix("/callback")?;
    let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || port.parse::<u16>().is_err() {
        return None;
    }
    Url::parse(text).ok()
}

/// A page below our origin that a URL parser leaves as it is. Not the API: a login that ends there
/// could start the next one.
fn own_page(text: &str, external: &ExternalUrl) -> Option<Url> {
    if text.len() > LONGEST || !is_plain(text) {
        return None;
    }
    let rest = text.strip_prefix(external.origin())?;
    if !(rest.is_empty() || rest.starts_with('/')) || rest.contains('#') {
        return None;
    }
    let lower = rest.to_ascii_lowercase();
    if lower.contains("%0d") || lower.contains("%0a") {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let unchanged = url.as_str() == text || rest.is_empty();
    let first = url.path_segments()?.next().unwrap_or_default();
    let page = !matches!(first, "api" | "oidc" | "exports") && !url.path().starts_with("//");
    (unchanged && page && url.origin() == external.url.origin()).then_some(url)
}

/// Visible ASCII without the backslash: URL parsers drop or turn the rest.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// Whether an address is this machine.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external() -> ExternalUrl {
        ExternalUrl::parse("https://bind.example.com", false).unwrap()
    }

    #[test]
    fn an_external_url_is_an_https_origin_or_a_loopback_one() {
        for (text, origin, authority, https) in [
            ("https://bind.example.com", "https://bind.example.com", "bind.example.com", true),
            ("https://Bind.Example.com:443/", "https://bind.example.com", "bind.example.com", true),
            (
                "https://[2001:db8::1]:8443",
                "https://[2001:db8::1]:8443",
                "[2001:db8::1]:8443",
                true,
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080", false),
            ("http://localhost:8080/", "http://localhost:8080", "localhost:8080", false),
            ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080", false),
        ] {
            let url = ExternalUrl::parse(text, false).unwrap();
            let got = (url.origin(), url.authority(), url.is_https());
            assert_eq!(got, (origin, authority, https), "{text}");
        }
        let anywhere = ExternalUrl::parse("http://bind.example.com", true).unwrap();
        assert_eq!(anywhere.origin(), "http://bind.example.com");
    }

    #[test]
    fn other_external_urls_are_refused() {
        for (text, expected) in [
            ("", ExternalUrlError::NotAUrl),
            ("bind.example.com", ExternalUrlError::NotAUrl),
            ("ftp://bind.example.com", ExternalUrlError::NotAUrl),
            ("javascript:alert(1)", ExternalUrlError::NotAUrl),
            ("https://bind.example.com\\@evil", ExternalUrlError::NotAUrl),
            ("https://bind.exa\tmple.com", ExternalUrlError::NotAUrl),
            ("https://bind.example.com:0", ExternalUrlError::NotAUrl),
            ("http://bind.example.com", ExternalUrlError::NotHttps),
            ("http://127.0.0.1.evil", ExternalUrlError::NotHttps),
            ("https://user:pass@bind.example.com", ExternalUrlError::Credentials),
            ("https://@bind.example.com", ExternalUrlError::Credentials),
            ("https://bind.example.com/prefix", ExternalUrlError::NotAnOrigin),
            ("https://bind.example.com/?a=b", ExternalUrlError::NotAnOrigin),
            ("https://bind.example.com/#a", ExternalUrlError::NotAnOrigin),
        ] {
            assert_eq!(ExternalUrl::parse(text, false), Err(expected), "{text}");
        }
    }

    #[test]
    fn what_is_joined_never_leaves_the_origin() {
        for (path, expected) in [
            ("/api/authorize?cluster_id=a", "https://bind.example.com/api/authorize?cluster_id=a"),
            ("//evil/x", "https://bind.example.com//evil/x"),
            ("@evil", "https://bind.example.com/@evil"),
        ] {
            assert_eq!(external().join(path).as_str(), expected);
        }
    }

    #[test]
    fn a_host_header_is_ours_in_any_case_and_with_the_own_port_of_the_scheme() {
        for (host, ours) in [
            ("bind.example.com", true),
            ("BIND.example.com:443", true),
            ("bind.example.com:80", false),
            ("bind.example.com:8443", false),
            ("bind.example.com.", false),
            ("evil", false),
            ("", false),
        ] {
            assert_eq!(external().is_host(host), ours, "{host}");
        }
        let odd = ExternalUrl::parse("https://bind.example.com:8443", false).unwrap();
        assert!(odd.is_host("bind.example.com:8443") && !odd.is_host("bind.example.com:8443:443"));
    }

    #[test]
    fn the_cli_is_answered_on_a_loopback_port_only() {
        for text in [
            "http://127.0.0.1:65535/callback",
            "http://127.0.0.1:1/callback",
            "http://[::1]:40123/callback",
        ] {
            let target = RedirectTarget::parse(text, ClientType::Cli, &external());
            assert_eq!(target, Ok(RedirectTarget::Cli(Url::parse(text).unwrap())));
        }
        for text in [
            "",
            "https://evil",
            "https://bind.example.com/",
            "http://127.0.0.1.evil/callback",
            "http://127.0.0.1@evil/",
            "http://127.0.0.1:1@evil/callback",
            "http://user@127.0.0.1:1/callback",
            "http://localhost:1/callback",
            "http://[::ffff:127.0.0.1]:1/callback",
            "http://[::1%25lo]:1/callback",
            "http://0x7f.1:1/callback",
            "http://127.1:1/callback",
            "https://127.0.0.1:1/callback",
            "HTTP://127.0.0.1:1/callback",
            "//evil",
            "\\\\evil",
            "javascript:alert(1)",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:01/callback",
            "http://127.0.0.1:+1/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:1/callback/",
            "http://127.0.0.1:1/callback/../x",
            "http://127.0.0.1:1/x/../callback",
            "http://127.0.0.1:1/callback?a=b",
            "http://127.0.0.1:1/callback#a",
            "http://127.0.0.1:1/callback%0d%0aSet-Cookie:a=b",
            "http://127.0.0.1:1/callback\r\nSet-Cookie:a=b",
            " http://127.0.0.1:1/callback",
            "http://127.0.0.1:1\t/callback",
        ] {
            let target = RedirectTarget::parse(text, ClientType::Cli, &external());
            assert_eq!(target, Err(RedirectError::Cli), "{text}");
        }
    }

    #[test]
    fn the_page_is_one_of_our_own_origin() {
        for text in [
            "https://bind.example.com",
            "https://bind.example.com/",
            "https://bind.example.com/resources",
            "https://bind.example.com/?cluster_id=a&consumer_id=b",
        ] {
            let target = RedirectTarget::parse(text, ClientType::Ui, &external());
            assert_eq!(target, Ok(RedirectTarget::Page(Url::parse(text).unwrap())));
        }
        let long = format!("https://bind.example.com/{}", "a".repeat(LONGEST));
        for text in [
            "",
            "/resources",
            "//evil",
            "https://evil",
            "javascript:alert(1)",
            "http://bind.example.com/",
            "https://bind.example.com.evil/",
            "https://bind.example.com@evil/",
            "https://bind.example.com:443/",
            "https://bind.example.com:8443/",
            "https://user@bind.example.com/",
            "https://BIND.example.com/",
            "https://bind.example.com\\@evil/",
            "https://bind.example.com/a/../b",
            "https://bind.example.com//evil",
            "https://bind.example.com/#a",
            "https://bind.example.com/%0d%0aSet-Cookie:a=b",
            "https://bind.example.com/\u{e4}",
            "https://bind.example.com/api/authorize?client_type=cli",
            "https://bind.example.com/api",
            "https://bind.example.com/oidc/authorize",
            "http://127.0.0.1:1/callback",
            long.as_str(),
        ] {
            let target = RedirectTarget::parse(text, ClientType::Ui, &external());
            assert_eq!(target, Err(RedirectError::Page), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_leads_anywhere_but_to_loopback_or_home(
            text in r"(https?://)?(127\.0\.0\.1|\[::1\]|bind\.example\.com|evil)?[:/@?#.%\\a-z0-9]{0,24}(/callback)?"
        ) {
            for client in [ClientType::Cli, ClientType::Ui] {
                if let Ok(target) = RedirectTarget::parse(&text, client, &external()) {
                    let url = target.url();
                    let host = url.host_str().unwrap();
                    let expected: &[&str] = match client {
                        ClientType::Cli => &["127.0.0.1", "[::1]"],
                        ClientType::Ui => &["bind.example.com"],
                    };
                    proptest::prop_assert!(expected.contains(&host), "{url}");
                    proptest::prop_assert!(url.username().is_empty() && url.fragment().is_none());
                }
            }
        }
    }
}
