//! From the server of a kubeconfig to the addresses that may be called (security row 18).
//!
//! A host is resolved once, every address is checked, and calls go to exactly these addresses: a
//! name that resolves to something else a moment later (DNS rebinding) gains nothing. Without
//! `--consumer-cidr` only global unicast addresses pass, and none of our own host.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use thiserror::Error;

use super::server::{Host, ServerUrl};
use crate::consumer::networks::{ConsumerNetworks, Denied};

/// More addresses of one host are not tried.
const MAX_ADDRESSES: usize = 4;

/// Bounds on what one consumer's API server can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long one call may take, with connecting and the whole answer.
    pub call: Duration,
    /// How long all calls of one request may take.
    pub total: Duration,
    /// The largest answer that is read, in bytes.
    pub answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { call: Duration::from_secs(10), total: Duration::from_secs(30), answer: 1024 * 1024 }
    }
}

/// Why a server is not called.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// It has an address that is closed.
    #[error("the server of the kubeconfig is not called because its address {0}; {next}", next = next_step(.0))]
    Denied(Denied),
    /// It is our own host.
    #[error(
        "the server of the kubeconfig is not called because it is the backend's own host; name \
         another one, or ask the operator of this backend for --consumer-cidr"
    )]
    OwnHost,
    /// It has no address.
    #[error(
        "the host in the server of the kubeconfig has no address here; check its spelling, or use \
         a name that is known outside of the cluster"
    )]
    Unresolved,
    /// DNS did not answer.
    #[error(
        "the host in the server of the kubeconfig was not resolved within {} s; try again", .0.as_secs()
    )]
    Timeout(Duration),
}

fn next_step(denied: &Denied) -> &'static str {
    if denied.can_be_opened {
        "use a public one, or ask the operator of this backend to open its network with --consumer-cidr"
    } else {
        "no API server can have it, so use another one"
    }
}

impl NetworkError {
    /// The status of the answer to the user.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Denied(_) | Self::OwnHost | Self::Unresolved => StatusCode::BAD_REQUEST,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Turns names into addresses.
pub trait Resolve: Send + Sync {
    /// All addresses of a host.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let found = tokio::net::lookup_host((host, 0));
        async move { Ok(found.await?.map(|address| address.ip()).collect()) }.boxed()
    }
}

/// What may be called, and how.
#[derive(Clone)]
pub struct Network {
    open: ConsumerNetworks,
    resolver: Arc<dyn Resolve>,
    limits: Limits,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Network {
    /// With the networks of `--consumer-cidr`.
    #[must_use]
    pub fn new(open: ConsumerNetworks, resolver: Arc<dyn Resolve>, limits: Limits) -> Self {
        Self { open, resolver, limits }
    }

    /// The bounds on calls.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The addresses of a server, all of which may be called.
    pub async fn addresses(&self, server: &ServerUrl) -> Result<Vec<SocketAddr>, NetworkError> {
        let found = match server.host() {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => self.resolve(name).await?,
        };
        for ip in &found {
            self.check(*ip).inspect_err(|err| {
                tracing::info!(%ip, %err, "the server of an uploaded kubeconfig was refused");
            })?;
        }
        let addresses = found.into_iter().take(MAX_ADDRESSES);
        Ok(addresses.map(|ip| SocketAddr::new(ip, server.port())).collect())
    }

    /// An address of a provider's host that pods of a consumer are told (contract http.md 7): one in
    /// a private network, which another resolver may not know. Names of public addresses are left to
    /// DNS, so that they may move. The lowest is taken, so that a second look finds the same.
    pub(super) async fn private_address(&self, host: &str) -> Option<IpAddr> {
        let found = self.resolve(host).await.ok()?;
        let told = |ip: &IpAddr| {
            !ip.is_loopback()
                && ConsumerNetworks::default().check(*ip).is_err_and(|denied| denied.can_be_opened)
        };
        found.into_iter().filter(told).min()
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, NetworkError> {
        let within = self.limits.call;
        match tokio::time::timeout(within, self.resolver.resolve(host)).await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            Ok(_) => Err(NetworkError::Unresolved),
            Err(_) => Err(NetworkError::Timeout(within)),
        }
    }

    fn check(&self, ip: IpAddr) -> Result<(), NetworkError> {
        self.open.check(ip).map_err(NetworkError::Denied)?;
        if is_own(ip) && !self.open.names(ip) { Err(NetworkError::OwnHost) } else { Ok(()) }
    }
}

/// Whether the address is one of this host: only such an address can be bound. Nothing is sent.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

#[cfg(test)]
mod tests;
