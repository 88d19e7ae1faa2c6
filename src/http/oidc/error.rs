//! What can go wrong in a login. No text here carries a code, a token or a secret.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

/// The relying party cannot be made from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The issuer's URL.
    #[error("--oidc-issuer-url={url} is refused: {problem}")]
    Issuer {
        /// The refused URL.
        url: String,
        /// What is wrong with it, and what to write instead.
        problem: &'static str,
    },
    /// The CA for the issuer.
    #[error(
        "the file of --oidc-ca-file is refused: {0}; give a PEM file with the CA of the issuer's certificate"
    )]
    Ca(String),
    /// The CAs of the system.
    #[error(
        "no CA certificates of the system can be read: {0}; install them, or name the issuer's CA with --oidc-ca-file"
    )]
    SystemRoots(String),
}

/// The issuer could not be asked yet for its endpoints and keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "logins are not possible yet: {problem}; the issuer {issuer} is asked again until it answers, so try again later"
)]
pub struct NotReady {
    /// The issuer.
    pub issuer: String,
    /// What the last attempt met.
    pub problem: String,
}

/// What the caller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 400: what the browser brought cannot be part of a login of ours.
    BadRequest,
    /// 401: nobody has proved who they are.
    Unauthorized,
    /// 502: the issuer gave an answer that is not one.
    BadGateway,
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
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a login did not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Nothing is known of the issuer yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The system has no random bits.
    #[error("no random numbers can be had from the system; try again")]
    Random,
    /// The code cannot be one.
    #[error("the authorization code is empty or too long; start the login again")]
    Code,
    /// The parameter `iss` of RFC 9207.
    #[error("the answer is not one of the issuer that was asked; start the login again")]
    IssuerParameter,
    /// The token endpoint cannot be reached, or fails.
    #[error("cannot exchange the authorization code: {problem}; start the login again")]
    Exchange {
        /// What the call met.
        problem: String,
    },
    /// The token endpoint does not know the code, or not any more.
    #[error("the issuer does not accept the authorization code (any more); start the login again")]
    CodeRefused,
    /// The token endpoint refuses us.
    #[error(
        "the issuer refuses to exchange the authorization code ({status}, {error}); the operator should check the client ID, the client secret and the callback URL"
    )]
    ClientRefused {
        /// The status.
        status: StatusCode,
        /// The OAuth error code, if it gave one.
        error: String,
    },
    /// The token endpoint gives an answer that is none.
    #[error(
        "the issuer's answer to the authorization code cannot be used: {problem}; the operator should look at the issuer's token endpoint"
    )]
    TokenAnswer {
        /// What is wrong with it.
        problem: String,
    },
    /// The keys for the signature cannot be had.
    #[error("the keys of the issuer cannot be read: {problem}; start the login again later")]
    Keys {
        /// What the call met.
        problem: String,
        /// When they are asked for again at the earliest.
        retry_after: Duration,
    },
    /// The `id_token` proves nothing.
    #[error("the id_token of the issuer is refused: {0}; start the login again")]
    IdToken(#[from] Refusal),
}

impl Error {
    /// What the caller answers.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Code | Self::IssuerParameter => Class::BadRequest,
            Self::CodeRefused | Self::IdToken(_) => Class::Unauthorized,
            Self::ClientRefused { .. } | Self::TokenAnswer { .. } => Class::BadGateway,
            Self::NotReady(_) | Self::Exchange { .. } | Self::Random => {
                Class::Unavailable { retry_after: RETRY_AFTER }
            }
            Self::Keys { retry_after, .. } => Class::Unavailable { retry_after: *retry_after },
        }
    }
}

/// What a client is told to wait where nothing says more.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why an `id_token` was refused (`OpenID` Connect Core 3.1.3.7, RFC 8725).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Larger than any that is believed.
    #[error("it is too large")]
    TooLarge,
    /// Not the three parts of a signed token; five are an encrypted one.
    #[error("it is not a signed token of three parts")]
    Parts,
    /// A part is not base64url, or not a JSON object of the right shape.
    #[error("it cannot be decoded")]
    Malformed,
    /// The header has `crit`: extensions that must be understood, and none is.
    #[error("its header asks for extensions that are not known")]
    Critical,
    /// The header's `typ` names another kind of token.
    #[error("it is a token of another kind")]
    Type,
    /// Not an algorithm of ours that the issuer also declares.
    #[error("it is signed with an algorithm that is not allowed")]
    Algorithm,
    /// `kid` is empty, or missing where the issuer has more than one key.
    #[error("it does not name the key of its signature")]
    KeyId,
    /// The issuer publishes no such key.
    #[error("it is signed with a key that the issuer does not publish")]
    UnknownKey,
    /// The key is there and says no, or is not one for the algorithm.
    #[error("its signature is wrong")]
    Signature,
    /// `iss`.
    #[error("it is from another issuer")]
    Issuer,
    /// `aud`.
    #[error("it is for another client, or for more than this one")]
    Audience,
    /// `azp`.
    #[error("it was given to another client")]
    AuthorizedParty,
    /// `exp` is missing, not a number or not a time.
    #[error("it does not say when it expires")]
    Expiry,
    /// `exp` is past.
    #[error("it has expired")]
    Expired,
    /// `iat` is missing, not a number or in the future.
    #[error("it does not say when it was made, or a time in the future; compare the clocks")]
    IssuedAt,
    /// `nbf` is not a number or in the future.
    #[error("it is not valid yet; compare the clocks")]
    NotBefore,
    /// `nonce`.
    #[error("it belongs to another login")]
    Nonce,
    /// `sub`.
    #[error("its subject is missing, or not one that a user may have")]
    Subject,
    /// The claim with the user's name.
    #[error("the claim with the user's name is missing, or not a name that a user may have")]
    Username,
    /// The claim with the groups.
    #[error("the claim with the groups is not a list of names, or has too many")]
    Groups,
}
