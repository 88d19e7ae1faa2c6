//! What can go wrong with logins and sessions. No text here carries a credential.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use super::store::StoreError;

/// What the caller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 400: the request cannot be one of a client of ours.
    BadRequest,
    /// 401: it does not come with a session.
    Unauthorized,
    /// 500: nothing that the client did, or could do.
    Internal,
    /// 503: it may go well later, with `Retry-After`.
    Unavailable {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl Class {
    /// The status code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What a client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a login or a session did not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The system has no random bits.
    #[error("no random numbers can be had from the system; try again")]
    Random,
    /// The key does not sign.
    #[error("the token cannot be signed; the operator should check the key for tokens")]
    Sign,
    /// The store has failed, or is full.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A login with more text than any client leaves.
    #[error(
        "the parameters of the login are longer than {0} bytes together; leave out what is not needed"
    )]
    LoginTooLarge(usize),
    /// A cluster whose name cannot be part of a cookie's.
    #[error("cluster_id has characters that no cluster's name has, or too many; check it")]
    ClusterName,
    /// A `state` that is none of ours.
    #[error("invalid state parameter; start the login again")]
    State,
    /// The browser does not show the cookie that every login sets.
    #[error(
        "the browser did not send the cookie of its login; allow cookies for this site, and finish the login in the browser that began it"
    )]
    LoginCookie,
    /// No login has this `state` in this browser, or not any more.
    #[error(
        "no such login is under way: it was finished already, took longer than 10 minutes, began in another browser or at another replica without a shared session store (--redis-addr); start the login again"
    )]
    LoginUnknown,
    /// Which of them would count?
    #[error("the request has more than one Authorization header; send one")]
    ManyAuthorizations,
    /// Which of them would count?
    #[error(
        "the request has more than one cookie {0}; delete the cookies of this site in the browser"
    )]
    ManyCookies(String),
    /// More cookies than are looked at.
    #[error(
        "the request has more than {0} bytes of cookies; delete the cookies of this site in the browser"
    )]
    CookiesTooLarge(usize),
    /// A page that names no cluster, in a browser with sessions for several.
    #[error(
        "the browser has sessions for several clusters, and the request names none of them; add cluster_id"
    )]
    WhichCluster,
    /// Neither a token nor a cookie.
    #[error("the request has neither a token nor the cookie of a session; log in")]
    NoCredential,
    /// Another scheme than `Bearer`, or none at all.
    #[error("the Authorization header does not have the form `Bearer <token>`; log in again")]
    Authorization,
    /// A cookie whose value is not one that we give.
    #[error("the cookie of the session cannot be read; log in again")]
    Cookie,
    /// The token proves nothing.
    #[error("the token is refused: {0}; log in again")]
    Token(#[from] Refusal),
    /// There was a session, or never.
    #[error("the session has ended, or never was; log in again")]
    SessionUnknown,
}

impl Error {
    /// What the caller answers.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::LoginTooLarge(_)
            | Self::ClusterName
            | Self::State
            | Self::LoginCookie
            | Self::LoginUnknown
            | Self::ManyAuthorizations
            | Self::ManyCookies(_)
            | Self::CookiesTooLarge(_)
            | Self::WhichCluster => Class::BadRequest,
            Self::NoCredential
            | Self::Authorization
            | Self::Cookie
            | Self::Token(_)
            | Self::SessionUnknown => Class::Unauthorized,
            Self::Sign => Class::Internal,
            Self::Random | Self::Store(_) => Class::Unavailable { retry_after: RETRY_AFTER },
        }
    }

    /// The `details` beside `Authentication required` (contract http.md 3): clients know these four
    /// texts. None unless the class is [`Class::Unauthorized`].
    #[must_use]
    pub fn details(&self) -> Option<&'static str> {
        match self {
            Self::Token(Refusal::Claims) => Some("Invalid session state: missing required fields"),
            Self::Token(Refusal::Expired) => Some("Session has expired"),
            Self::SessionUnknown => Some("Session has expired or is invalid"),
            Self::NoCredential | Self::Authorization | Self::Cookie | Self::Token(_) => {
                Some("No valid session found")
            }
            _ => None,
        }
    }
}

/// Why a token of `kubectl bind` was refused (RFC 8725).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Larger than any that we make.
    #[error("it is too large")]
    TooLarge,
    /// Not the three parts of a signed token.
    #[error("it is not a signed token of three parts")]
    Parts,
    /// Not the three fields that a header of ours has: whatever else a token brings along (`jwk`,
    /// `jku`, `x5u`, `crit`) is nothing that we have written.
    #[error("its header is not one of ours")]
    Header,
    /// Anything but ES256.
    #[error("it is not signed with ES256")]
    Algorithm,
    /// The header's `typ` names another kind of token.
    #[error("it is a token of another kind")]
    Type,
    /// No such key is in the ring (any more).
    #[error("it is signed with a key that is not, or no longer, ours")]
    UnknownKey,
    /// The key is there and says no.
    #[error("its signature is wrong")]
    Signature,
    /// Not the claims that a token of ours has.
    #[error("claims are missing, or of the wrong type")]
    Claims,
    /// `iss`.
    #[error("it is from another backend")]
    Issuer,
    /// `aud`.
    #[error("it is for another backend")]
    Audience,
    /// `exp` is past.
    #[error("it has expired")]
    Expired,
}
