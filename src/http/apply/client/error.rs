//! What can go wrong with calls to a consumer's API server.

use std::io;
use std::time::Duration;

use http::StatusCode;
use rustls::CertificateError;
use serde::Deserialize;
use thiserror::Error;

use crate::http::apply::server::ServerError;

/// Longest word of an answer that is passed on.
pub(super) const MAX_REASON: usize = 64;

/// Why a kubeconfig cannot be used for calls.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A CA that is no certificate.
    #[error(
        "the certificate-authority-data of the kubeconfig has a certificate that cannot be used; \
         upload a fresh kubeconfig"
    )]
    Authority,
    /// A key that does not belong to its certificate.
    #[error(
        "the client certificate of the kubeconfig and its key cannot be used together; upload a \
         fresh kubeconfig"
    )]
    Identity,
    /// A host without possible certificate.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No CAs in our system.
    #[error(
        "the kubeconfig has no certificate-authority-data, and the backend has no CAs of its own; \
         add it to the kubeconfig"
    )]
    NoSystemRoots,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("to {action} {object} in the consumer's cluster failed: {cause}")]
pub struct CallError {
    /// The verb.
    pub action: &'static str,
    /// Kind and name.
    pub object: String,
    /// Why.
    pub cause: Cause,
}

/// Why a call failed. Made of our own words, and of at most one checked word of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Cause {
    /// No complete answer in time.
    #[error(
        "its API server gave no complete answer within {} s; check that it is reachable from the \
         backend and try again", .0.as_secs_f32()
    )]
    Timeout(Duration),
    /// All calls together took too long.
    #[error(
        "all calls to its API server together took {} s; what is done stays done, so try again", .0.as_secs_f32()
    )]
    Deadline(Duration),
    /// No connection.
    #[error("its API server cannot be reached ({0}); check the server of the kubeconfig")]
    Unreachable(io::ErrorKind),
    /// No TLS session.
    #[error("{0}")]
    Tls(&'static str),
    /// The connection broke.
    #[error("the connection to its API server broke, or what came was not HTTP/1.1; try again")]
    Interrupted,
    /// An answer that points elsewhere.
    #[error("its API server redirects, which is not followed; name the final server")]
    Redirect,
    /// An answer that is too large.
    #[error(
        "the answer of its API server has more than {0} bytes; check that it is a Kubernetes API server"
    )]
    TooLarge(usize),
    /// An answer that is not the object.
    #[error(
        "its API server answered with something else; check that it is a Kubernetes API server"
    )]
    Malformed,
    /// There is such an object.
    #[error("it exists already; try again")]
    Exists,
    /// The object was changed meanwhile.
    #[error("somebody else changed it meanwhile; try again")]
    Conflict,
    /// There is no such object or kind.
    #[error("it was not found; try again when its kind is served")]
    NotFound,
    /// Any other status.
    #[error("its API server answered {status}{reason}; {next}", next = next_step(*.status))]
    Status {
        /// The status code.
        status: u16,
        /// The reason of a Kubernetes status, checked, in parentheses; else empty.
        reason: String,
    },
}

fn next_step(status: u16) -> &'static str {
    match status {
        401 => "upload a kubeconfig with a valid credential",
        403 => "upload a kubeconfig of a user that may administer the cluster",
        429 | 500.. => "try again later",
        _ => "check that it is a Kubernetes API server",
    }
}

impl CallError {
    /// The status of the answer to the user.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.cause {
            Cause::Timeout(_) | Cause::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Cause::Exists | Cause::Conflict => StatusCode::CONFLICT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl SetupError {
    /// The status of the answer to the user.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

/// What an API server says of a failure; everything else of it is not read.
#[derive(Deserialize)]
struct KubernetesStatus {
    #[serde(default)]
    reason: Option<String>,
}

pub(super) fn refused(status: StatusCode, body: &[u8]) -> Cause {
    let reason = serde_json::from_slice::<KubernetesStatus>(body).ok().and_then(|body| body.reason);
    let is_word = |word: &String| {
        !word.is_empty()
            && word.len() <= MAX_REASON
            && word.bytes().all(|b| b.is_ascii_alphabetic())
    };
    let reason = reason.filter(is_word);
    match (status, reason.as_deref()) {
        (StatusCode::NOT_FOUND, _) => Cause::NotFound,
        (StatusCode::CONFLICT, Some("AlreadyExists")) => Cause::Exists,
        (StatusCode::CONFLICT, _) => Cause::Conflict,
        _ => Cause::Status {
            status: status.as_u16(),
            reason: reason.map(|reason| format!(" ({reason})")).unwrap_or_default(),
        },
    }
}

pub(super) fn tls_failure(err: &io::Error) -> Cause {
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return Cause::Interrupted };
    Cause::Tls(match inner {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => {
                "the certificate of its API server is not from the CA of the kubeconfig; check \
                 certificate-authority-data"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of its API server is for other names; name the server by one of them"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate of its API server has expired; renew it"
            }
            _ => "the certificate of its API server is not valid; check it",
        },
        _ => "no TLS session with its API server; check that the server speaks TLS 1.2 or 1.3",
    })
}
