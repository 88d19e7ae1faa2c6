//! `POST /api/apply-binding`: a binding carried to the consumer's cluster with a kubeconfig that the
//! user uploads (contract http.md 7, objects.md 11; security row 18).
//!
//! | module | what it holds |
//! |---|---|
//! | `kubeconfig` | the five fields that are read, and all that are refused |
//! | `server` | the one spelling of a server that is accepted |
//! | `network` | which addresses may be called |
//! | `client` | bounded calls to these addresses |
//! | `plan` | what is missing in the consumer's cluster, and what is in the way |
//! | `actions` | carries the plan out |
//!
//! A route takes an [`ApplyRequest`], calls [`Applier::open`] (which sends nothing, so a bad request
//! leaves no trace), prepares the provider's side, and calls [`Applier::apply`].

mod actions;
pub mod client;
pub mod kubeconfig;
pub mod network;
pub mod plan;
pub mod server;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::{StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use self::actions::Failure;
use self::client::ConsumerClient;
pub use self::client::{CallError, Cause, SetupError};
pub use self::kubeconfig::{ConsumerKubeconfig, Error as KubeconfigError};
pub use self::network::{Limits, Network, NetworkError, Resolve, SystemResolver};
pub use self::plan::Refusal;
use self::plan::{Wanted, secret_name};
use crate::consumer::host_alias::{self, HostAlias, HostAliasError};
use crate::consumer::kubeconfig::Kubeconfig;
use crate::consumer::names;
use crate::http::konnector::Konnector;

/// More host aliases than a request needs.
const MAX_ALIASES: usize = 32;

/// What the contract says on success; the page shows it.
const APPLIED: &str = "Konnector and binding bundle applied successfully";
/// What is added where a konnector of somebody else was left alone.
const KEPT_ALIASES: &str = ". The konnector was installed by someone else and keeps its host \
     aliases; add the wanted ones to its Deployment if it cannot reach the provider";

/// The body of the request. Unknown fields are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyRequest {
    /// Kubeconfig of the consumer's cluster, in standard base64.
    #[serde(default, deserialize_with = "secret")]
    pub consumer_kubeconfig: SecretString,
    /// Name of the bundle in the consumer's cluster.
    #[serde(default)]
    pub binding_name: String,
    /// `IP:host1,host2` for the konnector's pods; instead of those of `--konnector-host-alias`.
    #[serde(default)]
    pub host_aliases: Option<Vec<String>>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// The body of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The konnector was installed just now.
    pub konnector_deployed: bool,
    /// Always true: the bundle is there.
    pub bundle_created: bool,
    /// For people.
    pub message: String,
}

/// Why a binding was not applied. The text is for the user: it names the next step and quotes no
/// credential and nothing of what the consumer's cluster answered.
#[derive(Debug, Error)]
pub enum Error {
    /// No kubeconfig.
    #[error("consumerKubeconfig is required; send the kubeconfig of your cluster in base64")]
    NoKubeconfig,
    /// No name.
    #[error("bindingName is required; send the name of the binding")]
    NoName,
    /// A name that no object can have.
    #[error(
        "bindingName must be an object name: lower case letters, digits, '-' and '.', at most \
         {MAX_NAME} characters"
    )]
    Name,
    /// A kubeconfig that is not accepted.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// A host alias that is not accepted.
    #[error(transparent)]
    HostAlias(#[from] HostAliasError),
    /// Too many host aliases.
    #[error(
        "hostAliases has more than {MAX_ALIASES} entries; leave out those that the konnector does not need"
    )]
    TooManyAliases,
    /// A server that is not called.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A kubeconfig that cannot be used for calls.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Something in the consumer's cluster is in the way.
    #[error(transparent)]
    Refused(Refusal),
    /// A call to the consumer's cluster failed.
    #[error(transparent)]
    Call(CallError),
}

/// So that `kubeconfig-<name>` is an object name too.
const MAX_NAME: usize = 253 - "kubeconfig-".len();

impl Error {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoKubeconfig
            | Self::NoName
            | Self::Name
            | Self::Kubeconfig(_)
            | Self::HostAlias(_)
            | Self::TooManyAliases => StatusCode::BAD_REQUEST,
            Self::Network(err) => err.status(),
            Self::Setup(err) => err.status(),
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Call(err) => err.status(),
        }
    }

    /// The `message` of the answer in the words of the contract; the text of the error is its
    /// `details`.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::NoKubeconfig => "Missing consumer kubeconfig",
            Self::NoName => "Missing binding name",
            Self::Name => "Invalid binding name",
            Self::Kubeconfig(KubeconfigError::Encoding) => "Invalid consumer kubeconfig encoding",
            Self::Kubeconfig(_) | Self::Network(_) | Self::Setup(_) => {
                "Invalid consumer kubeconfig"
            }
            Self::HostAlias(_) | Self::TooManyAliases => "Invalid host alias",
            Self::Refused(_) | Self::Call(_) => "Failed to apply binding to consumer cluster",
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Call(err) => Self::Call(err),
        }
    }
}

