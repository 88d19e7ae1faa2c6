//! All that the routes use.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::cookies::{Cookies, Jar};
use super::error::Error;
use super::handle::{Handle, HandleHash};
use super::keys::KeyRing;
use super::store::{Store, StoreError};
use super::token::{CliToken, Tokens};
use super::types::{Login, LoginState, Session, User};
use super::{Clock, bearer};

/// How long a login may take (RFC 9700; contract http.md 4.1).
const LOGIN_LIFETIME: Duration = Duration::from_mins(10);

/// The most text that a client may leave with a login, in bytes.
const MAX_LOGIN: usize = 1536;

/// The most sessions that one logout ends: a request can show hundreds of cookies, a browser has one
/// for each cluster that its user works with.
const MAX_ENDED: usize = 32;

/// How sessions are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients come: `--external-url`. Issuer and audience of tokens; with `https`, cookies go
    /// over TLS only.
    pub external_url: Url,
    /// How long a session lasts: `--token-expiry`.
    pub lifetime: Duration,
}

/// Which session a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The one for this cluster, as `cluster_id` names it. Empty: the backend's own.
    Cluster(&'a str),
    /// The only one that the browser has: for the requests in which the page leaves `cluster_id` out
    /// (contract http.md 4.4).
    Only,
}

/// How a request showed its session. Browsers send cookies without being asked, so a change that
/// comes with one needs proof that our own page asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A cookie.
    Cookie,
    /// `Authorization: Bearer`.
    Token,
}

/// A request with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The session. Its cluster is the one that was logged in for: that the request is about no other
    /// one is for the caller to check.
    pub session: Session,
    /// How the request showed it.
    pub credential: Credential,
}

/// A session that begins. Its credential is given out by [`Sessions::cookie`] or [`Sessions::token`].
#[derive(Debug)]
pub struct Granted {
    /// The session.
    pub session: Session,
    handle: Handle,
}

/// What a logout did.
#[derive(Debug)]
pub struct LoggedOut {
    /// The sessions that ended.
    pub ended: Vec<Session>,
    /// Headers `Set-Cookie` that take the cookies away; at least one.
    pub set_cookies: Vec<HeaderValue>,
}

/// Logins under way, sessions, and what clients show to prove that they have one.
pub struct Sessions {
    store: Store,
    tokens: Tokens,
    cookies: Cookies,
    lifetime: Duration,
    clock: Clock,
}

impl Sessions {
    /// Sessions in a store.
    #[must_use]
    pub fn new(config: &Config, store: Store, keys: KeyRing, clock: Clock) -> Self {
        let tokens = Tokens::new(keys, config.external_url.as_str().to_owned());
        let cookies = Cookies::new(config.external_url.scheme() == "https");
        Self { store, tokens, cookies, lifetime: config.lifetime, clock }
    }

