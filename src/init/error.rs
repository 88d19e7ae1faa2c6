//! Errors of `init`: what was done, where, to which object, why it failed and what to do next.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::KubeconfigError;
use thiserror::Error;

use crate::runtime::error::first_line;

/// Why `init` stopped. Everything done so far stays; the next run continues there.
#[derive(Debug, Error)]
pub enum Error {
    /// No usable admin kubeconfig.
    #[error("cannot load the admin kubeconfig: {}; check --kubeconfig and --context", first_line(.0))]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The admin kubeconfig has no CA to hand on.
    #[error(
        "the admin kubeconfig names no certificate authority, so the backend could not verify the server; add \
         certificate-authority-data to its cluster entry"
    )]
    NoCertificateAuthority,
    /// The URL of a workspace cannot be made.
    #[error(
        "the server {0:?} of the admin kubeconfig is not a URL; check --kubeconfig and --context"
    )]
    Server(String),
    /// The generated objects are unusable.
    #[error("cannot generate the objects of the export workspace: {0}")]
    Manifests(#[source] crate::manifests::Error),
    /// A generated object has no known kind or no name.
    #[error("a generated object has no known kind or no name: {0}")]
    Generated(String),
    /// A request failed.
    #[error("cannot {action} {object} in workspace {workspace}: {failure}")]
    Call {
        /// What was tried, such as `create`.
        action: &'static str,
        /// Kind and name.
        object: String,
        /// Path of the workspace, or the URL of the virtual workspace.
        workspace: String,
        /// Why, and what to do.
        #[source]
        failure: Failure,
    },
    /// Something did not become true in time.
    #[error("{what} in workspace {workspace} is not {state} after {} s; {next}", waited.as_secs())]
    Timeout {
        /// Kind and name.
        what: String,
        /// Path of the workspace.
        workspace: String,
        /// What was waited for.
        state: &'static str,
        /// For how long.
        waited: Duration,
        /// What to do.
        next: &'static str,
    },
    /// An immutable object has another content.
    #[error(
        "{object} in workspace {workspace} exists with another content and cannot be changed; delete it if nothing \
         uses it, or choose another --workspace"
    )]
    Immutable {
        /// Kind and name.
        object: String,
        /// Path of the workspace.
        workspace: String,
    },
    /// The output file is something else.
    #[error(
        "{0:?} exists and was not written by init; choose another file with --output, or remove it"
    )]
    ForeignFile(PathBuf),
    /// The output file cannot be read or written.
    #[error("cannot {action} {path:?}: {source}; choose a writable place with --output")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// Why a request failed, and what to do about it.
#[derive(Debug, Error)]
pub enum Failure {
    /// No answer in time.
    #[error("no answer in {} s; check that the server of the kubeconfig is up and reachable", .0.as_secs())]
    NoAnswer(Duration),
    /// The client could not be made.
    #[error(
        "the credentials or certificates of the kubeconfig cannot be used ({0}); check --kubeconfig and --context"
    )]
    Client(#[source] Box<kube::Error>),
    /// No connection.
    #[error("the server cannot be reached ({}); check that it is up, and --kubeconfig and --context", root_cause(.0))]
    Connection(#[source] Box<kube::Error>),
    /// An answer, but not one of an API server.
    #[error(
        "the answer cannot be read ({0}); check that --kubeconfig and --context name a kcp server"
    )]
    Unreadable(#[source] serde_json::Error),
    /// 401.
    #[error("the server does not accept the credentials; check --kubeconfig and --context")]
    Unauthenticated,
    /// 403.
    #[error("not allowed: {0}; use the kubeconfig of an admin of that workspace")]
    Forbidden(String),
    /// 403 of the front proxy, which knows of no workspace by this path.
    #[error(
        "the front proxy of kcp knows of no workspace by this path, or not yet; check that its shard is up, then run \
         init again"
    )]
    NoRoute,
    /// 404 for the whole resource.
    #[error(
        "the server does not know this resource; check that --kubeconfig and --context name a kcp server"
    )]
    NotServed,
    /// Anything else that the server said.
    #[error("the server answered {code}: {message}")]
    Answer {
        /// HTTP status.
        code: u16,
        /// Its message.
        message: String,
    },
    /// Several writers at once.
    #[error("it was changed by others again and again; run init again")]
    Conflict,
}

impl Failure {
    /// Sorts an error of the client library by what the reader can do about it.
    pub(super) fn from_kube(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthenticated,
                403 if status.message.contains(NO_ROUTE) => Self::NoRoute,
                403 => Self::Forbidden(one_line(&status.message)),
                404 => Self::NotServed,
                409 => Self::Conflict,
                code => Self::Answer { code, message: one_line(&status.message) },
            },
            kube::Error::SerdeError(error) => Self::Unreadable(error),
            other @ kube::Error::Auth(_) => Self::Client(Box::new(other)),
            other => Self::Connection(Box::new(other)),
        }
    }

    /// Whether the same may work a moment later in a workspace that was just made.
    pub(super) fn may_settle(&self) -> bool {
        match self {
            Self::Unauthenticated | Self::Forbidden(_) | Self::NoRoute | Self::NotServed => true,
            Self::Answer { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

/// How the front proxy refuses a path that it does not know (kcp 0.31): it has asked nobody who the user is. It learns of
/// a workspace from a watch on each shard, which it begins again up to a minute after an outage of that shard.
const NO_ROUTE: &str = "User \"\" cannot";

/// What a proxy answers may be a page of HTML.
fn one_line(message: &str) -> String {
    const MAX: usize = 300;
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The innermost message: "connection refused" rather than the layers around it.
fn root_cause(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_that_the_front_proxy_does_not_know_is_told_from_one_of_somebody_else() {
        let refused = |user: &str| {
            let message = format!("forbidden: User {user:?} cannot get path \"/clusters/root:a\"");
            let status = kube::core::Status::failure(&message, "Forbidden").with_code(403);
            Failure::from_kube(kube::Error::Api(Box::new(status)))
        };
        assert!(matches!(refused(""), Failure::NoRoute), "{}", refused(""));
        assert!(matches!(refused("bob"), Failure::Forbidden(_)), "{}", refused("bob"));
    }

    #[test]
    fn an_answer_is_told_in_one_line() {
        assert_eq!(one_line("<html>\n  <p>x</p>\n"), "<html> <p>x</p>");
        assert_eq!(one_line(&"é".repeat(301)), format!("{}…", "é".repeat(300)));
    }
}
