//! What the HTTP API was asked to do, with every value validated.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::consumer::host_alias::HostAlias;
use crate::consumer::networks::ConsumerNetworks;
use crate::http::external_url::ExternalUrl;
use crate::http::server::TlsFiles;

/// Settings of the HTTP API. Flags and defaults: contract flags.md 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontConfig {
    /// `--external-url`, or the origin of `--oidc-callback-url`.
    pub external_url: ExternalUrl,
    /// `--tls-cert-file` and `--tls-key-file`; none means that a proxy ends TLS.
    pub tls: Option<TlsFiles>,
    /// `--audit-log`.
    pub audit: Option<Audit>,
    /// The flags of the login.
    pub oidc: OidcConfig,
    /// `--token-expiry`: how long a session lasts, whatever is done with it.
    pub token_expiry: Duration,
    /// Content of `--session-key-file`; none means a key that lives as long as the process.
    pub session_keys: Option<Secret>,
    /// `--redis-addr`; none means memory.
    pub redis: Option<RedisConfig>,
    /// `--konnector-image`.
    pub konnector_image: String,
    /// `--konnector-host-alias`.
    pub host_aliases: Vec<HostAlias>,
    /// `--enable-apply-binding` with the networks of `--consumer-cidr`.
    pub apply_binding: Option<ConsumerNetworks>,
}

/// How people log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// `--oidc-issuer-url`, exactly as given: issuers compare letter by letter.
    pub issuer_url: String,
    /// `--oidc-callback-url`.
    pub callback_url: Url,
    /// `--oidc-type`.
    pub issuer: IssuerConfig,
    /// `--oidc-username-claim`.
    pub username_claim: String,
    /// `--oidc-groups-claim`.
    pub groups_claim: String,
}

/// Whose issuer it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerConfig {
    /// Our own, for development.
    Embedded,
    /// The provider's.
    External {
        /// `--oidc-issuer-client-id`.
        client_id: String,
        /// `OIDC_CLIENT_SECRET`, or `--oidc-issuer-client-secret`.
        client_secret: Option<Secret>,
        /// Content of `--oidc-ca-file`.
        ca: Option<Vec<u8>>,
    },
}

/// Where logins and sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `--redis-addr`, `host:port`.
    pub address: String,
    /// `--redis-tls`.
    pub tls: bool,
    /// Content of `--redis-ca-file`.
    pub ca: Option<Vec<u8>>,
    /// `REDIS_PASSWORD`.
    pub password: Option<Secret>,
}

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// A credential from the command line, a file or the environment. Comparable, for tests of whole
/// configurations.
#[derive(Clone)]
pub struct Secret(pub SecretString);

impl Secret {
    /// Takes it over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Secret {}
