//! The kubeconfig that a consumer gets (contract objects.md 1.2).
//!
//! Bytes matter: the konnector copies the Secret into the consumer cluster, and a change of bytes
//! alone makes it start a second controller (contract konnector.md 8.3). So [`Kubeconfig::to_yaml`]
//! has one output per content, and an existing Secret is compared by what it says
//! ([`Kubeconfig::same_access`]), whoever wrote it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use thiserror::Error;

/// Largest kubeconfig that is read, in bytes. Ours have about 4 KiB, most of it CA.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why a kubeconfig was refused. Never carries text of the kubeconfig: it may be a credential.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Too large to be one of ours.
    #[error("the kubeconfig has {0} bytes, allowed are {MAX_BYTES}")]
    TooLarge(usize),
    /// Not YAML, or not of the shape of a kubeconfig.
    #[error("the kubeconfig cannot be read (line {line}, column {column})")]
    Malformed {
        /// Line, from 1; 0 if unknown.
        line: u64,
        /// Column, from 1; 0 if unknown.
        column: u64,
    },
    /// Readable, but not of the one shape that a consumer's kubeconfig has.
    #[error("the kubeconfig is not one of a consumer: {0}")]
    Shape(&'static str),
}

/// Access of one consumer: the five values that its kubeconfig holds.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// URL of the API server.
    pub server: String,
    /// CA of the API server, PEM. None means the CAs of the consumer's system.
    pub ca_data: Option<Vec<u8>>,
    /// Name to expect in the certificate of the API server, if not the host.
    pub tls_server_name: Option<String>,
    /// The contract namespace.
    pub namespace: String,
    /// Token of the `ServiceAccount` `kube-binder` in that namespace.
    pub token: SecretString,
}

impl Kubeconfig {
    /// The YAML in key order and layout of the Go backend, byte for byte.
    #[must_use]
    pub fn to_yaml(&self) -> SecretString {
        let mut yaml = String::from("apiVersion: v1\nclusters:\n- cluster:\n");
        let mut line = |indent: &str, key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(yaml, "{indent}{key}: {}", scalar(value));
        };
        if let Some(ca) = &self.ca_data {
            line("    ", "certificate-authority-data", &STANDARD.encode(ca));
        }
        line("    ", "server", &self.server);
        if let Some(name) = &self.tls_server_name {
            line("    ", "tls-server-name", name);
        }
        yaml.push_str("  name: default\ncontexts:\n- context:\n    cluster: default\n");
        let _ = writeln!(yaml, "    namespace: {}", scalar(&self.namespace));
        yaml.push_str(
            "    user: default\n  name: default\ncurrent-context: default\nkind: Config\n",
        );
        yaml.push_str("users:\n- name: default\n  user:\n");
        let _ = writeln!(yaml, "    token: {}", scalar(self.token.expose_secret()));
        SecretString::from(yaml)
    }

    /// Reads a kubeconfig of that shape, in any order of keys and whatever wrote it.
    ///
    /// Everything that would make its reader run a program, read a file or use another credential
    /// is refused: this is compared with what we would write, and only these five values are.
    pub fn parse(yaml: &[u8]) -> Result<Self, Error> {
        if yaml.len() > MAX_BYTES {
            return Err(Error::TooLarge(yaml.len()));
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: 200,
                max_depth: 16,
                max_aliases: 0,
                max_anchors: 0,
                max_documents: 1,
            },
            with_snippet: false,
        };
        let file: File = serde_saphyr::from_slice_with_options(yaml, options).map_err(|error| {
            let location = error.location();
            Error::Malformed {
                line: location.map_or(0, |location| location.line()),
                column: location.map_or(0, |location| location.column()),
            }
        })?;
        file.into_kubeconfig()
    }

    /// Whether both give the same access: all five values mean the same.
    #[must_use]
    pub fn same_access(&self, other: &Self) -> bool {
        self.server == other.server
            && same_certificates(self.ca_data.as_deref(), other.ca_data.as_deref())
            && self.tls_server_name == other.tls_server_name
            && self.namespace == other.namespace
            && self.token.expose_secret() == other.token.expose_secret()
    }
}

