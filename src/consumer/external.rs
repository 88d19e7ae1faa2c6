//! The server that a consumer's kubeconfig names (contract flags.md 2, kcp.md 3).
//!
//! `kubectl bind` finds its Secret again by exact equality of this text (contract objects.md 1.2),
//! so it is put together from text as given; a URL library would drop a default port or add a
//! slash.

use std::fmt;

use http::Uri;
use thiserror::Error;

/// Why there is no server for a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not the https URL of an API server.
    #[error("{given:?} is refused: {problem}; expected https://<host>[:<port>]")]
    Address {
        /// The refused text.
        given: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An API server URL without a host.
    #[error(
        "the API server URL {0:?} has no host; check the server of the kubeconfig or the URL in the endpoint slice"
    )]
    NoHost(String),
}

/// Value of `--external-address`, kept as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAddress {
    text: String,
    uri: Uri,
}

impl ExternalAddress {
    /// Accepts an https URL without credentials, query and fragment.
    pub fn parse(given: &str) -> Result<Self, Error> {
        let refused = |problem| Error::Address { given: given.to_owned(), problem };
        if !given.starts_with("https://") {
            return Err(refused("it does not start with https://"));
        }
        if given.contains(['?', '#']) {
            return Err(refused("it has a query or a fragment"));
        }
        let uri: Uri = given.parse().map_err(|_| refused("it is not a URL"))?;
        match uri.authority() {
            Some(authority) if !authority.as_str().contains('@') => {}
            _ => return Err(refused("it carries credentials or has no host")),
        }
        let text = given.to_owned();
        Ok(Self { text, uri })
    }

    /// The address as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ExternalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The server to put into kubeconfigs of consumers.
///
/// `api` is the URL that the workspace publishes of itself, or under which the backend reaches the API server or the
/// virtual workspace.
/// With `cluster` (kcp) the result is `/clusters/<cluster>` on the host of `external`, else of
/// `api`; without, it is `external` verbatim, else `api` without a trailing slash.
pub fn consumer_server(
    api: &Uri,
    cluster: Option<&str>,
    external: Option<&ExternalAddress>,
) -> Result<String, Error> {
    match (cluster, external) {
        (None, Some(external)) => Ok(external.text.clone()),
        (None, None) => {
            let path = api.path().trim_end_matches('/');
            Ok(format!("{}{path}", origin(api)?))
        }
        (Some(cluster), external) => {
            let host = origin(external.map_or(api, |external| &external.uri))?;
            Ok(format!("{host}/clusters/{cluster}"))
        }
    }
}

fn origin(uri: &Uri) -> Result<String, Error> {
    let authority = uri.authority().ok_or_else(|| Error::NoHost(uri.to_string()))?;
    let scheme = uri.scheme_str().unwrap_or("https");
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_consumer_equals_that_of_the_go_backend() {
        let vw = "https://127.0.0.1:6443/services/apiexport/1x2y/kube-bind.io";
        for (api, cluster, external, expected) in [
            // The golden run.
            (
                vw,
                Some("28rwq3skw0u9rkqq"),
                None,
                "https://127.0.0.1:6443/clusters/28rwq3skw0u9rkqq",
            ),
            (
                vw,
                Some("28rwq3skw0u9rkqq"),
                Some("https://kcp.example.com:443"),
                "https://kcp.example.com:443/clusters/28rwq3skw0u9rkqq",
            ),
            (
                vw,
                Some("a1"),
                Some("https://kcp.example.com/some/path/"),
                "https://kcp.example.com/clusters/a1",
            ),
            ("https://[::1]:6443/", None, None, "https://[::1]:6443"),
            (
                "https://rancher.example.com/k8s/clusters/c-1/",
                None,
                None,
                "https://rancher.example.com/k8s/clusters/c-1",
            ),
            (
                "https://10.0.0.1",
                None,
                Some("https://API.example.com:443/"),
                "https://API.example.com:443/",
            ),
        ] {
            let external = external.map(|text| ExternalAddress::parse(text).unwrap());
            assert_eq!(
                consumer_server(&api.parse().unwrap(), cluster, external.as_ref()).as_deref(),
                Ok(expected),
            );
        }
    }

    #[test]
    fn an_api_server_without_a_host_is_refused() {
        assert_eq!(
            consumer_server(&"/clusters/a".parse().unwrap(), Some("a"), None),
            Err(Error::NoHost("/clusters/a".to_owned()))
        );
    }

    #[test]
    fn an_external_address_must_be_a_plain_https_url() {
        for wrong in [
            "http://api.example.com",
            "api.example.com",
            "HTTPS://api.example.com",
            "https://",
            "https://user:pw@api.example.com",
            "https://api.example.com?x=1",
            "https://api.example.com#x",
            "https://api example.com",
        ] {
            assert!(matches!(ExternalAddress::parse(wrong), Err(Error::Address { .. })), "{wrong}");
        }
    }
}
