//! Names and attributes of the cookies, and how they are read (RFC 6265bis).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::error::Error;
use super::handle::Handle;

/// The most that is read of a request's cookies, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// The longest name of a cluster in a cookie's name, in bytes.
const MAX_CLUSTER: usize = 128;

/// What a session's cookie is called; `-<cluster>` follows if the session is for a named cluster.
const SESSION: &str = "kube-bind";

/// Browsers take a cookie with such a name only over TLS, for this very host and for all paths: no
/// sibling domain and nobody in the network can set or replace it.
const PREFIX: &str = "__Host-";

/// The cookies of this backend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookies {
    /// Whether clients come over TLS. Without, which is for development on one machine, browsers
    /// would not keep a cookie that asks for it.
    secure: bool,
}

/// How a browser may send a cookie along.
#[derive(Clone, Copy)]
enum SameSite {
    /// Never with a request that another site caused.
    Strict,
    /// Also when another site, here the issuer, sends the browser here.
    Lax,
}

impl Cookies {
    pub(super) fn new(secure: bool) -> Self {
        Self { secure }
    }

    fn base(self) -> String {
        if self.secure { format!("{PREFIX}{SESSION}") } else { SESSION.to_owned() }
    }

    /// What the session's cookie is called for a cluster; empty for the backend's own.
    pub(super) fn session_name(self, cluster: &str) -> Result<String, Error> {
        let base = self.base();
        match cluster {
            "" => Ok(base),
            cluster if fits(cluster) => Ok(format!("{base}-{cluster}")),
            _ => Err(Error::ClusterName),
        }
    }

    /// What the login's cookie is called: with a dot, so that no cluster's name leads here.
    pub(super) fn login_name(self) -> String {
        format!("{}.login", self.base())
    }

    /// Sets a session's cookie.
    pub(super) fn set_session(self, name: &str, handle: &Handle, seconds: u64) -> HeaderValue {
        self.set(name, &handle.expose(), seconds, SameSite::Strict)
    }

    /// Takes a session's cookie away.
    pub(super) fn expire_session(self, name: &str) -> HeaderValue {
        self.set(name, "", 0, SameSite::Strict)
    }

    /// Sets the login's cookie: Lax, as the browser comes back from the issuer's site.
    pub(super) fn set_login(self, handle: &Handle, seconds: u64) -> HeaderValue {
        self.set(&self.login_name(), &handle.expose(), seconds, SameSite::Lax)
    }

    fn set(self, name: &str, value: &str, seconds: u64, same_site: SameSite) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let same_site = match same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
        };
        let text = format!(
            "{name}={value}; Path=/; Max-Age={seconds}{secure}; HttpOnly; SameSite={same_site}"
        );
        // Names are checked and values are base64url: nothing that a header may not have.
        let mut header =
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        header.set_sensitive(true);
        header
    }

    /// Those cookies of a request that are ours by name.
    pub(super) fn read(self, headers: &HeaderMap) -> Result<Jar<'_>, Error> {
        let values = || headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        if values().map(<[u8]>::len).sum::<usize>() > MAX_BYTES {
            return Err(Error::CookiesTooLarge(MAX_BYTES));
        }
        let base = self.base();
        // Other cookies on the host may hold anything: they are no reason to refuse a request.
        let ours = values()
            .flat_map(|value| value.split(|byte| *byte == b';'))
            .filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                let name = std::str::from_utf8(pair[..at].trim_ascii()).ok()?;
                Some((name, pair[at + 1..].trim_ascii()))
            })
            .filter(|(name, _)| name.starts_with(&base))
            .collect();
        Ok(Jar { base, ours })
    }
}

/// Whether the name of a cluster can be part of a cookie's.
fn fits(cluster: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !cluster.is_empty() && cluster.len() <= MAX_CLUSTER && cluster.bytes().all(fits)
}

/// The cookies of a request that begin with the session's name, in order, with those that occur twice.
pub(super) struct Jar<'a> {
    base: String,
    ours: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Jar<'a> {
    /// The value of a cookie. Two of one name are an error: one of them comes from somebody else, and
    /// their order says nothing.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'a [u8]>, Error> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Error::ManyCookies(name.to_owned())),
        }
    }

    /// All values of a cookie.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.ours.iter().filter(move |(have, _)| *have == name).map(|(_, value)| *value)
    }

    /// The value of the only cookie of a session, whatever its cluster.
    pub(super) fn only_session(&self) -> Result<Option<&'a [u8]>, Error> {
        match self.session_names().as_slice() {
            [] => Ok(None),
            [name] => self.get(name),
            // The backend's own cluster is what a request without a name is about.
            names if names.contains(&self.base.as_str()) => self.get(&self.base),
            _ => Err(Error::WhichCluster),
        }
    }

    /// The names of all cookies of sessions, each once.
    pub(super) fn session_names(&self) -> Vec<&'a str> {
        let of_session = |name: &str| {
            name.strip_prefix(self.base.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(fits))
        };
        let mut names: Vec<&str> =
            self.ours.iter().map(|(name, _)| *name).filter(|name| of_session(name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
