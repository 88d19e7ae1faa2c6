//! The kubeconfig of a consumer's cluster that a user uploads (security row 18, bad inputs 46 to 50).
//!
//! A kubeconfig can make its reader run programs, read files, use proxies and skip checks, and
//! general libraries do all of that. So five fields are read here (server,
//! certificate-authority-data, token, client-certificate-data, client-key-data), of the current
//! context only; any other field there is refused by name. Nothing is opened, run or resolved.

mod fields;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use thiserror::Error;
use zeroize::Zeroizing;

use self::fields::{ClusterSection, Fields, UserSection};
use super::server::{ServerError, ServerUrl};

/// Largest kubeconfig that is read, in bytes. It is also the limit of the request that carries it.
pub const MAX_BYTES: usize = 1024 * 1024;
/// More certificates than any chain or bundle of CAs of one API server has.
const MAX_CERTIFICATES: usize = 64;
/// Longest token, which is sent as a header.
const MAX_TOKEN: usize = 16 * 1024;

/// Why a kubeconfig was refused. Never carries a value of it: it may be a credential.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not the encoding of the contract.
    #[error("the kubeconfig is not base64; send the file in standard base64 with padding")]
    Encoding,
    /// Too large.
    #[error(
        "the kubeconfig has {0} bytes, allowed are {MAX_BYTES}; reduce it with: {EMBED}",
        EMBED = EMBED
    )]
    TooLarge(usize),
    /// Not YAML of this shape, or YAML with aliases, merge keys or more than one document.
    #[error(
        "the kubeconfig cannot be read (line {line}, column {column}); upload one YAML document \
         without aliases and merge keys, such as: {EMBED}",
        EMBED = EMBED
    )]
    Malformed {
        /// Line, from 1; 0 if unknown.
        line: u64,
        /// Column, from 1; 0 if unknown.
        column: u64,
    },
    /// A field that would make us do something on behalf of the user.
    #[error("the kubeconfig is refused because its {place} has the field {field}: {advice}")]
    Field {
        /// Where it is.
        place: &'static str,
        /// Its name.
        field: &'static str,
        /// Why, and what to do.
        advice: &'static str,
    },
    /// A field that we do not know.
    #[error(
        "the kubeconfig is refused because its {place} has the unknown field {field:?}; allowed \
         are {allowed}"
    )]
    UnknownField {
        /// Where it is.
        place: &'static str,
        /// Its name, if it looks like one.
        field: String,
        /// What is allowed there.
        allowed: &'static str,
    },
    /// Readable, but not usable.
    #[error("the kubeconfig is refused: {0}")]
    Shape(&'static str),
    /// A server that is not accepted.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What makes a kubeconfig of the accepted form out of most others.
const EMBED: &str = "kubectl config view --raw --flatten --minify";

/// A client certificate and its key.
pub struct ClientIdentity {
    /// The certificate and those between it and its CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key, which is overwritten when it is dropped.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
}

/// Access to a consumer's cluster.
pub struct ConsumerKubeconfig {
    /// The API server.
    pub server: ServerUrl,
    /// The only CAs that are trusted; none means those of our system.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// Bearer token.
    pub token: Option<SecretString>,
    /// Client certificate.
    pub identity: Option<ClientIdentity>,
}

impl fmt::Debug for ConsumerKubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerKubeconfig")
            .field("server", &self.server)
            .field("authorities", &self.authorities.as_ref().map(Vec::len))
            .field("token", &self.token.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

impl ConsumerKubeconfig {
    /// Reads one from the standard base64 that the request carries.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES.div_ceil(3) * 4 {
            return Err(Error::TooLarge(text.len() / 4 * 3));
        }
        let yaml = STANDARD.decode(text).map_err(|_| Error::Encoding)?;
        Self::parse(&Zeroizing::new(yaml))
    }

    /// Reads one from YAML.
    pub fn parse(yaml: &[u8]) -> Result<Self, Error> {
        if yaml.len() > MAX_BYTES {
            return Err(Error::TooLarge(yaml.len()));
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 50_000,
                max_nodes: 20_000,
                max_depth: 16,
                flow_nesting_limit: 16,
                max_aliases: 0,
                max_anchors: 0,
                max_merge_keys: 0,
                max_documents: 1,
                max_total_scalar_bytes: MAX_BYTES,
            },
            merge_keys: MergeKeyPolicy::Error,
            duplicate_keys: DuplicateKeyPolicy::Error,
            with_snippet: false,
        };
        let file: File = serde_saphyr::from_slice_with_options(yaml, options).map_err(|error| {
            let location = error.location();
            Error::Malformed {
                line: location.map_or(0, |location| location.line()),
                column: location.map_or(0, |location| location.column()),
            }
        })?;
        file.current()
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
    #[serde(default, rename = "current-context")]
    current_context: Option<String>,
    #[serde(default)]
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Fields<ClusterSection>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Fields<UserSection>,
}

