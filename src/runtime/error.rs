//! What failed, on which object, and what kind of waiting helps.

use std::time::Duration;

use super::cluster::ObjKey;

/// What to do after a failure. Part of every error type that a controller returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Our copy was old, or the answer to a question of ours is on its way: try again at once.
    Conflict,
    /// The server or the network is in trouble: back off from a fraction of a second.
    Transient,
    /// Someone has to grant or change something first: back off from seconds. A change of the
    /// object or of what its workspace accepts wakes it earlier.
    Denied,
    /// Waiting does not help; only a change of the object does.
    Terminal,
}

impl Retry {
    /// The first and the longest pause between two tries; none where no retry happens.
    #[must_use]
    pub fn pauses(self) -> Option<(Duration, Duration)> {
        match self {
            Self::Conflict => Some((Duration::from_millis(20), Duration::from_mins(1))),
            Self::Transient => Some((Duration::from_millis(200), Duration::from_mins(1))),
            Self::Denied => Some((Duration::from_secs(2), Duration::from_mins(5))),
            Self::Terminal => None,
        }
    }

    /// A short constant for metric labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Denied => "denied",
            Self::Terminal => "terminal",
        }
    }
}

/// The first line of an error. Errors about a kubeconfig quote the file after that, and it holds
/// credentials.
#[must_use]
pub fn first_line(err: &dyn std::error::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A request to an API server that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {kind} {key}: {cause}")]
pub struct CallError {
    /// The verb, as a person would say it.
    pub action: Action,
    /// The kind of the object.
    pub kind: String,
    /// The object.
    pub key: ObjKey,
    /// What went wrong.
    pub cause: Cause,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A live read.
    Get,
    /// The same of all objects of a kind.
    List,
    /// A POST.
    Create,
    /// A PUT with resourceVersion.
    Replace,
    /// A JSON merge patch of the object.
    Patch,
    /// A JSON merge patch of its status.
    PatchStatus,
    /// A DELETE with UID precondition.
    Delete,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::List => "list",
            Self::Create => "create",
            Self::Replace => "update",
            Self::Patch => "patch",
            Self::PatchStatus => "write status of",
            Self::Delete => "delete",
        })
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// An object of that name exists.
    #[error("it exists already")]
    Exists,
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// Its kind is not served there, now or any more, which says nothing about the object.
    #[error("not found: the server does not serve this kind")]
    Unserved,
    /// Our copy was old, or a precondition did not hold.
    #[error("it was changed by someone else meanwhile")]
    Conflict,
    /// The server refuses us.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The server finds the object invalid, or cannot store it for its size.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// Anything else.
    #[error("{}", text_of(.0))]
    Other(Box<kube::Error>),
}

impl From<kube::Error> for Cause {
    fn from(err: kube::Error) -> Self {
        match &err {
            kube::Error::Api(status) => match status.code {
                404 if names_object(status) => Self::NotFound,
                404 => Self::Unserved,
                409 if status.reason == "AlreadyExists" => Self::Exists,
                409 => Self::Conflict,
                401 | 403 => Self::Forbidden(status.message.clone()),
                400 | 413 | 422 => Self::Invalid(status.message.clone()),
                500 if is_too_large(&status.message) => Self::Invalid(status.message.clone()),
                _ => Self::Other(Box::new(err)),
            },
            _ => Self::Other(Box::new(err)),
        }
    }
}

/// What an error says, without the debug form of a status.
fn text_of(err: &kube::Error) -> String {
    match err {
        kube::Error::Api(status) => {
            format!("the server answered {}: {}", status.code, status.message)
        }
        other => other.to_string(),
    }
}

/// Whether an answer 404 is about an object: for a kind that it does not serve, a server gives no name,
/// or a text that is no Status at all.
fn names_object(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// Whether etcd, or its client in the API server, finds an object too large; the server passes the text on
/// as an error of its own.
fn is_too_large(message: &str) -> bool {
    message.contains("request is too large") || message.contains("message larger than max")
}

/// Longest text that is logged or written into a status, in bytes.
const LONGEST: usize = 2048;

/// Cuts a text off where it goes on for too long. Errors quote objects that anybody may fill, and a
/// status with more than 32 KiB in a message is refused.
#[must_use]
pub fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl CallError {
    /// What kind of waiting helps.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match &self.cause {
            Cause::Exists | Cause::Conflict => Retry::Conflict,
            // An object that vanished under us: the event that says so is on its way.
            Cause::Timeout(_) | Cause::NotFound | Cause::Unserved | Cause::Other(_) => {
                Retry::Transient
            }
            // Refusals heal when somebody changes rights, quotas or policies, which no event of
            // the object tells.
            Cause::Forbidden(_) | Cause::Invalid(_) => Retry::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cluster::ClusterId;

    fn refusal(code: u16, message: &str) -> CallError {
        let status = kube::core::Status::failure(message, "").with_code(code);
        let cluster = ClusterId::parse("28rwq3skw0u9rkqq").unwrap();
        CallError {
            action: Action::Create,
            kind: "BoundSchema".to_owned(),
            key: ObjKey::new(&cluster, "ns", "cowboys.wildwest.dev"),
            cause: kube::Error::Api(status.boxed()).into(),
        }
    }

    #[test]
    fn what_is_too_large_waits_for_someone_to_make_it_smaller() {
        for (code, message) in [
            (413, "Request entity too large: limit is 3145728"),
            (500, "etcdserver: request is too large"),
            (500, "rpc error: trying to send message larger than max (2109439 vs. 2097152)"),
        ] {
            let error = refusal(code, message);
            assert_eq!(error.retry(), Retry::Denied);
            assert_eq!(
                error.to_string(),
                format!(
                    "create BoundSchema 28rwq3skw0u9rkqq|ns/cowboys.wildwest.dev: refused as \
                     invalid: {message}"
                )
            );
        }
        assert_eq!(refusal(500, "etcdserver: leader changed").retry(), Retry::Transient);
    }

    #[test]
    fn an_object_that_is_missing_is_told_from_a_kind_that_is_not_served() {
        let cause = |body: serde_json::Value| {
            Cause::from(kube::Error::Api(serde_json::from_value(body).unwrap()))
        };
        let missing = serde_json::json!({
            "status": "Failure", "code": 404, "reason": "NotFound",
            "message": "apiservicenamespaces.kube-bind.io \"west\" not found",
            "details": {"name": "west", "group": "kube-bind.io", "kind": "apiservicenamespaces"},
        });
        assert!(matches!(cause(missing), Cause::NotFound));
        let kcp = serde_json::json!({
            "status": "Failure", "code": 404, "reason": "NotFound", "details": {},
            "message": "the server could not find the requested resource",
        });
        assert!(matches!(cause(kcp), Cause::Unserved));
        let text = serde_json::json!({
            "code": 404, "reason": "Failed to parse error data", "message": "404 page not found",
        });
        assert!(matches!(cause(text), Cause::Unserved));
    }

    #[test]
    fn a_text_of_any_length_becomes_one_that_can_be_written() {
        assert_eq!(shortened("short".to_owned()), "short");
        let cut = shortened("ä".repeat(LONGEST));
        assert_eq!(cut, format!("{}…", "ä".repeat(LONGEST / 2)));
    }
}