/// Whether both trust the same CAs. PEM has no canonical form: others keep comments and line ends of their source.
fn same_certificates(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    let certificates = |pem: &[u8]| -> Option<Vec<CertificateDer<'static>>> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let mut all = all.ok().filter(|all| !all.is_empty())?;
        all.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Some(all)
    };
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            certificates(one).is_some_and(|one| certificates(other) == Some(one))
        }
        _ => one == other,
    }
}

/// A plain scalar where YAML reads it back as the same string, else a quoted one.
fn scalar(text: &str) -> String {
    let plain_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:=+[]@%".contains(&byte);
    // A letter that cannot begin a number; the words that YAML 1.1 takes for something else are
    // compared whole.
    let starts_plain = text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
    );
    if starts_plain && !word && text.bytes().all(plain_byte) && !text.ends_with(':') {
        text.to_owned()
    } else {
        // A JSON string is a double-quoted YAML scalar.
        serde_json::Value::from(text).to_string()
    }
}

/// Fields of no interest that a kubeconfig may have. Only their names are looked at.
type Others = serde_json::Map<String, serde_json::Value>;

#[derive(Deserialize)]
struct File {
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default, rename = "current-context")]
    current_context: String,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    server: String,
    #[serde(default, rename = "certificate-authority-data")]
    ca_data: Option<String>,
    #[serde(default, rename = "tls-server-name")]
    tls_server_name: Option<String>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: String,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    token: String,
    #[serde(flatten)]
    others: Others,
}

fn require(condition: bool, otherwise: &'static str) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(Error::Shape(otherwise)) }
}

/// The only entry of a list.
fn only<T, const N: usize>(list: Vec<T>, otherwise: &'static str) -> Result<[T; N], Error> {
    list.try_into().map_err(|_| Error::Shape(otherwise))
}

impl File {
    fn into_kubeconfig(self) -> Result<Kubeconfig, Error> {
        // clientcmd writes an empty `preferences` into every file.
        let unknown = self.others.keys().any(|key| key != "preferences");
        require(!unknown, "it has a field at the top that is not allowed")?;
        let versioned = self.api_version.as_deref().is_none_or(|v| v == "v1")
            && self.kind.as_deref().is_none_or(|kind| kind == "Config");
        require(versioned, "it is not of kind Config, version v1")?;
        let [cluster] = only(self.clusters, "it must have exactly one cluster")?;
        let [context] = only(self.contexts, "it must have exactly one context")?;
        let [user] = only(self.users, "it must have exactly one user")?;
        require(
            context.name == self.current_context
                && context.context.cluster == cluster.name
                && context.context.user == user.name,
            "its current context does not name its cluster and user",
        )?;
        let (cluster, context, user) = (cluster.cluster, context.context, user.user);
        require(
            cluster.others.is_empty(),
            "its cluster may have server, certificate-authority-data and tls-server-name only",
        )?;
        require(
            context.others.is_empty(),
            "its context may have cluster, namespace and user only",
        )?;
        require(user.others.is_empty(), "its user may have a token only")?;
        require(!cluster.server.is_empty(), "its cluster has no server")?;
        require(!context.namespace.is_empty(), "its context has no namespace")?;
        require(!user.token.is_empty(), "its user has no token")?;
        let ca_data = cluster
            .ca_data
            .filter(|data| !data.is_empty())
            .map(|data| STANDARD.decode(data.as_bytes()))
            .transpose()
            .map_err(|_| Error::Shape("its certificate-authority-data is not base64"))?;
        Ok(Kubeconfig {
            server: cluster.server,
            ca_data,
            tls_server_name: cluster.tls_server_name.filter(|name| !name.is_empty()),
            namespace: context.namespace,
            token: SecretString::from(user.token),
        })
    }
}

#[cfg(test)]
mod tests;