/// The one entry with a name; others are never looked at.
fn named<T>(
    entries: Option<Vec<T>>,
    is: impl Fn(&T) -> bool,
    missing: &'static str,
) -> Result<T, Error> {
    let mut found = entries.unwrap_or_default().into_iter().filter(is);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        _ => Err(Error::Shape(missing)),
    }
}

impl File {
    fn current(self) -> Result<ConsumerKubeconfig, Error> {
        let versioned = self.api_version.is_none_or(|version| version == "v1")
            && self.kind.is_none_or(|kind| kind == "Config");
        if !versioned {
            return Err(Error::Shape("it is not of kind Config, version v1"));
        }
        let current = self.current_context.filter(|name| !name.is_empty()).ok_or(Error::Shape(
            "it has no current context; choose one with: kubectl config use-context",
        ))?;
        let context = named(
            self.contexts,
            |entry| entry.name == current,
            "there must be exactly one context with the name in current-context",
        )?;
        let (cluster, user) = (context.context.cluster, context.context.user);
        let cluster = named(
            self.clusters,
            |entry| Some(&entry.name) == cluster.as_ref(),
            "there must be exactly one cluster with the name in the current context",
        )?;
        let user = named(
            self.users,
            |entry| Some(&entry.name) == user.as_ref(),
            "there must be exactly one user with the name in the current context",
        )?;
        let mut cluster = cluster.cluster.checked()?;
        let mut user = user.user.checked()?;
        let server = cluster.next().flatten();
        let server = server.ok_or(Error::Shape("its cluster has no server"))?;
        let authorities = cluster.next().flatten();
        let token = user.next().flatten();
        let (chain, key) = (user.next().flatten(), user.next().flatten());
        if token.is_none() && chain.is_none() {
            return Err(Error::Shape(
                "its user has neither a token nor a client certificate; add one of them",
            ));
        }
        Ok(ConsumerKubeconfig {
            server: ServerUrl::parse(&server)?,
            authorities: authorities
                .map(|data| {
                    certificates(
                        &data,
                        "its certificate-authority-data is not base64 of PEM certificates",
                    )
                })
                .transpose()?,
            token: token.as_deref().map(|token| checked_token(token)).transpose()?,
            identity: identity(chain, key)?,
        })
    }
}

fn certificates(
    data: &str,
    otherwise: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = STANDARD.decode(data).map_err(|_| Error::Shape(otherwise))?;
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&pem).take(MAX_CERTIFICATES + 1).collect();
    match found {
        Ok(found) if (1..=MAX_CERTIFICATES).contains(&found.len()) => Ok(found),
        _ => Err(Error::Shape(otherwise)),
    }
}

/// A token that fits into a header.
fn checked_token(token: &str) -> Result<SecretString, Error> {
    if token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Shape("its token is too long or has characters that no token has"));
    }
    Ok(SecretString::from(token))
}

fn identity(
    chain: Option<Zeroizing<String>>,
    key: Option<Zeroizing<String>>,
) -> Result<Option<ClientIdentity>, Error> {
    let (chain, key) = match (chain, key) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return Ok(None),
        _ => {
            return Err(Error::Shape(
                "client-certificate-data and client-key-data belong together; add the other one",
            ));
        }
    };
    let chain =
        certificates(&chain, "its client-certificate-data is not base64 of PEM certificates")?;
    let no_key = || Error::Shape("its client-key-data is not base64 of a PEM key");
    let pem = STANDARD.decode(key.as_bytes()).map(Zeroizing::new).map_err(|_| no_key())?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    Ok(Some(ClientIdentity { chain, key: Zeroizing::new(key) }))
}

#[cfg(test)]
mod tests;
