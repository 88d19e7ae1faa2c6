//! Values of single flags: what is allowed, and how a wrong one is refused.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use http::Uri;
use thiserror::Error;

use crate::api::duration::{GoDuration, ParseError};
use crate::api::v1alpha2::{Isolation, Scope};
use crate::consumer::names;

/// Why a value was refused. The flag is named by [`super::ConfigError`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Not one of a fixed set.
    #[error("unknown value {given:?}; allowed are {allowed}")]
    Unknown {
        /// The refused value.
        given: String,
        /// The allowed values, for people.
        allowed: &'static str,
    },
    /// Empty where something is needed.
    #[error("must not be empty; leave the flag out to get its default")]
    Empty,
    /// Not a Go duration.
    #[error("{0}")]
    Duration(#[from] ParseError),
    /// A duration below the minimum.
    #[error("{given} is too short; the shortest allowed is {minimum}")]
    TooShort {
        /// The refused value.
        given: String,
        /// The shortest allowed duration.
        minimum: &'static str,
    },
    /// Not an https URL of the needed shape.
    #[error("{given:?} is refused: {problem}; expected {expected}")]
    Url {
        /// The refused value.
        given: String,
        /// What is wrong with it.
        problem: &'static str,
        /// The shape of a right one.
        expected: &'static str,
    },
    /// Not an address to listen on.
    #[error(
        "{0:?} is not an address to listen on; write host:port, such as 127.0.0.1:8080 or :8080"
    )]
    Address(String),
    /// Not a kcp workspace path below root.
    #[error(
        "{0:?} is not a workspace path; write root and at least one name below it, such as root:kube-bind"
    )]
    Workspace(String),
    /// Not a name of a Kubernetes object.
    #[error(
        "{0:?} is not an object name; use lower case letters, digits, '-' and '.', at most 253 characters"
    )]
    Name(String),
}

/// Enum of flag values with `as_str` and `Display` in the spelling of the wire contract.
macro_rules! value_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The spelling of the wire contract.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

value_enum! {
    /// Where the clusters come from: `--multicluster-runtime-provider`.
    ProviderKind {
        /// One Kubernetes cluster.
        Kubernetes = "kubernetes",
        /// All workspaces that bound the APIExport.
        Kcp = "kcp",
    }
}

value_enum! {
    /// Kind that exported schemas are read from: `--schema-source`.
    SchemaSource {
        /// CRDs.
        CustomResourceDefinitions = "CustomResourceDefinition.v1.apiextensions.k8s.io",
        /// `APIResourceSchema` objects of kcp.
        ApiResourceSchemas = "APIResourceSchema.v1alpha1.apis.kcp.io",
    }
}

fn unknown(given: &str, allowed: &'static str) -> ValueError {
    ValueError::Unknown { given: given.to_owned(), allowed }
}

/// Exact spelling only; empty means `kubernetes`, as in v0.8.1.
pub(super) fn provider(given: &str) -> Result<ProviderKind, ValueError> {
    match given {
        "" | "kubernetes" => Ok(ProviderKind::Kubernetes),
        "kcp" => Ok(ProviderKind::Kcp),
        _ => Err(unknown(given, "kubernetes and kcp")),
    }
}

/// Any case.
pub(super) fn consumer_scope(given: &str) -> Result<Scope, ValueError> {
    match given.to_ascii_lowercase().as_str() {
        "namespaced" => Ok(Scope::Namespaced),
        "cluster" => Ok(Scope::Cluster),
        _ => Err(unknown(given, "Namespaced and Cluster")),
    }
}

/// Any case. Empty means `Prefixed`: v0.8.1 made it `None`, which lets two consumers delete each
/// other's objects (contract konnector.md 8.4), as it did with every unknown value; those are
/// refused here.
pub(super) fn isolation(given: &str) -> Result<Isolation, ValueError> {
    match given.to_ascii_lowercase().as_str() {
        "" | "prefixed" => Ok(Isolation::Prefixed),
        "namespaced" => Ok(Isolation::Namespaced),
        "none" => Ok(Isolation::None),
        _ => Err(unknown(given, "Prefixed, Namespaced and None")),
    }
}

/// Full names and their aliases, case sensitive.
pub(super) fn schema_source(given: &str) -> Result<SchemaSource, ValueError> {
    for (alias, source) in [
        ("customresourcedefinitions", SchemaSource::CustomResourceDefinitions),
        ("apiresourceschemas", SchemaSource::ApiResourceSchemas),
    ] {
        if given == alias || given == source.as_str() {
            return Ok(source);
        }
    }
    Err(unknown(
        given,
        "customresourcedefinitions (CustomResourceDefinition.v1.apiextensions.k8s.io) and apiresourceschemas \
         (APIResourceSchema.v1alpha1.apis.kcp.io)",
    ))
}

/// A boolean as pflag reads it.
pub(super) fn go_bool(given: &str) -> Result<bool, String> {
    match given {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("allowed are true and false".to_owned()),
    }
}