/// A request whose values and addresses are in order.
pub struct Target {
    kubeconfig: ConsumerKubeconfig,
    addresses: Vec<SocketAddr>,
    binding: String,
    /// None where the request has none, so that those of the operator count.
    aliases: Option<Vec<HostAlias>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("binding", &self.binding)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Name of the bundle.
    #[must_use]
    pub fn binding(&self) -> &str {
        &self.binding
    }
}

/// Applies bindings.
#[derive(Debug, Clone)]
pub struct Applier {
    network: Network,
    konnector: Konnector,
}

impl Applier {
    /// With what may be called and how konnectors are installed.
    #[must_use]
    pub fn new(network: Network, konnector: Konnector) -> Self {
        Self { network, konnector }
    }

    /// Checks a request and resolves its server. The consumer's cluster hears nothing of it.
    pub async fn open(&self, request: &ApplyRequest) -> Result<Target, Error> {
        let kubeconfig = request.consumer_kubeconfig.expose_secret();
        if kubeconfig.is_empty() {
            return Err(Error::NoKubeconfig);
        }
        if request.binding_name.is_empty() {
            return Err(Error::NoName);
        }
        let binding = request.binding_name.clone();
        if binding.len() > MAX_NAME || !names::is_dns_subdomain(&binding) {
            return Err(Error::Name);
        }
        let aliases = request.host_aliases.as_deref().filter(|aliases| !aliases.is_empty());
        if aliases.is_some_and(|aliases| aliases.len() > MAX_ALIASES) {
            return Err(Error::TooManyAliases);
        }
        let aliases = aliases
            .map(|aliases| aliases.iter().map(|alias| HostAlias::parse(alias)).collect())
            .transpose()?;
        let kubeconfig = ConsumerKubeconfig::from_base64(kubeconfig)?;
        let addresses = self.network.addresses(&kubeconfig.server).await?;
        Ok(Target { kubeconfig, addresses, binding, aliases })
    }

    /// Installs the konnector, the provider's kubeconfig (the bytes of the provider's Secret) and the
    /// bundle in the consumer's cluster.
    pub async fn apply(&self, target: Target, provider: &SecretString) -> Result<Applied, Error> {
        let mut konnector = self.konnector.clone();
        if let Some(aliases) = target.aliases {
            konnector.host_aliases = aliases;
        }
        let found = self.provider_alias(provider).await;
        konnector.host_aliases = with_found(konnector.host_aliases, found);
        let wanted =
            Wanted { binding: &target.binding, kubeconfig: provider, konnector: &konnector };
        let client =
            ConsumerClient::new(&target.kubeconfig, target.addresses, self.network.limits())?;
        // Its state is large: it holds the objects.
        let done = Box::pin(actions::carry_out(&client, &wanted)).await?;
        tracing::info!(
            binding = target.binding,
            secret = secret_name(&target.binding),
            deployed = done.deployed,
            "a binding was applied to a consumer's cluster"
        );
        let kept = if done.lacks_aliases { KEPT_ALIASES } else { "" };
        Ok(Applied {
            konnector_deployed: done.deployed,
            bundle_created: true,
            message: format!("{APPLIED}{kept}"),
        })
    }

    /// The provider's host and an address for it, where the consumer may not find one by itself.
    async fn provider_alias(&self, provider: &SecretString) -> Option<HostAlias> {
        let server = Kubeconfig::parse(provider.expose_secret().as_bytes()).ok()?.server;
        let uri: Uri = server.parse().ok()?;
        let host = uri.host()?.to_ascii_lowercase();
        if host.starts_with('[')
            || host.parse::<IpAddr>().is_ok()
            || !names::is_dns_subdomain(&host)
        {
            return None;
        }
        let ip = self.network.private_address(&host).await?;
        Some(HostAlias { ip, hostnames: vec![host] })
    }
}

/// What was found does not replace what was said.
fn with_found(said: Vec<HostAlias>, found: Option<HostAlias>) -> Vec<HostAlias> {
    let names = |alias: &HostAlias, name: &String| alias.hostnames.contains(name);
    match found {
        Some(found) if !said.iter().any(|a| found.hostnames.iter().any(|n| names(a, n))) => {
            host_alias::merge(&said, &[found])
        }
        _ => said,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