    /// The keys for tokens.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        self.tokens.keys()
    }

    /// Whether the store can be used now: for readiness, and at start.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    /// Begins a login under a fresh `state` of 256 bits. Gives the header `Set-Cookie` that binds it to
    /// this browser: whoever brings the `state` to the callback in another one has no login.
    ///
    /// A browser that has the cookie keeps its value, so that logins in two tabs both end well. Nobody
    /// but us can have set it (see the prefix of its name), and it proves nothing but which browser it is.
    pub async fn begin_login(
        &self,
        headers: &HeaderMap,
        state: &SecretString,
        login: Login,
    ) -> Result<HeaderValue, Error> {
        if login.text() > MAX_LOGIN {
            return Err(Error::LoginTooLarge(MAX_LOGIN));
        }
        // Else the login would end without a cookie for its session.
        self.cookies.session_name(&login.cluster)?;
        let state = Handle::parse(state.expose_secret().as_bytes()).ok_or(Error::State)?;
        let known = self.cookies.read(headers).and_then(|jar| self.login_cookie(&jar));
        let browser = known.or_else(|_| Handle::generate())?;
        let created = (self.clock)();
        let login = LoginState { login, created, expires: later(created, LOGIN_LIFETIME) };
        self.store.add_login(state.hash_with(&browser), &login).await?;
        Ok(self.cookies.set_login(&browser, LOGIN_LIFETIME.as_secs()))
    }

    /// The login of a callback, once, and only in the browser that began it. A request without the
    /// right cookie does not use the login up.
    pub async fn take_login(&self, headers: &HeaderMap, state: &str) -> Result<LoginState, Error> {
        let state = Handle::parse(state.as_bytes()).ok_or(Error::State)?;
        let browser = self.login_cookie(&self.cookies.read(headers)?)?;
        self.store.take_login(state.hash_with(&browser)).await?.ok_or(Error::LoginUnknown)
    }

    /// Begins a session, always under a new handle.
    pub async fn create_session(&self, user: User) -> Result<Granted, Error> {
        self.cookies.session_name(&user.cluster)?;
        let created = (self.clock)();
        let session = Session { user, created, expires: later(created, self.lifetime) };
        let handle = Handle::generate()?;
        self.store.add_session(handle.hash(), &session).await?;
        Ok(Granted { session, handle })
    }

    /// The header `Set-Cookie` with which a browser has the session.
    pub fn cookie(&self, granted: &Granted) -> Result<HeaderValue, Error> {
        let name = self.cookies.session_name(&granted.session.user.cluster)?;
        let left = granted.session.expires.duration_since((self.clock)());
        let seconds = u64::try_from(left.as_secs()).unwrap_or_default();
        Ok(self.cookies.set_session(&name, &granted.handle, seconds))
    }

    /// The token with which `kubectl bind` has the session.
    pub fn token(&self, granted: &Granted) -> Result<CliToken, Error> {
        self.tokens.sign(&granted.session, granted.handle.hash(), (self.clock)())
    }

    /// The session of a request. A request with an `Authorization` header never has the one of a cookie.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        scope: Scope<'_>,
    ) -> Result<Authenticated, Error> {
        if let Some(token) = bearer::token(headers)? {
            let verified = self.tokens.verify(token, (self.clock)())?;
            let session = self.session(verified.session).await?;
            // It was made for this session, or our key has signed what we did not write.
            if session.user.subject != verified.subject {
                return Err(Error::SessionUnknown);
            }
            return Ok(Authenticated { session, credential: Credential::Token });
        }
        let jar = self.cookies.read(headers)?;
        let value = match scope {
            Scope::Cluster(cluster) => jar.get(&self.cookies.session_name(cluster)?)?,
            Scope::Only => jar.only_session()?,
        };
        let handle = Handle::parse(value.ok_or(Error::NoCredential)?).ok_or(Error::Cookie)?;
        let session = self.session(handle.hash()).await?;
        Ok(Authenticated { session, credential: Credential::Cookie })
    }

    /// Ends the session of a request, and takes its cookie away. Nothing to end is no error, and what
    /// cannot be read ends nothing. Without a cluster, all sessions of the browser end: more than
    /// was asked for is safer than less.
    pub async fn logout(
        &self,
        headers: &HeaderMap,
        cluster: Option<&str>,
    ) -> Result<LoggedOut, Error> {
        let jar = self.cookies.read(headers)?;
        let mut names = match cluster {
            Some(cluster) => vec![self.cookies.session_name(cluster)?],
            None => jar.session_names().into_iter().map(str::to_owned).collect(),
        };
        names.truncate(MAX_ENDED);
        if names.is_empty() {
            names.push(self.cookies.session_name("")?);
        }
        // A cookie that is there twice, too: both sessions end.
        let values = names.iter().flat_map(|name| jar.all(name));
        let mut hashes: Vec<HandleHash> =
            values.take(MAX_ENDED).filter_map(Handle::parse).map(|handle| handle.hash()).collect();
        if let Ok(Some(token)) = bearer::token(headers)
            && let Ok(verified) = self.tokens.verify(token, (self.clock)())
        {
            hashes.push(verified.session);
        }
        let mut ended = Vec::new();
        for hash in hashes {
            ended.extend(self.store.end_session(hash).await?);
        }
        let set_cookies = names.iter().map(|name| self.cookies.expire_session(name)).collect();
        Ok(LoggedOut { ended, set_cookies })
    }

    async fn session(&self, hash: HandleHash) -> Result<Session, Error> {
        self.store.session(hash).await?.ok_or(Error::SessionUnknown)
    }

    fn login_cookie(&self, jar: &Jar<'_>) -> Result<Handle, Error> {
        let value = jar.get(&self.cookies.login_name())?.ok_or(Error::LoginCookie)?;
        Handle::parse(value).ok_or(Error::LoginCookie)
    }
}

fn later(now: Timestamp, lifetime: Duration) -> Timestamp {
    // A lifetime without end ends with time itself.
    now.checked_add(lifetime).unwrap_or(Timestamp::MAX)
}