/// At least ten seconds (contract flags.md 3, rule 7).
pub(super) fn schema_sync_interval(given: &str) -> Result<Duration, ValueError> {
    let interval = GoDuration::parse_non_negative(given)?.to_std();
    if interval < Duration::from_secs(10) {
        return Err(ValueError::TooShort { given: given.to_owned(), minimum: "10s" });
    }
    Ok(interval)
}

/// `--server-url`, without a trailing slash.
pub(super) fn server_url(given: &str, provider: ProviderKind) -> Result<Uri, ValueError> {
    let expected = match provider {
        ProviderKind::Kubernetes => "https://<host>[:<port>]",
        ProviderKind::Kcp => {
            "the URL of an endpoint of the APIExportEndpointSlice, \
             https://<host>/services/apiexport/<cluster>/<export>"
        }
    };
    let refused = |problem| ValueError::Url { given: given.to_owned(), problem, expected };
    let uri: Uri = given.trim_end_matches('/').parse().map_err(|_| refused("it is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(refused("it does not start with https://"));
    }
    if uri.query().is_some() || given.contains('#') {
        return Err(refused("it has a query or a fragment"));
    }
    if uri.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err(refused("it carries credentials"));
    }
    if provider == ProviderKind::Kcp {
        let segments: Vec<&str> = uri.path().split('/').collect();
        if !matches!(segments[..], ["", "services", "apiexport", cluster, export]
            if !cluster.is_empty() && !export.is_empty())
        {
            return Err(refused("it is not the URL of an APIExport virtual workspace"));
        }
    }
    Ok(uri)
}

/// `host:port` as Go's `net.Listen("tcp4", …)` takes it; an empty host means all interfaces. IPv6
/// literals work too.
pub(super) fn listen_address(given: &str) -> Result<SocketAddr, ValueError> {
    let refused = || ValueError::Address(given.to_owned());
    if let Some(port) = given.strip_prefix(':') {
        let port = port.parse().map_err(|_| refused())?;
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Ok(address) = given.parse() {
        return Ok(address);
    }
    let mut found: Vec<SocketAddr> = given.to_socket_addrs().map_err(|_| refused())?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.into_iter().next().ok_or_else(refused)
}

/// Splits list flags as pflag's `StringSlice`: repeatable, comma separated, double quotes keep a
/// comma (a group may be an LDAP name such as `"cn=dev,ou=groups"`).
pub(super) fn list(given: &[String]) -> Vec<String> {
    let mut items = Vec::new();
    for value in given.iter().filter(|value| !value.is_empty()) {
        let mut item = String::new();
        let mut quoted = false;
        let mut characters = value.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if quoted && characters.next_if_eq(&'"').is_some() => item.push('"'),
                '"' => quoted = !quoted,
                ',' if !quoted => items.push(std::mem::take(&mut item)),
                _ => item.push(character),
            }
        }
        items.push(item);
    }
    items
}

/// A list of prefixes. An empty one, as a trailing comma yields it, would be the prefix of everything.
pub(super) fn prefixes(given: &[String]) -> Vec<String> {
    let mut all = list(given);
    all.retain(|prefix| !prefix.is_empty());
    all
}

/// A kcp workspace path below `root`, such as `root:kube-bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// Parses `root:<name>[:<name>…]`.
    pub fn parse(given: &str) -> Result<Self, ValueError> {
        let mut segments = given.split(':');
        let valid = segments.next() == Some("root")
            && given.contains(':')
            && segments.all(crate::consumer::names::is_dns_label);
        if valid {
            Ok(Self(given.to_owned()))
        } else {
            Err(ValueError::Workspace(given.to_owned()))
        }
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each workspace to have, outermost first: the path of its parent and its own name.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.match_indices(':').map(|(colon, _)| colon).map(|colon| {
            let (parent, rest) = (&self.0[..colon], &self.0[colon + 1..]);
            (parent, rest.split(':').next().unwrap_or(rest))
        })
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DNS-1123 subdomain, the form of most object names.
pub(super) fn object_name(given: &str) -> Result<String, ValueError> {
    if names::is_dns_subdomain(given) {
        Ok(given.to_owned())
    } else {
        Err(ValueError::Name(given.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_as_pflag_does() {
        let given = ["a,b", "", "c", r#""cn=dev,ou=x",d"#, r#""say ""hi""""#].map(str::to_owned);
        let expected = ["a", "b", "c", "cn=dev,ou=x", "d", r#"say "hi""#].map(str::to_owned);
        assert_eq!(list(&given), expected);
    }

    #[test]
    fn an_empty_prefix_is_none() {
        let given = ["a,", ",", "", r#""""#, "b"].map(str::to_owned);
        assert_eq!(prefixes(&given), ["a", "b"]);
    }

    #[test]
    fn a_workspace_path_lists_its_parents_outermost_first() {
        let path = WorkspacePath::parse("root:org:team").unwrap();
        let steps: Vec<_> = path.steps().collect();
        assert_eq!(steps, [("root", "org"), ("root:org", "team")]);
        for wrong in ["", "root", "root:", "org:team", "root:Org", "root::a", ":root:a"] {
            assert!(WorkspacePath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
